/* attention_mma_backward.cu - gradients of attention on tensor cores: BF16, head size 64 or 128 (FlashAttention-2, Dao 2023):
 *   P = exp(scale Q K^T - lse),  dS = P (dO V^T - delta),  dV = P^T dO,  dK = scale dS^T Q,  dQ = scale dS K
 *
 * Two kernels of one shape. A block owns 64 rows of one kind, a warp 16 of them, and walks the rows of the other kind that they
 * meet. The first owns K and V of one key head, and passes Q and dO of all query heads of its group: dK += dS^T Q, dV += P^T dO.
 * The second owns Q and dO of one head, and passes K and V: dQ += dS K.
 * Own rows are the left operands of S (or S^T) and dP (or its transpose), so P and dS come out in registers just as the next
 * product wants them. Every gradient belongs to one block, which sums in a fixed order in registers: the same bits always, and no
 * memory.
 *
 * Weighed: one kernel over keys makes five products instead of seven (S and dP once), but must add dQ across blocks: by atomics
 * (no fixed order), in turns (blocks wait for one another in order), or in an F32 part for every block of keys, added later (4 n
 * H D bytes a part: 134 MB at 8,192 tokens of an 8B model). Seven products cost 2 of 9 more,
 * counting both directions, where attention is about 7 % of the FLOP of an 8B step at 2,048 tokens a document. On an H200, wgmma
 * (see attention_mma_forward.cu) would shorten both, and a second stage would fit at head size 128. Speed here: not measured.
 *
 * Shared memory: own tiles, and one or two stages of passing tiles of 64 (head size 64) or 32 rows (128): 48 KiB with two stages
 * or one, so that two blocks share an RTX 3090's multiprocessor; where there is only one stage the other block works while it is
 * filled. Registers: 2 D / 8 x 4 sums and the two squares of 16 x ROWS, which is what 32 rows are for at head size 128.
 *
 * FLOP a pair of query and key, of a tile that is touched at all, and head: 8 D + 6 D. Bytes: own rows and gradients once;
 * passing rows once a block, mostly from the L2 cache. */
#include "kernels/cuda/attention_mma.cuh"

static constexpr float LOG2_E = 1.44269504f;

/* Rows of a passing tile, and how many pairs of them are under way. */
template <int D> struct passing {
    enum { ROWS = D == 64 ? 64 : 32, STAGES = D == 64 ? 2 : 1, N = ROWS / 8, TILE = ROWS * D };
    enum { BYTES = (int)sizeof(bf16) * D * (2 * ATTENTION_MMA_TILE + 2 * STAGES * ROWS) + (int)sizeof(float) * 4 * ROWS };
};

/* One head of the two sides. Keys: own x0 = k, x1 = v, passing y0 = q, y1 = dout, and d0 = dk, d1 = dv; queries: own x0 = q,
 * x1 = dout, passing y0 = k, y1 = v, and d0 = dq. */
struct mma_sides {
    const bf16 *x0, *x1, *y0, *y1;
    bf16 *d0, *d1;
    int32_t ld_x0, ld_x1, ld_y0, ld_y1;
};

/* lse in base 2 and delta of a query; of one that does not exist, what makes its p and ds zero. */
__device__ static __forceinline__ float query_value(const float *lse, const float *delta, int64_t at, bool is_delta, bool there)
{
    if (!there)
        return is_delta ? 0 : INFINITY;
    return is_delta ? delta[at] : lse[at] * LOG2_E;
}

/* s (scores) becomes p, dp becomes ds. Keys: lse and delta of column c at column[c] and column[ROWS + c]; else of rows g and g +
 * 8 in row[0..1] and row[2..3]. `across`: the tile holds pairs that do not see each other: row g and column c meet when c >=
 * apart + g (keys) or c <= apart + g (queries). */
template <int N, bool KEYS>
__device__ static __forceinline__ void gradient(float s[N][4], float dp[N][4], float scale, const float *column,
                                                const float row[4], bool across, int32_t apart)
{
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int c = 8 * i + LANE % 4 * 2 + e % 2, g = LANE / 4 + e / 2 * 8;
            float lse = KEYS ? column[c] : row[e / 2], delta = KEYS ? column[8 * N + c] : row[2 + e / 2];
            bool meet = !across || (KEYS ? c >= apart + g : c <= apart + g);
            float p = exp2_fast(fmaf(s[i][e], scale, -lse)), ds = p * (dp[i][e] - delta);
            s[i][e] = meet ? p : 0;
            dp[i][e] = meet ? ds : 0;
        }
}

/* The warp's 16 rows at x0 and x1 meet the passing tile at y0 and y1. */
template <int D, bool KEYS>
__device__ static __forceinline__ void one_tile(float d0[D / 8][4], float d1[D / 8][4], const bf16 *x0, const bf16 *x1,
                                                const bf16 *y0, const bf16 *y1, float scale, const float *column,
                                                const float row[4], bool across, int32_t apart)
{
    constexpr int N = passing<D>::N;
    float p[N][4] = {}, ds[N][4] = {};
    uint32_t left[4];
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        left_rows<D>(left, x0, i);
        times_rows<D, N>(p, left, y0, i);
        left_rows<D>(left, x1, i);
        times_rows<D, N>(ds, left, y1, i);
    }
    gradient<N, KEYS>(p, ds, scale, column, row, across, apart);
    times_tile<D, N>(d0, ds, y0);
    if (KEYS)
        times_tile<D, N>(d1, p, y1);
}

template <int D, bool KEYS>
__global__ void __launch_bounds__(MMA_BLOCK, 2)
    mma_backward(struct attention a, const struct attention_list *list, struct mma_sides t, const float *lse, const float *delta)
{
    constexpr int ROWS = passing<D>::ROWS, STAGES = passing<D>::STAGES, TILE = passing<D>::TILE;
    int32_t heads = KEYS ? a.kv_heads : a.heads, item = (int32_t)blockIdx.x / heads, head = (int32_t)blockIdx.x % heads;
    if (item >= list->count)
        return;
    struct span s = a.spans[list->items[item].span];
    int32_t group = a.heads / a.kv_heads, tiles = (s.q_len + ATTENTION_MMA_TILE - 1) / ATTENTION_MMA_TILE;
    int32_t tile = (KEYS ? tiles - 1 - list->items[item].rank : list->items[item].rank) * ATTENTION_MMA_TILE;
    int32_t first = tile + WARP_ID * OWN_ROWS, rows = s.q_len - first;
    /* The passing rows from `begin` to `end`, head after head. */
    int32_t begin = KEYS ? tile : 0, end = KEYS || tile + ATTENTION_MMA_TILE > s.q_len ? s.q_len : tile + ATTENTION_MMA_TILE;
    int32_t each = (end - begin + ROWS - 1) / ROWS, steps = KEYS ? each * group : each;
    int64_t own = KEYS ? s.k0 : s.q0, other = KEYS ? s.q0 : s.k0;

    SHARED(bf16, x0);
    bf16 *x1 = x0 + ATTENTION_MMA_TILE * D, *stage = x1 + ATTENTION_MMA_TILE * D;
    float *values = (float *)(stage + 2 * STAGES * TILE); /* (2 steps, lse and delta, ROWS) */
    auto copy = [&](int32_t step) {
        int32_t from = begin + step % each * ROWS, h = KEYS ? head * group + step / each : head / group;
        bf16 *to = stage + step % STAGES * 2 * TILE;
        if (step < steps) {
            copy_rows<D, ROWS>(to, t.y0 + (other + from) * t.ld_y0 + h * D, t.ld_y0, end - from);
            copy_rows<D, ROWS>(to + TILE, t.y1 + (other + from) * t.ld_y1 + h * D, t.ld_y1, end - from);
        }
        async_commit();
    };
    /* This thread's of the values of the passing queries. */
    auto value = [&](int32_t step) {
        int32_t query = begin + step % each * ROWS + (int)threadIdx.x % ROWS, h = head * group + step / each;
        bool is_delta = (int)threadIdx.x >= ROWS;
        return query_value(lse, delta, (s.q0 + query) * (int64_t)a.heads + h, is_delta, step < steps && query < end);
    };
    copy_rows<D, ATTENTION_MMA_TILE>(x0, t.x0 + (own + tile) * t.ld_x0 + head * D, t.ld_x0, s.q_len - tile);
    copy_rows<D, ATTENTION_MMA_TILE>(x1, t.x1 + (own + tile) * t.ld_x1 + head * D, t.ld_x1, s.q_len - tile);
    copy(0);
    x0 += WARP_ID * OWN_ROWS * D;
    x1 += WARP_ID * OWN_ROWS * D;
    float row[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int32_t r = LANE / 4 + i % 2 * 8;
        if (!KEYS)
            row[i] = query_value(lse, delta, (s.q0 + first + r) * (int64_t)a.heads + head, i >= 2, r < rows);
    }
    bool carries = KEYS && (int)threadIdx.x < 2 * ROWS;
    if (carries)
        values[threadIdx.x] = value(0);

    float d0[D / 8][4] = {}, d1[D / 8][4] = {}, scale = a.scale * LOG2_E;
    for (int32_t step = 0; step < steps; step++) {
        int32_t from = begin + step % each * ROWS, apart = first - from;
        float next = 0;
        async_wait<0>();
        block_sync();
        if (STAGES == 2)
            copy(step + 1);
        if (carries) /* on its way while the products run */
            next = value(step + 1);
        if (rows > 0 && (KEYS ? apart < ROWS : apart > -OWN_ROWS)) {
            const bf16 *y0 = stage + step % STAGES * 2 * TILE;
            bool across = KEYS ? apart > -OWN_ROWS : apart < ROWS;
            one_tile<D, KEYS>(d0, d1, x0, x1, y0, y0 + TILE, scale, values + step % 2 * 2 * ROWS, row, across, apart);
        }
        if (carries)
            values[(step + 1) % 2 * 2 * ROWS + (int)threadIdx.x] = next;
        if (STAGES == 1) {
            block_sync();
            copy(step + 1);
        }
    }
    if (rows <= 0)
        return;
    float scales[2] = {a.scale, a.scale}, one[2] = {1, 1};
    put_rows<D>(t.d0 + (own + first) * t.ld_x0 + head * D, t.ld_x0, rows, x0, d0, scales);
    if (KEYS)
        put_rows<D>(t.d1 + (own + first) * t.ld_x1 + head * D, t.ld_x1, rows, x1, d1, one);
}

template <int D, bool KEYS>
static void queue(struct cuda *c, const struct attention *a, const struct attention_list *list, struct mma_sides sides,
                  const float *lse, const float *delta)
{
    int32_t heads = KEYS ? a->kv_heads : a->heads;
    cuda_launch(c, "attention_backward", dim3((unsigned)(attention_items(a, ATTENTION_MMA_TILE) * heads)), MMA_BLOCK,
                passing<D>::BYTES, mma_backward<D, KEYS>, *a, list, sides, lse, delta);
}

void attention_mma_backward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *dq, void *dk,
                            void *dv, const void *dout, const float *lse, const void *q, const void *k, const void *v,
                            const float *delta)
{
    const bf16 *qs = (const bf16 *)q, *ks = (const bf16 *)k, *vs = (const bf16 *)v, *dos = (const bf16 *)dout;
    int32_t ld_o = a->heads * a->head_size;
    struct mma_sides keys = {ks, vs, qs, dos, (bf16 *)dk, (bf16 *)dv, a->ld_k, a->ld_v, a->ld_q, ld_o};
    struct mma_sides queries = {qs, dos, ks, vs, (bf16 *)dq, NULL, a->ld_q, ld_o, a->ld_k, a->ld_v};
    bool small = a->head_size == 64;
    (small ? queue<64, true> : queue<128, true>)(c, a, list, keys, lse, delta);
    (small ? queue<64, false> : queue<128, false>)(c, a, list, queries, lse, delta);
}
