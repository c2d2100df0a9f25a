/* argmax.cu - a block a row. Memory-bound: 2 bytes a logit in BF16, a thread has DEEP chunks of 16 bytes under way and keeps its
 * largest logit and the first place of it; then a tree in which the earlier place wins a tie. */
#include "kernels/cuda/rows.cuh"

enum { BLOCK = 512, DEEP = 4, WARPS = BLOCK / WARP };

struct place {
    float top;
    int32_t at; /* INT32_MAX: none yet */
};
__device__ static inline struct place better(struct place a, struct place b)
{
    return b.top > a.top || (b.top == a.top && b.at < a.at) ? b : a;
}
__device__ static inline struct place warp_best(struct place p)
{
    for (int m = WARP / 2; m > 0; m /= 2) {
        struct place other = {warp_xor(p.top, m), warp_xor(p.at, m)};
        p = better(p, other);
    }
    return p;
}

template <typename T, bool WIDE> __global__ static void argmax_kernel(int32_t *out, const void *logits, int32_t ld, int32_t v)
{
    enum { N = in_chunk<T>::n };
    SHARED(struct place, shared);
    const T *x = (const T *)logits + (int64_t)blockIdx.x * ld;
    struct place best = {-INFINITY, INT32_MAX};
    for (int32_t j0 = (int32_t)threadIdx.x * N; j0 < v; j0 += DEEP * BLOCK * N) {
        struct chunk chunks[DEEP];
#pragma unroll
        for (int u = 0; u < DEEP; u++)
            chunks[u] = chunk_load<T, WIDE>(x + j0 + u * BLOCK * N, v - j0 - u * BLOCK * N);
#pragma unroll
        for (int u = 0; u < DEEP; u++)
#pragma unroll
            for (int i = 0; i < N; i++) {
                int32_t j = j0 + u * BLOCK * N + i;
                if (j < v)
                    best = better(best, {chunk_get<T>(chunks[u], i), j});
            }
    }
    best = warp_best(best);
    if (LANE == 0)
        shared[WARP_ID] = best;
    block_sync();
    if (WARP_ID == 0) {
        best = warp_best(LANE < WARPS ? shared[LANE] : best);
        if (LANE == 0)
            out[blockIdx.x] = best.at == INT32_MAX ? 0 : best.at; /* every logit is NaN */
    }
}

void cuda_argmax(struct ops *o, int32_t *out, const void *logits, int32_t ld_v, int32_t n, int32_t v)
{
    bool wide = cuda_wide(dtype_size(o->act), {logits}, {ld_v});
    cuda_launch(cuda_of(o), "argmax", dim3((unsigned)n), BLOCK, WARPS * sizeof(struct place), KERNEL_OF(argmax_kernel, o->act, wide), out,
                logits, ld_v, v);
}
