/* attention_backward.c - gradients of attention (Dao et al. 2022, with delta = sum(dout out) per query and head), no atomics. All
 * tiles are held transposed, keys by queries, so that P^T and dS^T are left operands as they come:
 *   S^T = K Q^T,  P^T = exp(scale S^T - lse),  dP^T = V dO^T,  dS^T = scale P^T (dP^T - delta)
 *   dV = P^T dO,  dK = dS^T Q,  dQ^T = K^T dS^T
 * A unit of work is one span and one key head, with all query heads of its group. It walks its blocks of keys; dk and dv of a
 * block stay in cache and belong to it alone; dq^T gathers in F32 tiles. A span that is a large share of the whole is split: part
 * p of P walks the blocks p, p + P, .. and gathers dq^T in tiles of its own, which are added in order at the end. P is a function
 * of the thread count and the shapes, so the bits are too. */
#include "kernels/cpu/attention.h"

#include <math.h>
#include <omp.h>

/* One thread's memory. */
struct backward {
    slot *k_rows, *v_rows;   /* (BLOCK, ld) */
    slot *k_straight;        /* (depth, cols) */
    slot *k_columns;         /* (cols, depth): K^T */
    slot *rows;              /* (BLOCK, ld) staging */
    slot *q_turned, *do_turned;     /* (ld, BLOCK) */
    slot *q_straight, *do_straight; /* (depth, cols) */
    float *s, *dp;           /* (BLOCK, BLOCK) keys by queries */
    slot *p, *ds;            /* (BLOCK, depth) */
    slot *ds_straight;       /* (depth, BLOCK) */
    float *dk, *dv;          /* (BLOCK, cols) */
    float *lse, *delta;      /* (BLOCK) of the block's queries */
    float *dq;               /* (group, blocks of max_span, cols, BLOCK) */
};

static size_t backward_layout(struct backward *b, char *base, const struct head_shape *hs, int32_t group, int32_t max_span)
{
    size_t used = 0, ld = (size_t)hs->ld, cols = (size_t)hs->cols, depth = (size_t)hs->depth;
    size_t blocks = ((size_t)max_span + BLOCK - 1) / BLOCK;
    b->k_rows = part(base, take(&used, BLOCK * ld, 4));
    b->v_rows = part(base, take(&used, BLOCK * ld, 4));
    b->k_straight = part(base, take(&used, depth * cols, 4));
    b->k_columns = part(base, take(&used, depth * cols, 4));
    b->rows = part(base, take(&used, BLOCK * ld, 4));
    b->q_turned = part(base, take(&used, BLOCK * ld, 4));
    b->do_turned = part(base, take(&used, BLOCK * ld, 4));
    b->q_straight = part(base, take(&used, depth * cols, 4));
    b->do_straight = part(base, take(&used, depth * cols, 4));
    b->s = part(base, take(&used, BLOCK * BLOCK, 4));
    b->dp = part(base, take(&used, BLOCK * BLOCK, 4));
    b->p = part(base, take(&used, BLOCK * depth, 4));
    b->ds = part(base, take(&used, BLOCK * depth, 4));
    b->ds_straight = part(base, take(&used, BLOCK * depth, 4));
    b->dk = part(base, take(&used, BLOCK * cols, 4));
    b->dv = part(base, take(&used, BLOCK * cols, 4));
    b->lse = part(base, take(&used, BLOCK, 4));
    b->delta = part(base, take(&used, BLOCK, 4));
    b->dq = part(base, take(&used, (size_t)group * blocks * cols * BLOCK, 4));
    return used;
}

struct backward_task {
    const struct attention *a;
    void *dq, *dk, *dv;
    const void *dout;
    const float *lse, *delta;
    const void *q, *k, *v;
    float *split_dq; /* (blocks of split spans, H, P, cols, BLOCK) */
    int32_t parts;   /* P */
};

/* Queries of one block and head, packed both ways, with their lse and delta. */
INLINE void load_queries(const struct backward_task *t, struct backward *b, const struct head_shape *hs, int64_t token,
                         int32_t head, int32_t nq, bool pairs, bool half)
{
    const struct attention *a = t->a;
    int32_t padded = pad_to(nq, 16), depth = pad_to(slots(hs->q, pairs), TURN);
    int64_t at_q = token * a->ld_q + head * hs->q, at_o = (token * a->heads + head) * hs->q;
    pack_rows(b->rows, hs->ld, t->q, at_q, a->ld_q, nq, padded, hs->q, pairs, half);
    turn(b->q_turned, BLOCK, b->rows, hs->ld, padded, depth);
    pack_rows(b->rows, hs->ld, t->dout, at_o, a->heads * hs->q, nq, padded, hs->q, pairs, half);
    turn(b->do_turned, BLOCK, b->rows, hs->ld, padded, depth);
    pack_straight(b->q_straight, hs->cols, t->q, at_q, a->ld_q, nq, padded, hs->q, pairs, half);
    pack_straight(b->do_straight, hs->cols, t->dout, at_o, a->heads * hs->q, nq, padded, hs->q, pairs, half);
    for (int32_t i = 0; i < padded; i++) {
        b->lse[i] = i < nq ? t->lse[(token + i) * a->heads + head] : 0;
        b->delta[i] = i < nq ? t->delta[(token + i) * a->heads + head] : 0;
    }
}

/* P^T and dS^T of one key: queries from .. nq-1 see it. Columns 0 .. width-1 are written. */
INLINE void probabilities_row(struct backward *b, int32_t r, int32_t from, int32_t nq, int32_t start, int32_t width, float scale,
                              int32_t depth, bool pairs)
{
    vi lanes = vi_lanes();
    slot *p = b->p + (int64_t)r * depth, *ds = b->ds + (int64_t)r * depth;
    for (int32_t j = 0; j < start; j += VW) {
        put_slots(p, j, (vf){0}, pairs);
        put_slots(ds, j, (vf){0}, pairs);
    }
    for (int32_t j = start; j < width; j += VW) {
        vf e = vf_exp(load(b->s, r * BLOCK + j, false) * scale - load(b->lse, j, false));
        vf g = e * (load(b->dp, r * BLOCK + j, false) - load(b->delta, j, false)) * scale;
        if (j < from || j + VW > nq) {
            vi seen = (vi)(lanes + j >= from) & (vi)(lanes + j < nq);
            e = vf_select(seen, e, (vf){0});
            g = vf_select(seen, g, (vf){0});
        }
        put_slots(p, j, e, pairs);
        put_slots(ds, j, g, pairs);
    }
}

/* One block of keys (packed, nk of them) against one block of queries (packed, nq), `ahead` = i0 - j0 >= 0. */
INLINE void backward_block(struct backward *b, const struct head_shape *hs, float *dq, bool first_dq, int32_t nk, int32_t nq,
                           int32_t ahead, float scale, bool pairs)
{
    int32_t width = pad_to(nq, 16), depth = hs->depth, k_slots = slots(hs->q, pairs);
    for (int32_t i = 0; i < nk; i += MR) {
        int32_t rows = nk - i < MR ? nk - i : MR;
        int32_t from = i - ahead > 0 ? i - ahead : 0, start = from / 16 * 16;
        if (start > width)
            start = width;
        tile_product(rows, width - start, k_slots, b->k_rows + (int64_t)i * hs->ld, hs->ld, b->q_turned + start, BLOCK,
                     b->s + i * BLOCK + start, BLOCK, false, pairs);
        tile_product(rows, width - start, k_slots, b->v_rows + (int64_t)i * hs->ld, hs->ld, b->do_turned + start, BLOCK,
                     b->dp + i * BLOCK + start, BLOCK, false, pairs);
        for (int32_t r = i; r < i + rows; r++)
            probabilities_row(b, r, r - ahead > 0 ? r - ahead : 0, nq, start, width, scale, depth, pairs);
        int32_t skip = slots(start, pairs), used = slots(width, pairs) - skip;
        tile_product(rows, hs->cols, used, b->p + (int64_t)i * depth + skip, depth, b->do_straight + (int64_t)skip * hs->cols,
                     hs->cols, b->dv + (int64_t)i * hs->cols, hs->cols, true, pairs);
        tile_product(rows, hs->cols, used, b->ds + (int64_t)i * depth + skip, depth, b->q_straight + (int64_t)skip * hs->cols,
                     hs->cols, b->dk + (int64_t)i * hs->cols, hs->cols, true, pairs);
    }
    pack_straight(b->ds_straight, BLOCK, b->ds, 0, pairs ? 2 * depth : depth, nk, pad_to(nk, 2), width, pairs, pairs);
    tile_product(hs->q, width, slots(nk, pairs), b->k_columns, depth, b->ds_straight, BLOCK, dq, BLOCK, !first_dq, pairs);
}

INLINE void load_keys(const struct backward_task *t, struct backward *b, const struct head_shape *hs, int64_t token, int32_t kv,
                      int32_t nk, bool pairs, bool half)
{
    const struct attention *a = t->a;
    int64_t at_k = token * a->ld_k + kv * hs->q, at_v = token * a->ld_v + kv * hs->q;
    pack_rows(b->k_rows, hs->ld, t->k, at_k, a->ld_k, nk, nk, hs->q, pairs, half);
    pack_rows(b->v_rows, hs->ld, t->v, at_v, a->ld_v, nk, nk, hs->q, pairs, half);
    pack_straight(b->k_straight, hs->cols, t->k, at_k, a->ld_k, nk, BLOCK, hs->q, pairs, half);
    turn(b->k_columns, hs->depth, b->k_straight, hs->cols, hs->depth, hs->cols);
    memset(b->dk, 0, (size_t)nk * (size_t)hs->cols * sizeof(float));
    memset(b->dv, 0, (size_t)nk * (size_t)hs->cols * sizeof(float));
}

INLINE void store_keys(const struct backward_task *t, const struct backward *b, const struct head_shape *hs, int64_t token,
                       int32_t kv, int32_t nk, bool half)
{
    const struct attention *a = t->a;
    for (int32_t i = 0; i < nk; i++)
        for (int32_t j = 0; j < hs->q; j += VW) {
            int64_t at = (int64_t)i * hs->cols + j;
            store_n(t->dk, (token + i) * a->ld_k + kv * hs->q + j, hs->q - j, load(b->dk, at, false), half);
            store_n(t->dv, (token + i) * a->ld_v + kv * hs->q + j, hs->q - j, load(b->dv, at, false), half);
        }
}

/* dq of one block and head = the sum of its parts' tiles, turned; tile (cols, BLOCK) is overwritten. */
INLINE void store_queries(const struct backward_task *t, const struct head_shape *hs, float *tile, int32_t parts, int64_t token,
                          int32_t head, int32_t nq, bool half)
{
    size_t size = (size_t)hs->cols * BLOCK;
    for (int32_t p = 1; p < parts; p++)
        for (size_t j = 0; j < (size_t)hs->q * BLOCK; j += VW)
            store(tile, (int64_t)j, load(tile, (int64_t)j, false) + load(tile, (int64_t)((size_t)p * size + j), false), false);
    for (int32_t i = 0; i < nq; i++) {
        float row[VW];
        for (int32_t j = 0; j < hs->q; j += VW) {
            int32_t n = hs->q - j < VW ? hs->q - j : VW;
            for (int32_t l = 0; l < VW; l++)
                row[l] = l < n ? tile[(int64_t)(j + l) * BLOCK + i] : 0;
            store_n(t->dq, (token + i) * t->a->ld_q + head * hs->q + j, n, load(row, 0, false), half);
        }
    }
}

/* Part `part` of `parts` of one unit. Tiles of dq: of this thread (parts == 1), or of the split span at `split`. */
INLINE void backward_unit(const struct backward_task *t, struct backward *b, const struct head_shape *hs, const struct span *s,
                          int32_t kv, int32_t part, int32_t parts, float *split, bool pairs, bool half)
{
    const struct attention *a = t->a;
    int32_t group = a->heads / a->kv_heads, blocks = (s->q_len + BLOCK - 1) / BLOCK;
    size_t tile = (size_t)hs->cols * BLOCK;
    for (int32_t j = part; j < blocks; j += parts) {
        int32_t j0 = j * BLOCK, nk = s->k_len - j0 < BLOCK ? s->k_len - j0 : BLOCK;
        load_keys(t, b, hs, s->k0 + j0, kv, nk, pairs, half);
        for (int32_t g = 0; g < group; g++)
            for (int32_t i = j; i < blocks; i++) {
                int32_t i0 = i * BLOCK, nq = s->q_len - i0 < BLOCK ? s->q_len - i0 : BLOCK, head = kv * group + g;
                float *dq = split ? split + (((size_t)i * (size_t)a->heads + (size_t)head) * (size_t)parts + (size_t)part) * tile
                                  : b->dq + ((size_t)g * (size_t)blocks + (size_t)i) * tile;
                load_queries(t, b, hs, s->q0 + i0, head, nq, pairs, half);
                backward_block(b, hs, dq, j == part, nk, nq, i0 - j0, a->scale, pairs);
            }
        store_keys(t, b, hs, s->k0 + j0, kv, nk, half);
    }
    for (int32_t g = 0; !split && g < group; g++)
        for (int32_t i = 0; i < blocks; i++) {
            int32_t nq = s->q_len - i * BLOCK < BLOCK ? s->q_len - i * BLOCK : BLOCK;
            store_queries(t, hs, b->dq + ((size_t)g * (size_t)blocks + (size_t)i) * tile, 1, s->q0 + i * BLOCK, kv * group + g,
                          nq, half);
        }
}

/* Is one unit of this span more than a quarter of a thread's fair share? `total` = sum of q_len^2 over the spans. */
static bool is_split(const struct attention *a, const struct span *s, int threads, double total, int32_t parts)
{
    return parts > 1 && s->q_len > BLOCK && (double)s->q_len * s->q_len * 4.0 * threads > total * a->kv_heads;
}

/* Fewest parts that make kv_heads * parts a multiple of the threads, at most 8. */
static int32_t split_parts(int32_t kv_heads, int32_t threads)
{
    int32_t parts = 1;
    while (parts < 8 && (int64_t)kv_heads * parts % threads != 0)
        parts++;
    return parts;
}

INLINE void token_delta(const void *dout, const void *out, float *delta, int64_t at, int32_t q, bool half)
{
    vf sum = {0};
    for (int32_t j = 0; j < q; j += VW)
        sum += load_n(dout, at * q + j, q - j, half) * load_n(out, at * q + j, q - j, half);
    delta[at] = vf_sum(sum);
}

INLINE void backward_all(struct cpu *c, struct backward_task *t, const void *out, float *delta, bool pairs, bool half)
{
    const struct attention *a = t->a;
    struct head_shape hs = head_shape(a->head_size, pairs);
    struct backward probe;
    int32_t group = a->heads / a->kv_heads, parts = split_parts(a->kv_heads, c->threads);
    size_t each = backward_layout(&probe, NULL, &hs, group, a->max_span), tile = (size_t)hs.cols * BLOCK;
    double total = 0;
    int64_t split_blocks = 0;
    for (int32_t i = 0; i < a->n_spans; i++)
        total += (double)a->spans[i].q_len * a->spans[i].q_len;
    for (int32_t i = 0; i < a->n_spans; i++)
        if (is_split(a, &a->spans[i], c->threads, total, parts))
            split_blocks += (a->spans[i].q_len + BLOCK - 1) / BLOCK;
    size_t per_block = (size_t)a->heads * (size_t)parts * tile;
    char *memory = cpu_scratch(c, "attention_backward", each * (size_t)c->threads + (size_t)split_blocks * per_block * 4);
    if (!memory)
        return;
    float *split = (void *)(memory + each * (size_t)c->threads);
    bool wake = (int64_t)a->n * a->heads * a->head_size > CPU_PARALLEL;
#pragma omp parallel num_threads(c->threads) if (wake)
    {
        struct backward b;
        backward_layout(&b, memory + each * (size_t)omp_get_thread_num(), &hs, group, a->max_span);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < (int64_t)a->n * a->heads; i++)
            token_delta(t->dout, out, delta, i, hs.q, half);
        float *at = split;
        for (int32_t i = 0; i < a->n_spans; i++) {
            const struct span *s = &a->spans[i];
            if (!is_split(a, s, c->threads, total, parts))
                continue;
#pragma omp for schedule(dynamic, 1) nowait
            for (int32_t u = 0; u < a->kv_heads * parts; u++)
                backward_unit(t, &b, &hs, s, u / parts, u % parts, parts, at, pairs, half);
            at += (size_t)((s->q_len + BLOCK - 1) / BLOCK) * per_block;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t u = 0; u < (int64_t)a->n_spans * a->kv_heads; u++) {
            const struct span *s = &a->spans[u / a->kv_heads];
            if (!is_split(a, s, c->threads, total, parts))
                backward_unit(t, &b, &hs, s, (int32_t)(u % a->kv_heads), 0, 1, NULL, pairs, half);
        }
        at = split;
        for (int32_t i = 0; i < a->n_spans; i++) {
            const struct span *s = &a->spans[i];
            int32_t blocks = (s->q_len + BLOCK - 1) / BLOCK;
            if (!is_split(a, s, c->threads, total, parts))
                continue;
#pragma omp for schedule(static) nowait
            for (int32_t u = 0; u < blocks * a->heads; u++) {
                int32_t block = u / a->heads, nq = s->q_len - block * BLOCK < BLOCK ? s->q_len - block * BLOCK : BLOCK;
                store_queries(t, &hs, at + (size_t)u * (size_t)parts * tile, block + 1 < parts ? block + 1 : parts,
                              s->q0 + block * BLOCK, u % a->heads, nq, half);
            }
            at += (size_t)blocks * per_block;
        }
    }
}

void CPU(attention_backward)(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    struct backward_task t = {a, dq, dk, dv, dout, lse, delta, q, k, v, NULL, 0};
    if (o->act != DT_BF16)
        backward_all(c, &t, out, delta, false, false);
    else
        backward_all(c, &t, out, delta, PAIRS, true);
}
