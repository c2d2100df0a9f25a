/* fiber.cpp - the threads of one block as fibers: each runs until a barrier, a warp operation or its end. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector>

extern "C" {
#include "trainer/base/bf16.h"
}
#include "tests/sim/device_sim.h"
#include "tests/sim/sim.h"

SimThread *sim_thread;

#if !defined(__x86_64__)
#error "the simulator switches fibers in x86-64 code"
#endif
extern "C" void sim_switch(void **save, void *load);
asm(".text\n.globl sim_switch\n.hidden sim_switch\n.type sim_switch,@function\nsim_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size sim_switch,.-sim_switch\n");

enum { STACK = 64 << 10, SHARED_BYTES = 228 << 10 };
enum State { READY, AT_BARRIER, AT_WARP, DONE };
struct Copy {
    void *shared;
    char data[16];
};
struct Fiber {
    SimThread self;
    void *sp;
    State state;
    const char *doing;
    void *mine;
    void (*op)(void **);
    std::vector<std::vector<Copy>> groups; /* cp.async: committed, the newest last */
    std::vector<Copy> open;
};
static Fiber *fibers;
static char *stacks;
static int n_fibers;
static void *scheduler_sp;
static const std::function<void()> *body;
alignas(16) static unsigned char shared_memory[SHARED_BYTES];

void *sim_shared(void) { return shared_memory; }
static Fiber *current(void) { return (Fiber *)sim_thread; }

static void yield_as(State s)
{
    Fiber *f = current();
    f->state = s;
    sim_switch(&f->sp, scheduler_sp);
}
static void fiber_main(void)
{
    (*body)();
    yield_as(DONE);
    abort();
}
void sim_block_sync(void)
{
    current()->doing = "block_sync";
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

static void start(int i, dim3 block, const SimLaunch &l)
{
    Fiber *f = &fibers[i];
    f->self = {dim3((unsigned)i), block, l.block, l.grid};
    f->state = READY;
    f->doing = "start";
    f->groups.clear();
    f->open.clear();
    void **top = (void **)(stacks + (size_t)(i + 1) * STACK - 8);
    *--top = (void *)fiber_main;
    for (int r = 0; r < 6; r++)
        *--top = nullptr;
    f->sp = top;
}

/* A warp whose lanes have all come to the same operation goes on; true when any did. */
static bool release_warp(int w)
{
    Fiber *lane = &fibers[w * 32];
    void *mine[32];
    for (int l = 0; l < 32; l++)
        if (lane[l].state != AT_WARP || lane[l].doing != lane[0].doing)
            return false;
        else
            mine[l] = lane[l].mine;
    lane[0].op(mine);
    for (int l = 0; l < 32; l++)
        lane[l].state = READY;
    return true;
}
static void run_block(dim3 block, const SimLaunch &l)
{
    int n = (int)(l.block.x * l.block.y * l.block.z), live = n;
    memset(shared_memory, 0xff, l.shared); /* NaN */
    for (int i = 0; i < n; i++)
        start(i, block, l);
    while (live > 0) {
        bool moved = false;
        int waiting = 0;
        for (int i = 0; i < n; i++)
            if (fibers[i].state == READY) {
                sim_thread = &fibers[i].self;
                sim_switch(&scheduler_sp, fibers[i].sp);
                moved = true;
                live -= fibers[i].state == DONE;
            }
        for (int w = 0; w < n / 32; w++)
            moved |= release_warp(w);
        for (int i = 0; i < n; i++)
            waiting += fibers[i].state == AT_BARRIER;
        if (waiting == n) {
            for (int i = 0; i < n; i++)
                fibers[i].state = READY;
            moved = true;
        }
        if (!moved && live > 0) {
            fprintf(stderr, "sim: block (%u,%u,%u) is stuck:", block.x, block.y, block.z);
            for (int i = 0; i < n; i++)
                if (fibers[i].state != DONE)
                    fprintf(stderr, " %d:%s", i, fibers[i].doing);
            fprintf(stderr, "\n");
            abort();
        }
    }
    sim_thread = nullptr;
}
void sim_run(const SimLaunch &l)
{
    int n = (int)(l.block.x * l.block.y * l.block.z);
    if (n > n_fibers) {
        delete[] fibers;
        if (stacks)
            munmap(stacks, (size_t)n_fibers * STACK);
        fibers = new Fiber[n];
        stacks = (char *)mmap(nullptr, (size_t)n * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        n_fibers = n;
    }
    body = &l.body;
    for (unsigned z = 0; z < l.grid.z; z++)
        for (unsigned y = 0; y < l.grid.y; y++)
            for (unsigned x = 0; x < l.grid.x; x++)
                run_block(dim3(x, y, z), l);
}

uint32_t sim_atomic_add(uint32_t *p, uint32_t v)
{
    uint32_t was = *p;
    *p += v;
    return was;
}
void sim_async_copy(void *shared, const void *global, bool valid)
{
    Copy c = {shared, {0}};
    if (valid)
        memcpy(c.data, global, 16);
    memset(shared, 0xff, 16); /* until its wait the data is not there */
    current()->open.push_back(c);
}
void sim_async_commit(void)
{
    current()->groups.push_back(current()->open);
    current()->open.clear();
}
void sim_async_wait(int left)
{
    auto &g = current()->groups;
    while ((int)g.size() > left) {
        for (const Copy &c : g.front())
            memcpy(c.shared, c.data, 16);
        g.erase(g.begin());
    }
}

struct Ldmatrix {
    uint32_t *r;
    const void *row;
    int count;
    bool trans;
};
void sim_ldmatrix(uint32_t *r, const void *row, int count, bool trans)
{
    Ldmatrix mine = {r, row, count, trans};
    sim_warp("ldmatrix",
             [](void **lanes) {
                 Ldmatrix *all[32];
                 for (int l = 0; l < 32; l++)
                     all[l] = (Ldmatrix *)lanes[l];
                 for (int m = 0; m < all[0]->count; m++)
                     for (int l = 0; l < 32; l++) {
                         uint16_t two[2];
                         for (int e = 0; e < 2; e++) {
                             int row = all[l]->trans ? l % 4 * 2 + e : l / 4, column = all[l]->trans ? l / 4 : l % 4 * 2 + e;
                             two[e] = ((const uint16_t *)all[m * 8 + row]->row)[column];
                         }
                         all[l]->r[m] = (uint32_t)two[1] << 16 | two[0];
                     }
             },
             &mine);
}
struct Mma {
    float *d;
    const uint32_t *a, *b;
};
static float half_of(uint32_t pair, int which) { return bf16_to_f32((bf16)(which ? pair >> 16 : pair)); }
void sim_mma(float *d, const uint32_t *a, const uint32_t *b)
{
    Mma mine = {d, a, b};
    sim_warp("mma_bf16",
             [](void **lanes) {
                 float A[16][16], B[16][8];
                 for (int l = 0; l < 32; l++) {
                     const Mma *m = (const Mma *)lanes[l];
                     int g = l / 4, t = l % 4;
                     for (int e = 0; e < 2; e++) {
                         A[g][2 * t + e] = half_of(m->a[0], e);
                         A[g + 8][2 * t + e] = half_of(m->a[1], e);
                         A[g][2 * t + 8 + e] = half_of(m->a[2], e);
                         A[g + 8][2 * t + 8 + e] = half_of(m->a[3], e);
                         B[2 * t + e][g] = half_of(m->b[0], e);
                         B[2 * t + 8 + e][g] = half_of(m->b[1], e);
                     }
                 }
                 for (int l = 0; l < 32; l++) {
                     Mma *m = (Mma *)lanes[l];
                     int g = l / 4, t = l % 4;
                     for (int e = 0; e < 4; e++) {
                         int row = g + e / 2 * 8, column = 2 * t + e % 2;
                         float sum = m->d[e];
                         for (int k = 0; k < 16; k++)
                             sum += A[row][k] * B[k][column];
                         m->d[e] = sum;
                     }
                 }
             },
             &mine);
}
