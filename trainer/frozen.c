/* frozen.c - where the base's weights lie, and how they get there. */
#include "trainer/frozen_stream.h"

#include <math.h>
#include <string.h>

#include "trainer/base/num.h"

static struct weight take_weight(struct arena *a, const char *name, enum dtype act, int32_t out, int32_t in)
{
    return (struct weight){.data = arena_take(a, name, (int64_t)out * in, dtype_size(act)), .type = act, .out = out, .in = in};
}

static void layout_products(struct frozen_block *b, const struct facts *f, enum dtype act, struct arena *a)
{
    int32_t qkv = (f->h + 2 * f->k) * f->q;
    b->qkv = take_weight(a, "attention weights", act, qkv, f->d);
    b->o = take_weight(a, "attention weights", act, f->d, f->h * f->q);
    b->gate_up = take_weight(a, "feed-forward weights", act, 2 * f->f, f->d);
    b->down = take_weight(a, "feed-forward weights", act, f->d, f->f);
}

static void layout_norms(struct frozen_block *b, const struct facts *f, enum dtype act, struct arena *a)
{
    size_t s = dtype_size(act);
    int32_t qkv = (f->h + 2 * f->k) * f->q;
    b->norm1 = arena_take(a, "norms and biases", f->d, s);
    b->norm2 = arena_take(a, "norms and biases", f->d, s);
    b->qkv_bias = f->qkv_bias ? arena_take(a, "norms and biases", qkv, s) : NULL;
    b->q_norm = f->qk_norm ? arena_take(a, "norms and biases", f->q, s) : NULL;
    b->k_norm = f->qk_norm ? arena_take(a, "norms and biases", f->q, s) : NULL;
}

/* What `lorat plan` calls the shares. */
static const char *share_name(int ranks)
{
    static const char *const names[] = {"blocks, 1/2 of each", "blocks, 1/3 of each", "blocks, 1/4 of each", "blocks, 1/5 of each",
                                        "blocks, 1/6 of each", "blocks, 1/7 of each", "blocks, 1/8 of each"};
    return ranks >= 2 && ranks <= 8 ? names[ranks - 2] : "blocks, a share of each";
}

/* Two slots, and what is kept of every block. */
static int layout_stream(struct frozen *w, const struct frozen_place *place, enum dtype act, struct arena *a, struct arena *host, struct err *e)
{
    const struct facts *f = w->facts;
    struct frozen_block one;
    struct arena block = {.name = "a block"};
    size_t ranks = place->kind == FROZEN_SHARDED ? (size_t)place->ranks : 1;
    if (w->stream == NULL)
        w->stream = mem_alloc(1, sizeof *w->stream);
    if (w->stream == NULL)
        return mem_fail(e, "the table of slots", sizeof *w->stream);
    struct frozen_stream *s = w->stream;
    *s = (struct frozen_stream){.place = *place, .layers = f->l, .held = {-1, -1}, .last = -1};
    layout_products(&one, f, act, &block);
    TRY(arena_check(&block, e));
    s->share_bytes = (size_t)num_round_up(num_div_up((int64_t)block.used, (int64_t)ranks), ARENA_ALIGN);
    s->slot_bytes = s->share_bytes * ranks;
    s->kept = place->kind == FROZEN_SHARDED ? arena_take(a, share_name(place->ranks), f->l, s->share_bytes)
                                            : arena_take(host, "blocks, in host memory", f->l, s->share_bytes);
    for (int i = 0; i < FETCH_SLOTS; i++)
        s->slots[i] = arena_take(a, "two blocks in flight", (int64_t)s->slot_bytes, 1);
    for (int32_t l = 0; l < f->l; l++) {
        struct arena slot = {.name = "a slot", .base = s->slots[l % FETCH_SLOTS], .size = s->slots[0] != NULL ? s->slot_bytes : 0};
        layout_products(&w->blocks[l], f, act, &slot);
        TRY(arena_check(&slot, e));
    }
    return 0;
}

int frozen_layout(struct frozen *w, const struct facts *f, enum dtype act, int32_t positions, const struct frozen_place *place,
                  struct arena *a, struct arena *host, struct err *e)
{
    if (w->blocks == NULL)
        w->blocks = mem_alloc((size_t)f->l, sizeof *w->blocks);
    if (w->blocks == NULL)
        return mem_fail(e, "the table of blocks", (size_t)f->l * sizeof *w->blocks);
    w->facts = f;
    w->positions = positions;
    w->embed = take_weight(a, "embedding", act, f->v, f->d);
    w->head = f->tied ? w->embed : take_weight(a, "head", act, f->v, f->d);
    if (place->kind != FROZEN_RESIDENT)
        TRY(layout_stream(w, place, act, a, host, e));
    for (int32_t l = 0; l < f->l; l++) {
        if (place->kind == FROZEN_RESIDENT)
            layout_products(&w->blocks[l], f, act, a);
        layout_norms(&w->blocks[l], f, act, a);
    }
    w->final_norm = arena_take(a, "norms and biases", f->d, dtype_size(act));
    w->rope = arena_take(a, "rotary table", (int64_t)positions * f->q, sizeof(float));
    TRY(arena_check(host, e));
    return arena_check(a, e);
}

void frozen_attach(struct frozen *w, struct ops *o, struct comm *comm)
{
    if (w->stream == NULL)
        return;
    w->stream->o = o;
    w->stream->comm = comm;
}

struct loading {
    const struct source *source;
    struct frozen_stream *stream; /* NULL: everything has a place of its own */
    struct ops *o;
    enum dtype act;
    void *stage; /* host memory for one piece */
    int64_t stage_bytes, done, total;
    int (*tick)(void *arg, double done, struct err *e);
    void *arg;
};

/* n bytes to where dst points: a place of its own, or, within a slot, what is kept of the layer. */
static void put(struct loading *g, int32_t layer, const char *dst, size_t n)
{
    const struct frozen_stream *s = g->stream;
    const char *slot = s != NULL ? s->slots[layer % FETCH_SLOTS] : NULL;
    if (s != NULL && dst >= slot && dst < slot + s->slot_bytes)
        frozen_keep(g->stream, layer, (size_t)(dst - slot), g->stage, n);
    else
        g->o->upload(g->o, (void *)(uintptr_t)dst, g->stage, n);
}

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
        put(g, layer, (const char *)dst + (at + r) * row, (size_t)(n * row));
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
    struct loading g = {.source = s, .stream = w->stream, .o = o, .act = o->act, .stage_bytes = row > STAGE ? row : STAGE, .tick = tick, .arg = arg,
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

void frozen_free(struct frozen *w)
{
    mem_free(w->blocks);
    mem_free(w->stream);
    *w = (struct frozen){0};
}
