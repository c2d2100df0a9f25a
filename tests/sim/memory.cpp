/* memory.cpp - the memory of the simulated cards, and pinned host memory.
 *
 *   one range of addresses, all of it out of bounds but for what is allocated:
 *     | guard page | front | allocation ... | pad to 256 | guard page | guard page | front | ...
 *                   CANARY                    CANARY
 *
 * An allocation ends where a guard page begins (rounded up to 256 bytes, as the address must be a multiple of 256); what is left
 * over holds a pattern that is looked at whenever the host waits. New memory is filled with 0xff: NaN in every type of float.
 * Freed memory is out of bounds for the rest of the process, its addresses are not used again.
 *
 * While the card does not work all of it is out of bounds, so a host that touches device memory is caught. While it works, the
 * first access to each allocation faults once and opens it; the end of the work closes what was opened. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <map>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

enum : size_t {
    PAGE = 4096,
    ALIGN = 256,
    RANGE = (size_t)256 << 30,
    FILL_MOST =
        (size_t)1 << 30, /* beyond it new memory is zeros: touching each page of a large card would cost the host as much */
    SHARED_MOST_BYTES = 228 << 10
};
enum { CANARY = 0xcb };

static char *range;
static size_t used_range = PAGE;
static uint32_t *page_owner; /* one a page of the range: index of its allocation + 1 */
static std::vector<SimAlloc> allocs;
static std::vector<uint32_t> opened; /* allocations that the work now running has opened */
static bool executing;
static size_t in_use[SIM_MAX_CARDS];
static std::map<char *, size_t> pinned;
static char *shared_end;
static struct sigaction before;

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static char *first_page(const SimAlloc &a) { return (char *)((uintptr_t)a.p / PAGE * PAGE); }
static char *end_of(const SimAlloc &a) { return a.p + up(a.bytes, ALIGN); }
static size_t map_bytes(const SimAlloc &a) { return (size_t)(end_of(a) - first_page(a)); }

/* ---- whose is an address ---- */

bool sim_is_device(const void *p) { return range && (const char *)p >= range && (const char *)p < range + RANGE; }
const void *sim_range_begin(void) { return range; }
SimAlloc *sim_alloc_at(const void *p)
{
    if (!sim_is_device(p))
        return nullptr;
    uint32_t owner = page_owner[(size_t)((const char *)p - range) / PAGE];
    return owner ? &allocs[owner - 1] : nullptr;
}
static const SimAlloc *nearest(const char *p)
{
    for (size_t away = 0; away < 64 * PAGE; away += PAGE) {
        const SimAlloc *a = sim_alloc_at(p - away);
        if (!a)
            a = sim_alloc_at(p + away);
        if (a)
            return a;
    }
    return nullptr;
}
std::string sim_place(const void *address)
{
    char text[256];
    const char *p = (const char *)address;
    const SimAlloc *a = nearest(p);
    if (!a)
        return "an address of the card where nothing is allocated";
    const char *freed = a->live ? "" : "freed ";
    if (p < a->p)
        snprintf(text, sizeof text, "%zu bytes before the beginning of a %sblock of %zu bytes", (size_t)(a->p - p), freed,
                 a->bytes);
    else if (p >= a->p + a->bytes)
        snprintf(text, sizeof text, "%zu bytes past the end of a %sblock of %zu bytes", (size_t)(p - a->p) - a->bytes, freed,
                 a->bytes);
    else
        snprintf(text, sizeof text, "at byte %zu of a %sblock of %zu bytes", (size_t)(p - a->p), freed, a->bytes);
    return text;
}
bool sim_is_pinned(const void *p, size_t n)
{
    auto after = pinned.upper_bound((char *)p);
    if (after == pinned.begin())
        return false;
    auto block = std::prev(after);
    return (const char *)p + n <= block->first + block->second;
}
void sim_check_range(const char *what, const void *p, size_t n, int device)
{
    const SimAlloc *a = sim_alloc_at(p);
    if (!sim_is_device(p))
        sim_die("%s is host memory, expected memory of the card", what);
    if (!a || !a->live || (const char *)p < a->p || (const char *)p > a->p + a->bytes)
        sim_die("%s is %s", what, sim_place(p).c_str());
    if ((const char *)p + n > a->p + a->bytes)
        sim_die("%s of %zu bytes ends %s", what, n, sim_place((const char *)p + n).c_str());
    if (a->device != device)
        sim_die("%s is memory of card %d, the stream is card %d's", what, a->device, device);
}

/* ---- access ---- */

static void open_alloc(SimAlloc *a)
{
    mprotect(first_page(*a), map_bytes(*a), PROT_READ | PROT_WRITE);
    a->open = true;
    opened.push_back((uint32_t)(a - allocs.data()));
}
static void check_pattern(const SimAlloc &a, const char *from, const char *to, const char *side)
{
    for (const char *p = from; p < to; p++)
        if (*p != (char)CANARY)
            sim_die("somebody wrote %zu bytes %s a block of %zu bytes",
                    (size_t)(p < a.p ? a.p - p : p - a.p - (ptrdiff_t)a.bytes), side, a.bytes);
}
static void check_guards(const SimAlloc &a)
{
    check_pattern(a, first_page(a), a.p, "before");
    check_pattern(a, a.p + a.bytes, end_of(a), "past the end of");
}
void sim_open(bool on)
{
    executing = on;
    if (on)
        return;
    for (uint32_t i : opened) {
        check_guards(allocs[i]);
        mprotect(first_page(allocs[i]), map_bytes(allocs[i]), PROT_NONE);
        allocs[i].open = false;
    }
    opened.clear();
}

/* A fault of ours is told in one sentence; any other goes to whoever was there before. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    const char *p = (const char *)info->si_addr,
               *does = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2 ? "writes" : "reads";
    SimAlloc *a = sim_alloc_at(p);
    bool ours = sim_is_device(p);
    if (ours && executing && a && a->live && !a->open) {
        if (a->device != sim_running_device())
            sim_die("%s memory of card %d, %s, on card %d", does, a->device, sim_place(p).c_str(), sim_running_device());
        return open_alloc(a);
    }
    if (ours && !executing)
        sim_die("the host %s device memory, %s, expected a copy by the runtime", does, sim_place(p).c_str());
    if (ours)
        sim_die("%s %s", does, sim_place(p).c_str());
    if (shared_end && p >= shared_end && p < shared_end + PAGE)
        sim_die("%s %zu bytes past the end of the block's shared memory", does, (size_t)(p - shared_end));
    if (sim_on_stack_guard(p))
        sim_die("overflows the stack of a thread");
    sigaction(sig, &before, nullptr);
}

static void reserve(void)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    struct sigaction a = {};
    if (range)
        return;
    range = (char *)mmap(nullptr, RANGE, PROT_NONE, flags, -1, 0);
    page_owner = (uint32_t *)mmap(nullptr, RANGE / PAGE * sizeof *page_owner, PROT_READ | PROT_WRITE, flags, -1, 0);
    char *shared = (char *)mmap(nullptr, SHARED_MOST_BYTES + PAGE, PROT_NONE, flags, -1, 0);
    if (range == MAP_FAILED || page_owner == MAP_FAILED || shared == MAP_FAILED) {
        range = nullptr;
        sim_die("no %zu GiB of addresses: %s", RANGE >> 30, strerror(errno));
    }
    mprotect(shared, SHARED_MOST_BYTES, PROT_READ | PROT_WRITE);
    shared_end = shared + SHARED_MOST_BYTES;
    a.sa_sigaction = on_fault;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &a, &before);
}
char *sim_shared_begin(size_t bytes)
{
    reserve();
    char *begin = shared_end - up(bytes, 16);
    memset(begin, 0xff, (size_t)(shared_end - begin));
    return begin;
}

/* ---- the runtime's functions ---- */

/* The driver gives memory out by 2 MiB, small blocks by a part of that. */
static size_t charge(size_t bytes) { return bytes > (1 << 20) ? up(bytes, 2 << 20) : up(bytes, 512); }
static size_t free_now(int device)
{
    size_t taken = in_use[device] + SIM_CONTEXT_BYTES, all = sim_card(device).memory;
    return taken < all ? all - taken : 0;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    SIM_CALL("cudaMemGetInfo");
    *total_bytes = sim_card(sim_device()).memory;
    *free_bytes = free_now(sim_device());
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    SIM_CALL("cudaMalloc");
    *out = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > free_now(sim_device()) || charge(bytes) > free_now(sim_device()))
        return sim_leave(cudaErrorMemoryAllocation);
    reserve();
    size_t pages = up(up(bytes, ALIGN), PAGE);
    if (used_range + pages + PAGE > RANGE)
        sim_die("the simulated card's %zu GiB of addresses are used up: freed ones are not given out again", RANGE >> 30);
    SimAlloc a = {range + used_range + pages - up(bytes, ALIGN), bytes, charge(bytes), sim_device(), true, false};
    size_t n = map_bytes(a);
    mprotect(first_page(a), n, PROT_READ | PROT_WRITE);
    if (bytes <= FILL_MOST)
        memset(a.p, 0xff, bytes);
    memset(first_page(a), CANARY, (size_t)(a.p - first_page(a)));
    memset(a.p + bytes, CANARY, up(bytes, ALIGN) - bytes);
    mprotect(first_page(a), n, PROT_NONE);
    allocs.push_back(a);
    for (size_t page = 0; page < n / PAGE; page++)
        page_owner[(size_t)(first_page(a) - range) / PAGE + page] = (uint32_t)allocs.size();
    used_range += pages + PAGE;
    in_use[a.device] += a.charged;
    *out = a.p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    SIM_CALL("cudaFree");
    if (!p)
        return cudaSuccess;
    sim_run_all();
    SimAlloc *a = sim_alloc_at(p);
    if (!a || a->p != p)
        sim_die("cudaFree of a pointer that cudaMalloc did not give");
    if (!a->live)
        sim_die("cudaFree of a block of %zu bytes that was freed before", a->bytes);
    char *from = first_page(*a);
    mprotect(from, map_bytes(*a), PROT_READ | PROT_WRITE);
    check_guards(*a);
    if (mmap(from, map_bytes(*a), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        sim_die("cannot give memory back: %s", strerror(errno));
    a->live = false;
    in_use[a->device] -= a->charged;
    return sim_leave(sim_stuck(sim_device()));
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    SIM_CALL("cudaHostAlloc");
    *out = mmap(nullptr, up(bytes ? bytes : 1, PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*out == MAP_FAILED)
        return sim_leave(cudaErrorMemoryAllocation);
    pinned[(char *)*out] = bytes;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    SIM_CALL("cudaFreeHost");
    if (!p)
        return cudaSuccess;
    sim_run_all();
    auto block = pinned.find((char *)p);
    if (block == pinned.end())
        sim_die("cudaFreeHost of a pointer that cudaHostAlloc did not give, or was freed before");
    munmap(p, up(block->second ? block->second : 1, PAGE));
    pinned.erase(block);
    return sim_leave(sim_stuck(sim_device()));
}

/* What was never freed, for sim_finish. */
void sim_memory_left(void)
{
    for (const SimAlloc &a : allocs)
        if (a.live && !sim_stuck(a.device))
            sim_finding("leak of memory", "a block of %zu bytes of card %d was never freed", a.bytes, a.device);
    for (const auto &block : pinned)
        sim_finding("leak of pinned memory", "a pinned block of %zu bytes was never freed", block.second);
}
