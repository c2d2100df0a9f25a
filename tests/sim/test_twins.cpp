/* test_twins.cpp - the host twins of warp instructions against the PTX ISA. Where each element lies is written here as the ISA
 * writes it, by element number i and lane, not as the twins do it. The section names are those of PTX ISA 8.x, "Warp Level Matrix
 * Instructions". */
#include "kernels/cuda/device.cuh"
#include "tests/check.h"
#include "tests/sim/control.h"

#include <unistd.h>
#include <vector>

/* One warp of the simulated card. The argument lies on the host, where the simulator's kernels can reach it: as a number, since a
 * kernel that is given a host pointer is a finding. */
static void on_warp(void (*kernel)(uintptr_t), void *arg, size_t shared = 0)
{
    cudaLaunchConfig_t config = {dim3(1), dim3(32), shared, nullptr, nullptr, 0};
    CHECK(cudaLaunchKernelEx(&config, kernel, (uintptr_t)arg) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

/* ---- "Matrix Fragments for mma.m16n8k16 with floating point type": .bf16 ----
 *   groupID = %laneid >> 2, threadID_in_group = %laneid % 4
 *   A: row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8 otherwise
 *      col = (threadID_in_group * 2) + (i & 0x1) for i < 4, (threadID_in_group * 2) + (i & 0x1) + 8 for i >= 4
 *   B: row = (threadID_in_group * 2) + (i & 0x1) for i < 2, (threadID_in_group * 2) + (i & 0x1) + 8 for i >= 2;  col = groupID
 *   C: row = groupID for ci where i < 2, groupID + 8 for i >= 2;  col = (threadID_in_group * 2) + (i & 0x1) */
static int a_row(int lane, int i) { return (0 <= i && i < 2) || (4 <= i && i < 6) ? lane >> 2 : (lane >> 2) + 8; }
static int a_col(int lane, int i) { return i < 4 ? (lane % 4 * 2) + (i & 1) : (lane % 4 * 2) + (i & 1) + 8; }
static int b_row(int lane, int i) { return i < 2 ? (lane % 4 * 2) + (i & 1) : (lane % 4 * 2) + (i & 1) + 8; }
static int b_col(int lane) { return lane >> 2; }
static int c_row(int lane, int i) { return i < 2 ? lane >> 2 : (lane >> 2) + 8; }
static int c_col(int lane, int i) { return (lane % 4 * 2) + (i & 1); }

struct Product {
    int a[16][16], b[16][8], c[16][8];
    float d[32][4];
};
static void mma_kernel(uintptr_t arg)
{
    Product *p = (Product *)arg;
    int lane = LANE;
    uint32_t a[4], b[2];
    for (int r = 0; r < 4; r++)
        a[r] = bf16_pair((float)p->a[a_row(lane, 2 * r)][a_col(lane, 2 * r)],
                         (float)p->a[a_row(lane, 2 * r + 1)][a_col(lane, 2 * r + 1)]);
    for (int r = 0; r < 2; r++)
        b[r] = bf16_pair((float)p->b[b_row(lane, 2 * r)][b_col(lane)], (float)p->b[b_row(lane, 2 * r + 1)][b_col(lane)]);
    for (int i = 0; i < 4; i++)
        p->d[lane][i] = (float)p->c[c_row(lane, i)][c_col(lane, i)];
    mma_bf16(p->d[lane], a, b);
}
/* Small whole numbers: every sum is exact. */
static int small(uint32_t *state) { return (int)((*state = *state * 1664525u + 1013904223u) >> 24) % 31 - 15; }
static void mma(void)
{
    static Product p;
    uint32_t state = 7;
    for (int y = 0; y < 16; y++) {
        for (int x = 0; x < 16; x++)
            p.a[y][x] = small(&state);
        for (int x = 0; x < 8; x++) {
            p.b[y][x] = small(&state);
            p.c[y][x] = small(&state);
        }
    }
    on_warp(mma_kernel, &p);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            int row = c_row(lane, i), col = c_col(lane, i), want = p.c[row][col];
            for (int k = 0; k < 16; k++)
                want += p.a[row][k] * p.b[k][col];
            CHECK_INT(p.d[lane][i], want);
        }
}

/* ---- "Warp-level matrix load instruction: ldmatrix" ----
 * .x1/.x2/.x4: the addresses of the rows of matrix 0 are given by threads 0-7, of matrix 1 by 8-15, of matrix 2 by 16-23, of
 * matrix 3 by 24-31. Register m of thread t holds the elements of row t / 4 of matrix m, columns 2 * (t % 4) and one more, the
 * lower in the low half; with .trans each matrix is loaded in column-major format: those of column t / 4, rows 2 * (t % 4) and
 * one more. */
struct Loaded {
    uint32_t r[4][32][4]; /* x4, x4.trans, x2, x2.trans */
};
static int element(int m, int row, int col) { return m * 64 + row * 8 + col + 1; }
enum { ROW_STEP = 24 }; /* elements: rows need not lie side by side, only on 16 bytes */
static void ldmatrix_kernel(uintptr_t arg)
{
    Loaded *out = (Loaded *)arg;
    SHARED(uint16_t, s);
    int lane = LANE;
    for (int col = 0; col < 8; col++)
        s[lane * ROW_STEP + col] = (uint16_t)element(lane / 8, lane % 8, col);
    warp_sync();
    const uint16_t *row = s + lane * ROW_STEP, *none = (const uint16_t *)1; /* lanes from 16 on are not asked for x2 */
    ldmatrix_x4(out->r[0][lane], row);
    ldmatrix_x4_trans(out->r[1][lane], row);
    ldmatrix_x2(out->r[2][lane], lane < 16 ? row : none);
    ldmatrix_x2_trans(out->r[3][lane], lane < 16 ? row : none);
}
static void ldmatrix(void)
{
    static Loaded got;
    on_warp(ldmatrix_kernel, &got, 32 * ROW_STEP * 2);
    for (int kind = 0; kind < 4; kind++)
        for (int t = 0; t < 32; t++)
            for (int m = 0; m < (kind < 2 ? 4 : 2); m++)
                for (int half = 0; half < 2; half++) {
                    int line = t / 4, place = 2 * (t % 4) + half;
                    int want = kind % 2 ? element(m, place, line) : element(m, line, place);
                    CHECK_INT(got.r[kind][t][m] >> (16 * half) & 0xffff, want);
                }
}

/* ---- CUDA C++ Programming Guide, "Warp Shuffle Functions", "Warp Vote Functions" ---- */
struct Shuffled {
    float xor_[32], up[32], down[32];
    int32_t at[32];
    uint32_t votes[32];
    double wide[32];
};
static void shuffle_kernel(uintptr_t arg)
{
    Shuffled *out = (Shuffled *)arg;
    int lane = LANE;
    out->xor_[lane] = warp_xor((float)lane, 5);
    out->up[lane] = warp_up((float)lane, 3);
    out->down[lane] = warp_down((float)lane, 3);
    out->at[lane] = warp_at((int32_t)(lane * lane), (lane * 7 + 2) % 32);
    out->votes[lane] = warp_ballot(lane % 3 == 1);
    out->wide[lane] = warp_xor(1.0 + lane * 0x1p-40, 16);
}
static void shuffles(void)
{
    static Shuffled got;
    uint32_t votes = 0;
    on_warp(shuffle_kernel, &got);
    for (int lane = 1; lane < 32; lane += 3)
        votes |= 1u << lane;
    for (int lane = 0; lane < 32; lane++) {
        CHECK_INT(got.xor_[lane], lane ^ 5);
        CHECK_INT(got.up[lane], lane < 3 ? lane : lane - 3);
        CHECK_INT(got.down[lane], lane > 28 ? lane : lane + 3);
        CHECK_INT(got.at[lane], ((lane * 7 + 2) % 32) * ((lane * 7 + 2) % 32));
        CHECK_INT(got.votes[lane], votes);
        CHECK(got.wide[lane] == 1.0 + (lane ^ 16) * 0x1p-40);
    }
}

/* ---- single instructions ---- */

static float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static void roundings(void)
{
    /* cvt.rn.bf16: to nearest, ties to even, over all exponents */
    for (uint32_t top = 0; top < 0x7f80; top += 13)
        for (uint32_t rest : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
            uint32_t want = rest < 0x8000 || (rest == 0x8000 && top % 2 == 0) ? top : top + 1;
            CHECK_INT(bf16_round(of_bits(top << 16 | rest)), want);
            CHECK_INT(bf16_round(of_bits(0x80000000u | top << 16 | rest)), 0x8000 | want);
        }
    CHECK_INT(bf16_round(INFINITY), 0x7f80);
    bf16 nan = bf16_round(NAN);
    CHECK((nan & 0x7f80) == 0x7f80 && (nan & 0x7f) != 0);
    CHECK_INT(bf16_pair(1.0f, -2.0f),
              0xc0003f80u); /* cvt.rn.bf16x2 d, a, b: a in the upper half; bf16_pair(lo, hi) gives hi as a */
}
static void approximations(void)
{
    for (int i = -126 * 64; i < 128 * 64; i++) { /* ex2.approx.ftz.f32: the wrapper promises 2^-21 */
        float x = (float)i / 64 + 0.003f;
        double want = exp2((double)x);
        if (want >= 0x1p-126 && want < 0x1p127)
            CHECK(fabs(exp2_fast(x) - want) <= 0x1p-21 * want);
    }
    CHECK(exp2_fast(-127.0f) == 0 && exp2_fast(-INFINITY) == 0 && exp2_fast(INFINITY) == INFINITY && isnan(exp2_fast(NAN)));
    CHECK(exp2_fast(0.0f) == 1);
    for (uint32_t bits = 0x00800000u; bits < 0x7f000000u; bits += 0x12345) {
        float x = of_bits(bits);
        CHECK(fabs(inv_sqrt(x) * sqrt((double)x) - 1) <= 0x1p-22);
        if (x < 0x1p126f)
            CHECK(fabs((double)inv_fast(x) * x - 1) <= 0x1p-22);
    }
}

/* ---- cp.async: "Data Movement and Conversion Instructions: cp.async, cp.async.wait_group" ----
 * wait_group N waits until at most the N latest groups are pending; bytes beyond src-size are zeros. */
struct Fetched {
    const float *from;
    float first, early, second, zeros;
};
static void async_kernel(uintptr_t arg)
{
    Fetched *f = (Fetched *)arg;
    SHARED(float, s);
    if (LANE == 0) {
        for (int stage = 0; stage < 3; stage++) {
            async_copy_16(s + 4 * stage, f->from + 4 * stage, stage != 2);
            async_commit();
        }
        async_wait<2>();
        f->first = s[3];
        f->early = s[7]; /* of a group that is still under way: the simulator keeps it back */
        async_wait<0>();
        f->second = s[7];
        f->zeros = s[11];
    }
}
static void async_copies(void)
{
    float host[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, *from = nullptr;
    cudaMalloc((void **)&from, sizeof host);
    cudaMemcpy(from, host, sizeof host, cudaMemcpyHostToDevice);
    Fetched f = {from, -1, -1, -1, -1};
    on_warp(async_kernel, &f, 64);
    CHECK(f.first == 3 && isnan(f.early) && f.second == 7 && f.zeros == 0);
    cudaFree(from);
}

int main(void)
{
    for (const char *order : {"up", "down", "mix:5"}) {
        sim_set_order(order);
        mma();
        ldmatrix();
        shuffles();
        async_copies();
    }
    roundings();
    approximations();
    sim_finish();
    return check_done();
}
