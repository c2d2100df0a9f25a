/* track.cpp - sees every access that a kernel makes to shared and global memory. The kernels are compiled with -fsanitize=thread, which
 * puts a call before each access; the calls come here instead of to a library of the compiler's.
 *
 * Shared memory: two threads that touch one place between two barriers, one of them writing, race, unless both are of one warp and a
 * warp_sync lies between. (Shuffles do not order memory, says the CUDA C++ Programming Guide.) A place that an async_copy_16 fills is
 * nobody's until the wait. Global memory: accesses outside of allocations, to the byte; places that two blocks of one launch touch, one
 * of them writing; reads of what was never written. Atomics may meet atomics.
 *
 * Places are of two bytes: a single byte counts as its pair. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern "C" {
#include "trainer/base/bf16.h"
}
#include "tests/sim/device_sim.h"

enum : size_t { PLACE = 2, SHARED_PLACES = (228 << 10) / PLACE, RANGE_BYTES = (size_t)256 << 30 };
enum : uint32_t { NEVER = 0, BY_COPY = 1, FIRST_LAUNCH = 2, MANY = 0xffffffff, ATOMIC = 0xfffffffe };
enum { ATOMIC_THREAD = 0xffff };

static bool uninitialised_is_error(void)
{
    static int known = -1;
    if (known < 0) {
        const char *text = getenv("LORAT_SIM_UNINIT");
        known = !(text && strcmp(text, "off") == 0);
    }
    return known;
}

/* ---- shared memory ---- */

/* Intervals count up through the whole run, at each barrier and each new block: what is older than the block's first is another
 * block's. `sync` is the count of the warp's warp_syncs. */
struct Shared {
    uint32_t write_interval, write_sync, read_interval, read_sync, other_sync, pending_interval;
    uint16_t writer, reader, pending_by;
    bool many_warps; /* that read it in this interval */
};
static Shared shared_places[SHARED_PLACES];
static uint32_t interval, block_first, warp_syncs[32];

/* What every call asks for, kept from the beginning of the block. */
static const char *shared_begin;
static size_t shared_bytes;
static uint32_t block_number;
static char *global_begin;

static void block_begin(void)
{
    shared_begin = (const char *)sim_shared();
    shared_bytes = sim_launch_now()->shared;
    block_number = (sim_block.index.z * sim_block.grid.y + sim_block.index.y) * sim_block.grid.x + sim_block.index.x;
    block_first = ++interval;
    for (uint32_t &w : warp_syncs)
        w = 1;
}
static void barrier(void) { interval++; }
static void warp_synced(int warp) { warp_syncs[warp]++; }

static void race(const char *does, size_t at, const char *did, int other)
{
    if (other == ATOMIC_THREAD)
        sim_finding("race in shared memory", "a race: %s shared memory at byte %zu, on which an atomic of the same interval works", does, at);
    else
        sim_finding("race in shared memory", "a race: %s shared memory at byte %zu, which thread %d %s with no %s between", does, at, other,
                    did, other / 32 == sim_thread_number() / 32 ? "warp_sync" : "block_sync");
}
/* Are an access of thread `a` in the warp's count `sync` and one of thread t now without order? */
static bool unordered(int a, uint32_t sync, int t) { return a != t && (a / 32 != t / 32 || sync == warp_syncs[t / 32]); }

static void shared_write_place(Shared *s, size_t at, int t)
{
    if (s->write_interval == interval && unordered(s->writer, s->write_sync, t))
        race("writes", at, "writes", s->writer);
    if (s->read_interval == interval) {
        if (s->many_warps || unordered(s->reader, s->read_sync, t))
            race("writes", at, "reads", s->reader);
        else if (s->reader == t && s->other_sync == warp_syncs[t / 32])
            race("writes", at, "and another of its warp read", s->reader);
    }
    s->write_interval = interval;
    s->writer = (uint16_t)t;
    s->write_sync = warp_syncs[t / 32];
}
static void shared_read_place(Shared *s, size_t at, int t)
{
    uint32_t now = warp_syncs[t / 32];
    if (s->write_interval < block_first) {
        if (uninitialised_is_error())
            sim_finding("uninitialised shared memory", "reads shared memory at byte %zu, which no thread of the block has written", at);
    } else if (s->write_interval == interval && unordered(s->writer, s->write_sync, t))
        race("reads", at, "writes", s->writer);
    if (s->read_interval != interval) {
        s->read_interval = interval;
        s->many_warps = false;
        s->other_sync = 0;
    } else if (s->reader != t) {
        s->many_warps |= s->reader / 32 != t / 32;
        s->other_sync = s->read_sync;
    }
    s->reader = (uint16_t)t;
    s->read_sync = now;
}
static bool under_way(const Shared *s, const char *does, size_t at)
{
    if (s->pending_interval < block_first)
        return false;
    sim_finding("async copy", "%s shared memory at byte %zu before the async_wait of thread %d, whose async_copy_16 fills it", does, at,
                s->pending_by);
    return true;
}
template <typename F> static void each_shared(const void *p, size_t n, F f)
{
    size_t at = (size_t)((const char *)p - shared_begin);
    for (size_t place = at / PLACE; place <= (at + n - 1) / PLACE && place < SHARED_PLACES; place++)
        f(&shared_places[place], place * PLACE);
}
static void shared_write(const void *p, size_t n, int t)
{
    each_shared(p, n, [=](Shared *s, size_t at) {
        if (!under_way(s, "writes", at))
            shared_write_place(s, at, t);
    });
}
static void shared_read(const void *p, size_t n, int t)
{
    each_shared(p, n, [=](Shared *s, size_t at) {
        if (!under_way(s, "reads", at))
            shared_read_place(s, at, t);
    });
}
static void async_issue(const void *p, size_t n)
{
    int t = sim_thread_number();
    shared_write(p, n, t);
    each_shared(p, n, [=](Shared *s, size_t) {
        s->pending_interval = interval;
        s->pending_by = (uint16_t)t;
    });
}
/* What has landed is a write of the thread that waited. */
static void async_land(const void *p, size_t n)
{
    int t = sim_thread_number();
    each_shared(p, n, [=](Shared *s, size_t) {
        s->pending_interval = 0;
        s->write_interval = interval;
        s->writer = (uint16_t)t;
        s->write_sync = warp_syncs[t / 32];
    });
}
static void shared_atomic(const void *p, size_t n)
{
    int t = sim_thread_number();
    each_shared(p, n, [=](Shared *s, size_t at) {
        if (s->write_interval == interval && s->writer != ATOMIC_THREAD && unordered(s->writer, s->write_sync, t))
            race("an atomic works on", at, "writes", s->writer);
        s->write_interval = interval;
        s->writer = ATOMIC_THREAD;
    });
}

/* ---- global memory ---- */

struct Global {
    uint32_t launch, block;           /* of the last write; launch NEVER, BY_COPY or a number from FIRST_LAUNCH */
    uint32_t read_launch, read_block; /* of the last read; block MANY: several */
};
static Global *global_places; /* for the whole range of addresses; the host gives pages as they are touched */

static void global_reserve(const void *somewhere)
{
    if (global_places)
        return;
    void *p = mmap(nullptr, RANGE_BYTES / PLACE * sizeof(Global), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        sim_die("no addresses to track accesses to %p with", somewhere);
    global_places = (Global *)p;
}
static uint32_t launch_now(void) { return sim_launch_now() ? sim_launch_now()->id + FIRST_LAUNCH : BY_COPY; }

/* To the byte: what pages do not show. */
static bool outside(const void *p, size_t n, const char *does)
{
    const SimAlloc *a = sim_alloc_at(p);
    if (a && a->live && (const char *)p >= a->p && (const char *)p + n <= a->p + a->bytes)
        return false;
    const char *bad = a && a->live && (const char *)p >= a->p && (const char *)p < a->p + a->bytes ? a->p + a->bytes : (const char *)p;
    sim_finding(does, "%s %zu bytes of global memory, %s", does, n, sim_place(bad).c_str());
    return true;
}
template <typename F> static void each_global(const void *p, size_t n, F f)
{
    global_reserve(p);
    size_t at = (size_t)((const char *)p - global_begin);
    for (size_t place = at / PLACE; place <= (at + n - 1) / PLACE; place++)
        f(&global_places[place], global_begin + place * PLACE);
}
static void global_write(const void *p, size_t n, uint32_t block)
{
    uint32_t launch = launch_now();
    if (outside(p, n, "writes"))
        return;
    each_global(p, n, [=](Global *g, const char *at) {
        if (launch != BY_COPY && g->launch == launch && g->block != block)
            sim_finding("two blocks write", "writes global memory, %s, that block %u of the same launch writes too", sim_place(at).c_str(),
                        g->block);
        else if (launch != BY_COPY && g->read_launch == launch && g->read_block != block)
            sim_finding("a block writes, another reads", "writes global memory, %s, that another block of the same launch reads",
                        sim_place(at).c_str());
        g->launch = launch;
        g->block = block;
    });
}
static void global_read(const void *p, size_t n)
{
    uint32_t launch = launch_now(), block = block_number;
    if (outside(p, n, "reads"))
        return;
    each_global(p, n, [=](Global *g, const char *at) {
        if (g->launch == NEVER && uninitialised_is_error())
            sim_finding("uninitialised memory", "reads global memory, %s, that was never written (LORAT_SIM_UNINIT=off allows it)",
                        sim_place(at).c_str());
        else if (launch != BY_COPY && g->launch == launch && g->block != block)
            sim_finding("a block reads, another writes", "reads global memory, %s, that block %u of the same launch writes",
                        sim_place(at).c_str(), g->block);
        g->read_block = g->read_launch == launch && g->read_block != block ? (uint32_t)MANY : block;
        g->read_launch = launch;
    });
}

/* ---- the way in ---- */

static bool is_shared(const void *p) { return (size_t)((const char *)p - shared_begin) < shared_bytes && sim_thread; }
static bool is_global(const void *p)
{
    if (!global_begin)
        global_begin = (char *)sim_range_begin();
    return global_begin && (size_t)((const char *)p - global_begin) < RANGE_BYTES && sim_operation();
}
static void on_read(const void *p, size_t n, int thread)
{
    if (is_shared(p))
        shared_read(p, n, thread < 0 ? sim_thread_number() : thread);
    else if (is_global(p))
        global_read(p, n);
}
static void on_write(const void *p, size_t n, int thread)
{
    if (is_shared(p))
        shared_write(p, n, thread < 0 ? sim_thread_number() : thread);
    else if (is_global(p))
        global_write(p, n, block_number);
}
static void on_atomic(const void *p, size_t n)
{
    if (is_shared(p))
        shared_atomic(p, n);
    else if (is_global(p))
        global_write(p, n, ATOMIC);
}
static const bool begun = [] {
    sim_track = SimTrack{on_read, on_write, async_issue, async_land, on_atomic, block_begin, barrier, warp_synced};
    return true;
}();

/* The calls that gcc and clang make (gcc's tsan.def, LLVM's tsan_interface.h). */
extern "C" {
#define READ(name, n) \
    void __tsan_##name(void *p) { on_read(p, n, -1); }
#define WRITE(name, n) \
    void __tsan_##name(void *p) { on_write(p, n, -1); }
READ(read1, 1) READ(read2, 2) READ(read4, 4) READ(read8, 8) READ(read16, 16)
READ(unaligned_read2, 2) READ(unaligned_read4, 4) READ(unaligned_read8, 8) READ(unaligned_read16, 16)
WRITE(write1, 1) WRITE(write2, 2) WRITE(write4, 4) WRITE(write8, 8) WRITE(write16, 16)
WRITE(unaligned_write2, 2) WRITE(unaligned_write4, 4) WRITE(unaligned_write8, 8) WRITE(unaligned_write16, 16)
void __tsan_read_range(void *p, size_t n)
{
    if (n)
        on_read(p, n, -1);
}
void __tsan_write_range(void *p, size_t n)
{
    if (n)
        on_write(p, n, -1);
}
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **at, void *to) { (void)at, (void)to; }
void __tsan_vptr_read(void **) {}
/* Atomics of the host's own code that stands in the same files (reference counts, guards of static variables). */
#define ATOMICS(bits, T)                                                                                                           \
    T __tsan_atomic##bits##_load(const volatile T *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }                         \
    void __tsan_atomic##bits##_store(volatile T *p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }                         \
    T __tsan_atomic##bits##_exchange(volatile T *p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }               \
    T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }               \
    T __tsan_atomic##bits##_fetch_sub(volatile T *p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }               \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *was, T v, int, int)                                        \
    {                                                                                                                              \
        return __atomic_compare_exchange_n(p, was, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                   \
    }
ATOMICS(8, uint8_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
}
