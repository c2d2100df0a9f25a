/* launch.cpp - checks each launch against the card's limits, keeps count of kernels, and says where the card is when it fails.
 *
 * Whatever the simulated card, a kernel must also fit an RTX 3090 (compute capability 8.6), the narrowest card that lorat is made
 * for: what works in the simulator then starts on each of them. */
#include "tests/sim/sim.h"

#include <map>
#include <stdio.h>
#include <string>

struct Kernel {
    std::string name;
    size_t shared_allowed = 48 << 10, shared_most = 0; /* allowed: until cudaFuncSetAttribute says more */
    uint64_t launches = 0, blocks = 0;
    unsigned threads = 0;
};
static std::map<const void *, Kernel> kernels;
static uint32_t launches;
static const SimLaunch *now;

static Kernel &kernel_of(const void *code)
{
    Kernel &k = kernels[code];
    if (k.name.empty())
        k.name = sim_symbol(code);
    return k;
}
const SimLaunch *sim_launch_now(void) { return now; }

/* Blocks that an SM of an RTX 3090 holds, by threads and shared memory (registers are ptxas's to know). */
static int blocks_an_sm(unsigned threads, size_t shared)
{
    const SimCard &c = sim_narrowest();
    size_t by_threads = (size_t)c.threads_sm / threads, by_shared = c.shared_sm / (shared + SIM_BLOCK_SYSTEM_BYTES);
    size_t least = by_threads < by_shared ? by_threads : by_shared;
    return (int)(least < 16 ? least : 16);
}

cudaError_t cudaFuncSetAttribute(const void *code, enum cudaFuncAttribute what, int value)
{
    SIM_CALL("cudaFuncSetAttribute");
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || (size_t)value > sim_card(sim_device()).shared_block)
        return sim_leave(cudaErrorInvalidValue);
    kernel_of(code).shared_allowed = (size_t)value;
    return cudaSuccess;
}

/* What a card would refuse with an error; a finding too, since a launch that the card refuses is never meant. */
static cudaError_t check(const cudaLaunchConfig_t *c, const Kernel &k)
{
    const SimCard &card = sim_narrowest();
    dim3 g = c->gridDim, b = c->blockDim;
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    const char *name = k.name.c_str();
    if (threads == 0 || threads > 1024 || b.z > 64)
        sim_finding("threads", "kernel %s is launched with %llu threads a block, expected 1 to 1,024", name,
                    (unsigned long long)threads);
    else if (threads % 32 != 0)
        sim_finding("warps", "kernel %s is launched with %llu threads a block, expected whole warps of 32", name,
                    (unsigned long long)threads);
    else if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
        sim_finding(
            "grid",
            "kernel %s is launched with a grid of %u x %u x %u, expected at most 2,147,483,647 x 65,535 x 65,535 and none 0",
            name, g.x, g.y, g.z);
    else if (c->dynamicSmemBytes > card.shared_block)
        sim_finding("shared", "kernel %s is launched with %zu bytes of shared memory a block, an RTX 3090 has %zu", name,
                    c->dynamicSmemBytes, card.shared_block);
    else if (c->dynamicSmemBytes > k.shared_allowed)
        sim_finding("attribute",
                    "kernel %s is launched with %zu bytes of shared memory, expected at most %zu. Above 48 KiB, "
                    "cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize) comes first",
                    name, c->dynamicSmemBytes, k.shared_allowed);
    else if (blocks_an_sm((unsigned)threads, c->dynamicSmemBytes) < 1)
        sim_finding("fit", "not one block of kernel %s fits an SM of an RTX 3090: %llu threads, %zu bytes of shared memory", name,
                    (unsigned long long)threads, c->dynamicSmemBytes);
    else
        return cudaSuccess;
    return cudaErrorInvalidConfiguration;
}

void sim_check_pointer(const void *kernel, const void *p)
{
    if (p && !sim_is_device(p) && !sim_is_pinned(p, 1))
        sim_finding("host pointer", "kernel %s is given %p, which is memory of the host", kernel_of(kernel).name.c_str(), p);
}
cudaError_t sim_launch(const cudaLaunchConfig_t *c, const void *code, std::function<void()> body)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    if (cudaError_t bad = sim_fault("launch"))
        return sim_leave(sim_queue_fault(c->stream, "a kernel", bad));
    if (cudaError_t bad = sim_enter(""))
        return sim_leave(bad);
    Kernel &k = kernel_of(code);
    if (cudaError_t bad = check(c, k))
        return sim_leave(bad);
    unsigned threads = c->blockDim.x * c->blockDim.y * c->blockDim.z;
    k.launches++;
    k.blocks += (uint64_t)c->gridDim.x * c->gridDim.y * c->gridDim.z;
    k.threads = threads > k.threads ? threads : k.threads;
    k.shared_most = c->dynamicSmemBytes > k.shared_most ? c->dynamicSmemBytes : k.shared_most;
    SimLaunch l = {c->gridDim, c->blockDim, c->dynamicSmemBytes, k.name.c_str(), ++launches, std::move(body)};
    return sim_leave(sim_queue(c->stream, k.name.c_str(), [l] {
        now = &l;
        sim_run(l);
        now = nullptr;
    }));
}

void sim_report(FILE *to)
{
    fprintf(to, "%-48s %10s %12s %8s %10s %10s\n", "kernel", "launches", "blocks", "threads", "shared", "blocks/SM");
    for (const auto &entry : kernels)
        if (entry.second.launches) {
            const Kernel &k = entry.second;
            fprintf(to, "%-48s %10llu %12llu %8u %10zu %10d\n", k.name.c_str(), (unsigned long long)k.launches,
                    (unsigned long long)k.blocks, k.threads, k.shared_most, blocks_an_sm(k.threads, k.shared_most));
        }
}
long long sim_launches(const char *part)
{
    uint64_t n = 0;
    for (const auto &entry : kernels)
        if (entry.second.name.find(part) != std::string::npos)
            n += entry.second.launches;
    return (long long)n;
}
bool sim_is_tracked(void) { return sim_track.read != nullptr; }
SimTrack sim_track;

void sim_finish(void)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    sim_run_all();
    if (!sim_stuck(sim_device())) { /* a card in error gives nothing back */
        sim_memory_left();
        sim_streams_left();
    }
    sim_errors_left();
}
