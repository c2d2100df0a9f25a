/* device.cuh - everything that kernels use of the hardware, each in a small named wrapper.
 *
 * Under nvcc a wrapper is an intrinsic or one PTX instruction. Under tests/sim/ it is a host twin with the same meaning, which is
 * tested against PTX's tables; on a card the wrappers are tested against the twins. Rules that make both ways work:
 *   - shared memory is dynamic only: SHARED(T, name) names its beginning, the launch gives its size (no __shared__ variables);
 *   - warp operations are taken by all 32 lanes of a warp, block_sync by all threads of a block: blocks are whole warps, and a
 *     thread never returns before the last of them;
 *   - no floating-point atomics: every sum has a fixed order. */
#ifndef LORAT_CUDA_DEVICE_CUH
#define LORAT_CUDA_DEVICE_CUH

#include "kernels/cuda/cuda.h"

#ifdef __CUDACC__
#include "kernels/cuda/device_nvcc.cuh"
#else
#include "tests/sim/device_sim.h"
#endif
/* Both supply:
 *   SHARED(T, name)                     T *name = the block's shared memory, aligned to 16 bytes
 *   block_sync()                        barrier and memory order for the block
 *   warp_sync()                         the same for a warp
 *   warp_xor(v, mask), warp_at(v, lane), warp_up(v, by), warp_down(v, by)     v of another lane; float, int32_t, uint32_t, double.
 *                                       up and down: a lane without a partner keeps its own
 *   warp_ballot(bool)                   bit i = lane i's
 *   atomic_add(uint32_t *p, uint32_t)   returns what was there; global or shared memory
 *   async_copy_16(shared, global, valid)  16 bytes, both aligned; zeros when !valid (global is then not read)
 *   async_commit(), async_wait<N>()     close a group; wait until at most N groups of this thread are under way. The data are
 *                                       there for this thread then, for others after a barrier
 *   ldmatrix_x4(r, row), ldmatrix_x4_trans(r, row)   four 8x8 matrices of 16-bit elements; lane l gives the address (shared, 16-byte
 *                                       aligned) of row l % 8 of matrix l / 8
 *   ldmatrix_x2(r, row), ldmatrix_x2_trans(r, row)   two; lanes 0-15 give addresses
 *   mma_bf16(d, a, b)                   d (16x8) F32 += a (16x16) b (16x8), BF16: mma.sync.m16n8k16. With g = lane / 4, t = lane % 4:
 *                                       a[0] = A[g][2t..2t+1], a[1] = A[g+8][2t..], a[2] = A[g][2t+8..], a[3] = A[g+8][2t+8..];
 *                                       b[0] = B[2t..2t+1][g], b[1] = B[2t+8..][g]; d[0..1] = D[g][2t..], d[2..3] = D[g+8][2t..]
 *   exp2_fast(x)                        2^x, relative error below 2^-21 (ex2.approx.ftz: denormal results are 0)
 *   inv_sqrt(x)                         1/sqrt(x), relative error below 2^-22 (rsqrt.approx)
 *   inv_fast(x)                         1/x, relative error below 2^-22 (rcp.approx.ftz: denormal results are 0)
 *   bf16_round(x)                       float to bf16 bits, nearest even
 *   bf16_pair(lo, hi)                   two of them, lo in the low half
 *   threadIdx, blockIdx, blockDim, gridDim as always */

#define LANE ((int)(threadIdx.x % 32))
#define WARP_ID ((int)(threadIdx.x / 32))

__device__ static inline float to_float(float x) { return x; }
__device__ static inline float to_float(bf16 x)
{
    union {
        uint32_t u;
        float f;
    } both = {(uint32_t)x << 16};
    return both.f;
}
template <typename T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return bf16_round(x); }
/* x rounded as memory of type T would round it. */
template <typename T> __device__ static inline float round_to(float x) { return to_float(from_float<T>(x)); }

/* 16 bytes of T: what one thread loads or stores at a time. */
template <typename T> struct alignas(16) vec {
    static constexpr int n = 16 / (int)sizeof(T);
    T v[16 / sizeof(T)];
};
template <typename T> __device__ static inline vec<T> vec_load(const T *p) { return *(const vec<T> *)p; }
template <typename T> __device__ static inline void vec_store(T *p, const vec<T> &x) { *(vec<T> *)p = x; }

/* Over the lanes of a warp, the same on all of them; a fixed tree. */
__device__ static inline float warp_sum(float x)
{
    for (int m = 16; m > 0; m /= 2)
        x += warp_xor(x, m);
    return x;
}
__device__ static inline double warp_sum(double x)
{
    for (int m = 16; m > 0; m /= 2)
        x += warp_xor(x, m);
    return x;
}
__device__ static inline float warp_max(float x)
{
    for (int m = 16; m > 0; m /= 2)
        x = fmaxf(x, warp_xor(x, m)); /* NaN is lost here: callers that must show it sum as well */
    return x;
}
/* Over a block of whole warps, the same on all threads; `shared` holds one T a warp and may be used again at once. */
template <typename T> __device__ static inline T block_sum(T x, T *shared)
{
    x = warp_sum(x);
    if (LANE == 0)
        shared[WARP_ID] = x;
    block_sync();
    T sum = 0;
    for (int w = 0; w < (int)blockDim.x / 32; w++)
        sum += shared[w];
    block_sync();
    return sum;
}
__device__ static inline float block_max(float x, float *shared)
{
    x = warp_max(x);
    if (LANE == 0)
        shared[WARP_ID] = x;
    block_sync();
    float most = shared[0];
    for (int w = 1; w < (int)blockDim.x / 32; w++)
        most = fmaxf(most, shared[w]);
    block_sync();
    return most;
}

#endif
