/* nvml.cu - free memory and its holder by NVML. The few functions and structures are declared here, as the toolkit's parts that
 * lorat needs do not bring nvml.h; they are the ABI of libnvidia-ml.so.1, whose versioned names never change. */
#include "kernels/cuda/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

typedef void *nvml_device;
struct nvml_memory { /* nvmlMemory_v2_t */
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct nvml_process { /* nvmlProcessInfo_t of the _v3 functions */
    unsigned pid;
    unsigned long long used; /* ~0: not told (WSL) */
    unsigned instance, compute_instance;
};
enum { NVML_OK = 0, MOST_PROCESSES = 64 };

struct nvml {
    void *library;
    int (*start)(void);
    int (*stop)(void);
    int (*device)(const char *pci, nvml_device *out);
    int (*memory)(nvml_device d, struct nvml_memory *out);
    int (*compute)(nvml_device d, unsigned *n, struct nvml_process *out);  /* may be NULL */
    int (*graphics)(nvml_device d, unsigned *n, struct nvml_process *out); /* may be NULL */
    int (*name)(unsigned pid, char *out, unsigned size);                   /* may be NULL */
    bool started;
};

void nvml_close(struct nvml *n)
{
    if (!n)
        return;
    if (n->started)
        n->stop();
    if (n->library)
        dlclose(n->library);
    mem_free(n);
}

template <typename F> static bool find(struct nvml *n, F *out, const char *name)
{
    *out = (F)dlsym(n->library, name);
    return *out != NULL;
}

struct nvml *nvml_open(void)
{
    struct nvml *n = (struct nvml *)mem_alloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (n->library) {
        find(n, &n->compute, "nvmlDeviceGetComputeRunningProcesses_v3");
        find(n, &n->graphics, "nvmlDeviceGetGraphicsRunningProcesses_v3");
        find(n, &n->name, "nvmlSystemGetProcessName");
        n->started = find(n, &n->start, "nvmlInit_v2") && find(n, &n->stop, "nvmlShutdown") &&
                     find(n, &n->device, "nvmlDeviceGetHandleByPciBusId_v2") &&
                     find(n, &n->memory, "nvmlDeviceGetMemoryInfo_v2") && n->start() == NVML_OK;
    }
    if (n->started)
        return n;
    nvml_close(n);
    return NULL;
}

/* The process that holds most, of those that one function lists. */
static void largest(int (*list)(nvml_device, unsigned *, struct nvml_process *), nvml_device d, struct nvml_process *most)
{
    struct nvml_process all[MOST_PROCESSES];
    unsigned n = MOST_PROCESSES;
    if (!list || list(d, &n, all) != NVML_OK)
        return;
    for (unsigned i = 0; i < n && i < MOST_PROCESSES; i++)
        if (all[i].used != ~0ull && all[i].used > most->used)
            *most = all[i];
}

/* The last part of the program's path; a process of another container has no name here. */
static void name_of(const struct nvml *n, unsigned pid, char out[64])
{
    char path[256] = "";
    snprintf(path, sizeof(path), "/proc/%u/comm", pid);
    FILE *f = fopen(path, "re");
    if (f) {
        bool read = fgets(out, 64, f) != NULL;
        fclose(f);
        out[read ? strcspn(out, "\n") : 0] = '\0';
        if (read)
            return;
    }
    path[0] = '\0';
    if (!n->name || n->name(pid, path, sizeof(path)) != NVML_OK || path[0] == '\0') {
        snprintf(out, 64, "a process");
        return;
    }
    path[sizeof(path) - 1] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(out, 64, "%.63s", slash ? slash + 1 : path);
}

void nvml_ask(struct nvml *n, struct cuda_card *card)
{
    struct nvml_memory m = {};
    struct nvml_process most = {};
    nvml_device d;
    char name[64], bytes[32];
    m.version = (unsigned)sizeof(m) | 2u << 24;
    if (n->device(card->pci, &d) != NVML_OK)
        return;
    if (n->memory(d, &m) == NVML_OK && (int64_t)m.free <= card->total)
        card->free = (int64_t)m.free;
    largest(n->compute, d, &most);
    largest(n->graphics, d, &most);
    if (most.used == 0)
        return;
    name_of(n, most.pid, name);
    snprintf(card->holder, sizeof(card->holder), "%s (pid %u, %s)", name, most.pid, num_format_bytes(bytes, most.used));
}
