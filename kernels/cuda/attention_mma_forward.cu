/* attention_mma_forward.cu - attention on tensor cores: BF16, head size 64 or 128. FlashAttention-2 (Dao 2023): a block owns 64
 * queries of one head, a warp 16 of them, and walks the keys that they see in tiles of 64, with an online softmax in base 2.
 *
 * Tiles of K and V come in turn through a ring in shared memory (cp.async): while one is used the next are on their way, one
 * barrier a tile. Two stages for head size 128 (48 KiB a block) and three for 64 (32 KiB) let two and three blocks share an RTX
 * 3090's multiprocessor, so that one block's softmax runs beside another's products. Queries stay in registers.
 *
 * Sixteen rows a warp: of every product's operands only the keys come from shared memory, one ldmatrix.x4 for two mma, half the
 * time that the mma take on a 3090. Thirty-two rows would halve that again, where there are registers for it (head size 64), and
 * waste more on short documents. On an H200 wgmma, which reads its operands from shared memory by itself, and TMA would give
 * about twice this kernel's rate by FlashAttention-3's figures. Speed here: not measured.
 *
 * FLOP: 4 D a pair of query and key, of a tile that is touched at all. Bytes: q, out and lse once; k and v once a tile of queries
 * and head, which mostly come from the L2 cache since neighbouring blocks are heads of one group. */
#include "kernels/cuda/attention_mma.cuh"

enum { KEYS = 64, N = KEYS / 8 };
static constexpr float LOG2_E = 1.44269504f;

template <int D> struct ring_of {
    enum { STAGES = D == 64 ? 3 : 2, BLOCKS = STAGES, BYTES = (int)sizeof(bf16) * D * (ATTENTION_MMA_TILE + KEYS * STAGES) };
};

/* What a warp carries from tile to tile: rows g and g + 8. */
template <int D> struct rows_state {
    float o[D / 8][4] = {};
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {}; /* the greatest score so far; the sum of this thread's columns */
};

/* Scores become probabilities relative to the greatest score so far, and what was summed before shrinks. A row that has seen no
 * finite score keeps a base of 0. NaN passes by the maximum, and enters through p. */
template <int D> __device__ static __forceinline__ void soften(struct rows_state<D> &w, float s[N][4], float scale)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = w.top[h];
#pragma unroll
        for (int i = 0; i < N; i++)
            most = fmaxf(most, fmaxf(s[i][2 * h], s[i][2 * h + 1]));
        most = fmaxf(most, warp_xor(most, 1));
        most = fmaxf(most, warp_xor(most, 2));
        float base = most == -INFINITY ? 0 : most * scale, shrink = exp2_fast(fmaf(w.top[h], scale, -base)), sum = 0;
        w.top[h] = most;
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[i][e] = exp2_fast(fmaf(s[i][e], scale, -base));
                sum += s[i][e];
            }
        w.total[h] = w.total[h] * shrink + sum;
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            w.o[j][2 * h] *= shrink;
            w.o[j][2 * h + 1] *= shrink;
        }
    }
}

/* Row g of the warp sees the keys of the tile up to `last`, row g + 8 eight more. */
__device__ static __forceinline__ void hide(float s[N][4], int32_t last)
{
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (8 * i + LANE % 4 * 2 + e % 2 > last + e / 2 * 8)
                s[i][e] = -INFINITY;
}

/* The first `rows` of the warp's rows: out (rows, D) and lse (rows), if wanted, with a distance of `heads` of these. */
template <int D>
__device__ static __forceinline__ void put_result(const struct rows_state<D> &w, bf16 *out, float *lse, int32_t heads,
                                                  float scale, int32_t rows, bf16 *own)
{
    float by[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = LANE / 4 + 8 * h;
        float total = w.total[h] + warp_xor(w.total[h], 1);
        total += warp_xor(total, 2);
        by[h] = 1 / total;
        if (lse != NULL && LANE % 4 == 0 && r < rows)
            lse[(int64_t)r * heads] = w.top[h] * scale + logf(total);
    }
    put_rows<D>(out, (int64_t)heads * D, rows, own, w.o, by);
}

template <int D>
__global__ void __launch_bounds__(MMA_BLOCK, ring_of<D>::BLOCKS)
    mma_forward(struct attention a, const struct attention_list *list, bf16 *out, float *lse, const bf16 *q, const bf16 *k,
                const bf16 *v)
{
    constexpr int STAGES = ring_of<D>::STAGES;
    int32_t item = (int32_t)blockIdx.x / a.heads, head = (int32_t)blockIdx.x % a.heads;
    if (item >= list->count)
        return;
    struct span s = a.spans[list->items[item].span];
    int32_t tile = list->items[item].rank * ATTENTION_MMA_TILE, ahead = s.k_len - s.q_len, kv = head / (a.heads / a.kv_heads) * D;
    int32_t end = (tile + ATTENTION_MMA_TILE < s.q_len ? tile + ATTENTION_MMA_TILE : s.q_len) + ahead; /* keys seen */
    int32_t first = tile + WARP_ID * OWN_ROWS, rows = s.q_len - first, steps = (end + KEYS - 1) / KEYS * 2;
    k += (int64_t)s.k0 * a.ld_k + kv;
    v += (int64_t)s.k0 * a.ld_v + kv;

    SHARED(bf16, queries);
    bf16 *ring = queries + ATTENTION_MMA_TILE * D, *own = queries + WARP_ID * OWN_ROWS * D;
    int slot = 0; /* of the tile in use */
    /* Even steps bring K, odd ones V. A group is closed in any case, so that the counts of groups agree. */
    auto copy = [&](int32_t step, int to) {
        int32_t from = step / 2 * KEYS, ld = step % 2 ? a.ld_v : a.ld_k;
        if (step < steps)
            copy_rows<D, KEYS>(ring + to * KEYS * D, (step % 2 ? v : k) + (int64_t)from * ld, ld, s.k_len - from);
        async_commit();
    };
    /* Tile `step` is there; the slot before it is free and filled anew. */
    auto arrive = [&](int32_t step) {
        async_wait<STAGES - 2>();
        block_sync();
        copy(step + STAGES - 1, slot == 0 ? STAGES - 1 : slot - 1);
        const bf16 *here = ring + slot * KEYS * D;
        slot = slot == STAGES - 1 ? 0 : slot + 1;
        return here;
    };
    copy_rows<D, ATTENTION_MMA_TILE>(queries, q + (int64_t)(s.q0 + tile) * a.ld_q + head * D, a.ld_q, s.q_len - tile);
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++)
        copy(i, i);

    struct rows_state<D> w;
    uint32_t left[D / 16][4];
    float scale = a.scale * LOG2_E;
    for (int32_t step = 0; step < steps; step += 2) {
        float p[N][4] = {};
        int32_t last = first + ahead - step / 2 * KEYS; /* the last key of the tile that the warp's first row sees */
        bool any = rows > 0 && last + OWN_ROWS > 0;
        const bf16 *here = arrive(step);
        if (step == 0)
#pragma unroll
            for (int i = 0; i < D / 16; i++)
                left_rows<D>(left[i], own, i);
        if (any) {
#pragma unroll
            for (int i = 0; i < D / 16; i++)
                times_rows<D, N>(p, left[i], here, i);
            if (last < KEYS - 1)
                hide(p, last + LANE / 4);
            soften(w, p, scale);
        }
        here = arrive(step + 1);
        if (any)
            times_tile<D, N>(w.o, p, here);
    }
    int64_t at = (int64_t)(s.q0 + first) * a.heads + head;
    if (rows > 0)
        put_result<D>(w, out + at * D, lse == NULL ? NULL : lse + at, a.heads, a.scale, rows, own);
}

void attention_mma_forward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *out, float *lse,
                           const void *q, const void *k, const void *v)
{
    bool small = a->head_size == 64;
    cuda_launch(c, "attention_forward", dim3((unsigned)(attention_items(a, ATTENTION_MMA_TILE) * a->heads)), MMA_BLOCK,
                small ? (size_t)ring_of<64>::BYTES : (size_t)ring_of<128>::BYTES, small ? mma_forward<64> : mma_forward<128>, *a,
                list, (bf16 *)out, lse, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v);
}
