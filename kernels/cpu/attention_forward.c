/* attention_forward.c - online softmax (Milakov and Gimelshein 2018; tiled as FlashAttention, Dao et al. 2022). A task is a block
 * of queries of one span for all query heads of one key head, so that keys and values are packed once for the whole group.
 * Query i of a span sees keys 0 .. k_len - q_len + i; blocks beyond are skipped, the diagonal is trimmed to whole vectors. */
#include "kernels/cpu/attention.h"

#include <math.h>
#include <omp.h>

/* One thread's memory. */
struct forward {
    slot *q_rows;  /* (group, BLOCK, ld) */
    slot *k_rows, *k_turned; /* (BLOCK, ld), (ld, BLOCK) */
    slot *v;       /* (depth, cols) straight */
    slot *p;       /* (BLOCK, depth) */
    float *s;      /* (BLOCK, BLOCK) */
    float *out;    /* (group, BLOCK, cols) */
    float *top, *sum; /* (group, BLOCK) running maximum and sum of exponentials */
};

static size_t forward_layout(struct forward *f, char *base, const struct head_shape *hs, int32_t group)
{
    size_t used = 0, g = (size_t)group * BLOCK, ld = (size_t)hs->ld, cols = (size_t)hs->cols, depth = (size_t)hs->depth;
    f->q_rows = part(base, take(&used, g * ld, 4));
    f->k_rows = part(base, take(&used, BLOCK * ld, 4));
    f->k_turned = part(base, take(&used, BLOCK * ld, 4));
    f->v = part(base, take(&used, depth * cols, 4));
    f->p = part(base, take(&used, BLOCK * depth, 4));
    f->s = part(base, take(&used, BLOCK * BLOCK, 4));
    f->out = part(base, take(&used, g * cols, 4));
    f->top = part(base, take(&used, g, 4));
    f->sum = part(base, take(&used, g, 4));
    return used;
}

/* One row of scores against `valid` keys: probabilities to p (slots up to `width` elements), the running top and sum, and the
 * factor for what was summed before. */
INLINE float softmax_row(float *s, slot *p, int32_t valid, int32_t width, float scale, float *top, float *sum, bool pairs)
{
    vf m = vf_set(*top), scales = vf_set(scale), total = {0};
    vi lanes = vi_lanes();
    for (int32_t j = 0; j < valid; j += VW) {
        vf x = load(s, j, false) * scales;
        if (j + VW > valid)
            x = vf_select((vi)(lanes < valid - j), x, vf_set(-INFINITY));
        store(s, j, x, false);
        m = vf_max(x, m);
    }
    float old = *top, now = vf_top(m);
    vf shift = vf_set(now);
    for (int32_t j = 0; j < valid; j += VW) {
        vf e = vf_exp(load(s, j, false) - shift);
        if (j + VW > valid)
            e = vf_select((vi)(lanes < valid - j), e, (vf){0});
        total += e;
        put_slots(p, j, e, pairs);
    }
    for (int32_t j = pad_to(valid, VW); j < width; j += VW)
        put_slots(p, j, (vf){0}, pairs);
    float factor = old == now ? 1.0f : vf_exp(vf_set(old - now))[0];
    *sum = *sum * factor + vf_sum(total);
    *top = now;
    return factor;
}

INLINE void scale_row(float *out, int32_t cols, float factor)
{
    for (int32_t j = 0; j < cols; j += VW)
        store(out, j, load(out, j, false) * factor, false);
}

/* Queries i0 .. i0+nq-1 of one head against the packed keys j0 .. j0+nk-1. `seen`: keys that the first query sees from j0 on. */
INLINE void forward_block(struct forward *f, const struct head_shape *hs, int32_t g, int32_t nq, int32_t nk, int32_t seen,
                          float scale, bool pairs)
{
    const slot *q = f->q_rows + (int64_t)g * BLOCK * hs->ld;
    float *out = f->out + (int64_t)g * BLOCK * hs->cols;
    for (int32_t i = 0; i < nq; i += MR) {
        int32_t rows = nq - i < MR ? nq - i : MR, last = seen + i + rows - 1;
        int32_t width = pad_to(last < nk ? last : nk, VW);
        if (last <= 0)
            continue;
        tile_product(rows, width, slots(hs->q, pairs), q + (int64_t)i * hs->ld, hs->ld, f->k_turned, BLOCK,
                     f->s + i * BLOCK, BLOCK, false, pairs);
        for (int32_t r = i; r < i + rows; r++) {
            int32_t valid = seen + r < nk ? seen + r : nk;
            slot *p = f->p + (int64_t)r * hs->depth;
            if (valid > 0) {
                float factor = softmax_row(f->s + r * BLOCK, p, valid, width, scale, &f->top[g * BLOCK + r],
                                           &f->sum[g * BLOCK + r], pairs);
                if (factor != 1.0f)
                    scale_row(out + (int64_t)r * hs->cols, hs->cols, factor);
            } else {
                memset(p, 0, (size_t)hs->depth * sizeof(slot));
            }
        }
        tile_product(rows, hs->cols, slots(width, pairs), f->p + (int64_t)i * hs->depth, hs->depth, f->v, hs->cols,
                     out + (int64_t)i * hs->cols, hs->cols, true, pairs);
    }
}

struct forward_task {
    const struct attention *a;
    void *out;
    float *lse;
    const void *q, *k, *v;
};

INLINE void forward_finish(const struct forward_task *t, const struct forward *f, const struct head_shape *hs, int64_t token,
                           int32_t head, int32_t at, bool half)
{
    const float *row = f->out + (int64_t)at * hs->cols;
    vf inverse = vf_set(1.0f / f->sum[at]);
    int64_t to = (token * t->a->heads + head) * hs->q;
    for (int32_t j = 0; j < hs->q; j += VW)
        store_n(t->out, to + j, hs->q - j, load(row, j, false) * inverse, half);
    if (t->lse)
        t->lse[token * t->a->heads + head] = f->top[at] + logf(f->sum[at]);
}

INLINE void forward_task(const struct forward_task *t, struct forward *f, const struct head_shape *hs, const struct span *s,
                         int32_t kv, int32_t i0, bool pairs, bool half)
{
    const struct attention *a = t->a;
    int32_t group = a->heads / a->kv_heads, nq = s->q_len - i0 < BLOCK ? s->q_len - i0 : BLOCK, before = s->k_len - s->q_len;
    for (int32_t g = 0; g < group; g++) {
        pack_rows(f->q_rows + (int64_t)g * BLOCK * hs->ld, hs->ld, t->q,
                  (int64_t)(s->q0 + i0) * a->ld_q + (kv * group + g) * hs->q, a->ld_q, nq, nq, hs->q, pairs, half);
        for (int32_t i = 0; i < nq; i++) {
            f->top[g * BLOCK + i] = -INFINITY;
            f->sum[g * BLOCK + i] = 0;
        }
        memset(f->out + (int64_t)g * BLOCK * hs->cols, 0, (size_t)nq * (size_t)hs->cols * sizeof(float));
    }
    for (int32_t j0 = 0; j0 < before + i0 + nq; j0 += BLOCK) {
        int32_t nk = s->k_len - j0 < BLOCK ? s->k_len - j0 : BLOCK, padded = pad_to(nk, 16);
        pack_rows(f->k_rows, hs->ld, t->k, (int64_t)(s->k0 + j0) * a->ld_k + kv * hs->q, a->ld_k, nk, padded, hs->q, pairs, half);
        turn(f->k_turned, BLOCK, f->k_rows, hs->ld, padded, pad_to(slots(hs->q, pairs), TURN));
        pack_straight(f->v, hs->cols, t->v, (int64_t)(s->k0 + j0) * a->ld_v + kv * hs->q, a->ld_v, nk, padded, hs->q, pairs,
                      half);
        for (int32_t g = 0; g < group; g++)
            forward_block(f, hs, g, nq, nk, before + i0 + 1 - j0, a->scale, pairs);
    }
    for (int32_t g = 0; g < group; g++)
        for (int32_t i = 0; i < nq; i++)
            forward_finish(t, f, hs, s->q0 + i0 + i, kv * group + g, g * BLOCK + i, half);
}

/* Tasks of the spans in order, the heavy last blocks of a span first; a thread's tasks only ever move forward. */
INLINE void forward_all(struct cpu *c, const struct forward_task *t, bool pairs, bool half)
{
    const struct attention *a = t->a;
    struct head_shape hs = head_shape(a->head_size, pairs);
    struct forward probe;
    size_t each = forward_layout(&probe, NULL, &hs, a->heads / a->kv_heads);
    char *memory = cpu_scratch(c, "attention_forward", each * (size_t)c->threads);
    if (!memory)
        return;
    int64_t tasks = 0;
    for (int32_t i = 0; i < a->n_spans; i++)
        tasks += (int64_t)a->kv_heads * ((a->spans[i].q_len + BLOCK - 1) / BLOCK);
#pragma omp parallel num_threads(c->threads) if (tasks > 1)
    {
        struct forward f;
        forward_layout(&f, memory + each * (size_t)omp_get_thread_num(), &hs, a->heads / a->kv_heads);
        int32_t span = 0;
        int64_t first = 0;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < tasks; i++) {
            if (i < first)
                span = 0, first = 0;
            int32_t blocks = (a->spans[span].q_len + BLOCK - 1) / BLOCK;
            while (i - first >= (int64_t)blocks * a->kv_heads) {
                first += (int64_t)blocks * a->kv_heads;
                blocks = (a->spans[++span].q_len + BLOCK - 1) / BLOCK;
            }
            int32_t block = blocks - 1 - (int32_t)((i - first) / a->kv_heads);
            forward_task(t, &f, &hs, &a->spans[span], (int32_t)((i - first) % a->kv_heads), block * BLOCK, pairs, half);
        }
    }
}

void CPU(attention_forward)(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                            const void *v)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    struct forward_task t = {a, out, lse, q, k, v};
    if (o->act != DT_BF16)
        forward_all(c, &t, false, false);
    else
        forward_all(c, &t, PAIRS, true);
}
