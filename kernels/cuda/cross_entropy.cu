/* cross_entropy.cu - a block a row: log-sum-exp, then (backward) the gradient in the logits' place. The rows' losses go through the
 * workspace and are added in a fixed order (sums.cuh).
 *
 * Memory-bound: a row of Qwen3's 151,936 logits in BF16 is 304 KB, more than an SM holds, so it is read once for maximum and sum
 * together (online: the sum is rescaled when the maximum grows) and read and written once more for the gradient: 2 bytes an element
 * forward, 6 with backward. A thread has DEEP chunks of 16 bytes under way. One exp2 an element and pass: two thirds of what an
 * H200's bandwidth leaves time for where a row is only read, a third where it is written. The sum is rescaled once in DEEP chunks, not
 * once a chunk, to keep it so. */
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/sums.cuh"

enum { BLOCK = 512, DEEP = 4, WARPS = BLOCK / WARP };
#define NO_LOGIT (-1e38f) /* below every logit; times LOG2_E it is finite still */

struct entropy_args {
    float *loss, *nll; /* (n); nll may be NULL */
    void *logits;
    const int32_t *targets;
    const float *weights;
    int32_t ld, v;
    bool backward;
};

/* sum = sum of 2^(x log2(e) - shift), shift = top log2(e), over the logits so far. A NaN or +infinity makes sum NaN. */
struct online {
    float top, shift, sum;
};
__device__ static inline float power(float x, float shift) { return exp2_fast(fmaf(x, LOG2_E, -shift)); }

/* C chunks more, of which the first `left` elements count. */
template <typename T, int C> __device__ static inline void online_add(struct online *o, const struct chunk x[C], int32_t left)
{
    enum { N = in_chunk<T>::n };
    float top = o->top, sums[C] = {};
#pragma unroll
    for (int i = 0; i < C * N; i++)
        if (i < left)
            top = fmaxf(top, chunk_get<T>(x[i / N], i % N));
    float shift = top * LOG2_E;
#pragma unroll
    for (int i = 0; i < C * N; i++)
        if (i < left)
            sums[i / N] += power(chunk_get<T>(x[i / N], i % N), shift);
    o->sum *= exp2_fast(o->shift - shift);
#pragma unroll
    for (int u = 0; u < C; u++)
        o->sum += sums[u];
    o->top = top;
    o->shift = shift;
}

template <typename T, bool WIDE> __device__ static struct online row_online(const T *x, int32_t v, float *shared)
{
    enum { N = in_chunk<T>::n };
    struct online o = {NO_LOGIT, NO_LOGIT * LOG2_E, 0};
    int32_t j = (int32_t)threadIdx.x * N;
    for (; j + ((DEEP - 1) * BLOCK + 1) * N <= v; j += DEEP * BLOCK * N) {
        struct chunk chunks[DEEP];
#pragma unroll
        for (int u = 0; u < DEEP; u++)
            chunks[u] = chunk_load<T, WIDE>(x + j + u * BLOCK * N, N);
        online_add<T, DEEP>(&o, chunks, DEEP * N);
    }
    for (; j < v; j += BLOCK * N) {
        struct chunk chunk = chunk_load<T, WIDE>(x + j, v - j);
        online_add<T, 1>(&o, &chunk, v - j);
    }
    float top = block_max(o.top, shared), shift = top * LOG2_E;
    o.sum = block_sum(o.sum * exp2_fast(o.shift - shift), shared);
    o.top = top;
    o.shift = shift;
    return o;
}

/* Logits become scale 2^(x log2(e) - shift); the padding becomes 0. */
template <typename T, bool WIDE> __device__ static void row_gradient(T *x, int32_t ld, int32_t v, float shift, float scale)
{
    enum { N = in_chunk<T>::n };
    int32_t j = (int32_t)threadIdx.x * N;
    for (; j + ((DEEP - 1) * BLOCK + 1) * N <= v; j += DEEP * BLOCK * N) {
        struct chunk chunks[DEEP];
#pragma unroll
        for (int u = 0; u < DEEP; u++)
            chunks[u] = chunk_load<T, WIDE>(x + j + u * BLOCK * N, N);
#pragma unroll
        for (int u = 0; u < DEEP; u++) {
            float g[N];
#pragma unroll
            for (int i = 0; i < N; i++)
                g[i] = power(chunk_get<T>(chunks[u], i), shift) * scale;
            chunk_store<T, WIDE>(x + j + u * BLOCK * N, chunk_round<T>(g), N);
        }
    }
    for (; j < ld; j += BLOCK * N) {
        struct chunk chunk = chunk_load<T, WIDE>(x + j, v - j);
        float g[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            g[i] = i < v - j ? power(chunk_get<T>(chunk, i), shift) * scale : 0;
        chunk_store<T, WIDE>(x + j, chunk_round<T>(g), ld - j);
    }
}

template <typename T, bool WIDE> __device__ static void row_zero(T *x, int32_t ld)
{
    enum { N = in_chunk<T>::n };
    for (int32_t j = (int32_t)threadIdx.x * N; j < ld; j += BLOCK * N)
        chunk_store<T, WIDE>(x + j, {}, ld - j);
}

template <typename T, bool WIDE> __global__ static void __launch_bounds__(BLOCK, 2) entropy_kernel(struct entropy_args a)
{
    SHARED(float, shared);
    T *x = (T *)a.logits + (int64_t)blockIdx.x * a.ld;
    float weight = a.weights[blockIdx.x], loss = 0;
    int32_t target = a.targets[blockIdx.x];
    if (weight != 0) {
        bool known = target >= 0 && target < a.v; /* a target that is no token cannot be refused here: it shows as NaN */
        float picked = known ? to_float(x[target]) : NAN;
        struct online o = row_online<T, WIDE>(x, a.v, shared); /* picked has been read by all: there are barriers in it */
        float power2 = fmaf(picked, LOG2_E, -o.shift), inverse = 1.0f / o.sum;
        loss = logf(o.sum) - power2 * LN_2;
        if (a.backward) {
            row_gradient<T, WIDE>(x, a.ld, a.v, o.shift, weight * inverse);
            block_sync();
            if (threadIdx.x == 0 && known)
                x[target] = from_float<T>(weight * (exp2_fast(power2) * inverse - 1.0f));
        }
    } else if (a.backward) {
        row_zero<T, WIDE>(x, a.ld);
    }
    if (threadIdx.x == 0) {
        a.loss[blockIdx.x] = loss * weight;
        if (a.nll)
            a.nll[blockIdx.x] = loss;
    }
}

size_t cross_entropy_workspace(const struct ops_dims *d) { return (size_t)d->head_chunk * sizeof(float); }

void cuda_cross_entropy(struct ops *o, float *loss, float *nll, void *logits, int32_t ld_v, const int32_t *targets, const float *weights,
                        int32_t n, int32_t v, bool backward)
{
    struct cuda *c = cuda_of(o);
    float *rows = c->failed ? NULL : (float *)cuda_scratch(c, "cross_entropy", (size_t)n * sizeof(float));
    if (!rows)
        return;
    struct entropy_args a = {rows, nll, logits, targets, weights, ld_v, v, backward};
    bool wide = cuda_wide(dtype_size(o->act), {logits}, {ld_v});
    cuda_launch(c, "cross_entropy", dim3((unsigned)n), BLOCK, WARPS * sizeof(float), KERNEL_OF(entropy_kernel, o->act, wide), a);
    add_sum(c, "cross_entropy", loss, rows, n);
}
