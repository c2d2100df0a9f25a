/* cards.cpp - the simulated cards, the errors of the runtime, and errors on request.
 *
 * LORAT_SIM_FAIL="cudaMalloc:3:2" lets the third call of cudaMalloc return error 2, "cudaMalloc:3:2@1" the third one on card 1;
 * several such entries stand with commas between them; "launch" is any kernel. Errors of a kind that a real card tells only after
 * the work has run (an illegal address) are queued with the work, come from whatever waits for it, and stay until the process ends,
 * as CUDA's do. */
#include "tests/sim/sim.h"

#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

/* From NVIDIA's data sheets and the CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
static const SimCard known_cards[] = {
    {"3090", "simulated RTX 3090", 8, 6, 82, (size_t)24 << 30, 99 << 10, 100 << 10, 1536, 6 << 20},
    {"4090", "simulated RTX 4090", 8, 9, 128, (size_t)24 << 30, 99 << 10, 100 << 10, 1536, 72 << 20},
    {"a100", "simulated A100", 8, 0, 108, (size_t)40 << 30, 163 << 10, 164 << 10, 2048, 40 << 20},
    {"h200", "simulated H200", 9, 0, 132, (size_t)141 << 30, 227 << 10, 228 << 10, 2048, 50 << 20},
    {"p40", "simulated Tesla P40", 6, 1, 30, (size_t)24 << 30, 48 << 10, 96 << 10, 2048, 3 << 20},
};
static SimCard cards[SIM_MAX_CARDS];
static int n_cards = -1;
static cudaError_t why_none, stuck[SIM_MAX_CARDS];
static thread_local int device_now;
static thread_local cudaError_t last_error;
static int errors, told_of;
static cudaError_t latest; /* of errors */

std::recursive_mutex &sim_lock(void)
{
    static std::recursive_mutex m;
    return m;
}
uint64_t sim_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return otherwise;
    double n = strtod(text, &end);
    int shift = strcmp(end, "KiB") == 0 ? 10 : strcmp(end, "MiB") == 0 ? 20 : strcmp(end, "GiB") == 0 ? 30 : 0;
    if (end == text || (*end && !shift) || n < 0)
        sim_die("%s is '%s', expected a number of bytes such as 24GiB", name, text);
    return (uint64_t)(n * (double)((uint64_t)1 << shift));
}

static void add_card(const std::string &key)
{
    for (const SimCard &c : known_cards)
        if (key == c.key && n_cards < SIM_MAX_CARDS) {
            cards[n_cards] = c;
            cards[n_cards].memory = sim_number("LORAT_SIM_MEMORY", c.memory);
            n_cards++;
            return;
        }
    sim_die("LORAT_SIM_CARDS names '%s', expected 3090, 4090, a100, h200, p40, none or old-driver (at most %d)", key.c_str(),
            SIM_MAX_CARDS);
}
static void read_cards(void)
{
    if (n_cards >= 0)
        return;
    n_cards = 0;
    const char *text = getenv("LORAT_SIM_CARDS");
    std::string rest = text && *text ? text : "3090";
    if (rest == "none" || rest == "old-driver") {
        why_none = rest == "none" ? cudaErrorNoDevice : cudaErrorInsufficientDriver;
        return;
    }
    for (size_t comma; !rest.empty(); rest = comma == std::string::npos ? "" : rest.substr(comma + 1)) {
        comma = rest.find(',');
        add_card(rest.substr(0, comma));
    }
}
const SimCard &sim_card(int device)
{
    read_cards();
    return cards[device];
}
const SimCard &sim_narrowest(void) { return known_cards[0]; }
int sim_device(void) { return device_now; }

/* ---- errors ---- */

struct Fault {
    std::string function;
    long at;
    cudaError_t rc;
    int card; /* -1: any */
};
static std::vector<Fault> read_faults(void)
{
    std::vector<Fault> out;
    const char *text = getenv("LORAT_SIM_FAIL");
    for (char name[64]; text && *text; text = strchr(text, ',') ? strchr(text, ',') + 1 : "") {
        long at;
        int rc, card = -1;
        if (sscanf(text, "%63[^:]:%ld:%d@%d", name, &at, &rc, &card) < 3 || at < 1)
            sim_die("LORAT_SIM_FAIL is '%s', expected FUNCTION:CALL:ERROR or FUNCTION:CALL:ERROR@CARD", text);
        out.push_back({name, at, (cudaError_t)rc, card});
    }
    return out;
}
bool sim_asynchronous(cudaError_t rc)
{
    return rc >= cudaErrorIllegalAddress && rc <= cudaErrorLaunchFailure && rc != cudaErrorLaunchOutOfResources;
}
void sim_stick(int device, cudaError_t rc)
{
    if (!stuck[device])
        stuck[device] = rc;
}
cudaError_t sim_stuck(int device) { return stuck[device]; }

cudaError_t sim_fault(const char *function)
{
    static const std::vector<Fault> faults = read_faults();
    static std::map<std::string, long> calls, calls_here[SIM_MAX_CARDS];
    if (faults.empty())
        return cudaSuccess;
    long now = ++calls[function], here = ++calls_here[device_now][function];
    for (const Fault &f : faults)
        if (f.function == function && (f.card < 0 ? f.at == now : f.card == device_now && f.at == here))
            return f.rc;
    return cudaSuccess;
}
cudaError_t sim_enter(const char *function)
{
    read_cards();
    if (cudaError_t asked = sim_fault(function)) {
        if (sim_asynchronous(asked))
            sim_stick(device_now, asked);
        return asked;
    }
    return why_none ? why_none : stuck[device_now];
}
cudaError_t sim_leave(cudaError_t rc)
{
    if (rc != cudaSuccess && rc != cudaErrorNotReady) {
        last_error = latest = rc;
        errors++;
    }
    return rc;
}
int sim_errors(void) { return errors; }
void sim_errors_told(void) { told_of = errors; }
void sim_errors_left(void)
{
    if (errors > told_of)
        sim_finding("unchecked", "%d functions of the runtime returned an error, the last '%s', and nobody told of it",
                    errors - told_of, cudaGetErrorString(latest));
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
#define X(name, number, text)                                                                                                    \
    case name:                                                                                                                   \
        return text;
        SIM_CUDA_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
#define X(name, number, text)                                                                                                    \
    case name:                                                                                                                   \
        return #name;
        SIM_CUDA_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}
cudaError_t cudaPeekAtLastError(void) { return stuck[device_now] ? stuck[device_now] : last_error; }
cudaError_t cudaGetLastError(void)
{
    cudaError_t was = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return was;
}

/* ---- devices ---- */

cudaError_t cudaDriverGetVersion(int *v)
{
    read_cards();
    return *v = why_none == cudaErrorInsufficientDriver ? 11040 : 13000, cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n)
{
    SIM_CALL("cudaGetDeviceCount");
    return *n = n_cards, cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    SIM_CALL("cudaSetDevice");
    if (device < 0 || device >= n_cards)
        return sim_leave(cudaErrorInvalidDevice);
    return device_now = device, cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    SIM_CALL("cudaGetDevice");
    return *device = device_now, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    SIM_CALL("cudaGetDeviceProperties");
    if (device < 0 || device >= n_cards)
        return sim_leave(cudaErrorInvalidDevice);
    const SimCard &c = cards[device];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", c.name);
    memset(p->uuid.bytes, device + 1, sizeof p->uuid.bytes);
    p->totalGlobalMem = c.memory;
    p->major = c.major;
    p->minor = c.minor;
    p->multiProcessorCount = c.sms;
    p->sharedMemPerBlockOptin = c.shared_block;
    p->l2CacheSize = c.l2_bytes;
    p->pciBusID = device + 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device)
{
    SIM_CALL("cudaDeviceGetAttribute");
    if (device < 0 || device >= n_cards)
        return sim_leave(cudaErrorInvalidDevice);
    const SimCard &c = cards[device];
    switch (what) {
    case cudaDevAttrMultiProcessorCount:
        return *value = c.sms, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        return *value = c.major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        return *value = c.minor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return *value = (int)c.shared_block, cudaSuccess;
    }
    return sim_leave(cudaErrorInvalidValue);
}
/* All cards reach one another; $LORAT_SIM_PEER=off: none does. */
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    SIM_CALL("cudaDeviceCanAccessPeer");
    if (device < 0 || device >= n_cards || peer < 0 || peer >= n_cards)
        return sim_leave(cudaErrorInvalidDevice);
    const char *set = getenv("LORAT_SIM_PEER");
    return *can = device != peer && !(set && strcmp(set, "off") == 0), cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int device)
{
    SIM_CALL("cudaDeviceGetPCIBusId");
    if (device < 0 || device >= n_cards)
        return sim_leave(cudaErrorInvalidDevice);
    snprintf(out, (size_t)size, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}
cudaError_t cudaProfilerStart(void) { return cudaSuccess; }
cudaError_t cudaProfilerStop(void) { return cudaSuccess; }
