/* tile.h - small products inside one core's cache, for attention. C (m, n) F32 (=, +=) A (m, k) B (k, n).
 *
 * Everything is counted in 32-bit slots along k. A slot is one F32, or, where the CPU multiplies BF16 pairs (AVX512_BF16) and act
 * is BF16, two BF16 neighbours along k. So one kernel serves both: it multiplies a slot of A, broadcast, with VW slots of B and
 * adds to VW F32 sums, by a fused multiply-add or by vdpbf16ps.
 *   rows:      A (m, k)            slot rows, as the matrix stands in memory
 *   turned:    B from B^T (n, k)   a transpose of slots                       (k slots, n)
 *   straight:  B from B (k, n)     two rows interleaved, or plain F32 rows    (k slots, n)
 * Unused slots up to the padded sizes are zero. */
#ifndef LORAT_CPU_TILE_H
#define LORAT_CPU_TILE_H

#include "kernels/cpu/vector.h"

typedef uint32_t slot;
#if defined(__AVX512BF16__)
enum { PAIRS = 1 };
#else
enum { PAIRS = 0 };
#endif
/* pairs = two BF16 per slot; half = the matrix in memory is BF16. pairs implies half. */
INLINE int32_t slots(int32_t k, bool pairs) { return pairs ? (k + 1) / 2 : k; }

#define UNROLL _Pragma("GCC unroll 8")

INLINE vf multiply_add(vf sum, slot a, vu b, bool pairs)
{
#if defined(__AVX512BF16__)
    if (pairs)
        return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
#endif
    float f;
    memcpy(&f, &a, 4);
    return sum + (vf)b * f;
}

/* MR rows by NR vectors, sums in registers. */
INLINE void tile_block(int mr, int nr, int32_t k, const slot *a, int32_t lda, const slot *b, int32_t ldb, float *c, int32_t ldc,
                       bool accumulate, bool pairs)
{
    vf sum[6][4];
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nr; j++)
            sum[i][j] = accumulate ? (vf) * (const vf_any *)(c + (int64_t)i * ldc + j * VW) : (vf){0};
    for (int32_t p = 0; p < k; p++) {
        vu bp[4];
        UNROLL for (int j = 0; j < nr; j++)
            bp[j] = *(const vu_any *)(b + (int64_t)p * ldb + j * VW);
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nr; j++)
                sum[i][j] = multiply_add(sum[i][j], a[(int64_t)i * lda + p], bp[j], pairs);
    }
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nr; j++)
            *(vf_any *)(c + (int64_t)i * ldc + j * VW) = sum[i][j];
}

#if defined(__AVX512F__)
enum { MR = 6, NR = 4 };
#elif defined(__AVX2__)
enum { MR = 6, NR = 2 };
#else
enum { MR = 4, NR = 2 };
#endif

INLINE void tile_rows(int mr, int32_t n, int32_t k, const slot *a, int32_t lda, const slot *b, int32_t ldb, float *c,
                      int32_t ldc, bool accumulate, bool pairs)
{
    int32_t j = 0;
    for (; j + NR * VW <= n; j += NR * VW)
        tile_block(mr, NR, k, a, lda, b + j, ldb, c + j, ldc, accumulate, pairs);
    if (NR > 2 && j + 2 * VW <= n) {
        tile_block(mr, 2, k, a, lda, b + j, ldb, c + j, ldc, accumulate, pairs);
        j += 2 * VW;
    }
    for (; j < n; j += VW)
        tile_block(mr, 1, k, a, lda, b + j, ldb, c + j, ldc, accumulate, pairs);
}

INLINE void tile_all(int32_t m, int32_t n, int32_t k, const slot *a, int32_t lda, const slot *b, int32_t ldb, float *c,
                     int32_t ldc, bool accumulate, bool pairs)
{
    int32_t i = 0;
    for (; i + MR <= m; i += MR)
        tile_rows(MR, n, k, a + (int64_t)i * lda, lda, b, ldb, c + (int64_t)i * ldc, ldc, accumulate, pairs);
    for (; i + 2 <= m; i += 2)
        tile_rows(2, n, k, a + (int64_t)i * lda, lda, b, ldb, c + (int64_t)i * ldc, ldc, accumulate, pairs);
    if (i < m)
        tile_rows(1, n, k, a + (int64_t)i * lda, lda, b, ldb, c + (int64_t)i * ldc, ldc, accumulate, pairs);
}
/* One copy each of the two kinds of slots: inlined at every use they would take a compiler minutes. */
static __attribute__((noinline)) void tile_pairs(int32_t m, int32_t n, int32_t k, const slot *a, int32_t lda, const slot *b,
                                                 int32_t ldb, float *c, int32_t ldc, bool accumulate)
{
    tile_all(m, n, k, a, lda, b, ldb, c, ldc, accumulate, PAIRS);
}
static __attribute__((noinline)) void tile_floats(int32_t m, int32_t n, int32_t k, const slot *a, int32_t lda, const slot *b,
                                                  int32_t ldb, float *c, int32_t ldc, bool accumulate)
{
    tile_all(m, n, k, a, lda, b, ldb, c, ldc, accumulate, false);
}

/* n is a multiple of VW. Row by row the sums depend on k alone, not on where a row or column lies in its block. */
INLINE void tile_product(int32_t m, int32_t n, int32_t k, const slot *a, int32_t lda, const slot *b, int32_t ldb, float *c,
                         int32_t ldc, bool accumulate, bool pairs)
{
    if (pairs)
        tile_pairs(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
    else
        tile_floats(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

/* dst (rows_padded, ld slots) = rows of x (rows, k; ldx), from element `at` on. k is even when pairs. */
INLINE void pack_rows(slot *dst, int32_t ld, const void *x, int64_t at, int32_t ldx, int32_t rows, int32_t rows_padded, int32_t k,
                      bool pairs, bool half)
{
    for (int32_t i = 0; i < rows; i++) {
        slot *row = dst + (int64_t)i * ld;
        int64_t from = at + (int64_t)i * ldx;
        if (pairs)
            memcpy(row, (const uint16_t *)x + from, (size_t)k * 2);
        else
            for (int32_t j = 0; j < k; j += VW)
                store_n(row, j, k - j, load_n(x, from + j, k - j, half), false);
        memset(row + slots(k, pairs), 0, (size_t)(ld - slots(k, pairs)) * sizeof(slot));
    }
    memset(dst + (int64_t)rows * ld, 0, (size_t)(rows_padded - rows) * (size_t)ld * sizeof(slot));
}

#if defined(__AVX512F__)
/* 16 x 16 slots transposed in registers: within 128-bit lanes first, then the lanes. */
INLINE void turn_block(slot *dst, int32_t ld_dst, const slot *src, int32_t ld_src)
{
    __m512i r[16], t[16];
    UNROLL for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(src + (int64_t)i * ld_src);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(dst + (int64_t)i * ld_dst, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
        _mm512_storeu_si512(dst + (int64_t)(i + 4) * ld_dst, _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88));
        _mm512_storeu_si512(dst + (int64_t)(i + 8) * ld_dst, _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
        _mm512_storeu_si512(dst + (int64_t)(i + 12) * ld_dst, _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd));
    }
}
enum { TURN = 16 };
#else
INLINE void turn_block(slot *dst, int32_t ld_dst, const slot *src, int32_t ld_src)
{
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++)
            dst[(int64_t)j * ld_dst + i] = src[(int64_t)i * ld_src + j];
}
enum { TURN = 4 };
#endif

/* dst (k, ld) = transpose of src (n, ld_src); both k and n are multiples of TURN (padded). */
INLINE void turn(slot *dst, int32_t ld, const slot *src, int32_t ld_src, int32_t n, int32_t k)
{
    for (int32_t i = 0; i < n; i += TURN)
        for (int32_t j = 0; j < k; j += TURN)
            turn_block(dst + (int64_t)j * ld + i, ld, src + (int64_t)i * ld_src + j, ld_src);
}

/* Two rows of BF16 interleaved into n slots; b may be NULL for a row of zeros. */
INLINE void interleave(slot *dst, const uint16_t *a, const uint16_t *b, int32_t n)
{
    for (int32_t j = 0; j < n; j++)
        dst[j] = (slot)a[j] | (b ? (slot)b[j] << 16 : 0);
}

/* dst (slots(rows_padded), ld) = the straight form of x (rows, n; ldx) from element `at` on. */
INLINE void pack_straight(slot *dst, int32_t ld, const void *x, int64_t at, int32_t ldx, int32_t rows, int32_t rows_padded,
                          int32_t n, bool pairs, bool half)
{
    if (!pairs) {
        pack_rows(dst, ld, x, at, ldx, rows, rows_padded, n, false, half);
        return;
    }
    for (int32_t i = 0; i < rows; i += 2) {
        const uint16_t *a = (const uint16_t *)x + at + (int64_t)i * ldx, *b = a + ldx;
        slot *row = dst + (int64_t)(i / 2) * ld;
        if (i + 1 < rows)
            interleave(row, a, b, n);
        else
            interleave(row, a, NULL, n);
        memset(row + n, 0, (size_t)(ld - n) * sizeof(slot));
    }
    int32_t used = (rows + 1) / 2;
    memset(dst + (int64_t)used * ld, 0, (size_t)(rows_padded / 2 - used) * (size_t)ld * sizeof(slot));
}

/* Elements j .. j+VW-1 of a row of slots, from F32. (Subnormal BF16 become 0, as vdpbf16ps would take them anyway.) */
INLINE void put_slots(slot *row, int32_t j, vf x, bool pairs)
{
#if defined(__AVX512BF16__)
    if (pairs) {
        *(vh_any *)((uint16_t *)row + j) = (vh)_mm512_cvtneps_pbh((__m512)x);
        return;
    }
#endif
    store(row, j, x, pairs);
}

INLINE int32_t pad_to(int32_t n, int32_t to) { return (n + to - 1) / to * to; }

#endif
