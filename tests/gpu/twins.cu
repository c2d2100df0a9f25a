/* twins.cu - one small kernel for each wrapper of kernels/cuda/device.cuh, which writes down what the wrapper gave. Built twice from
 * this text: see twins.h. Thread i reads its words at in[i * words] and writes out[i * words]. */
#include "kernels/cuda/device.cuh"
#include "tests/gpu/twins.h"

#define KERNEL(name) __global__ static void name(const uint32_t *in, uint32_t *out)
#define ME ((int)threadIdx.x)

union word {
    uint32_t u;
    float f;
    int32_t i;
};
__device__ static inline float as_float(uint32_t u)
{
    union word w;
    w.u = u;
    return w.f;
}
__device__ static inline uint32_t as_word(float f)
{
    union word w;
    w.f = f;
    return w.u;
}
__device__ static inline void put_double(uint32_t *out, double d)
{
    union {
        double d;
        uint32_t u[2];
    } both;
    both.d = d;
    out[0] = both.u[0];
    out[1] = both.u[1];
}

KERNEL(run_shared_aligned)
{
    SHARED(uint32_t, s);
    s[ME] = in[ME];
    block_sync();
    out[ME] = s[blockDim.x - 1 - ME] + (uint32_t)((uintptr_t)s % 16);
}

/* Every kind of shuffle of every type; the double is made of both words. */
KERNEL(run_shuffles)
{
    uint32_t u = in[2 * ME], *o = out + 17 * ME;
    int32_t i = (int32_t)in[2 * ME + 1];
    float f = (float)i;
    double d = (double)u * 4294967296.0 + (double)in[2 * ME + 1];
    o[0] = warp_xor(u, 1);
    o[1] = warp_xor(u, 16);
    o[2] = (uint32_t)warp_xor(i, 5);
    o[3] = as_word(warp_xor(f, 31));
    put_double(o + 4, warp_xor(d, 8));
    o[6] = warp_at(u, (ME + 3) % 32);
    o[7] = (uint32_t)warp_at(i, 0);
    o[8] = as_word(warp_at(f, 31));
    put_double(o + 9, warp_at(d, (7 * ME) % 32));
    o[11] = warp_up(u, 1);
    o[12] = as_word(warp_up(f, 17));
    o[13] = warp_down(u, 2);
    o[14] = as_word(warp_down(f, 31));
    put_double(o + 15, warp_down(d, 4));
}

KERNEL(run_ballot) { out[ME] = warp_ballot(in[ME] & 1); }

/* The sum in shared memory; the old values in global memory only as their sum, since the order is free. */
KERNEL(run_atomics)
{
    SHARED(uint32_t, s);
    if (ME < 2)
        s[ME] = 0;
    block_sync();
    uint32_t before = atomic_add(&s[0], 1); /* 0..threads-1, each once */
    atomic_add(&s[1], before * before);
    atomic_add(&s[1], in[ME]);
    block_sync();
    out[2 * ME] = s[0];
    out[2 * ME + 1] = s[1];
}

/* Two groups of 16 bytes; every third copy of the second is not valid. The first is read while the second may be under way. */
KERNEL(run_async_copy)
{
    SHARED(uint32_t, s);
    uint32_t *first = s + 4 * ME, *second = s + 4 * blockDim.x + 4 * ME;
    async_copy_16(first, in + 8 * ME, true);
    async_commit();
    async_copy_16(second, in + 8 * ME + 4, ME % 3 != 0);
    async_commit();
    async_wait<1>();
    block_sync();
    int other = ((int)blockDim.x - 1 - ME);
    for (int k = 0; k < 4; k++)
        out[8 * ME + k] = s[4 * other + k];
    async_wait<0>();
    block_sync();
    for (int k = 0; k < 4; k++)
        out[8 * ME + 4 + k] = s[4 * blockDim.x + 4 * other + k];
}

/* 32 rows of 16 bytes; lanes name them in another order than they lie. */
KERNEL(run_ldmatrix)
{
    SHARED(uint32_t, s);
    uint32_t *o = out + 12 * ME;
    for (int k = 0; k < 4; k++)
        s[4 * ME + k] = in[4 * ME + k];
    block_sync();
    const uint32_t *row = s + 4 * ((5 * LANE) % 32);
    ldmatrix_x4(o, row);
    ldmatrix_x4_trans(o + 4, row);
    ldmatrix_x2(o + 8, row);
    ldmatrix_x2_trans(o + 10, row);
}

/* d starts from one more pair of numbers, so that the addition shows. */
__device__ static inline void product(const uint32_t *in, uint32_t *out)
{
    const uint32_t *me = in + 10 * ME;
    float d[4];
    for (int k = 0; k < 4; k++)
        d[k] = to_float((bf16)(me[6 + k] & 0xffff));
    mma_bf16(d, me, me + 4);
    for (int k = 0; k < 4; k++)
        out[4 * ME + k] = as_word(d[k]);
}
KERNEL(run_mma_exact) { product(in, out); }
KERNEL(run_mma_near) { product(in, out); }

KERNEL(run_exp2_fast) { out[ME] = as_word(exp2_fast(as_float(in[ME]))); }
KERNEL(run_inv_sqrt) { out[ME] = as_word(inv_sqrt(as_float(in[ME]))); }
KERNEL(run_bf16_round) { out[ME] = bf16_round(as_float(in[ME])); }
KERNEL(run_bf16_pair) { out[ME] = bf16_pair(as_float(in[2 * ME]), as_float(in[2 * ME + 1])); }

/* The shared reductions of device.cuh: a fixed tree, so equal bits on both. */
KERNEL(run_reductions)
{
    SHARED(float, s);
    float x = to_float((bf16)(in[ME] & 0xffff));
    out[4 * ME] = as_word(warp_sum(x));
    out[4 * ME + 1] = as_word(warp_max(x));
    out[4 * ME + 2] = as_word(block_sum(x, s));
    out[4 * ME + 3] = as_word(block_max(x, s));
}

static void (*const kernels[TWIN_COUNT])(const uint32_t *, uint32_t *) = {
#define X(name, input, compare, tolerance, in, out, warps) run_##name,
    TWIN_LIST(X)
#undef X
};

static cudaError_t run(int which, const uint32_t *in, size_t in_bytes, uint32_t *out, size_t out_bytes, int threads)
{
    uint32_t *from = nullptr, *to = nullptr;
    cudaStream_t stream = nullptr;
    cudaError_t rc = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    /* by position: the names of the first two members are also those of device variables */
    cudaLaunchConfig_t config = {dim3(1, 1, 1), dim3((unsigned)threads, 1, 1), (size_t)threads * 32, stream, nullptr, 0};
    if (rc == cudaSuccess)
        rc = cudaMalloc((void **)&from, in_bytes);
    if (rc == cudaSuccess)
        rc = cudaMalloc((void **)&to, out_bytes);
    if (rc == cudaSuccess)
        rc = cudaMemcpy(from, in, in_bytes, cudaMemcpyHostToDevice);
    if (rc == cudaSuccess)
        rc = cudaLaunchKernelEx(&config, kernels[which], (const uint32_t *)from, to);
    if (rc == cudaSuccess)
        rc = cudaStreamSynchronize(stream);
    if (rc == cudaSuccess)
        rc = cudaMemcpy(out, to, out_bytes, cudaMemcpyDeviceToHost);
    cudaFree(from);
    cudaFree(to);
    cudaStreamDestroy(stream);
    return rc;
}

extern "C" __attribute__((visibility("default"))) const char *twins_run(int which, const uint32_t *in, size_t in_words, uint32_t *out, size_t out_words,
                                                                        int threads)
{
    cudaError_t rc = run(which, in, in_words * 4, out, out_words * 4, threads);
    return rc == cudaSuccess ? nullptr : cudaGetErrorString(rc);
}
