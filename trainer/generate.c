/* generate.c - the model's own blocks over another layout of the same memory: keys and values go to a cache by slot, and the attention
 * reads them there. A prompt's first tokens and its later single tokens are the same case: a span of queries over a longer run of keys. */
#include "trainer/generate.h"

#include <math.h>
#include <string.h>

#include "trainer/base/num.h"
#include "trainer/model_internal.h"

enum { PASS_TOKENS = MODEL_LEAST_TOKENS }; /* most tokens of one pass: prompts longer than this go in pieces */

struct slot {
    struct prompt *p; /* NULL: free */
    int index;        /* of the prompt, for on_token */
    int32_t cached;   /* tokens in the cache */
    int32_t next;     /* the newest token, not yet in the cache; only once the prompt's own are through */
    int32_t take;     /* tokens in this pass */
};
struct session {
    struct model view; /* the model with its buffers laid out anew */
    int32_t slots, context;
    struct slot *slot;
    char *keys, *values;  /* (L, slots * context, KQ) act */
    int32_t *index, *ids; /* device: cache rows of the pass (n); argmax (slots) */
    int32_t *h_tokens, *h_positions, *h_index, *h_rows, *h_ids; /* host */
    struct span *h_spans;
};

static void layout(struct session *s, const struct model *m, struct arena *a)
{
    struct model *v = &s->view;
    const struct facts *f = m->facts;
    const char *name = "generation";
    size_t size = dtype_size(m->o->act);
    int64_t n = PASS_TOKENS, hq = (int64_t)f->h * f->q, kq = (int64_t)f->k * f->q, wide = 3 * (int64_t)m->lora->padded;
    int64_t rows = (int64_t)s->slots * s->context;
    struct layer_acts one = {0};
    one.x = arena_take(a, name, n * f->d, size);
    one.n1 = arena_take(a, name, n * f->d, size);
    one.h_qkv = arena_take(a, name, n * wide, size);
    one.raw = f->qk_norm ? arena_take(a, name, n * (hq + kq), size) : NULL;
    one.qkv = arena_take(a, name, n * (hq + 2 * kq), size);
    one.o = arena_take(a, name, n * hq, size);
    one.h_o = arena_take(a, name, n * wide, size);
    one.mid = arena_take(a, name, n * f->d, size);
    one.n2 = arena_take(a, name, n * f->d, size);
    one.h_gu = arena_take(a, name, n * wide, size);
    one.gu = arena_take(a, name, n * 2 * f->f, size);
    one.a = arena_take(a, name, n * f->f, size);
    one.h_down = arena_take(a, name, n * wide, size);
    if (v->acts != NULL)
        for (int32_t l = 0; l < f->l; l++)
            v->acts[l] = one;
    v->tmp = arena_take(a, name, n * f->d, size);
    v->dn = arena_take(a, name, n * f->d, size);
    v->shape.head_chunk = s->slots;
    v->xg = arena_take(a, name, (int64_t)s->slots * f->d, size);
    v->nf = arena_take(a, name, (int64_t)s->slots * f->d, size);
    v->logits = arena_take(a, name, (int64_t)s->slots * f->v, size);
    v->batch.tokens = arena_take(a, name, n, sizeof(int32_t));
    v->batch.positions = arena_take(a, name, n, sizeof(int32_t));
    v->batch.rows = arena_take(a, name, s->slots, sizeof(int32_t));
    v->batch.spans = arena_take(a, name, s->slots, sizeof(struct span));
    s->index = arena_take(a, name, n, sizeof(int32_t));
    s->ids = arena_take(a, name, s->slots, sizeof(int32_t));
    s->keys = arena_take(a, "KV cache", f->l * rows * kq, size);
    s->values = arena_take(a, "KV cache", f->l * rows * kq, size);
    v->workspace = arena_take(a, name, (int64_t)m->workspace_bytes, 1);
}

size_t generate_bytes(const struct model *m, int32_t slots, int32_t context)
{
    struct session s = {.slots = slots, .context = context};
    struct arena a = {.name = "generation"};
    layout(&s, m, &a);
    return a.overflow ? SIZE_MAX : a.used;
}

static void session_close(struct session *s, const struct model *m)
{
    m->o->set_workspace(m->o, m->workspace, m->workspace_bytes);
    mem_free(s->view.acts);
    mem_free(s->slot);
    mem_free(s->h_tokens);
    mem_free(s->h_positions);
    mem_free(s->h_index);
    mem_free(s->h_rows);
    mem_free(s->h_ids);
    mem_free(s->h_spans);
}

static int session_open(struct session *s, struct model *m, int n, int32_t context, struct err *e)
{
    size_t room = m->arenas[ARENA_ACTIVATIONS].size;
    *s = (struct session){.view = *m, .slots = n < GENERATE_SLOTS ? n : GENERATE_SLOTS, .context = context};
    while (s->slots > 1 && generate_bytes(m, s->slots, context) > room)
        s->slots--;
    if (generate_bytes(m, s->slots, context) > room)
        FAIL(e, ERR_DEVICE,
             "generation: %d tokens of context need %zu MiB, the job's activations have %zu MiB. Ask for fewer new tokens or a shorter prompt",
             context, generate_bytes(m, s->slots, context) >> 20, room >> 20);
    s->view.acts = mem_alloc((size_t)m->facts->l, sizeof *s->view.acts);
    s->slot = mem_alloc((size_t)s->slots, sizeof *s->slot);
    s->h_tokens = mem_alloc(PASS_TOKENS, sizeof(int32_t));
    s->h_positions = mem_alloc(PASS_TOKENS, sizeof(int32_t));
    s->h_index = mem_alloc(PASS_TOKENS, sizeof(int32_t));
    s->h_rows = mem_alloc((size_t)s->slots, sizeof(int32_t));
    s->h_ids = mem_alloc((size_t)s->slots, sizeof(int32_t));
    s->h_spans = mem_alloc((size_t)s->slots, sizeof(struct span));
    if (!s->view.acts || !s->slot || !s->h_tokens || !s->h_positions || !s->h_index || !s->h_rows || !s->h_ids || !s->h_spans) {
        session_close(s, m);
        return mem_fail(e, "generation", PASS_TOKENS * sizeof(int32_t));
    }
    struct arena a = {.name = "generation", .size = room, .base = m->memory[ARENA_ACTIVATIONS]};
    layout(s, m, &a);
    m->o->set_workspace(m->o, s->view.workspace, m->workspace_bytes);
    return 0;
}

/* Put this slot's share into the pass: the rest of its prompt, or its newest token. */
static void slot_take(struct session *s, int i, int32_t *n, int32_t *n_spans)
{
    struct slot *t = &s->slot[i];
    int32_t left = t->cached < t->p->n ? t->p->n - t->cached : 1, room = PASS_TOKENS - *n;
    t->take = left < room ? left : room;
    if (t->take == 0)
        return;
    for (int32_t j = 0; j < t->take; j++) {
        int32_t at = t->cached + j;
        s->h_tokens[*n + j] = at < t->p->n ? t->p->tokens[at] : t->next;
        s->h_positions[*n + j] = at;
        s->h_index[*n + j] = i * s->context + at;
    }
    s->h_spans[*n_spans] = (struct span){.q0 = *n, .q_len = t->take, .k0 = i * s->context, .k_len = t->cached + t->take};
    s->h_rows[*n_spans] = *n + t->take - 1;
    *n += t->take;
    (*n_spans)++;
    t->cached += t->take;
}

static void forward(struct session *s, const struct lora_step *step)
{
    struct model *v = &s->view;
    const struct facts *f = v->facts;
    struct ops *o = v->o;
    int32_t hq = f->h * f->q, kq = f->k * f->q, ld = hq + 2 * kq, n = v->batch.n;
    size_t size = dtype_size(o->act);
    o->embed_forward(o, v->acts[0].x, &v->frozen.embed, v->batch.tokens, n);
    for (int32_t l = 0; l < f->l; l++) {
        size_t layer = (size_t)l * (size_t)s->slots * (size_t)s->context * (size_t)kq * size;
        char *qkv = v->acts[l].qkv;
        block_forward(v, step, l, STAGE_NORM1 | STAGE_LOW_QKV | STAGE_QKV, l == 0);
        o->scatter_rows(o, s->keys + layer, kq, qkv + (size_t)hq * size, ld, s->index, n, kq);
        o->scatter_rows(o, s->values + layer, kq, qkv + (size_t)(hq + kq) * size, ld, s->index, n, kq);
        struct attention a = block_attention(v);
        a.ld_k = a.ld_v = kq;
        a.square = false;
        o->attention_forward(o, &a, v->acts[l].o, NULL, qkv, s->keys + layer, s->values + layer);
        block_forward(v, step, l, STAGE_ALL & ~(STAGE_NORM1 | STAGE_LOW_QKV | STAGE_QKV | STAGE_ATTENTION), l == 0);
    }
}

/* One pass over what the slots have to say; ids of the span ends come back in h_ids. */
static int pass(struct session *s, struct err *e)
{
    struct model *v = &s->view;
    struct ops *o = v->o;
    struct lora_step step = {.weights = v->t.work};
    int32_t n = 0, n_spans = 0;
    v->batch.max_span = 0;
    for (int i = 0; i < s->slots; i++)
        if (s->slot[i].p != NULL)
            slot_take(s, i, &n, &n_spans);
    for (int32_t i = 0; i < n_spans; i++)
        if (s->h_spans[i].k_len > v->batch.max_span)
            v->batch.max_span = s->h_spans[i].k_len;
    v->batch.n = n;
    v->batch.n_spans = n_spans;
    o->upload(o, v->batch.tokens, s->h_tokens, (size_t)n * sizeof(int32_t));
    o->upload(o, v->batch.positions, s->h_positions, (size_t)n * sizeof(int32_t));
    o->upload(o, s->index, s->h_index, (size_t)n * sizeof(int32_t));
    o->upload(o, v->batch.rows, s->h_rows, (size_t)n_spans * sizeof(int32_t));
    o->upload(o, v->batch.spans, s->h_spans, (size_t)n_spans * sizeof(struct span));
    forward(s, &step);
    head_next(v, n_spans, s->ids);
    return o->download(o, s->h_ids, s->ids, (size_t)n_spans * sizeof(int32_t), e);
}

static bool is_end(const struct facts *f, int32_t id)
{
    for (int i = 0; i < f->n_eos; i++)
        if (f->eos[i] == id)
            return true;
    return false;
}

/* Take in what the pass said for slot i; frees the slot when its answer is complete. */
static int slot_answer(struct session *s, int i, int32_t id, const struct generate_options *g, struct err *e)
{
    struct slot *t = &s->slot[i];
    struct prompt *p = t->p;
    if (t->cached < p->n)
        return 0; /* the prompt is still being read */
    p->ended = is_end(s->view.facts, id);
    if (!p->ended && p->n_answer < g->max_new) {
        p->answer[p->n_answer++] = id;
        t->next = id;
        if (g->on_token != NULL)
            TRY(g->on_token(g->arg, t->index, id, e));
    }
    if (p->ended || p->n_answer == g->max_new || t->cached + 1 >= s->context)
        t->p = NULL;
    return 0;
}

static int run(struct session *s, struct prompt *prompts, int n, const struct generate_options *g, struct err *e)
{
    int started = 0;
    for (;;) {
        int busy = 0;
        for (int i = 0; i < s->slots; i++) {
            if (s->slot[i].p == NULL && started < n) {
                s->slot[i] = (struct slot){.p = &prompts[started], .index = started};
                started++;
            }
            s->slot[i].take = 0;
            busy += s->slot[i].p != NULL;
        }
        if (busy == 0)
            return 0;
        TRY(pass(s, e));
        for (int i = 0, k = 0; i < s->slots; i++)
            if (s->slot[i].p != NULL && s->slot[i].take > 0)
                TRY(slot_answer(s, i, s->h_ids[k++], g, e));
    }
}

int generate(struct model *m, struct prompt *prompts, int n, const struct generate_options *g, struct err *e)
{
    struct session s;
    int32_t longest = 0;
    for (int i = 0; i < n; i++) {
        if (prompts[i].n < 1)
            FAIL(e, ERR_DATA, "prompt %d is empty, expected at least one token", i + 1);
        longest = prompts[i].n > longest ? prompts[i].n : longest;
        prompts[i].n_answer = 0;
        prompts[i].ended = false;
    }
    if (n == 0)
        return 0;
    int32_t context = longest + g->max_new;
    if (context > m->shape.positions)
        context = m->shape.positions;
    if (longest >= context)
        FAIL(e, ERR_DATA, "the prompt has %d tokens, the longest this model was opened for is %d", longest, context - 1);
    TRY(session_open(&s, m, n, context, e));
    int rc = run(&s, prompts, n, g, e);
    session_close(&s, m);
    return rc;
}
