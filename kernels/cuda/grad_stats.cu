/* grad_stats.cu - sum of squares in F64 and the number of elements that are not finite, in two steps: fixed parts of the block, then
 * the parts in order. Parts follow from the count alone, not from the card.
 *
 * Memory-bound: 4 bytes an element. Consumer cards do 2 F64 operations a clock and SM, 1.7 elements' worth of a 3090's bandwidth, and
 * a conversion to F64 would be a second one: `widen` builds the F64 number from the F32 number's bits instead. */
#include "kernels/cuda/rows.cuh"

enum { PARTS = 1024, DEEP = 4, PART_LEAST = DEEP * 4 * ROW_BLOCK };

struct part {
    double sum, bad;
};

/* |x| in F64. Exact for normal numbers. Zero and denormals come out as up to 2^-126: their squares vanish in an F32 result all the
 * same. Infinity and NaN come out as 2^128 and more: their squares are infinity in F32. */
__device__ static inline double widen(uint32_t magnitude)
{
    union {
        uint64_t u;
        double f;
    } wide;
    wide.u = ((uint64_t)magnitude << 29) + ((uint64_t)(1023 - 127) << 52);
    return wide.f;
}
/* The element of these bits. */
__device__ static inline void add_square(double *sum, uint32_t *bad, uint32_t bits)
{
    uint32_t magnitude = bits & 0x7fffffff;
    double x = widen(magnitude);
    *sum += x * x;
    *bad += magnitude >= 0x7f800000;
}

template <bool WIDE> __global__ static void parts_kernel(struct part *out, const float *g, int64_t count, int64_t length)
{
    SHARED(double, shared);
    int64_t from = (int64_t)blockIdx.x * length, to = count - from < length ? count : from + length, j = from + threadIdx.x * 4;
    double sums[DEEP] = {};
    uint32_t bad = 0;
    for (; j + ((DEEP - 1) * ROW_BLOCK + 1) * 4 <= to; j += DEEP * ROW_BLOCK * 4) {
        struct chunk x[DEEP];
#pragma unroll
        for (int u = 0; u < DEEP; u++)
            x[u] = chunk_load<float, WIDE>(g + j + u * ROW_BLOCK * 4, 4);
#pragma unroll
        for (int i = 0; i < 4 * DEEP; i++)
            add_square(&sums[i / 4], &bad, x[i / 4].word[i % 4]);
    }
    for (; j < to; j += ROW_BLOCK * 4)
        for (int i = 0; i < 4 && j + i < to; i++)
            add_square(&sums[0], &bad, ((const uint32_t *)g)[j + i]);
    double sum = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]), shared), bads = block_sum((double)bad, shared);
    if (threadIdx.x == 0)
        out[blockIdx.x] = {sum, bads};
}

__global__ static void stats_kernel(float *out, const struct part *parts, int32_t n)
{
    SHARED(double, shared);
    double sum = 0, bad = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += ROW_BLOCK) {
        sum += parts[i].sum;
        bad += parts[i].bad;
    }
    sum = block_sum(sum, shared);
    bad = block_sum(bad, shared);
    if (threadIdx.x == 0) {
        out[0] = (float)sum;
        out[1] = (float)bad;
    }
}

size_t grad_stats_workspace(void) { return PARTS * sizeof(struct part); }

void cuda_grad_stats(struct ops *o, float *out, const float *g, int64_t count)
{
    enum { SHARED_BYTES = ROW_BLOCK / WARP * (int)sizeof(double) };
    struct cuda *c = cuda_of(o);
    struct part *parts = c->failed ? NULL : (struct part *)cuda_scratch(c, "grad_stats", grad_stats_workspace());
    if (!parts)
        return;
    int64_t length = ceil_div(ceil_div(count, PARTS), PART_LEAST) * PART_LEAST;
    int32_t n = count ? (int32_t)ceil_div(count, length) : 0;
    cuda_launch(c, "grad_stats", dim3((unsigned)n), ROW_BLOCK, SHARED_BYTES,
                cuda_wide(1, {g}, {}) ? parts_kernel<true> : parts_kernel<false>, parts, g, count, length);
    cuda_launch(c, "grad_stats", dim3(1), ROW_BLOCK, SHARED_BYTES, stats_kernel, out, (const struct part *)parts, n);
}
