/* model_layout.c - what the model keeps, and where: the one table behind both `lorat plan` and the allocation. */
#include "trainer/model.h"

#include <stddef.h>

#include "trainer/base/num.h"

/* A per-token buffer of one layer and the policies that keep one for every layer (up to `kept`); the others share one. */
struct act_row {
    const char *name;
    size_t member; /* offset in struct layer_acts */
    enum cfg_recompute kept; /* the strongest recomputation under which it is still kept; AUTO: never kept */
    int64_t width; /* elements per token */
};

static int act_rows(const struct facts *f, const struct lora *l, struct act_row rows[16])
{
    int64_t r = l->padded, hq = (int64_t)f->h * f->q, kq = (int64_t)f->k * f->q;
    int64_t n[LORA_GROUPS];
    for (int g = 0; g < LORA_GROUPS; g++)
        n[g] = lora_stack(l, 0, g)->n_modules * r;
#define ROW(field, text, kept, width) {text, offsetof(struct layer_acts, field), kept, width}
    const struct act_row all[] = {
        ROW(x, "block inputs", RECOMPUTE_FULL, f->d),
        ROW(qkv, "q, k, v", RECOMPUTE_SELECTIVE, hq + 2 * kq),
        ROW(raw, "q, k before their norm", RECOMPUTE_SELECTIVE, f->qk_norm ? hq + kq : 0),
        ROW(o, "attention outputs", RECOMPUTE_SELECTIVE, hq),
        ROW(mid, "mid-block residuals", RECOMPUTE_SELECTIVE, f->d),
        ROW(gu, "gate and up", RECOMPUTE_NONE, 2 * (int64_t)f->f),
        ROW(h_qkv, "low-rank products", RECOMPUTE_NONE, n[GROUP_QKV]),
        ROW(h_o, "low-rank products", RECOMPUTE_NONE, n[GROUP_O]),
        ROW(h_gu, "low-rank products", RECOMPUTE_NONE, n[GROUP_GATE_UP]),
        ROW(h_down, "low-rank products", RECOMPUTE_NONE, n[GROUP_DOWN]),
        ROW(n1, "norms and SwiGLU", RECOMPUTE_AUTO, f->d),
        ROW(n2, "norms and SwiGLU", RECOMPUTE_AUTO, f->d),
        ROW(a, "norms and SwiGLU", RECOMPUTE_AUTO, f->f),
    };
#undef ROW
    int count = (int)(sizeof all / sizeof *all);
    for (int i = 0; i < count; i++)
        rows[i] = all[i];
    return count;
}

/* RECOMPUTE_NONE < SELECTIVE < FULL in the enum: a row is kept when the policy recomputes no more than the row allows. */
static bool is_kept(enum cfg_recompute kept, enum cfg_recompute policy) { return kept != RECOMPUTE_AUTO && policy <= kept; }

static void layout_layers(struct model *m, struct arena *a)
{
    const struct facts *f = m->facts;
    struct act_row rows[16];
    int count = act_rows(f, m->lora, rows);
    size_t s = dtype_size(m->o->act);
    int64_t n = m->shape.n;
    for (int i = 0; i < count; i++) {
        bool kept = is_kept(rows[i].kept, m->shape.recompute);
        void *one = NULL;
        for (int32_t l = 0; l < f->l; l++) {
            void **field = (void **)((char *)&m->acts[l] + rows[i].member);
            if ((kept || l == 0) && rows[i].width > 0)
                one = arena_take(a, kept ? rows[i].name : "one block's working set", n * rows[i].width, s);
            *field = one;
        }
    }
    bool kept = is_kept(RECOMPUTE_SELECTIVE, m->shape.recompute);
    float *lse = NULL;
    for (int32_t l = 0; l < f->l; l++) {
        if (kept || l == 0)
            lse = arena_take(a, kept ? "attention outputs" : "one block's working set", n * f->h, sizeof(float));
        m->acts[l].lse = lse;
    }
}

static int32_t widest_stack(const struct lora *l)
{
    int32_t wide = 0;
    for (int g = 0; g < LORA_GROUPS; g++)
        if (lora_stack(l, 0, g)->n_modules > wide)
            wide = lora_stack(l, 0, g)->n_modules;
    return wide * l->padded;
}

static void layout_scratch(struct model *m, struct arena *a)
{
    const struct facts *f = m->facts;
    size_t s = dtype_size(m->o->act);
    int64_t n = m->shape.n, c = m->shape.head_chunk, hq = (int64_t)f->h * f->q;
    int32_t r = widest_stack(m->lora), widest_in = f->f > f->d ? f->f : f->d;
    const char *g = "gradients of activations", *head = "head and loss, one chunk";
    m->dx = arena_take(a, g, n * f->d, s);
    m->dn = arena_take(a, g, n * f->d, s);
    m->tmp = arena_take(a, g, n * f->d, s);
    m->dqkv = arena_take(a, g, n * (hq + 2 * f->k * f->q), s);
    m->d_o = arena_take(a, g, n * hq, s);
    m->da = arena_take(a, g, n * f->f, s);
    m->dh = arena_take(a, g, n * r, s);
    m->delta = arena_take(a, g, n * f->h, sizeof(float));
    m->xd = m->shape.dropout ? arena_take(a, "dropout", n * (widest_in > hq ? widest_in : hq), s) : NULL;
    m->xg = arena_take(a, head, c * f->d, s);
    m->nf = arena_take(a, head, c * f->d, s);
    m->dnf = arena_take(a, head, c * f->d, s);
    m->dxg = arena_take(a, head, c * f->d, s);
    m->logits = arena_take(a, head, c * f->v, s);
    m->eval = arena_take(a, head, TAIL_COUNT, sizeof(float));
    struct ops_dims dims = {.n = n > MODEL_LEAST_TOKENS ? n : MODEL_LEAST_TOKENS,
                            .max_span = m->shape.positions, .d = f->d, .f = f->f, .h = f->h, .k = f->k, .q = f->q,
                            .v = f->v, .r = r, .head_chunk = (int32_t)c};
    m->workspace_bytes = m->o->workspace_bytes(m->o, &dims);
    m->workspace = arena_take(a, "workspace of the products", (int64_t)m->workspace_bytes, 1);
}

static void layout_batch(struct model *m, struct arena *a)
{
    const char *name = "the micro-batch";
    int64_t n = m->shape.n;
    m->batch.tokens = arena_take(a, name, n, sizeof(int32_t));
    m->batch.targets = arena_take(a, name, n, sizeof(int32_t));
    m->batch.positions = arena_take(a, name, n, sizeof(int32_t));
    m->batch.rows = arena_take(a, name, n, sizeof(int32_t));
    m->batch.keys = arena_take(a, name, n, sizeof(uint32_t));
    m->batch.weights = arena_take(a, name, n, sizeof(float));
    m->batch.spans = arena_take(a, name, n + 1, sizeof(struct span));
}

static int layout_all(struct model *m, struct err *e)
{
    struct arena *t = &m->arenas[ARENA_TRAINABLE];
    int64_t count = m->lora->count;
    TRY(frozen_layout(&m->frozen, m->facts, m->o->act, m->shape.positions, &m->shape.place, &m->arenas[ARENA_FROZEN],
                      &m->arenas[ARENA_HOST], e));
    m->t.params = arena_take(t, "LoRA parameters", count, sizeof(float));
    m->t.grads = arena_take(t, "gradients", count + TAIL_COUNT, sizeof(float));
    m->t.m = arena_take(t, "AdamW moments", count, sizeof(float));
    m->t.v = arena_take(t, "AdamW moments", count, sizeof(float));
    m->t.work = m->o->act == DT_F32 ? m->t.params : arena_take(t, "BF16 working copy", count, dtype_size(m->o->act));
    TRY(arena_check(t, e));
    layout_batch(m, &m->arenas[ARENA_ACTIVATIONS]);
    layout_layers(m, &m->arenas[ARENA_ACTIVATIONS]);
    layout_scratch(m, &m->arenas[ARENA_ACTIVATIONS]);
    struct arena *a = &m->arenas[ARENA_ACTIVATIONS];
    if (a->used < m->shape.least_activations)
        arena_take(a, "room for generation", (int64_t)(m->shape.least_activations - a->used), 1);
    return arena_check(&m->arenas[ARENA_ACTIVATIONS], e);
}

int model_layout(struct model *m, struct ops *o, const struct facts *f, const struct lora *l, const struct model_shape *shape,
                 struct err *e)
{
    static const char *const names[ARENAS] = {"frozen weights", "trainable state", "activations and scratch", "weights in host memory"};
    *m = (struct model){.o = o, .facts = f, .lora = l, .shape = *shape};
    for (int i = 0; i < ARENAS; i++)
        m->arenas[i].name = names[i];
    size_t n = (size_t)shape->n;
    m->acts = mem_alloc((size_t)f->l, sizeof *m->acts);
    m->host.rows = mem_alloc(n, sizeof *m->host.rows);
    m->host.targets = mem_alloc(n, sizeof *m->host.targets);
    m->host.weights = mem_alloc(n, sizeof *m->host.weights);
    if (m->acts == NULL || m->host.rows == NULL || m->host.targets == NULL || m->host.weights == NULL) {
        model_close(m);
        return mem_fail(e, "the table of activations", (size_t)f->l * sizeof *m->acts);
    }
    if (layout_all(m, e) != 0) {
        model_close(m);
        return -1;
    }
    return 0;
}

int model_allocate(struct model *m, struct err *e)
{
    for (int i = 0; i < ARENAS; i++) {
        int (*alloc)(struct ops *, size_t, void **, struct err *) = i == ARENA_HOST ? m->o->alloc_host : m->o->alloc;
        if (i == ARENA_HOST && m->arenas[i].used == 0)
            continue;
        if (alloc(m->o, m->arenas[i].used, &m->memory[i], e) != 0)
            return err_prefix(e, "%s", m->arenas[i].name);
        arena_place(&m->arenas[i], m->memory[i]);
    }
    TRY(layout_all(m, e));
    frozen_attach(&m->frozen, m->o, m->comm);
    m->o->set_workspace(m->o, m->workspace, m->workspace_bytes);
    m->o->zero(m->o, m->memory[ARENA_TRAINABLE], m->arenas[ARENA_TRAINABLE].size);
    /* Touched once, so that a machine that promised more memory than it has shows it now and not in the middle of a run. */
    m->o->zero(m->o, m->memory[ARENA_ACTIVATIONS], m->arenas[ARENA_ACTIVATIONS].size);
    return m->o->sync(m->o, e);
}

int model_load(struct model *m, const struct source *s, int (*tick)(void *arg, double done, struct err *e), void *arg, struct err *e)
{
    return frozen_load(&m->frozen, s, m->o, tick, arg, e);
}

void model_close(struct model *m)
{
    for (int i = 0; i < ARENAS; i++)
        if (m->memory[i] != NULL)
            (i == ARENA_HOST ? m->o->release_host : m->o->release)(m->o, m->memory[i]);
    frozen_free(&m->frozen);
    mem_free(m->acts);
    mem_free(m->host.rows);
    mem_free(m->host.targets);
    mem_free(m->host.weights);
    *m = (struct model){0};
}

int model_set_params(struct model *m, const float *params, struct err *e)
{
    m->o->upload(m->o, m->t.params, params, (size_t)m->lora->count * sizeof(float));
    model_refresh(m);
    return m->o->sync(m->o, e);
}

void model_refresh(struct model *m)
{
    if (m->t.work != m->t.params)
        m->o->cast(m->o, m->t.work, m->o->act, m->t.params, DT_F32, m->lora->count);
}

void model_zero_grads(struct model *m)
{
    m->o->zero(m->o, m->t.grads, (size_t)(m->lora->count + TAIL_COUNT) * sizeof(float));
}
