/* device_sim.h - the wrappers of kernels/cuda/device.cuh on the simulator: host twins of single instructions, and the calls into
 * the scheduler of simulated threads (fiber.cpp). */
#ifndef LORAT_SIM_DEVICE_H
#define LORAT_SIM_DEVICE_H

#include <math.h>
#include <string.h>

/* The thread that is running now, and its block. */
struct SimThread {
    dim3 thread;
};
struct SimBlock {
    dim3 index, dim, grid;
};
extern SimThread *sim_thread;
extern SimBlock sim_block;
#define threadIdx (sim_thread->thread)
#define blockIdx  (sim_block.index)
#define blockDim  (sim_block.dim)
#define gridDim   (sim_block.grid)
int sim_thread_number(void); /* within its block; -1 outside of kernels */

void *sim_shared(void);
#define SHARED(T, name) T *name = (T *)sim_shared()

/* All threads of the block have come here. */
void sim_block_sync(void);
/* One warp operation: every lane gives a record of its own; when all 32 have come, op runs once over them (lanes[0..31]). Lanes
 * that come to different operations are reported. */
void sim_warp(const char *name, void (*op)(void **lanes), void *mine);

static inline void block_sync(void) { sim_block_sync(); }
void sim_warp_sync(void);
static inline void warp_sync(void) { sim_warp_sync(); }

template <typename T> struct SimShuffle {
    T value, out;
    int from;
};
template <typename T> static inline T sim_shuffle(const char *name, T value, int from)
{
    SimShuffle<T> mine = {value, value, from};
    sim_warp(
        name,
        [](void **lanes) {
            for (int l = 0; l < 32; l++) {
                SimShuffle<T> *s = (SimShuffle<T> *)lanes[l];
                if (s->from >= 0 && s->from < 32)
                    s->out = ((SimShuffle<T> *)lanes[s->from])->value;
            }
        },
        &mine);
    return mine.out;
}
#define SIM_LANE ((int)(threadIdx.x % 32))
template <typename T> static inline T warp_xor(T v, int mask) { return sim_shuffle("warp_xor", v, SIM_LANE ^ mask); }
template <typename T> static inline T warp_at(T v, int lane) { return sim_shuffle("warp_at", v, lane & 31); }
template <typename T> static inline T warp_up(T v, int by) { return sim_shuffle("warp_up", v, SIM_LANE - by); }
template <typename T> static inline T warp_down(T v, int by) { return sim_shuffle("warp_down", v, SIM_LANE + by); }
static inline uint32_t warp_ballot(bool yes)
{
    struct Vote {
        bool yes;
        uint32_t out;
    } mine = {yes, 0};
    sim_warp(
        "warp_ballot",
        [](void **lanes) {
            uint32_t all = 0;
            for (int l = 0; l < 32; l++)
                all |= (uint32_t)((Vote *)lanes[l])->yes << l;
            for (int l = 0; l < 32; l++)
                ((Vote *)lanes[l])->out = all;
        },
        &mine);
    return mine.out;
}
uint32_t sim_atomic_add(uint32_t *p, uint32_t v);
static inline uint32_t atomic_add(uint32_t *p, uint32_t v) { return sim_atomic_add(p, v); }

void sim_async_copy(void *shared, const void *global, bool valid);
void sim_async_commit(void);
void sim_async_wait(int left);
void sim_async_forget(void); /* at the beginning of a block */
static inline void async_copy_16(void *shared, const void *global, bool valid) { sim_async_copy(shared, global, valid); }
static inline void async_commit(void) { sim_async_commit(); }
template <int N> static inline void async_wait(void) { sim_async_wait(N); }

void sim_ldmatrix(uint32_t *r, const void *row, int count, bool trans);
static inline void ldmatrix_x4(uint32_t r[4], const void *row) { sim_ldmatrix(r, row, 4, false); }
static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row) { sim_ldmatrix(r, row, 4, true); }
static inline void ldmatrix_x2(uint32_t r[2], const void *row) { sim_ldmatrix(r, row, 2, false); }
static inline void ldmatrix_x2_trans(uint32_t r[2], const void *row) { sim_ldmatrix(r, row, 2, true); }
void sim_mma(float *d, const uint32_t *a, const uint32_t *b);
static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) { sim_mma(d, a, b); }

static inline float exp2_fast(float x)
{
    float y = exp2f(x);
    return fabsf(y) < 0x1p-126f ? 0.0f : y;
}
static inline float inv_sqrt(float x) { return 1.0f / sqrtf(x); }
static inline float inv_fast(float x)
{
    float y = fabsf(x) < 0x1p-126f ? copysignf(INFINITY, x) : 1.0f / x; /* a denormal x is 0 */
    return fabsf(y) < 0x1p-126f ? copysignf(0.0f, y) : y;
}
static inline bf16 bf16_round(float x) { return bf16_from_f32(x); }
static inline uint32_t bf16_pair(float lo, float hi) { return (uint32_t)bf16_from_f32(hi) << 16 | bf16_from_f32(lo); }

#endif
