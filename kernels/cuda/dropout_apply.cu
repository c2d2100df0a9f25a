/* dropout_apply.cu - y (+)= mask x / (1 - p), the mask from Philox4x32-10 (trainer/base/rng.h), the same bits as on the CPU.
 *
 * Memory-bound: 4 bytes an element in BF16, 6 when it accumulates. A thread has EACH chunks of 16 bytes; a chunk of 8 BF16 elements
 * takes two Philox blocks of 10 rounds, about 140 of the chunk's 200 instructions. A 3090's bandwidth leaves time for 600 a chunk, an
 * H200's for 200: there the arithmetic is as long as the traffic. */
#include "kernels/cuda/rows.cuh"

#include <math.h>

extern "C" {
#include "trainer/base/rng.h"
}

enum { EACH = 2 };

struct dropout_args {
    void *y;
    const void *x;
    const uint32_t *keys;
    int32_t n, d;
    uint64_t seed; /* dropout_key */
    uint32_t module;
    uint32_t least; /* words from here on survive */
    float scale;    /* 1 / (1 - p) */
    bool accumulate;
    int shift;
};

/* rng_philox of (key, module, RNG_DROPOUT) and block b. */
__device__ static inline void philox(uint32_t word[4], uint64_t seed, uint32_t key, uint32_t b, uint32_t module)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32), c0 = key, c1 = b, c2 = module, c3 = RNG_DROPOUT;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

template <typename T, bool WIDE> __global__ static void dropout_kernel(struct dropout_args a)
{
    enum { N = in_chunk<T>::n };
    int64_t row = row_of_thread(a.shift);
    if (row >= a.n)
        return;
    const T *x = (const T *)a.x + row * a.d;
    T *y = (T *)a.y + row * a.d;
    uint32_t key = a.keys[row];
    int32_t step = N << a.shift, part = EACH * step;
    for (int32_t j0 = (int32_t)blockIdx.y * part + thread_in_row(a.shift) * N; j0 < a.d; j0 += (int32_t)gridDim.y * part) {
        struct chunk xs[EACH], ys[EACH] = {};
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            xs[k] = chunk_load<T, WIDE>(x + j, a.d - j);
            if (a.accumulate)
                ys[k] = chunk_load<T, WIDE>(y + j, a.d - j);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int32_t j = j0 + k * step;
            uint32_t words[N];
            float out[N];
#pragma unroll
            for (int b = 0; b < N; b += 4)
                philox(words + b, a.seed, key, (uint32_t)(j + b) / 4, a.module);
#pragma unroll
            for (int i = 0; i < N; i++) {
                out[i] = chunk_get<T>(xs[k], i) * (words[i] >= a.least ? a.scale : 0.0f); /* a dropped NaN is NaN still */
                if (a.accumulate)
                    out[i] += chunk_get<T>(ys[k], i);
            }
            chunk_store<T, WIDE>(y + j, chunk_round<T>(out), a.d - j);
        }
    }
}

void cuda_dropout_apply(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d, const struct dropout *drop,
                        bool accumulate)
{
    struct row_layout l = rows_over(n, ceil_div(d, chunk_of(o->act)), EACH);
    bool wide = cuda_wide(dtype_size(o->act), {y, x}, {d});
    /* rng_unit(word) >= p, that is (word >> 8) 2^-24 >= p, as a comparison of integers; p 2^24 is exact and below 2^24. */
    uint32_t least = (uint32_t)ceil((double)drop->p * 0x1p24) << 8;
    struct dropout_args a = {y, x, keys, n, d, dropout_key(drop), drop->module, least, 1.0f / (1.0f - drop->p), accumulate, l.shift};
    cuda_launch(cuda_of(o), "dropout_apply", l.grid, ROW_BLOCK, 0, KERNEL_OF(dropout_kernel, o->act, wide), a);
}
