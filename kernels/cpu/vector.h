/* vector.h - the widest vectors of the instruction set that a file is compiled for, in GCC's vector notation, and the loads,
 * stores and functions that the operations share. Sums run over VW lanes and are joined lane by lane: a fixed order. */
#ifndef LORAT_CPU_VECTOR_H
#define LORAT_CPU_VECTOR_H

#include <string.h>

#include "trainer/base/bf16.h"

#if defined(__AVX512F__)
#include <immintrin.h>
enum { VW = 16 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { VW = 8 };
#else
enum { VW = 4 };
#endif

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef uint16_t vh __attribute__((vector_size(VW * 2)));
typedef float vf_any __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint32_t vu_any __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint16_t vh_any __attribute__((vector_size(VW * 2), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf vf_set(float x) { return (vf){0} + x; }
INLINE vf vf_select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
/* b where a is NaN, as the x86 instruction. */
INLINE vf vf_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select((vi)(a > b), a, b);
#endif
}
INLINE vi vi_lanes(void)
{
    vi lanes;
    for (int i = 0; i < VW; i++)
        lanes[i] = i;
    return lanes;
}
INLINE float vf_sum(vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#endif
    float s = v[0];
    for (int i = 1; i < VW; i++)
        s += v[i];
    return s;
}
/* v holds no NaN. */
INLINE float vf_top(vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#endif
    float s = v[0];
    for (int i = 1; i < VW; i++)
        s = v[i] > s ? v[i] : s;
    return s;
}

INLINE vf vf_from_half(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }
/* Round to nearest even, NaN stays NaN, subnormals are kept (as bf16_from_f32). */
INLINE vh vf_to_half(vf f)
{
    vu u = (vu)f, nan = (vu)(f != f);
    vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, kept = (u >> 16) | 0x40u;
    return __builtin_convertvector((rounded & ~nan) | (kept & nan), vh);
}

/* Elements i .. i+VW-1 of p, of type BF16 when half, else F32. */
INLINE vf load(const void *p, int64_t i, bool half)
{
    return half ? vf_from_half(*(const vh_any *)((const uint16_t *)p + i)) : (vf) * (const vf_any *)((const float *)p + i);
}
INLINE void store(void *p, int64_t i, vf x, bool half)
{
    if (half)
        *(vh_any *)((uint16_t *)p + i) = vf_to_half(x);
    else
        *(vf_any *)((float *)p + i) = x;
}
/* Only the first `count` of them; the other lanes are 0. */
INLINE vf load_n(const void *p, int64_t i, int64_t count, bool half)
{
    if (__builtin_expect(count >= VW, 1))
        return load(p, i, half);
    uint32_t part[VW] = {0};
    for (int64_t j = 0; j < count; j++)
        if (half)
            part[j] = (uint32_t)((const uint16_t *)p)[i + j] << 16;
        else
            memcpy(&part[j], (const float *)p + i + j, 4);
    return load(part, 0, false);
}
INLINE void store_n(void *p, int64_t i, int64_t count, vf x, bool half)
{
    if (__builtin_expect(count >= VW, 1)) {
        store(p, i, x, half);
        return;
    }
    for (int64_t j = 0; j < count; j++)
        if (half)
            ((uint16_t *)p)[i + j] = bf16_from_f32(x[j]);
        else
            ((float *)p)[i + j] = x[j];
}
/* x rounded to the type. */
INLINE vf round_to(vf x, bool half) { return half ? vf_from_half(vf_to_half(x)) : x; }

/* e^x within 2 units in the last place: x = k ln 2 + r, Taylor's polynomial of degree 7 in r (|r| <= 0.347: its remainder is
 * below 6e-9), times 2^k in two factors so that subnormal results and overflow to infinity come out right. NaN stays NaN: the
 * comparisons are written so that it passes. */
INLINE vf vf_exp(vf x)
{
    const vf shift = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer, held in the low bits */
    x = vf_max(vf_set(-104.0f), x);
    x = vf_select((vi)(x > 89.0f), vf_set(89.0f), x);
    vf t = x * 1.44269504088896341f + shift;
    vi k = (vi)t - 0x4b400000;
    vf kf = t - shift;
    vf r = x - kf * 0.693145751953125f; /* ln 2 in two parts */
    r = r - kf * 1.42860682030941723e-6f;
    vf p = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    (void)k;
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)kf);
#else
    vi half = k >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
#endif
}

#endif
