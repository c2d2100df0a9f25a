/* attention_mma.cuh - the pieces of attention on tensor cores: tiles of rows in shared memory, and products of a warp's 16 rows
 * with a tile.
 *
 * A tile is rows of D BF16 elements, D / 8 chunks of 16 bytes each. Chunk c of row r lies at place c ^ (r % 8) of its row, so
 * that eight rows' chunks c, which is what ldmatrix reads at once, lie in different banks, and so do eight chunks of one row,
 * which is what eight threads write at once.
 *
 * Which numbers a thread holds (PTX ISA, mma.m16n8k16): with g = lane / 4 and t = lane % 4, an accumulator of 16 x 8 has elements
 * 0, 1 in row g and 2, 3 in row g + 8, columns 2t and 2t + 1. Two such accumulators side by side, rounded and packed, are just
 * the left operand (16 x 16) of the next product: probabilities go from one product to the next without leaving the registers. */
#ifndef LORAT_CUDA_ATTENTION_MMA_CUH
#define LORAT_CUDA_ATTENTION_MMA_CUH

#include "kernels/cuda/attention.cuh"

enum { MMA_WARPS = 4, MMA_BLOCK = MMA_WARPS * WARP, OWN_ROWS = 16 };
static_assert(MMA_WARPS * OWN_ROWS == ATTENTION_MMA_TILE, "a warp owns 16 rows of the block's tile");

template <int D> __device__ static __forceinline__ int place(int row, int chunk) { return row * D + (chunk ^ (row & 7)) * 8; }

/* Begin to copy `rows` rows (at least one) into a tile of ROWS; the others become zeros. */
template <int D, int ROWS>
__device__ static __forceinline__ void copy_rows(bf16 *tile, const bf16 *from, int32_t ld, int32_t rows)
{
    int chunk = (int)threadIdx.x % (D / 8), first = (int)threadIdx.x / (D / 8);
#pragma unroll
    for (int i = 0; i < ROWS; i += MMA_BLOCK / (D / 8)) {
        int r = first + i;
        bool there = r < rows;
        async_copy_16(tile + place<D>(r, chunk), from + (int64_t)(there ? r : 0) * ld + chunk * 8, there);
    }
}

/* a = columns 16 k .. 16 k + 15 of the 16 rows at x, as a left operand. */
template <int D> __device__ static __forceinline__ void left_rows(uint32_t a[4], const bf16 *x, int k)
{
    ldmatrix_x4(a, x + place<D>(LANE % 16, 2 * k + LANE / 16));
}

/* s (16, 8 N) += a (16 columns k of the left side) times the same columns of the 8 N rows at y, transposed. */
template <int D, int N>
__device__ static __forceinline__ void times_rows(float s[N][4], const uint32_t a[4], const bf16 *y, int k)
{
#pragma unroll
    for (int j = 0; j < N / 2; j++) {
        uint32_t b[4];
        ldmatrix_x4(b, y + place<D>(16 * j + LANE % 8 + LANE / 16 * 8, 2 * k + LANE / 8 % 2));
        mma_bf16(s[2 * j], a, b);
        mma_bf16(s[2 * j + 1], a, b + 2);
    }
}

/* o (16, D) += p (16, 8 N), rounded to BF16, times the 8 N rows at y. */
template <int D, int N> __device__ static __forceinline__ void times_tile(float o[D / 8][4], const float p[N][4], const bf16 *y)
{
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        uint32_t a[4];
#pragma unroll
        for (int e = 0; e < 4; e++)
            a[e] = bf16_pair(p[2 * i + e / 2][e % 2 * 2], p[2 * i + e / 2][e % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, y + place<D>(16 * i + LANE % 16, 2 * j + LANE / 16));
            mma_bf16(o[2 * j], a, b);
            mma_bf16(o[2 * j + 1], a, b + 2);
        }
    }
}

/* The first `rows` of a warp's 16 (rows g scaled by by[0], rows g + 8 by by[1]) to memory in accesses of 16 bytes, by way of the
 * warp's own 16 rows at x, which it has read for the last time. */
template <int D>
__device__ static __forceinline__ void put_rows(bf16 *to, int64_t ld, int32_t rows, bf16 *x, const float o[D / 8][4],
                                                const float by[2])
{
    warp_sync();
#pragma unroll
    for (int j = 0; j < D / 8; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            *(uint32_t *)(x + place<D>(LANE / 4 + 8 * h, j) + LANE % 4 * 2) =
                bf16_pair(o[j][2 * h] * by[h], o[j][2 * h + 1] * by[h]);
    warp_sync();
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i += WARP / (D / 8)) {
        int r = i + LANE / (D / 8), chunk = LANE % (D / 8);
        if (r < rows)
            *(vec<bf16> *)(to + r * ld + chunk * 8) = *(const vec<bf16> *)(x + place<D>(r, chunk)); /* whole */
    }
}

#endif
