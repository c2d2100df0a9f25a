/* warp.cpp - host twins of cp.async, ldmatrix, mma and atomics. test_twins.cpp holds them against the PTX ISA's tables. */
#include "tests/sim/sim.h"

#include <string.h>
#include <vector>

extern "C" {
#include "trainer/base/bf16.h"
}
#include "tests/sim/device_sim.h"

uint32_t sim_atomic_add(uint32_t *p, uint32_t v)
{
    if (sim_track.atomic)
        sim_track.atomic(p, sizeof *p);
    uint32_t was = *p;
    *p += v;
    return was;
}

/* ---- cp.async: the data are kept back until their wait; until then the place holds NaN ---- */

struct Copy {
    void *shared;
    int group; /* -1: not committed */
    char data[16];
};
struct Pending {
    std::vector<Copy> copies; /* in the order of issue */
    int committed, landed;    /* groups */
};
static Pending pending[1024];
static bool any_pending;

void sim_async_forget(void)
{
    if (any_pending)
        for (Pending &p : pending) {
            p.copies.clear();
            p.committed = p.landed = 0;
        }
    any_pending = false;
}
void sim_async_copy(void *shared, const void *global, bool valid)
{
    Copy c = {shared, -1, {0}};
    if ((uintptr_t)shared % 16 != 0 || (valid && (uintptr_t)global % 16 != 0))
        sim_die("async_copy_16 of an address that is not a multiple of 16");
    if (valid) {
        if (sim_track.read)
            sim_track.read(global, 16, -1);
        memcpy(c.data, global, 16);
    }
    if (sim_track.async_issue)
        sim_track.async_issue(shared, 16);
    memset(shared, 0xff, 16);
    pending[sim_thread_number()].copies.push_back(c);
    any_pending = true;
}
void sim_async_commit(void)
{
    Pending &p = pending[sim_thread_number()];
    for (Copy &c : p.copies)
        if (c.group < 0)
            c.group = p.committed;
    p.committed++;
    any_pending = true;
}
void sim_async_wait(int left)
{
    Pending &p = pending[sim_thread_number()];
    size_t n = 0;
    while (n < p.copies.size() && p.copies[n].group >= 0 && p.copies[n].group < p.committed - left)
        n++;
    for (size_t i = 0; i < n; i++) {
        memcpy(p.copies[i].shared, p.copies[i].data, 16);
        if (sim_track.async_land)
            sim_track.async_land(p.copies[i].shared, 16);
    }
    p.copies.erase(p.copies.begin(), p.copies.begin() + (ptrdiff_t)n);
}

/* ---- ldmatrix: PTX ISA, "Warp-level matrix instructions: ldmatrix" ---- */

struct Ldmatrix {
    uint32_t *r;
    const void *row;
    int count, thread;
    bool trans;
};
static void ldmatrix_all(void **lanes)
{
    Ldmatrix *all[32];
    for (int l = 0; l < 32; l++)
        all[l] = (Ldmatrix *)lanes[l];
    for (int l = 0; l < all[0]->count * 8; l++) {
        if ((uintptr_t)all[l]->row % 16 != 0)
            sim_die("ldmatrix: lane %d gives an address that is not a multiple of 16", l);
        if (sim_track.read)
            sim_track.read(all[l]->row, 16, all[l]->thread);
    }
    for (int m = 0; m < all[0]->count; m++)
        for (int l = 0; l < 32; l++) {
            uint16_t two[2];
            for (int e = 0; e < 2; e++) {
                int y = all[l]->trans ? l % 4 * 2 + e : l / 4, x = all[l]->trans ? l / 4 : l % 4 * 2 + e;
                two[e] = ((const uint16_t *)all[m * 8 + y]->row)[x];
            }
            all[l]->r[m] = (uint32_t)two[1] << 16 | two[0];
        }
}
void sim_ldmatrix(uint32_t *r, const void *row, int count, bool trans)
{
    Ldmatrix mine = {r, row, count, sim_thread_number(), trans};
    static const char *const names[2][2] = {{"ldmatrix_x2", "ldmatrix_x2_trans"}, {"ldmatrix_x4", "ldmatrix_x4_trans"}};
    sim_warp(names[count == 4][trans], ldmatrix_all, &mine);
}

/* ---- mma.m16n8k16: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" ---- */

struct Mma {
    float *d;
    const uint32_t *a, *b;
};
static float low(uint32_t pair) { return bf16_to_f32((bf16)pair); }
static float high(uint32_t pair) { return bf16_to_f32((bf16)(pair >> 16)); }
/* Products are exact in F32; the sum runs over k in order, in F32. (A tensor core adds in an order and a precision of its own.)
 */
static void mma_all(void **lanes)
{
    float a[16][16], b[16][8], d[16][8];
    for (int l = 0; l < 32; l++) {
        const Mma *m = (const Mma *)lanes[l];
        int g = l / 4, t = l % 4 * 2;
        for (int r = 0; r < 4; r++) {
            a[g + r % 2 * 8][t + r / 2 * 8] = low(m->a[r]);
            a[g + r % 2 * 8][t + r / 2 * 8 + 1] = high(m->a[r]);
            d[g + r / 2 * 8][t + r % 2] = m->d[r];
        }
        for (int r = 0; r < 2; r++) {
            b[t + r * 8][g] = low(m->b[r]);
            b[t + r * 8 + 1][g] = high(m->b[r]);
        }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                d[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < 32; l++)
        for (int r = 0; r < 4; r++)
            ((Mma *)lanes[l])->d[r] = d[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2];
}
void sim_mma(float *d, const uint32_t *a, const uint32_t *b)
{
    Mma mine = {d, a, b};
    sim_warp("mma_bf16", mma_all, &mine);
}
