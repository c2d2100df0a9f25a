/* model_block.c - one decoder block, forward by stages and backward. Shapes: see model.h. */
#include "trainer/model_internal.h"

#include <math.h>

static char *column(const struct model *m, const void *base, int64_t elements)
{
    return (char *)base + elements * (int64_t)dtype_size(m->o->act);
}

void count_product(struct model *m, double n, double out, double in) { m->flop += 2.0 * n * out * in; }

static void count_low_rank(struct model *m, int32_t layer, enum lora_group g, double times)
{
    const struct lora_stack *stack = lora_stack(m->lora, layer, g);
    double r = m->lora->padded, n = m->batch.n;
    m->flop += times * 2.0 * n * r * stack->n_modules * stack->in;
    for (int32_t i = 0; i < stack->n_modules; i++)
        m->flop += times * 2.0 * n * r * m->lora->modules[stack->first + i].out;
}

int block_again(enum cfg_recompute policy)
{
    int cheap = STAGE_NORM1 | STAGE_NORM2 | STAGE_ACT;
    if (policy == RECOMPUTE_NONE)
        return cheap;
    if (policy == RECOMPUTE_SELECTIVE)
        return cheap | STAGE_LOW_QKV | STAGE_LOW_O | STAGE_LOW_GU | STAGE_GU | STAGE_LOW_DOWN;
    return STAGE_ALL & ~STAGE_DOWN;
}

struct attention block_attention(const struct model *m)
{
    const struct facts *f = m->facts;
    int32_t ld = (f->h + 2 * f->k) * f->q;
    return (struct attention){.n = m->batch.n, .heads = f->h, .kv_heads = f->k, .head_size = f->q, .ld_q = ld, .ld_k = ld, .ld_v = ld,
                              .scale = 1.0f / sqrtf((float)f->q), .spans = m->batch.spans, .n_spans = m->batch.n_spans,
                              .max_span = m->batch.max_span, .square = true};
}

/* qkv = n1 W^T [+ bias] + lora, then the per-head norms and the rotation, in place. */
static void forward_qkv(struct model *m, const struct lora_step *s, int32_t layer, const struct frozen_block *w, struct layer_acts *t)
{
    const struct facts *f = m->facts;
    struct ops *o = m->o;
    int32_t n = m->batch.n, hq = f->h * f->q, kq = f->k * f->q, ld = hq + 2 * kq;
    o->linear_forward(o, t->qkv, t->n1, &w->qkv, w->qkv_bias, n);
    count_product(m, n, ld, f->d);
    lora_up(m->lora, o, s, layer, GROUP_QKV, t->qkv, t->h_qkv, n);
    if (f->qk_norm) {
        o->copy_2d(o, t->raw, hq + kq, t->qkv, ld, n, hq + kq);
        o->head_norm_forward(o, t->qkv, ld, t->raw, hq + kq, w->q_norm, n, f->h, f->q, f->norm_eps);
        o->head_norm_forward(o, column(m, t->qkv, hq), ld, column(m, t->raw, hq), hq + kq, w->k_norm, n, f->k, f->q, f->norm_eps);
    }
    o->rope(o, t->qkv, ld, m->batch.positions, m->frozen.rope, n, f->h + f->k, f->q, false);
}

void block_forward(struct model *m, const struct lora_step *s, int32_t layer, int stages, bool first)
{
    const struct facts *f = m->facts;
    const struct frozen_block *w = frozen_acquire(&m->frozen, layer);
    struct layer_acts *t = &m->acts[layer];
    struct ops *o = m->o;
    int32_t n = m->batch.n, hq = f->h * f->q, kq = f->k * f->q;

    if (stages & STAGE_NORM1) {
        if (first)
            o->rmsnorm_forward(o, t->n1, NULL, t->x, NULL, w->norm1, n, f->d, f->norm_eps);
        else
            o->rmsnorm_forward(o, t->n1, t->x, m->acts[layer - 1].mid, m->tmp, w->norm1, n, f->d, f->norm_eps);
    }
    if (stages & STAGE_LOW_QKV) {
        lora_down(m->lora, o, s, layer, GROUP_QKV, t->h_qkv, t->n1, n);
        count_low_rank(m, layer, GROUP_QKV, 1);
    }
    if (stages & STAGE_QKV)
        forward_qkv(m, s, layer, w, t);
    if (stages & STAGE_ATTENTION) {
        struct attention a = block_attention(m);
        o->attention_forward(o, &a, t->o, t->lse, t->qkv, column(m, t->qkv, hq), column(m, t->qkv, hq + kq));
    }
    if (stages & STAGE_LOW_O) {
        lora_down(m->lora, o, s, layer, GROUP_O, t->h_o, t->o, n);
        count_low_rank(m, layer, GROUP_O, 1);
    }
    if (stages & STAGE_O) {
        o->linear_forward(o, m->tmp, t->o, &w->o, NULL, n);
        count_product(m, n, f->d, hq);
        lora_up(m->lora, o, s, layer, GROUP_O, m->tmp, t->h_o, n);
    }
    if (stages & STAGE_NORM2) {
        if (stages & STAGE_O)
            o->rmsnorm_forward(o, t->n2, t->mid, t->x, m->tmp, w->norm2, n, f->d, f->norm_eps);
        else
            o->rmsnorm_forward(o, t->n2, NULL, t->mid, NULL, w->norm2, n, f->d, f->norm_eps);
    }
    if (stages & STAGE_LOW_GU) {
        lora_down(m->lora, o, s, layer, GROUP_GATE_UP, t->h_gu, t->n2, n);
        count_low_rank(m, layer, GROUP_GATE_UP, 1);
    }
    if (stages & STAGE_GU) {
        o->linear_forward(o, t->gu, t->n2, &w->gate_up, NULL, n);
        count_product(m, n, 2 * f->f, f->d);
        lora_up(m->lora, o, s, layer, GROUP_GATE_UP, t->gu, t->h_gu, n);
    }
    if (stages & STAGE_ACT)
        o->swiglu_forward(o, t->a, t->gu, n, f->f);
    if (stages & STAGE_LOW_DOWN) {
        lora_down(m->lora, o, s, layer, GROUP_DOWN, t->h_down, t->a, n);
        count_low_rank(m, layer, GROUP_DOWN, 1);
    }
    if (stages & STAGE_DOWN) {
        o->linear_forward(o, m->tmp, t->a, &w->down, NULL, n);
        count_product(m, n, f->d, f->f);
        lora_up(m->lora, o, s, layer, GROUP_DOWN, m->tmp, t->h_down, n);
    }
    frozen_release(&m->frozen, layer);
}

/* dx (+)= dy W and the adapter's share, with both gradients. */
static void backward_product(struct model *m, const struct lora_step *s, int32_t layer, enum lora_group g, const struct weight *w,
                             void *dx, const void *dy, const void *x, const void *h)
{
    if (dx != NULL) {
        m->o->linear_backward(m->o, dx, dy, w, m->batch.n, false);
        count_product(m, m->batch.n, w->out, w->in);
    }
    lora_backward(m->lora, m->o, s, layer, g, dx, dy, x, h, m->batch.n);
    count_low_rank(m, layer, g, dx == NULL ? 1.5 : 2);
}

void block_backward(struct model *m, const struct lora_step *s, int32_t layer)
{
    const struct facts *f = m->facts;
    const struct frozen_block *w = frozen_acquire(&m->frozen, layer);
    struct layer_acts *t = &m->acts[layer];
    struct ops *o = m->o;
    int32_t n = m->batch.n, hq = f->h * f->q, kq = f->k * f->q, ld = hq + 2 * kq;

    backward_product(m, s, layer, GROUP_DOWN, &w->down, m->da, m->dx, t->a, t->h_down);
    o->swiglu_backward(o, t->gu, m->da, t->gu, n, f->f); /* dgu in place of gu, which nothing needs any more */
    backward_product(m, s, layer, GROUP_GATE_UP, &w->gate_up, m->dn, t->gu, t->n2, t->h_gu);
    o->rmsnorm_backward(o, m->dx, m->dn, t->mid, w->norm2, n, f->d, f->norm_eps);

    backward_product(m, s, layer, GROUP_O, &w->o, m->d_o, m->dx, t->o, t->h_o);
    struct attention a = block_attention(m);
    char *q = t->qkv, *dq = m->dqkv;
    o->attention_backward(o, &a, dq, column(m, dq, hq), column(m, dq, hq + kq), m->d_o, t->o, t->lse, q, column(m, q, hq),
                          column(m, q, hq + kq), m->delta);
    o->rope(o, dq, ld, m->batch.positions, m->frozen.rope, n, f->h + f->k, f->q, true);
    if (f->qk_norm) {
        o->head_norm_backward(o, dq, ld, dq, ld, t->raw, hq + kq, w->q_norm, n, f->h, f->q, f->norm_eps);
        o->head_norm_backward(o, column(m, dq, hq), ld, column(m, dq, hq), ld, column(m, t->raw, hq), hq + kq, w->k_norm, n, f->k, f->q,
                              f->norm_eps);
    }
    void *dn = layer == 0 ? NULL : m->dn; /* the embedding is frozen: nothing flows below the first block */
    backward_product(m, s, layer, GROUP_QKV, &w->qkv, dn, dq, t->n1, t->h_qkv);
    if (layer > 0)
        o->rmsnorm_backward(o, m->dx, m->dn, t->x, w->norm1, n, f->d, f->norm_eps);
    frozen_release(&m->frozen, layer);
}
