/* frozen.c - resident placement of the base weights. */
#include "trainer/frozen.h"

#include <math.h>

#include "trainer/base/num.h"

static struct weight take_weight(struct arena *a, const char *name, enum dtype act, int32_t out, int32_t in)
{
    return (struct weight){.data = arena_take(a, name, (int64_t)out * in, dtype_size(act)), .type = act, .out = out, .in = in};
}

int frozen_layout(struct frozen *w, const struct facts *f, enum dtype act, int32_t positions, struct arena *a, struct err *e)
{
    size_t s = dtype_size(act);
    int32_t qkv = (f->h + 2 * f->k) * f->q;
    if (w->blocks == NULL)
        w->blocks = mem_alloc((size_t)f->l, sizeof *w->blocks);
    if (w->blocks == NULL)
        return mem_fail(e, "the table of blocks", (size_t)f->l * sizeof *w->blocks);
    w->facts = f;
    w->positions = positions;
    w->embed = take_weight(a, "embedding", act, f->v, f->d);
    w->head = f->tied ? w->embed : take_weight(a, "head", act, f->v, f->d);
    for (int32_t l = 0; l < f->l; l++) {
        struct frozen_block *b = &w->blocks[l];
        b->qkv = take_weight(a, "attention weights", act, qkv, f->d);
        b->o = take_weight(a, "attention weights", act, f->d, f->h * f->q);
        b->gate_up = take_weight(a, "feed-forward weights", act, 2 * f->f, f->d);
        b->down = take_weight(a, "feed-forward weights", act, f->d, f->f);
        b->norm1 = arena_take(a, "norms and biases", f->d, s);
        b->norm2 = arena_take(a, "norms and biases", f->d, s);
        b->qkv_bias = f->qkv_bias ? arena_take(a, "norms and biases", qkv, s) : NULL;
        b->q_norm = f->qk_norm ? arena_take(a, "norms and biases", f->q, s) : NULL;
        b->k_norm = f->qk_norm ? arena_take(a, "norms and biases", f->q, s) : NULL;
    }
    w->final_norm = arena_take(a, "norms and biases", f->d, s);
    w->rope = arena_take(a, "rotary table", (int64_t)positions * f->q, sizeof(float));
    return arena_check(a, e);
}

struct loading {
    const struct source *source;
    struct ops *o;
    enum dtype act;
    void *stage; /* host memory for one piece */
    int64_t stage_bytes, done, total;
    int (*tick)(void *arg, double done, struct err *e);
    void *arg;
};

/* Tensor of a role into rows [at, at + its rows) of dst, through the stage. */
static int load_tensor(struct loading *g, enum role role, int32_t layer, const void *dst, int64_t at, struct err *e)
{
    int64_t shape[2] = {1, 1};
    int rank;
    source_shape(&g->source->facts, role, shape, &rank);
    int64_t row = (rank == 2 ? shape[1] : 1) * (int64_t)dtype_size(g->act);
    int64_t step = g->stage_bytes / row;
    for (int64_t r = 0; r < shape[0]; r += step) {
        int64_t n = shape[0] - r < step ? shape[0] - r : step;
        TRY(source_read(g->source, role, layer, r, n, g->act, g->stage, e));
        g->o->upload(g->o, (char *)dst + (at + r) * row, g->stage, (size_t)(n * row));
        g->done += n * row;
        if (g->tick != NULL)
            TRY(g->tick(g->arg, (double)g->done / (double)g->total, e));
    }
    return g->o->check(g->o, e);
}

static int load_block(struct loading *g, const struct frozen_block *b, int32_t l, struct err *e)
{
    const struct facts *f = &g->source->facts;
    int64_t hq = (int64_t)f->h * f->q, kq = (int64_t)f->k * f->q;
    TRY(load_tensor(g, ROLE_NORM1, l, b->norm1, 0, e));
    TRY(load_tensor(g, ROLE_Q, l, b->qkv.data, 0, e));
    TRY(load_tensor(g, ROLE_K, l, b->qkv.data, hq, e));
    TRY(load_tensor(g, ROLE_V, l, b->qkv.data, hq + kq, e));
    if (f->qkv_bias) {
        TRY(load_tensor(g, ROLE_Q_BIAS, l, b->qkv_bias, 0, e));
        TRY(load_tensor(g, ROLE_K_BIAS, l, b->qkv_bias, hq, e));
        TRY(load_tensor(g, ROLE_V_BIAS, l, b->qkv_bias, hq + kq, e));
    }
    if (f->qk_norm) {
        TRY(load_tensor(g, ROLE_Q_NORM, l, b->q_norm, 0, e));
        TRY(load_tensor(g, ROLE_K_NORM, l, b->k_norm, 0, e));
    }
    TRY(load_tensor(g, ROLE_O, l, b->o.data, 0, e));
    TRY(load_tensor(g, ROLE_NORM2, l, b->norm2, 0, e));
    TRY(load_tensor(g, ROLE_GATE, l, b->gate_up.data, 0, e));
    TRY(load_tensor(g, ROLE_UP, l, b->gate_up.data, f->f, e));
    return load_tensor(g, ROLE_DOWN, l, b->down.data, 0, e);
}

int frozen_rope(struct frozen *w, struct ops *o, struct err *e)
{
    int32_t half = w->facts->q / 2;
    double *inv = mem_alloc((size_t)half, sizeof *inv);
    float *table = mem_alloc((size_t)w->positions * (size_t)half * 2, sizeof *table);
    int rc = 0;
    if (inv == NULL || table == NULL) {
        rc = mem_fail(e, "the rotary table", (size_t)w->positions * (size_t)half * 2 * sizeof *table);
        goto done;
    }
    facts_inv_freq(w->facts, inv);
    for (int64_t p = 0; p < w->positions; p++)
        for (int32_t j = 0; j < half; j++) {
            double angle = (double)p * inv[j];
            table[(p * half + j) * 2] = (float)cos(angle);
            table[(p * half + j) * 2 + 1] = (float)sin(angle);
        }
    o->upload(o, w->rope, table, (size_t)w->positions * (size_t)half * 2 * sizeof *table);
    rc = o->sync(o, e);
done:
    mem_free(table);
    mem_free(inv);
    return rc;
}

int frozen_load(struct frozen *w, const struct source *s, struct ops *o, int (*tick)(void *arg, double done, struct err *e), void *arg,
                struct err *e)
{
    enum { STAGE = 16 << 20 };
    const struct facts *f = w->facts;
    int64_t row = (int64_t)(f->f > f->d ? f->f : f->d) * (int64_t)dtype_size(o->act);
    struct loading g = {.source = s, .o = o, .act = o->act, .stage_bytes = row > STAGE ? row : STAGE, .tick = tick, .arg = arg,
                        .total = facts_n_total(f) * (int64_t)dtype_size(o->act)};
    int rc = 0;
    g.stage = mem_alloc((size_t)g.stage_bytes, 1);
    if (g.stage == NULL)
        return mem_fail(e, "the buffer that weights are read through", (size_t)g.stage_bytes);
    TRY_DONE(load_tensor(&g, ROLE_EMBED, 0, w->embed.data, 0, e));
    if (!f->tied)
        TRY_DONE(load_tensor(&g, ROLE_HEAD, 0, w->head.data, 0, e));
    for (int32_t l = 0; l < f->l; l++)
        TRY_DONE(load_block(&g, &w->blocks[l], l, e));
    TRY_DONE(load_tensor(&g, ROLE_FINAL_NORM, 0, w->final_norm, 0, e));
    rc = frozen_rope(w, o, e);
done:
    mem_free(g.stage);
    return rc;
}

const struct frozen_block *frozen_acquire(struct frozen *w, int32_t layer) { return &w->blocks[layer]; }
void frozen_release(struct frozen *w, int32_t layer) {}

void frozen_free(struct frozen *w)
{
    mem_free(w->blocks);
    *w = (struct frozen){0};
}
