/* dropout_apply.c - VW Philox blocks at a time give the words of 4 VW neighbours; the formula is ops.h's. The blocks are dealt to
 * the lanes so that unpacking words within 128-bit parts leaves them in order. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include "trainer/base/rng.h"

enum { GROUP = 4 * VW };

/* The 64-bit products of all lanes with m, as their high and low halves. */
INLINE void multiply_halves(vu a, uint32_t m, vu *high, vu *low)
{
#if defined(__AVX512F__)
    __m512i factor = _mm512_set1_epi32((int)m), even = _mm512_mul_epu32((__m512i)a, factor);
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
    *high = (vu)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *low = (vu)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
#elif defined(__AVX2__)
    __m256i factor = _mm256_set1_epi32((int)m), even = _mm256_mul_epu32((__m256i)a, factor);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
    *high = (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *low = (vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
#else
    for (int l = 0; l < VW; l++) {
        uint64_t p = (uint64_t)a[l] * m;
        (*high)[l] = (uint32_t)(p >> 32);
        (*low)[l] = (uint32_t)p;
    }
#endif
}

/* Word j of neighbours[v] belongs to element 4 b0 + v VW + j. */
INLINE void random_words(uint64_t key, uint32_t a, uint32_t b0, uint32_t module, vu neighbours[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    vu zero = {0}, c0 = zero + a, c1, c2 = zero + module, c3 = zero + (uint32_t)RNG_DROPOUT;
    for (int l = 0; l < VW; l++)
        c1[l] = b0 + (uint32_t)(l % 4 * (VW / 4) + l / 4);
    for (int round = 0; round < 10; round++) {
        vu high0, low0, high1, low1;
        multiply_halves(c0, 0xD2511F53u, &high0, &low0);
        multiply_halves(c2, 0xCD9E8D57u, &high1, &low1);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
#if defined(__AVX512F__)
    __m512i t0 = _mm512_unpacklo_epi32((__m512i)c0, (__m512i)c1), t1 = _mm512_unpacklo_epi32((__m512i)c2, (__m512i)c3);
    __m512i t2 = _mm512_unpackhi_epi32((__m512i)c0, (__m512i)c1), t3 = _mm512_unpackhi_epi32((__m512i)c2, (__m512i)c3);
    neighbours[0] = (vu)_mm512_unpacklo_epi64(t0, t1);
    neighbours[1] = (vu)_mm512_unpackhi_epi64(t0, t1);
    neighbours[2] = (vu)_mm512_unpacklo_epi64(t2, t3);
    neighbours[3] = (vu)_mm512_unpackhi_epi64(t2, t3);
#else
    for (int v = 0; v < 4; v++)
        for (int part = 0; part < VW / 4; part++) {
            int l = part * 4 + v;
            neighbours[v][part * 4] = c0[l];
            neighbours[v][part * 4 + 1] = c1[l];
            neighbours[v][part * 4 + 2] = c2[l];
            neighbours[v][part * 4 + 3] = c3[l];
        }
#endif
}

INLINE void drop_row(void *y, const void *x, int64_t at, int32_t d, uint32_t key, const struct dropout *drop, bool accumulate,
                     bool half)
{
    uint64_t seed = dropout_key(drop);
    vf scale = vf_set(1.0f / (1.0f - drop->p)), p = vf_set(drop->p);
    for (int32_t j0 = 0; j0 < d; j0 += GROUP) {
        vu words[4];
        random_words(seed, key, (uint32_t)j0 / 4, drop->module, words);
        for (int32_t v = 0; v < 4 && j0 + v * VW < d; v++) {
            int32_t j = j0 + v * VW;
            vf unit = __builtin_convertvector((vi)(words[v] >> 8), vf) * 0x1p-24f;
            /* A dropped NaN is NaN still: times 0. */
            vf out = load_n(x, at + j, d - j, half) * vf_select((vi)(unit >= p), scale, (vf){0});
            if (accumulate)
                out += load_n(y, at + j, d - j, half);
            store_n(y, at + j, d - j, out, half);
        }
    }
}

void CPU(dropout_apply)(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d,
                        const struct dropout *drop, bool accumulate)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * d > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        if (half)
            drop_row(y, x, (int64_t)i * d, d, keys[i], drop, accumulate, true);
        else
            drop_row(y, x, (int64_t)i * d, d, keys[i], drop, accumulate, false);
    }
}
