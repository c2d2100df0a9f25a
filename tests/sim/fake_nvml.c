/* fake_nvml.c - a stand-in for libnvidia-ml.so.1: two cards of 24 GiB, the first of which others use. $LORAT_FAKE_NVML: off (does
 * not start), old (does not list processes). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, FOUND_NONE = 6 };
#define GIB (1ull << 30)
struct memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct process {
    unsigned pid;
    unsigned long long used;
    unsigned instance, compute_instance;
};
static int cards[] = {0, 1}, started;

static int is(const char *what)
{
    const char *k = getenv("LORAT_FAKE_NVML");
    return k != NULL && strcmp(k, what) == 0;
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out);
int nvmlDeviceGetMemoryInfo_v2(void *d, struct memory *out);
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, struct process *out);
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *n, struct process *out);
int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size);

int nvmlInit_v2(void)
{
    started += !is("off");
    return is("off") ? UNINITIALIZED : OK;
}
int nvmlShutdown(void)
{
    if (started-- == 0)
        abort(); /* more ends than starts */
    return OK;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out)
{
    unsigned domain, bus, device;
    if (!started || sscanf(pci, "%8x:%2x:%2x.0", &domain, &bus, &device) != 3)
        return INVALID;
    static unsigned first_bus;
    if (!first_bus)
        first_bus = bus + 1;
    *out = &cards[bus + 1 != first_bus];
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *d, struct memory *out)
{
    if (out->version != (sizeof *out | 2u << 24))
        return INVALID;
    out->total = 24 * GIB;
    out->free = *(int *)d == 0 ? 5 * GIB + GIB / 2 : 23 * GIB;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, struct process *out)
{
    if (is("old") || *n < 3)
        return is("old") ? FOUND_NONE : 7;
    *n = 0;
    if (*(int *)d == 0) {
        out[0] = (struct process){4194305, 2 * GIB, 0, 0}; /* above the largest pid that there can be */
        out[1] = (struct process){(unsigned)getpid(), 12 * GIB + GIB / 4, 0, 0};
        out[2] = (struct process){4194306, ~0ull, 0, 0}; /* not told */
        *n = 3;
    }
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *n, struct process *out)
{
    out[0] = (struct process){4194307, 3 * GIB, 0, 0};
    *n = is("old") ? 0 : 1;
    return OK;
}
int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size)
{
    snprintf(out, size, "/usr/lib/xorg/Xorg%u", pid % 10);
    return OK;
}
