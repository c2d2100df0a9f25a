/* bugs_kernel.cpp - planted bugs within kernels. `wrong` chooses the bug; without it the kernel is right. */
#include "tests/sim/bugs.h"

enum { N = 64 };

/* Runs one kernel of (y, x, wrong) over N numbers. */
static void over(void (*kernel)(float *, const float *, bool), bool wrong, unsigned grid = 1, size_t shared = 4096)
{
    float *x = new_numbers(1024), *y = new_floats(1024);
    cudaMemset(y, 0, 4096);
    launch(nullptr, grid, N, shared, kernel, y, (const float *)x, wrong);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
}

static __global__ void neighbour(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    if (!wrong)
        block_sync();
    y[t] = s[(t + 32) % N];
}
static __global__ void reuse(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    block_sync();
    float other = s[(t + 32) % N];
    if (!wrong)
        block_sync();
    s[t] = other + 1; /* while another warp may still read */
    block_sync();
    y[t] = s[t];
}
static __global__ void within_warp(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    if (wrong)
        warp_at(0.0f, 0); /* a shuffle orders no memory */
    else
        warp_sync();
    y[t] = s[t ^ 1];
}
static __global__ void fetch_late(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    async_copy_16(s + 4 * t, x + 4 * t, true);
    async_commit();
    if (!wrong)
        async_wait<0>();
    block_sync();
    y[t] = s[4 * t];
}
static __global__ void fetch_two(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    for (int stage = 0; stage < 2; stage++) {
        async_copy_16(s + stage * 4 * N + 4 * t, x + stage * 4 * N + 4 * t, true);
        async_commit();
    }
    if (wrong)
        async_wait<1>(); /* the first stage only */
    else
        async_wait<0>();
    block_sync();
    y[t] = s[4 * N + 4 * t];
}
static __global__ void fetch_over(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    block_sync();
    y[t] = s[(t + 40) % N];
    if (!wrong)
        block_sync();
    if (t < N / 4) /* the next stage arrives while others read this one */
        async_copy_16(s + 4 * t, x + 4 * t, true);
    async_commit();
    async_wait<0>();
    block_sync();
}
static __global__ void past_the_end(float *y, const float *x, bool wrong)
{
    int t = (int)threadIdx.x;
    y[t] = x[t == N - 1 && wrong ? 1024 : t];
}
static __global__ void past_by_little(float *y, const float *x, bool wrong)
{
    if (threadIdx.x == 0)
        y[wrong ? 1000 : 999] = x[0]; /* y has 1000: the page goes on */
}
static __global__ void parted(float *y, const float *x, bool wrong)
{
    int t = (int)threadIdx.x;
    float v = x[t];
    if (wrong && LANE < 16)
        v = warp_up(v, 1);
    else
        v = warp_xor(v, 1);
    y[t] = v;
}
static __global__ void leaves(float *y, const float *x, bool wrong)
{
    int t = (int)threadIdx.x;
    if (wrong && t >= 40)
        return;
    block_sync();
    y[t] = x[t];
}
static __global__ void one_place(float *y, const float *x, bool wrong)
{
    if (threadIdx.x == 0)
        y[wrong ? 0 : blockIdx.x] = x[0];
}
static __global__ void reads_others(float *y, const float *x, bool wrong)
{
    int i = (int)(blockIdx.x * N + threadIdx.x), other = wrong ? (i + N) % (2 * N) : i;
    y[i] = x[i];
    y[i] += y[other];
}
static __global__ void unwritten(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    int t = (int)threadIdx.x;
    if (!wrong || t < N - 1)
        s[t] = x[t];
    block_sync();
    y[t] = s[t];
}
static __global__ void beyond_shared(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    s[threadIdx.x + (wrong ? 961 : 960)] = x[0]; /* 1024 floats */
}
/* Sums in the order in which threads come: a ticket stands for a float's atomic addition. */
static __global__ void as_they_come(float *y, const float *x, bool wrong)
{
    SHARED(float, s);
    uint32_t *tickets = (uint32_t *)(s + N);
    int t = (int)threadIdx.x;
    if (t == 0)
        tickets[0] = 0;
    block_sync();
    uint32_t mine = atomic_add(tickets, 1);
    s[wrong ? mine : (uint32_t)t] = 1.0f / (x[t] + 1);
    block_sync();
    if (t == 0) {
        float sum = 0;
        for (int i = 0; i < N; i++)
            sum += s[i];
        y[0] = sum;
    }
}

static void b_off_by_one_shadow(bool wrong)
{
    float *x = new_numbers(N), *y = new_floats(1000);
    launch(nullptr, 1, N, 0, past_by_little, y, (const float *)x, wrong);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
}
static void b_uninitialised(bool wrong)
{
    float *x = new_floats(N), *y = new_floats(N);
    if (!wrong)
        cudaMemset(x, 0, N * 4);
    launch(nullptr, 1, N, 0, past_the_end, y, (const float *)x, false);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
}
static void b_freed(bool wrong)
{
    float *x = new_numbers(N), *y = new_floats(N);
    if (wrong)
        cudaFree(x);
    launch(nullptr, 1, N, 0, past_the_end, y, (const float *)x, false);
    cudaDeviceSynchronize();
    if (!wrong)
        cudaFree(x);
    cudaFree(y);
}
static void b_order(bool wrong)
{
    float sums[3], *x = new_numbers(N), *y = new_floats(1);
    for (int i = 0; i < 3; i++) {
        static const char *const orders[] = {"up", "down", "mix:3"};
        sim_set_order(orders[i]);
        launch(nullptr, 1, N, 4096, as_they_come, y, (const float *)x, wrong);
        sums[i] = fetch(y);
    }
    if (memcmp(sums, sums + 1, 4) != 0 || memcmp(sums, sums + 2, 4) != 0) {
        fprintf(stderr, "other bits in another order: %a, %a, %a\n", (double)sums[0], (double)sums[1], (double)sums[2]);
        _exit(1);
    }
    cudaFree(x);
    cudaFree(y);
}

#define ONE(name, kernel, ...)                                                                                                   \
    static void b_##kernel(bool wrong) { over(kernel, wrong, ##__VA_ARGS__); }
ONE(, neighbour)
ONE(, reuse) ONE(, within_warp) ONE(, fetch_late) ONE(, fetch_two) ONE(, fetch_over) ONE(, past_the_end) ONE(, parted) ONE(
    , leaves) ONE(, one_place, 2) ONE(, reads_others, 2) ONE(, unwritten) ONE(, beyond_shared)

    const Bug kernel_bugs[] = {
        {"missing barrier, read after write", b_neighbour,
         "thread 31: a race: writes shared memory at byte 124, which thread 63 reads with no block_sync between",
         "LORAT_SIM_ORDER=down"},
        {"missing barrier, write after read", b_reuse,
         "thread 32: a race: reads shared memory at byte 0, which thread 0 writes with no block_sync between", nullptr},
        {"a shuffle taken for a barrier", b_within_warp,
         "kernel within_warp, block (0,0,0), thread 0: a race: reads shared memory at byte 4, which thread 1 writes with no "
         "warp_sync",
         nullptr},
        {"missing wait for async copies", b_fetch_late, "before the async_wait of thread", nullptr},
        {"async_wait<1> where 0 is needed", b_fetch_two, "reads shared memory at byte 1024 before the async_wait of thread 0",
         nullptr},
        {"async copy into what others read", b_fetch_over, "a race: writes shared memory", nullptr},
        {"off by one past an allocation", b_past_the_end,
         "kernel past_the_end, block (0,0,0), thread 63: reads 4 bytes of global memory, 0 bytes past the end of a block of 4096 "
         "bytes",
         nullptr},
        {"off by one within the page", b_off_by_one_shadow,
         "writes 4 bytes of global memory, 0 bytes past the end of a block of 4000 bytes", nullptr},
        {"read of freed memory", b_freed, "of a freed block of 256 bytes", nullptr},
        {"uninitialised global memory", b_uninitialised,
         "reads global memory, at byte 0 of a block of 256 bytes, that was never written", nullptr},
        {"uninitialised shared memory", b_unwritten,
         "thread 63: reads shared memory at byte 252, which no thread of the block has written", nullptr},
        {"past the end of shared memory", b_beyond_shared, "thread 63: writes 0 bytes past the end of the block's shared memory",
         nullptr},
        {"divergent shuffle", b_parted,
         "kernel parted, block (0,0,0): warp 0 has parted: threads 0-15 are at warp_up, threads 16-31 are at warp_xor", nullptr},
        {"early return before a barrier", b_leaves, "threads 40-63 have returned while threads 0-39 wait at block_sync", nullptr},
        {"two blocks write one place", b_one_place, "that block 0 of the same launch writes too", nullptr},
        {"a block reads what another writes", b_reads_others, "of the same launch", nullptr},
        {"a sum in the order of arrival", b_order, "other bits in another order", nullptr},
        {},
};
