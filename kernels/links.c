/* links.c - NVML by dlopen. The functions, structures and numbers are the ABI of libnvidia-ml.so.1 (NVML API reference, and the
 * toolkit's nvml.h), declared here because building lorat needs no header of NVIDIA's. */
#include "kernels/links.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"

typedef void *device;
struct memory { /* nvmlMemory_v2_t */
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct process { /* nvmlProcessInfo_t of the _v3 functions */
    unsigned pid;
    unsigned long long used; /* ~0: not told */
    unsigned instance, compute_instance;
};
struct pci { /* nvmlPciInfo_t */
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char address[32];
};
struct field { /* nvmlFieldValue_t */
    unsigned id, scope;
    long long timestamp, latency;
    int type, result;
    union {
        double real;
        unsigned u;
        unsigned long ul;
        unsigned long long ull;
        long long sll;
    } value;
};
enum { OK = 0, MOST_PROCESSES = 64, CLOCK_SM = 1, P2P_READ = 0, P2P_WRITE = 1 };
enum { FIELD_NVLINK_SENT = 138, FIELD_NVLINK_RECEIVED = 139 }; /* KiB of payload */
enum { TYPE_UINT = 1, TYPE_ULONG = 2, TYPE_ULL = 3, TYPE_SLL = 4 };

/* X(name here, name in the library, parameters). Only the first four must be there. */
#define FUNCTIONS(X)                                                                              \
    X(start, "nvmlInit_v2", (void))                                                               \
    X(stop, "nvmlShutdown", (void))                                                               \
    X(by_pci, "nvmlDeviceGetHandleByPciBusId_v2", (const char *, device *))                       \
    X(memory, "nvmlDeviceGetMemoryInfo_v2", (device, struct memory *))                            \
    X(driver, "nvmlSystemGetDriverVersion", (char *, unsigned))                                   \
    X(count, "nvmlDeviceGetCount_v2", (unsigned *))                                               \
    X(by_index, "nvmlDeviceGetHandleByIndex_v2", (unsigned, device *))                            \
    X(name, "nvmlDeviceGetName", (device, char *, unsigned))                                      \
    X(uuid, "nvmlDeviceGetUUID", (device, char *, unsigned))                                      \
    X(address, "nvmlDeviceGetPciInfo_v3", (device, struct pci *))                                 \
    X(capability, "nvmlDeviceGetCudaComputeCapability", (device, int *, int *))                   \
    X(compute, "nvmlDeviceGetComputeRunningProcesses_v3", (device, unsigned *, struct process *)) \
    X(graphics, "nvmlDeviceGetGraphicsRunningProcesses_v3", (device, unsigned *, struct process *)) \
    X(process_name, "nvmlSystemGetProcessName", (unsigned, char *, unsigned))                     \
    X(power_limit, "nvmlDeviceGetEnforcedPowerLimit", (device, unsigned *))                       \
    X(power_default, "nvmlDeviceGetPowerManagementDefaultLimit", (device, unsigned *))            \
    X(clock, "nvmlDeviceGetClockInfo", (device, int, unsigned *))                                 \
    X(clock_max, "nvmlDeviceGetMaxClockInfo", (device, int, unsigned *))                          \
    X(temperature, "nvmlDeviceGetTemperature", (device, int, unsigned *))                         \
    X(throttle, "nvmlDeviceGetCurrentClocksThrottleReasons", (device, unsigned long long *))      \
    X(gen, "nvmlDeviceGetCurrPcieLinkGeneration", (device, unsigned *))                           \
    X(gen_max, "nvmlDeviceGetMaxPcieLinkGeneration", (device, unsigned *))                        \
    X(width, "nvmlDeviceGetCurrPcieLinkWidth", (device, unsigned *))                              \
    X(width_max, "nvmlDeviceGetMaxPcieLinkWidth", (device, unsigned *))                           \
    X(link_state, "nvmlDeviceGetNvLinkState", (device, unsigned, unsigned *))                     \
    X(link_remote, "nvmlDeviceGetNvLinkRemotePciInfo_v2", (device, unsigned, struct pci *))       \
    X(link_type, "nvmlDeviceGetNvLinkRemoteDeviceType", (device, unsigned, int *))                \
    X(peer, "nvmlDeviceGetP2PStatus", (device, device, int, int *))                               \
    X(ancestor, "nvmlDeviceGetTopologyCommonAncestor", (device, device, int *))                   \
    X(energy, "nvmlDeviceGetTotalEnergyConsumption", (device, unsigned long long *))              \
    X(fields, "nvmlDeviceGetFieldValues", (device, int, struct field *))

struct links {
    void *library;
    bool started;
#define X(name, symbol, parameters) int(*name) parameters;
    FUNCTIONS(X)
#undef X
};

void links_close(struct links *l)
{
    if (l == NULL)
        return;
    if (l->started)
        l->stop();
    if (l->library != NULL)
        dlclose(l->library);
    mem_free(l);
}

struct links *links_open(void)
{
    struct links *l = mem_alloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (l->library != NULL) {
#define X(name, symbol, parameters) *(void **)&l->name = dlsym(l->library, symbol);
        FUNCTIONS(X)
#undef X
        l->started = l->start != NULL && l->stop != NULL && l->by_pci != NULL && l->memory != NULL && l->start() == OK;
    }
    if (l->started)
        return l;
    links_close(l);
    return NULL;
}

void links_driver(struct links *l, char out[32])
{
    if (l->driver == NULL || l->driver(out, 32) != OK)
        out[0] = '\0';
    out[31] = '\0';
}

struct link_card links_unknown(void)
{
    return (struct link_card){.index = -1, .major = -1, .minor = -1, .total = -1, .free = -1, .power_limit_w = -1, .power_default_w = -1,
                              .clock_mhz = -1, .clock_max_mhz = -1, .temperature_c = -1, .throttle = -1, .pcie_gen = -1, .pcie_gen_max = -1,
                              .pcie_width = -1, .pcie_width_max = -1};
}

int links_list(struct links *l, struct link_card *out, int max)
{
    unsigned n = 0;
    int kept = 0, major, minor;
    if (l->count == NULL || l->by_index == NULL || l->address == NULL || l->count(&n) != OK)
        return 0;
    for (unsigned i = 0; i < n && kept < max; i++) {
        struct link_card *c = &out[kept];
        struct pci p = {0};
        device d;
        if (l->by_index(i, &d) != OK || l->address(d, &p) != OK)
            continue;
        *c = links_unknown();
        c->index = kept++;
        snprintf(c->pci, sizeof c->pci, "%.31s", p.address);
        if (l->name == NULL || l->name(d, c->name, sizeof c->name) != OK)
            c->name[0] = '\0';
        if (l->uuid == NULL || l->uuid(d, c->uuid, sizeof c->uuid) != OK)
            c->uuid[0] = '\0';
        if (l->capability != NULL && l->capability(d, &major, &minor) == OK) {
            c->major = major;
            c->minor = minor;
        }
    }
    return kept;
}

/* The process's own name for itself; one of another container has none here, and NVML's answer is its program's path. */
static void name_process(struct links *l, struct link_user *u)
{
    char path[256];
    snprintf(path, sizeof path, "/proc/%lld/comm", (long long)u->pid);
    FILE *f = fopen(path, "re");
    bool read = f != NULL && fgets(u->name, sizeof u->name, f) != NULL;
    if (f != NULL)
        fclose(f);
    if (read) {
        u->name[strcspn(u->name, "\n")] = '\0';
        return;
    }
    if (l->process_name == NULL || l->process_name((unsigned)u->pid, path, sizeof path) != OK)
        return;
    path[sizeof path - 1] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(u->name, sizeof u->name, "%.63s", slash != NULL ? slash + 1 : path);
}

/* A process may draw and compute: it is listed once. */
static void add_users(struct links *l, device d, int (*list)(device, unsigned *, struct process *), struct link_card *c)
{
    struct process all[MOST_PROCESSES];
    unsigned n = MOST_PROCESSES;
    if (list == NULL || list(d, &n, all) != OK)
        return;
    for (unsigned i = 0; i < n && i < MOST_PROCESSES && c->n_users < LINKS_MAX_USERS; i++) {
        bool known = false;
        for (int k = 0; k < c->n_users; k++)
            known = known || c->user[k].pid == all[i].pid;
        if (known)
            continue;
        struct link_user *u = &c->user[c->n_users++];
        *u = (struct link_user){.pid = all[i].pid, .bytes = all[i].used == ~0ull ? -1 : (int64_t)all[i].used};
        name_process(l, u);
    }
}

static void ask_number(int (*f)(device, unsigned *), device d, unsigned per, int64_t *out)
{
    unsigned v;
    if (f != NULL && f(d, &v) == OK)
        *out = v / per;
}

/* nvmlIntNvLinkDeviceType_t; 255 is unknown. */
static const char *type_words(int type)
{
    static const char *const words[] = {"gpu", "npu", "switch"};
    return type >= 0 && type < (int)(sizeof words / sizeof words[0]) ? words[type] : "";
}

static void ask_links(struct links *l, device d, struct link_card *c)
{
    c->n_links = 0;
    for (unsigned i = 0; i < LINKS_MAX_LINKS && l->link_state != NULL; i++) {
        unsigned active;
        int type;
        struct pci p = {0};
        if (l->link_state(d, i, &active) != OK)
            break; /* no such link */
        struct link_state *k = &c->link[c->n_links++];
        *k = (struct link_state){.active = active != 0};
        if (active != 0 && l->link_remote != NULL && l->link_remote(d, i, &p) == OK)
            snprintf(k->remote, sizeof k->remote, "%.31s", p.address);
        if (active != 0 && l->link_type != NULL && l->link_type(d, i, &type) == OK)
            snprintf(k->type, sizeof k->type, "%s", type_words(type));
    }
}

void links_ask(struct links *l, struct link_card *c)
{
    struct memory m = {.version = (unsigned)sizeof m | 2u << 24};
    unsigned v;
    unsigned long long bits;
    device d;
    if (l->by_pci(c->pci, &d) != OK)
        return;
    if (l->memory(d, &m) == OK) {
        c->total = c->total < 0 ? (int64_t)m.total : c->total;
        c->free = (int64_t)m.free;
    }
    ask_number(l->power_limit, d, 1000, &c->power_limit_w);
    ask_number(l->power_default, d, 1000, &c->power_default_w);
    ask_number(l->gen, d, 1, &c->pcie_gen);
    ask_number(l->gen_max, d, 1, &c->pcie_gen_max);
    ask_number(l->width, d, 1, &c->pcie_width);
    ask_number(l->width_max, d, 1, &c->pcie_width_max);
    if (l->clock != NULL && l->clock(d, CLOCK_SM, &v) == OK)
        c->clock_mhz = v;
    if (l->clock_max != NULL && l->clock_max(d, CLOCK_SM, &v) == OK)
        c->clock_max_mhz = v;
    if (l->temperature != NULL && l->temperature(d, 0, &v) == OK)
        c->temperature_c = v;
    if (l->throttle != NULL && l->throttle(d, &bits) == OK)
        c->throttle = (int64_t)bits;
    c->n_users = 0;
    add_users(l, d, l->compute, c);
    add_users(l, d, l->graphics, c);
    ask_links(l, d, c);
}

static const char *peer_words(int status)
{
    static const char *const words[] = {"", "the chipset does not support it", "the card does not support it",
                                        "the topology does not support it", "disabled by a setting of the driver", "not supported"};
    return status >= 0 && status < (int)(sizeof words / sizeof words[0]) ? words[status] : "unknown";
}

void links_ask_pair(struct links *l, const char *pci_a, const char *pci_b, struct link_pair *out)
{
    static const char *const levels[] = {"INT", "PIX", "PXB", "PHB", "NODE", "SYS"}; /* NVML counts them in tens */
    device a, b;
    int level, to = 0, from = 0;
    out->peer = -1;
    out->peer_status[0] = out->topology[0] = '\0';
    if (l->by_pci(pci_a, &a) != OK || l->by_pci(pci_b, &b) != OK)
        return;
    if (l->ancestor != NULL && l->ancestor(a, b, &level) == OK && level >= 0 && level <= 50)
        snprintf(out->topology, sizeof out->topology, "%s", levels[level / 10]);
    if (l->peer == NULL || l->peer(a, b, P2P_READ, &to) != OK)
        return;
    if (to == 0 && l->peer(b, a, P2P_WRITE, &from) != OK)
        return;
    out->peer = to == 0 && from == 0;
    snprintf(out->peer_status, sizeof out->peer_status, "%s", peer_words(to != 0 ? to : from));
}

bool links_energy(struct links *l, const char *pci, uint64_t *out)
{
    unsigned long long v;
    device d;
    if (l->energy == NULL || l->by_pci(pci, &d) != OK || l->energy(d, &v) != OK)
        return false;
    *out = v;
    return true;
}

static bool field_bytes(const struct field *f, uint64_t *out)
{
    uint64_t kib = f->type == TYPE_UINT ? f->value.u : f->type == TYPE_ULONG ? f->value.ul : (uint64_t)f->value.ull;
    *out = kib * 1024;
    return f->result == OK && f->type >= TYPE_UINT && f->type <= TYPE_SLL;
}

bool links_bytes(struct links *l, const char *pci, uint64_t *sent, uint64_t *received)
{
    struct field f[2] = {{.id = FIELD_NVLINK_SENT, .scope = UINT_MAX}, {.id = FIELD_NVLINK_RECEIVED, .scope = UINT_MAX}}; /* all links */
    device d;
    if (l->fields == NULL || l->by_pci(pci, &d) != OK || l->fields(d, 2, f) != OK)
        return false;
    return field_bytes(&f[0], sent) && field_bytes(&f[1], received);
}
