/* cast.cu - conversions between element types. Memory-bound. A thread converts EACH runs of four elements, a block's width apart:
 * four make 16 bytes of F32 and 8 of the halves, so that both sides are dense. Equal types are the driver's copy. */
#include "kernels/cuda/rows.cuh"

enum { EACH = 4, RUN = 4 };

struct f16 {
    uint16_t bits;
};
__device__ static inline float to_float(f16 h)
{
    uint32_t sign = (uint32_t)(h.bits & 0x8000) << 16, magnitude = h.bits & 0x7fff;
    union {
        uint32_t u;
        float f;
    } x;
    x.u = (magnitude << 13) + ((uint32_t)(magnitude >= 0x7c00 ? 224 : 112) << 23); /* 255 - 31 for infinity and NaN, 127 - 15 */
    if (magnitude < 0x400)
        x.f = (float)magnitude * 0x1p-24f; /* subnormal or zero, exact */
    x.u |= sign;
    return x.f;
}

template <typename T> struct alignas(RUN * sizeof(T)) run {
    T v[RUN];
};

template <typename D, typename S, bool WIDE> __global__ static void cast_kernel(void *dst, const void *src, int64_t count)
{
    int64_t first = ((int64_t)blockIdx.x * (EACH * ROW_BLOCK) + threadIdx.x) * RUN;
    run<S> x[EACH] = {};
#pragma unroll
    for (int u = 0; u < EACH; u++) {
        int64_t j = first + u * ROW_BLOCK * RUN;
        const S *from = (const S *)src + j;
        if (WIDE && j < count)
            x[u] = *(const run<S> *)from;
        for (int i = 0; !WIDE && i < RUN && j + i < count; i++)
            x[u].v[i] = from[i];
    }
#pragma unroll
    for (int u = 0; u < EACH; u++) {
        int64_t j = first + u * ROW_BLOCK * RUN;
        D *to = (D *)dst + j;
        run<D> y;
#pragma unroll
        for (int i = 0; i < RUN; i++)
            y.v[i] = from_float<D>(to_float(x[u].v[i]));
        if (WIDE && j < count)
            *(run<D> *)to = y;
        for (int i = 0; !WIDE && i < RUN && j + i < count; i++)
            to[i] = y.v[i];
    }
}

/* Whole runs where the addresses allow it, the rest (fewer than RUN, or all) by elements. */
template <typename D, typename S> static void convert(struct cuda *c, void *dst, const void *src, int64_t count)
{
    int64_t whole = cuda_wide(1, {dst, src}, {}) ? count - count % RUN : 0;
    cuda_launch(c, "cast", dim3((unsigned)ceil_div(whole, EACH * RUN * ROW_BLOCK)), ROW_BLOCK, 0, cast_kernel<D, S, true>, dst, src, whole);
    cuda_launch(c, "cast", dim3((unsigned)ceil_div(count - whole, EACH * RUN * ROW_BLOCK)), ROW_BLOCK, 0, cast_kernel<D, S, false>,
                (D *)dst + whole, (const S *)src + whole, count - whole);
}

void cuda_cast(struct ops *o, void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t count)
{
    struct cuda *c = cuda_of(o);
    if (c->failed || count == 0 || (dst_type == src_type && dst == src))
        return;
    if (dst_type == src_type)
        cuda_ok(c, cudaMemcpyAsync(dst, src, (size_t)count * dtype_size(src_type), cudaMemcpyDeviceToDevice, c->stream), "cast");
    else if (dst_type == DT_F32 && src_type == DT_BF16)
        convert<float, bf16>(c, dst, src, count);
    else if (dst_type == DT_F32 && src_type == DT_F16)
        convert<float, f16>(c, dst, src, count);
    else if (dst_type == DT_BF16 && src_type == DT_F32)
        convert<bf16, float>(c, dst, src, count);
    else if (dst_type == DT_BF16 && src_type == DT_F16)
        convert<bf16, f16>(c, dst, src, count);
    else
        cuda_fail(c, ERR_INTERNAL, "cast: %s to %s, expected f32, bf16 or f16 to f32 or bf16", dtype_name(src_type), dtype_name(dst_type));
}
