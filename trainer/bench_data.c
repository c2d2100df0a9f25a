/* bench_data.c - see bench_data.h. */
#include "trainer/bench_data.h"

#include <math.h>

#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/rng.h"
#include "trainer/frozen_stream.h"

/* Uniform with variance gain / in. */
static void fill_weight(struct model *m, const struct weight *w, double gain, uint32_t seed)
{
    float bound = (float)sqrt(3 * gain / w->in);
    bench_fill(m->o, (void *)(uintptr_t)w->data, m->o->act, (int64_t)w->out * w->in, -bound, bound, seed);
}

static void fill_norm(struct model *m, const void *p, int64_t count)
{
    if (p != NULL)
        bench_fill(m->o, (void *)(uintptr_t)p, m->o->act, count, 0.9f, 1.1f, 7);
}

/* A block's matrices as they lie in its slot, into what is kept of it. */
static int keep_block(struct model *m, int32_t l, void *stage, struct err *e)
{
    struct frozen_stream *s = m->frozen.stream;
    TRY(m->o->download(m->o, stage, s->slots[l % FETCH_SLOTS], s->slot_bytes, e));
    frozen_keep(s, l, 0, stage, s->slot_bytes);
    return m->o->sync(m->o, e);
}

static int fill_blocks(struct model *m, void *stage, struct err *e)
{
    const struct facts *f = m->facts;
    double residual = 1.0 / (2 * f->l); /* the sum over all blocks stays as large as one block's */
    for (int32_t l = 0; l < f->l; l++) {
        const struct frozen_block *b = &m->frozen.blocks[l];
        uint32_t seed = 16 + 4 * (uint32_t)l;
        if (stage != NULL) /* the padding too is sent along */
            m->o->zero(m->o, m->frozen.stream->slots[l % FETCH_SLOTS], m->frozen.stream->slot_bytes);
        fill_weight(m, &b->qkv, 1, seed);
        fill_weight(m, &b->o, residual, seed + 1);
        fill_weight(m, &b->gate_up, 1, seed + 2);
        fill_weight(m, &b->down, residual, seed + 3);
        fill_norm(m, b->norm1, f->d);
        fill_norm(m, b->norm2, f->d);
        fill_norm(m, b->q_norm, f->q);
        fill_norm(m, b->k_norm, f->q);
        if (stage != NULL)
            TRY(keep_block(m, l, stage, e));
    }
    return 0;
}

int bench_weights(struct model *m, struct err *e)
{
    const struct facts *f = m->facts;
    size_t stage_bytes = m->frozen.stream != NULL ? m->frozen.stream->slot_bytes : 0;
    void *stage = stage_bytes > 0 ? mem_alloc(stage_bytes, 1) : NULL;
    if (stage_bytes > 0 && stage == NULL)
        return mem_fail(e, "a block on the host", stage_bytes);
    fill_weight(m, &m->frozen.embed, 1, 1);
    if (!f->tied)
        fill_weight(m, &m->frozen.head, 1, 2);
    int rc = fill_blocks(m, stage, e);
    mem_free(stage);
    if (rc != 0)
        return rc;
    fill_norm(m, m->frozen.final_norm, f->d);
    TRY(frozen_rope(&m->frozen, m->o, e));
    float *params = mem_alloc((size_t)m->lora->count, sizeof *params);
    if (params == NULL)
        return mem_fail(e, "the adapter", (size_t)m->lora->count * sizeof *params);
    lora_init(m->lora, params);
    rc = model_set_params(m, params, e);
    mem_free(params);
    return rc;
}

/* A document's length: of the mix, 1 to 63 thirty-seconds of an even share of a row each, seeded. */
static int32_t next_length(const struct bench *b, uint32_t number, uint32_t document, int32_t left)
{
    int32_t length = b->document;
    if (length == 0) {
        int32_t share = b->c.data.sequence_length / 32;
        length = 2 + (int32_t)(rng_at(1, RNG_SAMPLE, number, document, 1).v[0] % (uint32_t)(2 * share + 1));
    }
    return left - length < 2 ? left : length; /* no document of a single token */
}

static void put_document(struct batch *x, int32_t at, int32_t length, uint32_t number, int32_t v)
{
    x->spans[x->n_spans++] = (struct span){at, length, at, length};
    x->max_span = length > x->max_span ? length : x->max_span;
    for (int32_t i = 0; i < length; i++) {
        int32_t p = at + i;
        x->tokens[p] = (int32_t)(rng_at(1, RNG_SAMPLE, number, (uint32_t)p, 2).v[0] % (uint32_t)v);
        x->positions[p] = i;
        x->keys[p] = (uint32_t)p;
        x->weights[p] = i + 1 < length ? 1 : 0;
        x->weight_sum += x->weights[p];
        if (i > 0)
            x->targets[p - 1] = x->tokens[p];
    }
}

int bench_batch(const struct bench *b, uint32_t number, struct batch *out, struct err *e)
{
    int32_t row = b->c.data.sequence_length, real = b->c.train.micro_batch * row, n = b->n;
    *out = (struct batch){.n = n, .n_real = real, .n_rows = b->c.train.micro_batch};
    void **arrays[] = {(void **)&out->tokens, (void **)&out->targets, (void **)&out->weights, (void **)&out->positions,
                       (void **)&out->keys};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        *arrays[i] = mem_alloc((size_t)n, 4);
    out->spans = mem_alloc((size_t)n + 1, sizeof *out->spans);
    if (!out->tokens || !out->targets || !out->weights || !out->positions || !out->keys || !out->spans) {
        bench_batch_free(out);
        return mem_fail(e, "a micro-batch", (size_t)n * 4);
    }
    for (int32_t from = 0, document = 0; from < real; from += row)
        for (int32_t at = 0, length; at < row; at += length) {
            length = next_length(b, number, (uint32_t)document++, row - at);
            put_document(out, from + at, length, number, b->facts.v);
        }
    if (n > real) {
        out->spans[out->n_spans++] = (struct span){real, n - real, real, n - real};
        out->max_span = n - real > out->max_span ? n - real : out->max_span;
        for (int32_t i = real; i < n; i++)
            out->positions[i] = i - real;
    }
    return 0;
}

void bench_batch_free(struct batch *x)
{
    void *all[] = {x->tokens, x->targets, x->weights, x->positions, x->keys, x->spans};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    *x = (struct batch){0};
}
