/* fiber.cpp - the threads of a block as fibers of one host thread.
 *
 * A thread runs until a barrier, a warp operation or its end; then the next lane of its warp goes on, straight from the one to
 * the other. When all 32 have come to the same warp operation it is done for all at once. A thread that has not begun takes over
 * the stack of one that has ended, so a kernel without barriers is a plain loop. The scheduler of a block picks warps, and opens
 * the barrier.
 *
 * Orders: up and down run a warp as far as the barrier before the next, lanes and blocks in that order; mix shuffles blocks,
 * warps at every warp operation, and lanes, by a seed. A kernel that is right gives the same bits in all of them. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <vector>

extern "C" {
#include "trainer/base/bf16.h"
}
#include "tests/sim/device_sim.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the simulator switches fibers in x86-64 code"
#endif
extern "C" void sim_switch(void **save, void *load);
asm(".text\n.globl sim_switch\n.hidden sim_switch\n.type sim_switch,@function\nsim_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size sim_switch,.-sim_switch\n");

enum : size_t { STACK = 128 << 10, GUARD = 4096, COLOUR = 320 };
enum { MOST_THREADS = 1024, LANES = 32 };
enum State { FRESH, READY, RUNNING, AT_BARRIER, AT_WARP, DONE };
struct Fiber {
    SimThread self; /* first: sim_thread points here */
    State state;
    void *sp;
    char *stack; /* NULL: not begun */
    const char *doing;
    void (*op)(void **);
    void *mine;
};

SimThread *sim_thread;
SimBlock sim_block;
static Fiber fibers[MOST_THREADS];
static char *stacks;
static std::vector<char *> free_stacks;
static void *scheduler_sp;
static const SimLaunch *launch;
static char *shared;
static int n_threads, at_barrier, n_done;

/* The warp that is running. */
static struct {
    Fiber *lanes;
    int number, cursor;
    unsigned char order[LANES];
} warp;

void *sim_shared(void) { return shared; }
static Fiber *current(void) { return (Fiber *)sim_thread; }
bool sim_on_stack_guard(const char *p)
{
    return stacks && p >= stacks && p < stacks + MOST_THREADS * STACK && (size_t)(p - stacks) % STACK < GUARD;
}

/* ---- order ---- */

static enum SimOrder order;
static bool order_known;
static uint64_t seed;
void sim_set_order(const char *text)
{
    order_known = true;
    order = SIM_UP;
    if (strcmp(text, "down") == 0)
        order = SIM_DOWN;
    else if (strncmp(text, "mix:", 4) == 0)
        order = SIM_MIX, seed = strtoull(text + 4, nullptr, 10);
    else if (strcmp(text, "up") != 0)
        sim_die("LORAT_SIM_ORDER is '%s', expected up, down or mix:SEED", text);
}
static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    return (uint32_t)((seed >> 32) * below >> 32);
}
static void order_lanes(void)
{
    for (int l = 0; l < LANES; l++)
        warp.order[l] = (unsigned char)(order == SIM_DOWN ? LANES - 1 - l : l);
    if (order == SIM_MIX)
        for (uint32_t l = LANES - 1; l > 0; l--)
            std::swap(warp.order[l], warp.order[draw(l + 1)]);
}

/* ---- switching ---- */

#ifdef __SANITIZE_ADDRESS__
/* AddressSanitizer is told which stack is in use. */
static const void *host_bottom;
static size_t host_size;
static void switch_to(void **save, Fiber *to, bool for_good)
{
    void *fake = nullptr;
    const void *bottom;
    size_t size;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, to ? (const void *)to->stack : host_bottom,
                                   to ? STACK : host_size);
    sim_switch(save, to ? to->sp : scheduler_sp);
    __sanitizer_finish_switch_fiber(fake, &bottom, &size);
}
static void arrived(void)
{
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!host_bottom) /* the first switch of all comes from the host's own stack */
        host_bottom = bottom, host_size = size;
}
/* Frames that were left for good have not cleared their marks. */
static void forget_frames(char *stack) { __asan_unpoison_memory_region(stack + STACK / 2, STACK / 2); }
#else
static void switch_to(void **save, Fiber *to, bool) { sim_switch(save, to ? to->sp : scheduler_sp); }
static void arrived(void) {}
static void forget_frames(char *) {}
#endif

/* All lanes of the warp have come to the same operation: it is done. */
static bool warp_operation(void)
{
    void *mine[LANES];
    Fiber *lane = warp.lanes;
    for (int l = 0; l < LANES; l++) {
        if (lane[l].state != AT_WARP || lane[l].op != lane[0].op || lane[l].doing != lane[0].doing)
            return false;
        mine[l] = lane[l].mine;
    }
    lane[0].op(mine);
    for (int l = 0; l < LANES; l++)
        lane[l].state = READY;
    return true;
}
/* The lane that goes on now; NULL: the scheduler. */
static Fiber *pick(void)
{
    for (;;) {
        while (++warp.cursor < LANES) {
            Fiber *f = &warp.lanes[warp.order[warp.cursor]];
            if (f->state <= READY)
                return f;
        }
        if (!warp_operation() || order == SIM_MIX)
            return nullptr;
        warp.cursor = -1;
    }
}

static void thread_main(void);
static void give_stack(Fiber *f)
{
    f->stack = free_stacks.back();
    free_stacks.pop_back();
    forget_frames(f->stack);
    size_t number = (size_t)(f->stack - stacks) / STACK; /* tops at other distances, or all of them share one set of the cache */
    void **top = (void **)(f->stack + STACK - 8 - number % 61 * COLOUR);
    *--top = (void *)thread_main;
    for (int r = 0; r < 6; r++)
        *--top = nullptr;
    f->sp = top;
}
static void resume(void **save, Fiber *to, bool for_good)
{
    if (to) {
        if (to->state == FRESH)
            give_stack(to);
        to->state = RUNNING;
        sim_thread = &to->self;
    }
    switch_to(save, to, for_good);
}
static void yield_as(State s)
{
    Fiber *f = current();
    f->state = s;
    Fiber *to = pick();
    if (to == f)
        f->state = RUNNING;
    else
        resume(&f->sp, to, false);
}
/* What stands at the bottom of a stack: runs its thread, and then those of the warp that have not begun. */
static void thread_main(void)
{
    arrived();
    for (;;) {
        Fiber *f = current();
        launch->body();
        f->state = DONE;
        n_done++;
        Fiber *to = pick();
        if (to && to->state == FRESH) {
            to->stack = f->stack;
            to->state = RUNNING;
            sim_thread = &to->self;
            continue;
        }
        free_stacks.push_back(f->stack); /* nobody takes it before this thread has left it */
        resume(&f->sp, to, true);
    }
}

void sim_block_sync(void)
{
    current()->doing = "block_sync";
    at_barrier++;
    yield_as(AT_BARRIER);
}
void sim_warp(const char *name, void (*op)(void **), void *mine)
{
    Fiber *f = current();
    f->doing = name;
    f->op = op;
    f->mine = mine;
    yield_as(AT_WARP);
}
void sim_warp_sync(void)
{
    sim_warp(
        "warp_sync",
        [](void **) {
            if (sim_track.warp_sync)
                sim_track.warp_sync(warp.number);
        },
        nullptr);
}
int sim_thread_number(void) { return sim_thread ? (int)(current() - fibers) : -1; }

/* ---- a block ---- */

static bool runnable(int w)
{
    for (int l = 0; l < LANES; l++)
        if (fibers[w * LANES + l].state <= READY)
            return true;
    return false;
}
static void run_warp(int w)
{
    warp.lanes = fibers + w * LANES;
    warp.number = w;
    warp.cursor = -1;
    if (order == SIM_MIX)
        order_lanes();
    Fiber *to = pick();
    if (to)
        resume(&scheduler_sp, to, false);
    sim_thread = nullptr;
}
/* "0-4, 7" of the threads for which is(thread) holds */
template <typename F> static std::string list(int from, int to, F is)
{
    std::string out;
    for (int i = from; i < to; i++) {
        int last = i;
        if (!is(fibers[i]))
            continue;
        while (last + 1 < to && is(fibers[last + 1]))
            last++;
        out += (out.empty() ? "" : ", ") + std::to_string(i) + (last > i ? "-" + std::to_string(last) : "");
        i = last;
    }
    return out;
}
[[noreturn]] static void stuck(void)
{
    for (int w = 0; w < n_threads / LANES; w++) {
        Fiber *lane = fibers + w * LANES;
        std::string text;
        const char *told = "";
        int first = w * LANES, end = first + LANES, at_warp = 0;
        for (int l = 0; l < LANES; l++)
            at_warp += lane[l].state == AT_WARP;
        if (!at_warp)
            continue;
        for (int l = 0; l < LANES; l++) {
            const char *doing = lane[l].state == DONE ? "their end" : lane[l].doing;
            if (strstr(text.c_str(), doing) == nullptr)
                text += told + std::string("threads ") +
                        list(first, end, [=](const Fiber &f) { return (f.state == DONE ? "their end" : f.doing) == doing; }) +
                        " are at " + doing;
            told = ", ";
        }
        sim_die("warp %d has parted: %s", w, text.c_str());
    }
    sim_die("threads %s have returned while threads %s wait at block_sync",
            list(0, n_threads, [](const Fiber &f) { return f.state == DONE; }).c_str(),
            list(0, n_threads, [](const Fiber &f) { return f.state == AT_BARRIER; }).c_str());
}
static void open_barrier(void)
{
    for (int i = 0; i < n_threads; i++)
        fibers[i].state = READY;
    at_barrier = 0;
    if (sim_track.barrier)
        sim_track.barrier();
}
static void run_block(dim3 index)
{
    sim_block.index = index;
    if (launch->shared)
        shared = sim_shared_begin(launch->shared);
    for (int i = 0; i < n_threads; i++)
        fibers[i].state = FRESH;
    sim_async_forget();
    if (sim_track.block_begin)
        sim_track.block_begin();
    at_barrier = n_done = 0;
    for (int warps = n_threads / LANES; n_done < n_threads;) {
        bool moved = false;
        for (int i = 0; i < warps; i++) {
            int w = order == SIM_DOWN ? warps - 1 - i : order == SIM_MIX ? (int)draw((uint32_t)warps) : i;
            if (!runnable(w))
                continue;
            run_warp(w);
            moved = true;
        }
        if (order == SIM_MIX && !moved)
            for (int w = 0; w < warps && !moved; w++)
                moved = runnable(w);
        if (at_barrier == n_threads)
            open_barrier();
        else if (!moved && n_done < n_threads)
            stuck();
    }
}

/* ---- a launch ---- */

static void prepare(const SimLaunch &l)
{
    const char *text = getenv("LORAT_SIM_ORDER");
    if (!order_known)
        sim_set_order(text && *text ? text : "up");
    order_lanes();
    if (!stacks) {
        stacks = (char *)mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                              -1, 0);
        if (stacks == MAP_FAILED)
            sim_die("no memory for the threads of a block");
        for (int i = MOST_THREADS - 1; i >= 0; i--) {
            mprotect(stacks + i * STACK, GUARD, PROT_NONE);
            free_stacks.push_back(stacks + i * STACK);
        }
    }
    launch = &l;
    n_threads = (int)(l.block.x * l.block.y * l.block.z);
    sim_block.dim = l.block;
    sim_block.grid = l.grid;
    for (int i = 0; i < n_threads; i++)
        fibers[i].self.thread =
            dim3((unsigned)i % l.block.x, (unsigned)i / l.block.x % l.block.y, (unsigned)i / l.block.x / l.block.y);
    shared = sim_shared_begin(0);
}
static uint64_t common(uint64_t a, uint64_t b) { return b ? common(b, a % b) : a; }
void sim_run(const SimLaunch &l)
{
    uint64_t n = (uint64_t)l.grid.x * l.grid.y * l.grid.z, first = 0, by = 1;
    prepare(l);
    if (order == SIM_DOWN)
        first = n - 1, by = n - 1;
    if (order == SIM_MIX && n > 2) { /* a stride without a common factor visits every block once */
        first = draw((uint32_t)(n < UINT32_MAX ? n : UINT32_MAX));
        do
            by = 1 + draw((uint32_t)(n - 1 < UINT32_MAX ? n - 1 : UINT32_MAX));
        while (common(by, n) != 1);
    }
    for (uint64_t i = 0, b = first; i < n; i++, b = (b + by) % n)
        run_block(dim3((unsigned)(b % l.grid.x), (unsigned)(b / l.grid.x % l.grid.y), (unsigned)(b / l.grid.x / l.grid.y)));
    launch = nullptr;
}

const char *sim_where(void)
{
    static char text[256];
    const SimLaunch *l = sim_launch_now();
    dim3 b = sim_block.index;
    text[0] = 0;
    if (l && sim_thread)
        snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u), thread %d: ", l->name, b.x, b.y, b.z, sim_thread_number());
    else if (l)
        snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u): ", l->name, b.x, b.y, b.z);
    else if (sim_operation())
        snprintf(text, sizeof text, "%s: ", sim_operation());
    return text;
}
