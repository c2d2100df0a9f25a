/* rmsnorm.cu - forward with the residual, and backward.
 *
 * Memory-bound. Bytes an element in BF16: forward reads x and delta, writes sum and y: 8; backward reads dy, x, dx, writes dx: 8.
 * Up to 256 threads have a row, with 2 or 4 chunks of 16 bytes each in registers, so that every byte is read once and all loads are
 * under way before the sum over the row. Short rows share a block. Rows beyond 1,024 chunks (8,192 BF16, 4,096 F32) are read twice,
 * the second time mostly from L2. w is the same for all rows and comes from L1. */
#include "kernels/cuda/rows.cuh"

struct norm_args {
    void *y, *sum;
    const void *x, *delta, *w, *dy;
    void *dx;
    int32_t n, d;
    float eps;
    int shift;
};

/* s = x + delta, rounded to T. */
template <typename T> __device__ static inline struct chunk residual(const struct chunk &x, const struct chunk &delta)
{
    float f[in_chunk<T>::n];
#pragma unroll
    for (int i = 0; i < in_chunk<T>::n; i++)
        f[i] = chunk_get<T>(x, i) + chunk_get<T>(delta, i);
    return chunk_round<T>(f);
}
/* EACH chunks of s from column j0 on, `step` apart. All loads come before the first sum. */
template <typename T, bool WIDE, int EACH>
__device__ static inline void load_residual(struct chunk s[EACH], const T *x, const T *delta, int32_t j0, int32_t step, int32_t d)
{
    struct chunk more[EACH];
#pragma unroll
    for (int u = 0; u < EACH; u++)
        s[u] = chunk_load<T, WIDE>(x + j0 + u * step, d - j0 - u * step);
    if (!delta)
        return;
#pragma unroll
    for (int u = 0; u < EACH; u++)
        more[u] = chunk_load<T, WIDE>(delta + j0 + u * step, d - j0 - u * step);
#pragma unroll
    for (int u = 0; u < EACH; u++)
        s[u] = residual<T>(s[u], more[u]);
}

/* A thread takes EACH chunks at a time; KEEP: they are all it has. */
template <typename T, bool WIDE, int EACH, bool KEEP>
__global__ static void ROW_BOUNDS(WIDE, EACH == 2 ? 4 : 2) rmsnorm_forward_kernel(struct norm_args a)
{
    enum { N = in_chunk<T>::n };
    SHARED(float, shared);
    int64_t row = row_of_thread(a.shift);
    int32_t d = row < a.n ? a.d : 0, threads = N << a.shift, first = thread_in_row(a.shift) * N;
    const T *x = (const T *)a.x + row * a.d, *delta = a.delta ? (const T *)a.delta + row * a.d : NULL, *w = (const T *)a.w;
    T *y = (T *)a.y + row * a.d, *sum = a.sum ? (T *)a.sum + row * a.d : NULL;
    struct chunk s[EACH], scale[EACH];
    float squares = 0;
    for (int32_t j0 = first; KEEP ? j0 == first : j0 < d; j0 += EACH * threads) {
#pragma unroll
        for (int u = 0; u < EACH && KEEP; u++)
            scale[u] = chunk_load<T, WIDE>(w + j0 + u * threads, d - j0 - u * threads);
        load_residual<T, WIDE, EACH>(s, x, delta, j0, threads, d);
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t j = j0 + u * threads;
#pragma unroll
            for (int i = 0; i < N; i++)
                squares += chunk_get<T>(s[u], i) * chunk_get<T>(s[u], i);
            if (sum)
                chunk_store<T, WIDE>(sum + j, s[u], d - j);
        }
    }
    row_sums<1>(&squares, a.shift, shared);
    float r = inv_sqrt(squares / (float)a.d + a.eps);
    for (int32_t j0 = first; KEEP ? j0 == first : j0 < d; j0 += EACH * threads) {
        if (!KEEP) /* the kept s, which may have taken x's place, or the same bits again */
            load_residual<T, WIDE, EACH>(s, sum ? sum : x, sum ? NULL : delta, j0, threads, d);
#pragma unroll
        for (int u = 0; u < EACH && !KEEP; u++)
            scale[u] = chunk_load<T, WIDE>(w + j0 + u * threads, d - j0 - u * threads);
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t j = j0 + u * threads;
            float out[N];
#pragma unroll
            for (int i = 0; i < N; i++)
                out[i] = chunk_get<T>(s[u], i) * r * chunk_get<T>(scale[u], i);
            chunk_store<T, WIDE>(y + j, chunk_round<T>(out), d - j);
        }
    }
}

template <typename T, bool WIDE, int EACH, bool KEEP>
__global__ static void ROW_BOUNDS(WIDE, EACH == 2 ? 3 : 2) rmsnorm_backward_kernel(struct norm_args a)
{
    enum { N = in_chunk<T>::n };
    SHARED(float, shared);
    int64_t row = row_of_thread(a.shift);
    int32_t d = row < a.n ? a.d : 0, threads = N << a.shift, first = thread_in_row(a.shift) * N;
    const T *dy = (const T *)a.dy + row * a.d, *x = (const T *)a.x + row * a.d, *w = (const T *)a.w;
    T *dx = (T *)a.dx + row * a.d;
    struct chunk g[EACH], s[EACH], scale[EACH], old[EACH];
    float sums[2] = {0, 0}; /* x^2, w dy x */
    for (int32_t j0 = first; KEEP ? j0 == first : j0 < d; j0 += EACH * threads) {
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t j = j0 + u * threads;
            g[u] = chunk_load<T, WIDE>(dy + j, d - j);
            s[u] = chunk_load<T, WIDE>(x + j, d - j);
            scale[u] = chunk_load<T, WIDE>(w + j, d - j);
            if (KEEP)
                old[u] = chunk_load<T, WIDE>(dx + j, d - j);
        }
#pragma unroll
        for (int u = 0; u < EACH; u++)
#pragma unroll
            for (int i = 0; i < N; i++) {
                float xi = chunk_get<T>(s[u], i);
                sums[0] += xi * xi;
                sums[1] += xi * (chunk_get<T>(scale[u], i) * chunk_get<T>(g[u], i));
            }
    }
    row_sums<2>(sums, a.shift, shared);
    float r = inv_sqrt(sums[0] / (float)a.d + a.eps), back = r * r * r * (sums[1] / (float)a.d);
    for (int32_t j0 = first; KEEP ? j0 == first : j0 < d; j0 += EACH * threads) {
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t j = j0 + u * threads;
            if (!KEEP) {
                g[u] = chunk_load<T, WIDE>(dy + j, d - j);
                s[u] = chunk_load<T, WIDE>(x + j, d - j);
                scale[u] = chunk_load<T, WIDE>(w + j, d - j);
                old[u] = chunk_load<T, WIDE>(dx + j, d - j);
            }
            float out[N];
#pragma unroll
            for (int i = 0; i < N; i++)
                out[i] = chunk_get<T>(old[u], i) + (chunk_get<T>(scale[u], i) * chunk_get<T>(g[u], i) * r - chunk_get<T>(s[u], i) * back);
            chunk_store<T, WIDE>(dx + j, chunk_round<T>(out), d - j);
        }
    }
}

template <int EACH, bool KEEP> static auto pick(enum dtype t, bool wide, bool backward)
{
    return backward ? KERNEL_OF_4(rmsnorm_backward_kernel, t, wide, EACH, KEEP) : KERNEL_OF_4(rmsnorm_forward_kernel, t, wide, EACH, KEEP);
}
static void launch(struct cuda *c, const char *where, struct norm_args a, bool backward)
{
    enum { SHARED_BYTES = 2 * ROW_BLOCK / WARP * (int)sizeof(float) };
    enum dtype t = c->ops.act;
    bool wide = cuda_wide(dtype_size(t), {a.y, a.sum, a.x, a.delta, a.w, a.dy, a.dx}, {a.d});
    int64_t chunks = ceil_div(a.d, chunk_of(t)), each = chunks <= 2 * ROW_BLOCK ? 2 : 4;
    a.shift = shift_for(ceil_div(chunks, each), 8);
    auto kernel = each == 2                 ? pick<2, true>(t, wide, backward)
                  : chunks <= 4 * ROW_BLOCK ? pick<4, true>(t, wide, backward)
                                            : pick<4, false>(t, wide, backward);
    cuda_launch(c, where, dim3((unsigned)ceil_div(a.n, ROW_BLOCK >> a.shift)), ROW_BLOCK, SHARED_BYTES, kernel, a);
}

void cuda_rmsnorm_forward(struct ops *o, void *y, void *sum, const void *x, const void *delta, const void *w, int32_t n, int32_t d,
                          float eps)
{
    struct norm_args a = {};
    a.y = y, a.sum = sum, a.x = x, a.delta = delta, a.w = w, a.n = n, a.d = d, a.eps = eps;
    launch(cuda_of(o), "rmsnorm_forward", a, false);
}

void cuda_rmsnorm_backward(struct ops *o, void *dx, const void *dy, const void *x, const void *w, int32_t n, int32_t d, float eps)
{
    struct norm_args a = {};
    a.dx = dx, a.dy = dy, a.x = x, a.w = w, a.n = n, a.d = d, a.eps = eps;
    launch(cuda_of(o), "rmsnorm_backward", a, true);
}
