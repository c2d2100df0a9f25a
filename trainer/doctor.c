/* doctor.c - the findings. Each rule is one function; what is unknown (-1, "") gives no finding but for what is missing as a whole. */
#include "trainer/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/num.h"

#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)
/* Less is too little for any job: weights and activations of the smallest models. */
#define CARD_LEAST (1 * GIB)
/* NCCL's shared buffers of two ranks, some 10 MiB a channel and direction, fit well below; Docker's default of 64 MiB does not do. */
#define SHM_LEAST (256 * MIB)
#define NCCL_LEAST 22705 /* 2.27.5: older ones read out of bounds in the BF16 ring sum (release notes) */
#define LEAST_MAJOR 8

static const struct {
    const char *name;
    enum severity severity;
} kinds[] = {
#define X(id, severity) {#id, severity},
    DOCTOR_LIST(X)
#undef X
};

const char *finding_name(enum finding_id id) { return kinds[id].name; }
enum severity finding_severity(enum finding_id id) { return kinds[id].severity; }

static struct finding *add(struct doctor *d, enum finding_id id)
{
    d->n -= d->n == DOCTOR_MAX_FINDINGS; /* more than there is room for: the last place is written over */
    struct finding *f = &d->finding[d->n++];
    *f = (struct finding){.id = id};
    return f;
}
#define FOUND(id, ...) snprintf((f = add(d, FINDING_##id))->text, sizeof f->text, __VA_ARGS__)
#define TODO(...) snprintf(f->todo, sizeof f->todo, __VA_ARGS__)

static bool is_usable(const struct link_card *c) { return c->major < 0 || c->major >= LEAST_MAJOR; }

static int count_usable(const struct machine *m)
{
    int n = 0;
    for (int i = 0; i < m->n_cards; i++)
        n += is_usable(&m->card[i]);
    return n;
}

/* "13.0" as 130000, "2.27.5" as 22705; -1 when it is no version. */
static long version_number(const char *text)
{
    int a = 0, b = 0, c = 0;
    return sscanf(text, "%d.%d.%d", &a, &b, &c) >= 2 ? a * 10000L + b * 100L + c : -1;
}

static void examine_driver(const struct machine *m, struct doctor *d)
{
    struct finding *f;
    long speaks = version_number(m->driver_cuda), wants = version_number(m->cuda);
    if (m->card_present != 1 && m->n_cards == 0) {
        FOUND(no_card, "There is no sign of an NVIDIA card: jobs run on the CPU.");
        TODO("Nothing, if that is meant. With a card in the machine: install NVIDIA's driver; in a container, start it with --gpus all.");
        return;
    }
    bool old = speaks >= 0 && wants >= 0 && speaks / 10000 < wants / 10000;
    if (old) {
        FOUND(driver_old, "The driver %s speaks CUDA %s, and lorat's plug-in was built with CUDA %s.", m->driver, m->driver_cuda, m->cuda);
        TODO("Update the driver (CUDA 13 needs R580 or later, CUDA 12.8 R570), and restart.");
    } else if (m->trouble[0] != '\0') {
        FOUND(plugin, "The cards cannot be used: %.260s.", m->trouble);
        TODO("Do what the message says, or set compute.device: cpu.");
    }
    if (m->n_cards > 0 && count_usable(m) == 0) {
        FOUND(no_usable_card, "No card has compute capability 8.0 or later; BF16 needs it.");
        TODO("Use an RTX 3090 or any newer card, or set compute.device: cpu.");
    }
    if (m->nvml == 0) {
        FOUND(nvml_missing, "NVML does not answer: clocks, power, users and links cannot be read, and energy is not recorded.");
        TODO("Install libnvidia-ml.so.1 of the driver's version; containers need the driver capability `utility`.");
    }
    if (m->cuda[0] != '\0' && m->cudnn[0] == '\0') {
        FOUND(cudnn_missing, "cuDNN is not there: attention runs on lorat's own kernels.");
        TODO("sh scripts/setup-cuda.sh brings it.");
    }
    if (m->wsl == 1) {
        FOUND(wsl, "This is the Windows subsystem for Linux: peer access and NVLink counters are usually missing there.");
        TODO("Nothing for one card. For two, run Linux itself.");
    }
}

static void examine_users(const struct link_card *c, struct doctor *d)
{
    char has[32], all[32], one[32];
    struct finding *f;
    for (int i = 0; i < c->n_users; i++) {
        const struct link_user *u = &c->user[i];
        if (u->bytes >= 0 && u->bytes < GIB / 2)
            continue;
        FOUND(card_busy, "Card %lld: %s (pid %lld) holds %s of it.", (long long)c->index, u->name[0] != '\0' ? u->name : "a process",
              (long long)u->pid, u->bytes < 0 ? "an unknown part" : num_format_bytes(one, (uint64_t)u->bytes));
        TODO("End it, or choose another card (compute.gpus). Both would share memory and time.");
    }
    if (c->free >= 0 && c->free < CARD_LEAST) {
        FOUND(card_full, "Card %lld has %s of %s free.", (long long)c->index, num_format_bytes(has, (uint64_t)c->free),
              c->total >= 0 ? num_format_bytes(all, (uint64_t)c->total) : "?");
        TODO("End the programs that hold its memory (nvidia-smi), or leave the card out with compute.gpus.");
    }
}

static void examine_speed(const struct link_card *c, struct doctor *d)
{
    struct finding *f;
    if (c->power_limit_w > 0 && c->power_default_w > 0 && (double)c->power_limit_w < 0.95 * (double)c->power_default_w) {
        FOUND(power_capped, "Card %lld is held to %lld W; its default is %lld W.", (long long)c->index, (long long)c->power_limit_w,
              (long long)c->power_default_w);
        TODO("Nothing, if that is meant (a cap often saves more power than speed). Else: sudo nvidia-smi -i %lld -pl %lld", (long long)c->index,
             (long long)c->power_default_w);
    }
    if (c->throttle > 0 && (c->throttle & (LINKS_THROTTLE_HEAT | LINKS_THROTTLE_HARDWARE | 0x80)) != 0) {
        FOUND(throttled, "Card %lld lowers its clocks now because of %s (%lld MHz of %lld).", (long long)c->index,
              c->throttle & LINKS_THROTTLE_HEAT ? "heat" : "its power supply or a fault", (long long)c->clock_mhz, (long long)c->clock_max_mhz);
        TODO("Look at fans, airflow and the power cables; a run on it is slow and uneven.");
    }
    if (c->pcie_width > 0 && c->pcie_width_max > 0 && c->pcie_width < c->pcie_width_max - c->pcie_width) {
        FOUND(slot_narrow, "Card %lld has %lld PCIe lanes of the %lld it can use.", (long long)c->index, (long long)c->pcie_width,
              (long long)c->pcie_width_max);
        TODO("Put it into a slot with 16 or 8 lanes from the CPU. One card alone loses little; a sharded or host-streamed base loses the most.");
    }
}

static void examine_cards(const struct machine *m, struct doctor *d)
{
    struct finding *f;
    const struct link_card *first = NULL;
    bool differ = false;
    for (int i = 0; i < m->n_cards; i++) {
        const struct link_card *c = &m->card[i];
        if (!is_usable(c)) {
            if (count_usable(m) > 0) {
                FOUND(card_old, "Card %lld, %s: compute capability %lld.%lld; BF16 needs 8.0.", (long long)c->index, c->name, (long long)c->major,
                      (long long)c->minor);
                TODO("It is left out. Nothing to do.");
            }
            continue;
        }
        examine_users(c, d);
        examine_speed(c, d);
        if (first != NULL && strcmp(first->name, c->name) != 0 && !differ) {
            differ = true;
            FOUND(cards_differ, "Card %lld is %s, card %lld is %s.", (long long)first->index, first->name, (long long)c->index, c->name);
            TODO("compute.gpus: auto uses cards of one kind. Data parallel may name both and then runs at the slower one's speed.");
        }
        first = first != NULL ? first : c;
    }
}

/* NVLinks that are there and lead nowhere, or elsewhere. */
static void examine_bridge(const struct machine *m, const struct link_pair *p, const struct link_card *a, const struct link_card *b,
                           struct doctor *d)
{
    struct finding *f;
    int down = 0, up = machine_bridges(m, a, b, &down), active = a->n_links - down;
    if (up > 0 && down > 0) {
        FOUND(link_down, "Cards %lld and %lld: %d of %d NVLinks are up.", (long long)p->a, (long long)p->b, up, a->n_links);
        if (machine_switched(a, b) > 0)
            TODO("nvidia-smi nvlink --status tells which. The switches are part of the machine: restart it, then see its maker.");
        else
            TODO("Reseat the bridge; clean its contacts. Each link of two RTX 3090s carries 14 GB/s in each direction.");
    } else if (up == 0 && active > 0) {
        FOUND(link_elsewhere, "Cards %lld and %lld: NVLinks are up, but end at %s.", (long long)p->a, (long long)p->b,
              a->link[0].remote[0] != '\0' ? a->link[0].remote : "something unknown");
        TODO("Train on cards that NVLink joins (compute.gpus), or move the bridge.");
    } else if (up == 0 && a->n_links > 0 && b->n_links > 0) {
        FOUND(no_bridge, "Cards %lld and %lld can be joined by NVLink, and are not.", (long long)p->a, (long long)p->b);
        TODO("Nothing for data parallel training. docs/nvlink.md says when a bridge is worth it.");
    }
}

static void examine_pair(const struct machine *m, const struct link_pair *p, struct doctor *d)
{
    const struct link_card *a = machine_card(m, p->a), *b = machine_card(m, p->b);
    char why[160];
    struct finding *f;
    if (a == NULL || b == NULL || !is_usable(a) || !is_usable(b))
        return;
    examine_bridge(m, p, a, b, d);
    enum machine_way way = machine_way(m, p, why);
    if (p->peer >= 0 && p->cuda_peer >= 0 && p->peer != p->cuda_peer) {
        FOUND(peer_disputed, "Cards %lld and %lld: %s grants peer access, and %s does not.", (long long)p->a, (long long)p->b,
              p->peer == 1 ? "NVML" : "CUDA", p->peer == 1 ? "CUDA" : "NVML");
        TODO("NCCL goes through host memory then. Restart after an update of the driver; in a container or a virtual machine give both cards "
             "whole.");
    }
    if (way == WAY_HOST && machine_peer(p) == 1 && strstr(m->nccl_settings, "NCCL_P2P") == NULL) {
        FOUND(peer_unused, "Cards %lld and %lld: %s.", (long long)p->a, (long long)p->b, why);
        TODO("To try it: NCCL_P2P_LEVEL=SYS. The preflight compares the bytes that arrive.");
    }
    if (way == WAY_PEER && (m->iommu == 1 || m->acs == 1)) {
        FOUND(peer_at_risk, "Cards %lld and %lld have peer access over PCIe while %s is on; wrong bytes and hangs are known from that.",
              (long long)p->a, (long long)p->b, m->iommu == 1 ? "an IOMMU" : "ACS");
        TODO("Turn IOMMU and ACS off in the firmware (or boot with iommu=pt), or set NCCL_P2P_DISABLE=1. The preflight tests it.");
    }
}

static void examine_together(const struct machine *m, struct doctor *d)
{
    char has[32];
    struct finding *f;
    if (count_usable(m) < 2)
        return;
    for (int i = 0; i < m->n_pairs; i++)
        examine_pair(m, &m->pair[i], d);
    if (m->cuda[0] != '\0' && m->nccl[0] == '\0') {
        FOUND(nccl_missing, "NCCL is not there: several cards cannot train together at speed.");
        TODO("sh scripts/setup-cuda.sh brings it.");
    } else if (m->nccl[0] != '\0' && version_number(m->nccl) < NCCL_LEAST) {
        FOUND(nccl_old, "NCCL is %s; lorat wants 2.27.5 or later (older ones read out of bounds in a BF16 sum).", m->nccl);
        TODO("sh scripts/setup-cuda.sh brings a newer one.");
    }
    if (m->shm_free >= 0 && m->shm_free < SHM_LEAST) {
        FOUND(shm_small, "/dev/shm has %s free; NCCL puts what goes through host memory there.", num_format_bytes(has, (uint64_t)m->shm_free));
        TODO("In a container: start it with --shm-size=1g or --ipc=host. Else: sudo mount -o remount,size=1G /dev/shm");
    }
    if (m->locked_memory >= 0 && m->locked_memory < 64 * MIB && m->container == 1) {
        FOUND(locked_memory, "This container may lock %s of memory.", num_format_bytes(has, (uint64_t)m->locked_memory));
        TODO("Start it with --ulimit memlock=-1 if NCCL complains.");
    }
    if (strstr(m->nccl_settings, "NCCL_") != NULL) {
        FOUND(settings, "The environment sets %.220s.", m->nccl_settings);
        TODO("compute.interconnect: nvlink and pcie override what contradicts them; auto leaves these as they are.");
    }
}

static void examine_host(const struct machine *m, struct doctor *d)
{
    char has[32];
    struct finding *f;
    if (m->disk_free >= 0 && m->disk_free < 64 * MIB) {
        FOUND(disk_full, "The disk that lorat runs on has %s free.", num_format_bytes(has, (uint64_t)m->disk_free));
        TODO("Make room: a checkpoint of an 8B job takes 0.5 GB, and checkpoint.keep of them stay.");
    } else if (m->disk_free >= 0 && m->disk_free < 4 * GIB) {
        FOUND(disk_low, "The disk that lorat runs on has %s free.", num_format_bytes(has, (uint64_t)m->disk_free));
        TODO("Make room, or lower checkpoint.keep: a checkpoint of an 8B job takes 0.5 GB.");
    }
    if (m->host_available >= 0 && m->host_available < 2 * GIB) {
        FOUND(host_memory, "Host memory: %s available.", num_format_bytes(has, (uint64_t)m->host_available));
        TODO("End other programs. model.placement: host needs the whole base in host memory.");
    }
    if (m->open_files >= 0 && m->open_files < 512) {
        FOUND(open_files, "At most %lld files may be open.", (long long)m->open_files);
        TODO("ulimit -n 4096");
    }
}

static int worse(const void *a, const void *b)
{
    const struct finding *x = a, *y = b;
    int by_severity = (int)finding_severity(x->id) - (int)finding_severity(y->id);
    return by_severity != 0 ? by_severity : (int)x->id - (int)y->id;
}

/* A full card stops nobody while another one is free. */
static void spare_full_cards(const struct machine *m, struct doctor *d)
{
    int full = 0;
    for (int i = 0; i < d->n; i++)
        full += d->finding[i].id == FINDING_card_full;
    if (full == 0 || full >= count_usable(m))
        return;
    for (int i = 0; i < d->n; i++)
        if (d->finding[i].id == FINDING_card_full)
            d->finding[i].id = FINDING_card_busy;
}

void doctor_examine(const struct machine *m, struct doctor *out)
{
    out->n = 0;
    examine_driver(m, out);
    examine_cards(m, out);
    examine_together(m, out);
    examine_host(m, out);
    spare_full_cards(m, out);
    qsort(out->finding, (size_t)out->n, sizeof out->finding[0], worse);
}

bool doctor_is_well(const struct doctor *d)
{
    for (int i = 0; i < d->n; i++)
        if (finding_severity(d->finding[i].id) == SEVERITY_STOP)
            return false;
    return true;
}
