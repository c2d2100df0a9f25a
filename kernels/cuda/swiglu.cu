/* swiglu.cu - silu(g) u with silu(g) = g / (1 + exp(-g)), forward and backward.
 *
 * Memory-bound: 6 bytes an element of the output in BF16 forward, 10 backward. A thread has EACH chunks of 16 bytes of g and the same
 * of u (backward also of da), all loads under way before the first store; two special-function instructions an element (exp2,
 * reciprocal), under half of what an H200's bandwidth leaves time for. Each element is read before it is written by the thread that
 * writes it: dgu may be gu. */
#include "kernels/cuda/rows.cuh"

enum { EACH = 2 };

/* 1 / (1 + exp(-g)): 0 or 1 where exp(-g) leaves F32's range. */
__device__ static inline float sigmoid(float g) { return inv_fast(1.0f + exp2_fast(-LOG2_E * g)); }

template <typename T, bool WIDE> __global__ static void swiglu_forward_kernel(void *a, const void *gu, int32_t n, int32_t f, int shift)
{
    enum { N = in_chunk<T>::n };
    int64_t row = row_of_thread(shift);
    if (row >= n)
        return;
    const T *g = (const T *)gu + row * f * 2, *u = g + f;
    T *out = (T *)a + row * f;
    int32_t step = N << shift, part = EACH * step;
    for (int32_t j0 = (int32_t)blockIdx.y * part + thread_in_row(shift) * N; j0 < f; j0 += (int32_t)gridDim.y * part) {
        struct chunk gs[EACH], us[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            gs[k] = chunk_load<T, WIDE>(g + j, f - j);
            us[k] = chunk_load<T, WIDE>(u + j, f - j);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            float y[N];
#pragma unroll
            for (int i = 0; i < N; i++) {
                float gi = chunk_get<T>(gs[k], i);
                y[i] = gi * sigmoid(gi) * chunk_get<T>(us[k], i);
            }
            chunk_store<T, WIDE>(out + j, chunk_round<T>(y), f - j);
        }
    }
}

/* With s = sigmoid(g): du = da g s, dg = da u s (1 + g (1 - s)). */
template <typename T, bool WIDE>
__global__ static void swiglu_backward_kernel(void *dgu, const void *da, const void *gu, int32_t n, int32_t f, int shift)
{
    enum { N = in_chunk<T>::n };
    int64_t row = row_of_thread(shift);
    if (row >= n)
        return;
    const T *g = (const T *)gu + row * f * 2, *u = g + f, *d = (const T *)da + row * f;
    T *dg = (T *)dgu + row * f * 2, *du = dg + f;
    int32_t step = N << shift, part = EACH * step;
    for (int32_t j0 = (int32_t)blockIdx.y * part + thread_in_row(shift) * N; j0 < f; j0 += (int32_t)gridDim.y * part) {
        struct chunk gs[EACH], us[EACH], ds[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            gs[k] = chunk_load<T, WIDE>(g + j, f - j);
            us[k] = chunk_load<T, WIDE>(u + j, f - j);
            ds[k] = chunk_load<T, WIDE>(d + j, f - j);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            float yg[N], yu[N];
#pragma unroll
            for (int i = 0; i < N; i++) {
                float gi = chunk_get<T>(gs[k], i), di = chunk_get<T>(ds[k], i), s = sigmoid(gi);
                yg[i] = di * chunk_get<T>(us[k], i) * s * (gi * (1.0f - s) + 1.0f);
                yu[i] = di * gi * s;
            }
            chunk_store<T, WIDE>(dg + j, chunk_round<T>(yg), f - j);
            chunk_store<T, WIDE>(du + j, chunk_round<T>(yu), f - j);
        }
    }
}

void cuda_swiglu_forward(struct ops *o, void *a, const void *gu, int32_t n, int32_t f)
{
    bool wide = cuda_wide(dtype_size(o->act), {a, gu}, {f});
    struct row_layout l = rows_over(n, ceil_div(f, chunk_of(o->act)), EACH);
    cuda_launch(cuda_of(o), "swiglu_forward", l.grid, ROW_BLOCK, 0, KERNEL_OF(swiglu_forward_kernel, o->act, wide), a, gu, n, f, l.shift);
}

void cuda_swiglu_backward(struct ops *o, void *dgu, const void *da, const void *gu, int32_t n, int32_t f)
{
    bool wide = cuda_wide(dtype_size(o->act), {dgu, da, gu}, {f});
    struct row_layout l = rows_over(n, ceil_div(f, chunk_of(o->act)), EACH);
    cuda_launch(cuda_of(o), "swiglu_backward", l.grid, ROW_BLOCK, 0, KERNEL_OF(swiglu_backward_kernel, o->act, wide), dgu, da, gu, n, f,
                l.shift);
}
