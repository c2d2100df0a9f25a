/* machine_live.c - this machine as the CUDA plug-in, NVML, /proc and /sys describe it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "trainer/base/io.h"
#include "trainer/device.h"
#include "trainer/machine.h"

extern char **environ;

/* The first bytes of a small file of the kernel's, as a text; "" when it cannot be read. */
static void read_text(const char *path, char *out, size_t size)
{
    int fd = io->open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    ssize_t n = fd >= 0 ? io->read(fd, out, size - 1) : 0;
    if (fd >= 0)
        io->close(fd);
    out[n > 0 ? n : 0] = '\0';
}

/* The rest of the line behind `key`, without blanks and colons before it. */
static bool line_of(const char *text, const char *key, char *out, size_t size)
{
    const char *p = strstr(text, key);
    if (p == NULL)
        return false;
    p += strlen(key);
    p += strspn(p, " \t:");
    snprintf(out, size, "%.*s", (int)(strcspn(p, "\n") < size ? strcspn(p, "\n") : size - 1), p);
    return true;
}

static int64_t kibibytes(const char *text, const char *key)
{
    char line[64];
    return line_of(text, key, line, sizeof line) ? strtoll(line, NULL, 10) * 1024 : -1;
}

static void read_disk(const char *path, int64_t *total, int64_t *available)
{
    struct statvfs v;
    if (statvfs(path, &v) != 0)
        return;
    if (total != NULL)
        *total = (int64_t)v.f_blocks * (int64_t)v.f_frsize;
    *available = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

static int64_t limit_of(int what)
{
    struct rlimit r;
    if (getrlimit(what, &r) != 0)
        return -1;
    return r.rlim_cur == RLIM_INFINITY || r.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)r.rlim_cur;
}

static void read_settings(struct machine *m)
{
    size_t n = 0;
    for (char **v = environ; *v != NULL; v++)
        if (strncmp(*v, "NCCL_", 5) == 0 && n < sizeof m->nccl_settings) {
            snprintf(m->nccl_settings + n, sizeof m->nccl_settings - n, "%s%.80s", n > 0 ? " " : "", *v);
            n = strlen(m->nccl_settings);
        }
}

/* The kernel gives every device behind an IOMMU a group; whether it translates is the default domain's type. */
static void read_iommu(struct machine *m)
{
    char **names = NULL, path[300], type[32];
    size_t n = 0;
    struct err e;
    if (!io_is_dir("/sys/kernel/iommu_groups"))
        return;
    if (io_list("/sys/kernel/iommu_groups", &names, &n, &e) != 0)
        return;
    m->iommu = 0;
    for (size_t i = 0; i < n && m->iommu == 0; i++) {
        snprintf(path, sizeof path, "/sys/kernel/iommu_groups/%.32s/type", names[i]);
        read_text(path, type, sizeof type);
        m->iommu = strncmp(type, "DMA", 3) == 0;
    }
    io_list_free(names, n);
}

enum { CAP_ACS = 0x0D, ACS_REDIRECT = 0x04 | 0x08, CONFIG_BYTES = 4096, EXTENDED = 0x100 };

/* Does this device's ACS control redirect peer requests or completions upstream (PCI Express Base 6.12.1.1)? -1: its extended
 * configuration space cannot be read, which takes root. */
static int64_t redirects(const unsigned char *config, ssize_t n)
{
    unsigned at = EXTENDED;
    if (n < CONFIG_BYTES)
        return -1;
    for (int i = 0; i < 64 && at >= EXTENDED && at + 8 <= CONFIG_BYTES; i++) {
        unsigned head = config[at] | config[at + 1] << 8 | config[at + 2] << 16 | (unsigned)config[at + 3] << 24;
        if ((head & 0xffff) == CAP_ACS)
            return ((config[at + 6] | config[at + 7] << 8) & ACS_REDIRECT) != 0;
        at = head >> 20 & 0xffc;
    }
    return 0;
}

/* Of the bridges (class 0604) alone. */
static void read_acs(struct machine *m)
{
    static const char root[] = "/sys/bus/pci/devices";
    char **names = NULL, path[300], class[16];
    unsigned char config[CONFIG_BYTES];
    size_t n = 0;
    struct err e;
    if (!io_is_dir(root) || io_list(root, &names, &n, &e) != 0)
        return;
    for (size_t i = 0; i < n && m->acs != 1; i++) {
        snprintf(path, sizeof path, "%s/%.64s/class", root, names[i]);
        read_text(path, class, sizeof class);
        if (strncmp(class, "0x0604", 6) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%.64s/config", root, names[i]);
        int fd = io->open(path, O_RDONLY | O_CLOEXEC, 0);
        ssize_t got = fd >= 0 ? io->read(fd, config, sizeof config) : -1;
        if (fd >= 0)
            io->close(fd);
        int64_t one = redirects(config, got);
        m->acs = one > m->acs ? one : m->acs;
    }
    io_list_free(names, n);
}

static void read_host(struct machine *m)
{
    char text[4096];
    struct utsname u;
    read_text("/proc/meminfo", text, sizeof text);
    m->host_total = kibibytes(text, "MemTotal");
    m->host_available = kibibytes(text, "MemAvailable");
    read_text("/proc/cpuinfo", text, sizeof text);
    if (!line_of(text, "vendor_id", m->cpu, sizeof m->cpu) && uname(&u) == 0)
        snprintf(m->cpu, sizeof m->cpu, "%.31s", u.machine);
    if (uname(&u) == 0)
        snprintf(m->kernel, sizeof m->kernel, "%.90s", u.release);
    m->wsl = strstr(m->kernel, "icrosoft") != NULL || io_exists("/dev/dxg");
    m->container = io_exists("/.dockerenv") || io_exists("/run/.containerenv");
    read_disk(".", NULL, &m->disk_free);
    read_disk("/dev/shm", &m->shm_total, &m->shm_free);
    m->open_files = limit_of(RLIMIT_NOFILE);
    m->locked_memory = limit_of(RLIMIT_MEMLOCK);
    read_settings(m);
    read_iommu(m);
    read_acs(m);
}

/* "CUDA 13.0, driver of CUDA 13.0, cuBLASLt 13.1.0, cuDNN 9.18.1, no NCCL": the word behind `label`. */
static void version_of(const char *text, const char *label, char *out, size_t size)
{
    const char *p = strstr(text, label);
    if (p == NULL)
        return;
    p += strlen(label);
    size_t n = strspn(p, "0123456789.");
    snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), p);
}

static void read_versions(struct machine *m, const struct cuda_plugin *plugin)
{
    char text[256] = "";
    plugin->versions(text, sizeof text);
    version_of(text, "driver of CUDA ", m->driver_cuda, sizeof m->driver_cuda);
    version_of(text, "CUDA ", m->cuda, sizeof m->cuda);
    version_of(text, ", cuDNN ", m->cudnn, sizeof m->cudnn);
    version_of(text, ", NCCL ", m->nccl, sizeof m->nccl);
}

/* By CUDA, whose numbers compute.gpus uses; without it by NVML. True: by CUDA. */
static bool list_cards(struct machine *m, struct links *l)
{
    const struct cuda_plugin *plugin;
    struct cuda_card cards[DEVICE_MAX_CARDS] = {0};
    struct err e = {0};
    int n = 0, rc = plugin_cuda(&plugin, &e);
    if (rc == 0) {
        read_versions(m, plugin);
        rc = plugin->cards(cards, DEVICE_MAX_CARDS, &n, &e);
    }
    if (rc != 0 && m->card_present == 1)
        snprintf(m->trouble, sizeof m->trouble, "%.500s", e.text);
    for (int i = 0; i < n; i++) {
        struct link_card *c = &m->card[m->n_cards++];
        *c = links_unknown();
        c->index = cards[i].index;
        c->major = cards[i].major;
        c->minor = cards[i].minor;
        c->total = cards[i].total;
        c->free = cards[i].free;
        snprintf(c->name, sizeof c->name, "%s", cards[i].name);
        snprintf(c->pci, sizeof c->pci, "%s", cards[i].pci);
        snprintf(c->uuid, sizeof c->uuid, "%s", cards[i].uuid);
    }
    if (rc != 0 && l != NULL)
        m->n_cards = links_list(l, m->card, LINKS_MAX_CARDS);
    return rc == 0;
}

/* Both ways by CUDA, where the cards are numbered as it numbers them. */
static void ask_cuda(struct link_pair *p)
{
    const struct cuda_plugin *plugin;
    struct err e = {0};
    bool to, from;
    if (plugin_cuda(&plugin, &e) == 0 && plugin->peer((int)p->a, (int)p->b, &to, &e) == 0 &&
        plugin->peer((int)p->b, (int)p->a, &from, &e) == 0)
        p->cuda_peer = to && from;
}

void machine_read(struct machine *m)
{
    struct links *l = links_open();
    memset(m, 0, sizeof *m);
    snprintf(m->label, sizeof m->label, "live");
    m->iommu = m->acs = m->disk_free = m->shm_total = m->shm_free = -1;
    m->card_present = plugin_card_present();
    m->nvml = l != NULL;
    read_host(m);
    bool by_cuda = list_cards(m, l);
    if (l != NULL)
        links_driver(l, m->driver);
    for (int i = 0; i < m->n_cards && l != NULL; i++)
        links_ask(l, &m->card[i]);
    for (int i = 0; i < m->n_cards; i++)
        for (int k = i + 1; k < m->n_cards; k++) {
            struct link_pair *p = &m->pair[m->n_pairs++];
            *p = (struct link_pair){.a = m->card[i].index, .b = m->card[k].index, .peer = -1, .cuda_peer = -1};
            if (l != NULL)
                links_ask_pair(l, m->card[i].pci, m->card[k].pci, p);
            if (by_cuda)
                ask_cuda(p);
        }
    links_close(l);
}
