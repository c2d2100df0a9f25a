/* fake_nvml.c - a stand-in for libnvidia-ml.so.1 with two bridged cards at 01:00.0 and 02:00.0, which are the simulator's addresses. The
 * counters of NVLink move by 1 GiB, those of energy by 2 J, whenever they are read. $LORAT_FAKE_NVML: unbridged, switched (the links end
 * at a switch), or old (the functions that came later say "not supported"). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3 };
typedef int card; /* 0, 1 */
struct memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct process {
    unsigned pid;
    unsigned long long used;
    unsigned instance, compute_instance;
};
struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char address[32];
};
struct field {
    unsigned id, scope;
    long long timestamp, latency;
    int type, result;
    unsigned long long value;
};
static card cards[] = {0, 1};
static unsigned long long nvlink_kib[2], millijoules[2];

static int is(const char *what)
{
    const char *k = getenv("LORAT_FAKE_NVML");
    return k != NULL && strcmp(k, what) == 0;
}
#define API(name, ...) \
    int name(__VA_ARGS__); \
    int name(__VA_ARGS__)
#define NUMBER(name, v)                        \
    API(name, void *d, unsigned *out)          \
    {                                          \
        *out = (v);                            \
        return is("old") ? NOT_SUPPORTED : OK; \
    }

API(nvmlInit_v2, void) { return OK; }
API(nvmlShutdown, void) { return OK; }
API(nvmlSystemGetDriverVersion, char *out, unsigned size)
{
    snprintf(out, size, "580.95.05");
    return OK;
}
API(nvmlDeviceGetCount_v2, unsigned *n)
{
    *n = 2;
    return OK;
}
API(nvmlDeviceGetHandleByIndex_v2, unsigned i, void **out)
{
    *out = &cards[i & 1];
    return OK;
}
API(nvmlDeviceGetHandleByPciBusId_v2, const char *pci, void **out)
{
    unsigned domain, bus, device;
    if (sscanf(pci, "%x:%x:%x.0", &domain, &bus, &device) != 3 || bus < 1 || bus > 2)
        return INVALID;
    *out = &cards[bus - 1];
    return OK;
}
API(nvmlDeviceGetName, void *d, char *out, unsigned size)
{
    snprintf(out, size, "NVIDIA GeForce RTX 3090");
    return OK;
}
API(nvmlDeviceGetUUID, void *d, char *out, unsigned size)
{
    snprintf(out, size, "GPU-%d", *(card *)d);
    return OK;
}
API(nvmlDeviceGetPciInfo_v3, void *d, struct pci *out)
{
    snprintf(out->address, sizeof out->address, "00000000:%02X:00.0", *(card *)d + 1);
    return OK;
}
API(nvmlDeviceGetCudaComputeCapability, void *d, int *major, int *minor)
{
    *major = 8;
    *minor = 6;
    return OK;
}
API(nvmlDeviceGetMemoryInfo_v2, void *d, struct memory *out)
{
    out->total = 24ull << 30;
    out->free = 20ull << 30;
    return out->version == (sizeof *out | 2u << 24) ? OK : INVALID;
}
API(nvmlDeviceGetComputeRunningProcesses_v3, void *d, unsigned *n, struct process *out)
{
    out[0] = (struct process){4194305, 3ull << 30, 0, 0}; /* above the largest pid that there can be */
    out[1] = (struct process){4194306, ~0ull, 0, 0};
    *n = *(card *)d == 0 ? 2 : 0;
    return OK;
}
API(nvmlDeviceGetGraphicsRunningProcesses_v3, void *d, unsigned *n, struct process *out)
{
    out[0] = (struct process){4194305, 3ull << 30, 0, 0}; /* the same process draws, too */
    *n = *(card *)d == 0 ? 1 : 0;
    return OK;
}
API(nvmlSystemGetProcessName, unsigned pid, char *out, unsigned size)
{
    snprintf(out, size, "/usr/bin/python3");
    return OK;
}
NUMBER(nvmlDeviceGetEnforcedPowerLimit, 280000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, 350000)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, 1)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, 4)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, 8)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, 16)
API(nvmlDeviceGetClockInfo, void *d, int which, unsigned *out)
{
    *out = which == 1 ? 1400 : 9;
    return OK;
}
API(nvmlDeviceGetMaxClockInfo, void *d, int which, unsigned *out)
{
    *out = which == 1 ? 2100 : 9;
    return OK;
}
API(nvmlDeviceGetTemperature, void *d, int which, unsigned *out)
{
    *out = which == 0 ? 55 : 9;
    return OK;
}
API(nvmlDeviceGetCurrentClocksThrottleReasons, void *d, unsigned long long *out)
{
    *out = 4;
    return OK;
}
API(nvmlDeviceGetNvLinkState, void *d, unsigned link, unsigned *active)
{
    *active = !is("unbridged") && link != 3;
    return link < 4 ? OK : INVALID;
}
API(nvmlDeviceGetNvLinkRemotePciInfo_v2, void *d, unsigned link, struct pci *out)
{
    snprintf(out->address, sizeof out->address, "00000000:%02X:00.0", is("switched") ? 0xC4 : 2 - *(card *)d);
    return OK;
}
API(nvmlDeviceGetNvLinkRemoteDeviceType, void *d, unsigned link, int *out)
{
    *out = is("switched") ? 2 : link == 2 ? 255 : 0; /* 255: not known */
    return is("old") ? NOT_SUPPORTED : OK;
}
API(nvmlDeviceGetP2PStatus, void *a, void *b, int what, int *out)
{
    *out = is("unbridged") ? 1 : 0;
    return is("old") ? NOT_SUPPORTED : OK;
}
API(nvmlDeviceGetTopologyCommonAncestor, void *a, void *b, int *out)
{
    *out = 30;
    return OK;
}
API(nvmlDeviceGetTotalEnergyConsumption, void *d, unsigned long long *out)
{
    *out = millijoules[*(card *)d] += 2000;
    return is("old") ? NOT_SUPPORTED : OK;
}
API(nvmlDeviceGetFieldValues, void *d, int n, struct field *f)
{
    for (int i = 0; i < n; i++) {
        f[i].result = is("old") || f[i].scope != ~0u || (f[i].id != 138 && f[i].id != 139) ? NOT_SUPPORTED : OK;
        f[i].type = 3;
        f[i].value = f[i].id == 138 ? nvlink_kib[*(card *)d] += 1 << 20 : 7;
    }
    return OK;
}
