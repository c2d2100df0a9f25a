/* attention_plain.cu - attention without tensor cores, for every type and head size: what F32 takes, and what the fast path is
 * compared with. All of it is F32, exp as the math library has it.
 *
 * A block owns 32 rows of one head (queries; keys for dk and dv), a warp four of them, and walks the rows of the other kind in
 * tiles of 32 that lie in shared memory as F32. In the products over the head a lane is a row of the tile, whose distance is odd
 * in words so that lanes meet different banks; own rows are the same address for a whole warp and come from memory through the
 * cache. In the products over the tile a lane is a column, and the 4 x 32 weights lie in shared memory. Every value is read once
 * from shared memory for the warp's four rows.
 *
 * FLOP a pair of query and key, and head: forward 4 Q, backward 14 Q in two kernels (S and dP are computed in both), which keeps
 * dq, dk and dv in registers, in a fixed order, without memory of its own. */
#include "kernels/cuda/attention.cuh"

enum { OWN = 4, TILE = ATTENTION_PLAIN_TILE, PLAIN_WARPS = TILE / OWN, PLAIN_BLOCK = PLAIN_WARPS * WARP, PARTS = 256 / WARP };

/* Two tiles, and two sets of weights for every warp. */
static size_t plain_shared(int32_t q) { return sizeof(float) * (size_t)(2 * TILE * (q + 1) + 2 * PLAIN_WARPS * OWN * WARP); }

/* to (TILE, q + 1) = the first `rows` of from; the others are zeros. */
template <typename T> __device__ static inline void load_tile(float *to, const T *from, int32_t ld, int32_t rows, int32_t q)
{
    for (int32_t r = WARP_ID; r < TILE; r += PLAIN_WARPS)
        for (int32_t x = LANE; x < q; x += WARP)
            to[r * (q + 1) + x] = r < rows ? to_float(from[(int64_t)r * ld + x]) : 0;
}

/* s[w] = own row w . row LANE of the tile. Rows beyond `rows` repeat the last: what comes of them is not kept. */
template <typename T>
__device__ static inline void dot_rows(float s[OWN], const T *own, int32_t ld, int32_t rows, const float *tile, int32_t q)
{
    const T *row[OWN];
#pragma unroll
    for (int w = 0; w < OWN; w++) {
        row[w] = own + (int64_t)(w < rows ? w : rows - 1) * ld;
        s[w] = 0;
    }
    for (int32_t x = 0; x < q; x++) {
        float y = tile[LANE * (q + 1) + x];
#pragma unroll
        for (int w = 0; w < OWN; w++)
            s[w] += to_float(row[w][x]) * y;
    }
}

/* sum (OWN, q: PARTS columns a lane) += weights (OWN, TILE) tile (TILE, q). */
__device__ static inline void add_rows(float sum[OWN][PARTS], const float *weights, const float *tile, int32_t q)
{
    for (int j = 0; j < TILE; j++)
#pragma unroll
        for (int i = 0; i < PARTS; i++)
            if (LANE + i * WARP < q) {
                float y = tile[j * (q + 1) + LANE + i * WARP];
#pragma unroll
                for (int w = 0; w < OWN; w++)
                    sum[w][i] += weights[w * WARP + j] * y;
            }
}

/* to (rows, q) = sum * by[w]. */
template <typename T>
__device__ static inline void store_rows(T *to, int64_t ld, int32_t rows, const float sum[OWN][PARTS], const float by[OWN],
                                         int32_t q)
{
#pragma unroll
#pragma unroll
    for (int w = 0; w < OWN; w++)
#pragma unroll
        for (int i = 0; i < PARTS; i++)
            if (w < rows && LANE + i * WARP < q)
                to[w * ld + LANE + i * WARP] = from_float<T>(sum[w][i] * by[w]);
}

/* One row's next score: the running maximum and sum (this lane's share) go on, and what was summed so far shrinks. A maximum of
 * -inf stands for no score yet; NaN passes by the maximum and enters through e. */
__device__ static inline float soften(float s, bool seen, float *top, float *total, float sum[PARTS])
{
    float most = fmaxf(*top, warp_max(seen ? s : -INFINITY)), base = most == -INFINITY ? 0 : most;
    float shrink = expf(*top - base), e = seen ? expf(s - base) : 0;
    *top = most;
    *total = *total * shrink + e;
    for (int i = 0; i < PARTS; i++)
        sum[i] *= shrink;
    return e;
}

template <typename T>
__global__ void __launch_bounds__(PLAIN_BLOCK)
    plain_forward(struct attention a, const struct attention_list *list, T *out, float *lse, const T *q, const T *k, const T *v)
{
    int32_t item = (int32_t)blockIdx.x / a.heads, head = (int32_t)blockIdx.x % a.heads, size = a.head_size;
    if (item >= list->count)
        return;
    struct span s = a.spans[list->items[item].span];
    int32_t tile = list->items[item].rank * TILE, first = tile + WARP_ID * OWN, rows = s.q_len - first, ahead = s.k_len - s.q_len;
    int32_t end = (tile + TILE < s.q_len ? tile + TILE : s.q_len) + ahead, kv = head / (a.heads / a.kv_heads) * size;
    SHARED(float, keys);
    float *values = keys + TILE * (size + 1), *weights = values + TILE * (size + 1) + WARP_ID * OWN * WARP;
    float sum[OWN][PARTS] = {}, total[OWN] = {}, top[OWN], score[OWN];
#pragma unroll
    for (int w = 0; w < OWN; w++)
        top[w] = -INFINITY;
    for (int32_t j = 0; j < end; j += TILE) {
        block_sync();
        load_tile(keys, k + (int64_t)(s.k0 + j) * a.ld_k + kv, a.ld_k, s.k_len - j, size);
        load_tile(values, v + (int64_t)(s.k0 + j) * a.ld_v + kv, a.ld_v, s.k_len - j, size);
        block_sync();
        if (rows <= 0)
            continue;
        dot_rows(score, q + (int64_t)(s.q0 + first) * a.ld_q + head * size, a.ld_q, rows, keys, size);
#pragma unroll
        for (int w = 0; w < OWN; w++)
            weights[w * WARP + LANE] = soften(score[w] * a.scale, j + LANE <= first + w + ahead, &top[w], &total[w], sum[w]);
        warp_sync();
        add_rows(sum, weights, values, size);
    }
    if (rows <= 0)
        return;
    float by[OWN];
#pragma unroll
    for (int w = 0; w < OWN; w++) {
        float all = warp_sum(total[w]);
        by[w] = 1 / all;
        if (lse != NULL && LANE == 0 && w < rows)
            lse[(int64_t)(s.q0 + first + w) * a.heads + head] = top[w] + logf(all);
    }
    store_rows(out + ((int64_t)(s.q0 + first) * a.heads + head) * size, (int64_t)a.heads * size, rows, sum, by, size);
}

/* One head of the two sides: rows of the block's own kind and of the other. KEYS: own x0 = k, x1 = v, other y0 = q, y1 = dout,
 * and d0 = dk, d1 = dv; else own x0 = q, x1 = dout, other y0 = k, y1 = v, and d0 = dq. */
template <typename T> struct plain_sides {
    const T *x0, *x1, *y0, *y1;
    T *d0, *d1;
    int32_t ld_x0, ld_x1, ld_y0, ld_y1;
};

/* p = exp(scale s - lse) and ds = p (dp - delta) of own row `own` and the other row `other` of the span. */
template <bool KEYS>
__device__ static inline void gradient(const struct attention &a, const struct span &s, int32_t own, int32_t other, int32_t head,
                                       const float *lse, const float *delta, float score, float dp, float *p, float *ds)
{
    int32_t query = KEYS ? other : own, key = KEYS ? own : other;
    bool seen = key <= query && query < s.q_len;
    int64_t at = (int64_t)(s.q0 + (seen ? query : 0)) * a.heads + head;
    *p = seen ? expf(score * a.scale - lse[at]) : 0;
    *ds = seen ? *p * (dp - delta[at]) : 0;
}

template <typename T, bool KEYS>
__global__ void __launch_bounds__(PLAIN_BLOCK) plain_backward(struct attention a, const struct attention_list *list,
                                                              struct plain_sides<T> t, const float *lse, const float *delta)
{
    int32_t heads = KEYS ? a.kv_heads : a.heads, item = (int32_t)blockIdx.x / heads, head = (int32_t)blockIdx.x % heads;
    if (item >= list->count)
        return;
    struct span s = a.spans[list->items[item].span];
    int32_t size = a.head_size, group = a.heads / a.kv_heads, tiles = (s.q_len + TILE - 1) / TILE, rank = list->items[item].rank;
    int32_t tile = KEYS ? tiles - 1 - rank : rank, first = tile * TILE + WARP_ID * OWN, rows = s.q_len - first;
    SHARED(float, y0);
    float *y1 = y0 + TILE * (size + 1), *p = y1 + TILE * (size + 1) + WARP_ID * OWN * WARP, *ds = p + PLAIN_WARPS * OWN * WARP;
    float d0[OWN][PARTS] = {}, d1[OWN][PARTS] = {}, score[OWN], dp[OWN];
    int64_t own = (KEYS ? s.k0 : s.q0) + first, others = KEYS ? s.q0 : s.k0;
    const T *x0 = t.x0 + own * t.ld_x0 + head * size, *x1 = t.x1 + own * t.ld_x1 + head * size;
    int32_t walk = KEYS ? (rank + 1) * group : rank + 1; /* the tiles of the other kind, head after head */
    for (int32_t i = 0; i < walk; i++) {
        int32_t from = (KEYS ? tile + i % (rank + 1) : i) * TILE, other = KEYS ? head * group + i / (rank + 1) : head / group;
        block_sync();
        load_tile(y0, t.y0 + (others + from) * t.ld_y0 + other * size, t.ld_y0, s.q_len - from, size);
        load_tile(y1, t.y1 + (others + from) * t.ld_y1 + other * size, t.ld_y1, s.q_len - from, size);
        block_sync();
        if (rows <= 0)
            continue;
        dot_rows(score, x0, t.ld_x0, rows, y0, size);
        dot_rows(dp, x1, t.ld_x1, rows, y1, size);
#pragma unroll
        for (int w = 0; w < OWN; w++)
            gradient<KEYS>(a, s, first + w, from + LANE, KEYS ? other : head, lse, delta, score[w], dp[w], &p[w * WARP + LANE],
                           &ds[w * WARP + LANE]);
        warp_sync();
        add_rows(d0, ds, y0, size);
        if (KEYS)
            add_rows(d1, p, y1, size);
    }
    if (rows <= 0)
        return;
    float scale[OWN] = {a.scale, a.scale, a.scale, a.scale}, one[OWN] = {1, 1, 1, 1};
    store_rows(t.d0 + own * t.ld_x0 + head * size, t.ld_x0, rows, d0, scale, size);
    if (KEYS)
        store_rows(t.d1 + own * t.ld_x1 + head * size, t.ld_x1, rows, d1, one, size);
}

template <typename T>
static void forward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *out, float *lse,
                    const void *q, const void *k, const void *v)
{
    unsigned blocks = (unsigned)(attention_items(a, TILE) * a->heads);
    cuda_launch(c, "attention_forward", dim3(blocks), PLAIN_BLOCK, plain_shared(a->head_size), plain_forward<T>, *a, list,
                (T *)out, lse, (const T *)q, (const T *)k, (const T *)v);
}

template <typename T>
static void backward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *dq, void *dk, void *dv,
                     const void *dout, const float *lse, const void *q, const void *k, const void *v, const float *delta)
{
    int32_t items = attention_items(a, TILE), ld_o = a->heads * a->head_size;
    const T *qs = (const T *)q, *ks = (const T *)k, *vs = (const T *)v, *dos = (const T *)dout;
    struct plain_sides<T> keys = {
        ks, vs, qs, dos, (T *)dk, (T *)dv, a->ld_k, a->ld_v, a->ld_q, ld_o
    };
    struct plain_sides<T> queries = {
        qs, dos, ks, vs, (T *)dq, NULL, a->ld_q, ld_o, a->ld_k, a->ld_v
    };
    size_t shared = plain_shared(a->head_size);
    cuda_launch(c, "attention_backward", dim3((unsigned)(items * a->kv_heads)), PLAIN_BLOCK, shared, plain_backward<T, true>, *a,
                list, keys, lse, delta);
    cuda_launch(c, "attention_backward", dim3((unsigned)(items * a->heads)), PLAIN_BLOCK, shared, plain_backward<T, false>, *a,
                list, queries, lse, delta);
}

void attention_plain_forward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *out, float *lse,
                             const void *q, const void *k, const void *v)
{
    c->ops.act == DT_BF16 ? forward<bf16>(c, a, list, out, lse, q, k, v) : forward<float>(c, a, list, out, lse, q, k, v);
}

void attention_plain_backward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *dq, void *dk,
                              void *dv, const void *dout, const float *lse, const void *q, const void *k, const void *v,
                              const float *delta)
{
    c->ops.act == DT_BF16 ? backward<bf16>(c, a, list, dq, dk, dv, dout, lse, q, k, v, delta)
                          : backward<float>(c, a, list, dq, dk, dv, dout, lse, q, k, v, delta);
}
