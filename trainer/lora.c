/* lora.c - the table of adapted products, and their forward and backward. */
#include "trainer/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/rng.h"

enum { RANK_ROUND = 16 };

static const struct {
    enum lora_group group;
    const char *path;
} KIND[LORA_KINDS] = {
    [LORA_Q] = {GROUP_QKV, "self_attn.q_proj"},  [LORA_K] = {GROUP_QKV, "self_attn.k_proj"},
    [LORA_V] = {GROUP_QKV, "self_attn.v_proj"},  [LORA_O] = {GROUP_O, "self_attn.o_proj"},
    [LORA_GATE] = {GROUP_GATE_UP, "mlp.gate_proj"}, [LORA_UP] = {GROUP_GATE_UP, "mlp.up_proj"},
    [LORA_DOWN] = {GROUP_DOWN, "mlp.down_proj"},
};

static void kind_shape(const struct facts *f, enum lora_kind kind, int32_t *in, int32_t *out, int32_t *column, int32_t *ld)
{
    int32_t hq = f->h * f->q, kq = f->k * f->q;
    *in = kind == LORA_O ? hq : kind == LORA_DOWN ? f->f : f->d;
    *out = kind == LORA_Q ? hq : kind == LORA_K || kind == LORA_V ? kq : kind == LORA_GATE || kind == LORA_UP ? f->f : f->d;
    *column = kind == LORA_K ? hq : kind == LORA_V ? hq + kq : kind == LORA_UP ? f->f : 0;
    *ld = KIND[kind].group == GROUP_QKV ? hq + 2 * kq : KIND[kind].group == GROUP_GATE_UP ? 2 * f->f : f->d;
}

static void plan_stack(const struct facts *f, uint32_t targets, int32_t layer, enum lora_group g, struct lora *l)
{
    struct lora_stack *stack = &l->stacks[layer * LORA_GROUPS + g];
    *stack = (struct lora_stack){.first = l->n_modules, .a = l->count};
    for (int kind = 0; kind < LORA_KINDS; kind++) {
        if (KIND[kind].group != g || !(targets >> kind & 1))
            continue;
        struct lora_module *m = &l->modules[l->n_modules++];
        *m = (struct lora_module){.layer = layer, .kind = kind, .slot = stack->n_modules++};
        kind_shape(f, kind, &m->in, &m->out, &m->column, &stack->ld_out);
        stack->in = m->in;
        l->n_parameters += (int64_t)l->rank * (m->in + m->out);
    }
    l->count += (int64_t)stack->n_modules * l->padded * stack->in;
    for (int i = 0; i < stack->n_modules; i++) {
        struct lora_module *m = &l->modules[stack->first + i];
        m->a = stack->a + (int64_t)i * l->padded * m->in;
        m->b = l->count;
        l->count += (int64_t)m->out * l->padded;
    }
}

int lora_plan(const struct facts *f, const struct config *c, struct lora *out, struct err *e)
{
    *out = (struct lora){.rank = c->lora.rank,
                         .padded = (int32_t)num_round_up(c->lora.rank, RANK_ROUND),
                         .dropout = (float)c->lora.dropout,
                         .seed = (uint64_t)c->seed,
                         .layers = f->l};
    double r = c->lora.rank;
    out->scale = (float)(c->lora.alpha / (c->lora.scaling == SCALING_RSLORA ? sqrt(r) : r));
    out->modules = mem_alloc((size_t)f->l * LORA_KINDS, sizeof *out->modules);
    out->stacks = mem_alloc((size_t)f->l * LORA_GROUPS, sizeof *out->stacks);
    if (out->modules == NULL || out->stacks == NULL) {
        lora_free(out);
        return mem_fail(e, "the table of adapted products", (size_t)f->l * LORA_KINDS * sizeof *out->modules);
    }
    for (int32_t layer = 0; layer < f->l; layer++)
        for (int g = 0; g < LORA_GROUPS; g++)
            plan_stack(f, c->lora.targets, layer, g, out);
    out->count = num_round_up(out->count, 64);
    return 0;
}

void lora_free(struct lora *l)
{
    mem_free(l->modules);
    mem_free(l->stacks);
    *l = (struct lora){0};
}

void lora_init(const struct lora *l, float *params)
{
    memset(params, 0, (size_t)l->count * sizeof *params);
    for (int32_t i = 0; i < l->n_modules; i++) {
        const struct lora_module *m = &l->modules[i];
        float bound = 1.0f / sqrtf((float)m->in);
        uint32_t id = (uint32_t)m->layer * LORA_KINDS + (uint32_t)m->kind;
        int64_t n = (int64_t)l->rank * m->in;
        for (int64_t j = 0; j < n; j++) {
            struct rng4 r = rng_at(l->seed, RNG_INIT, id, (uint32_t)(j / 4), 0);
            params[m->a + j] = (2.0f * rng_unit(r.v[j % 4]) - 1.0f) * bound;
        }
    }
}

void lora_tensor_name(const struct lora_module *m, char which, char name[128])
{
    snprintf(name, 128, "base_model.model.model.layers.%d.%s.lora_%c.weight", m->layer, KIND[m->kind].path, which);
}

static const void *at(const void *base, enum dtype t, int64_t elements)
{
    return (const char *)base + elements * (int64_t)dtype_size(t);
}

static struct dropout drop_key(const struct lora *l, const struct lora_step *s, const struct lora_module *m)
{
    return (struct dropout){
        .seed = l->seed, .step = s->step, .module = (uint32_t)m->layer * LORA_KINDS + (uint32_t)m->kind, .p = l->dropout};
}

static bool drops(const struct lora *l, const struct lora_step *s) { return s->train && l->dropout > 0; }

void lora_down(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *h,
               const void *x, int32_t n)
{
    const struct lora_stack *stack = lora_stack(l, layer, g);
    int32_t wide = stack->n_modules * l->padded;
    struct gemm p = {.m = n, .k = stack->in, .b_type = o->act, .a_type = o->act, .c_type = o->act, .trans_b = true, .alpha = l->scale,
                     .lda = stack->in, .ldb = stack->in, .ldc = wide};
    if (stack->n_modules == 0)
        return;
    if (!drops(l, s)) {
        p.n = wide;
        p.a = x;
        p.b = at(s->weights, o->act, stack->a);
        p.c = h;
        o->gemm(o, &p);
        return;
    }
    for (int32_t i = 0; i < stack->n_modules; i++) { /* each module has a mask of its own, as in PEFT */
        const struct lora_module *m = &l->modules[stack->first + i];
        struct dropout key = drop_key(l, s, m);
        o->dropout_apply(o, s->xd, x, s->keys, n, m->in, &key, false);
        p.n = l->padded;
        p.a = s->xd;
        p.b = at(s->weights, o->act, m->a);
        p.c = (void *)at(h, o->act, (int64_t)m->slot * l->padded);
        o->gemm(o, &p);
    }
}

void lora_up(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *y,
             const void *h, int32_t n)
{
    const struct lora_stack *stack = lora_stack(l, layer, g);
    for (int32_t i = 0; i < stack->n_modules; i++) {
        const struct lora_module *m = &l->modules[stack->first + i];
        struct gemm p = {.m = n, .n = m->out, .k = l->padded, .a_type = o->act, .b_type = o->act, .c_type = o->act,
                         .a = at(h, o->act, (int64_t)m->slot * l->padded), .lda = stack->n_modules * l->padded,
                         .b = at(s->weights, o->act, m->b), .ldb = l->padded, .trans_b = true,
                         .c = (void *)at(y, o->act, m->column), .ldc = stack->ld_out,
                         .alpha = 1, .accumulate = true};
        o->gemm(o, &p);
    }
}

/* dh_i = scale dy_i B_i and dB_i += dy_i^T h_i (h carries the scale already), for each module of the stack. */
static void backward_up(const struct lora *l, struct ops *o, const struct lora_step *s, const struct lora_stack *stack,
                        const void *dy, const void *h, int32_t n)
{
    int32_t wide = stack->n_modules * l->padded;
    for (int32_t i = 0; i < stack->n_modules; i++) {
        const struct lora_module *m = &l->modules[stack->first + i];
        const void *dy_i = at(dy, o->act, m->column);
        struct gemm dh = {.m = n, .n = l->padded, .k = m->out, .a_type = o->act, .b_type = o->act, .c_type = o->act,
                          .a = dy_i, .lda = stack->ld_out, .b = at(s->weights, o->act, m->b), .ldb = l->padded,
                          .c = (void *)at(s->dh, o->act, (int64_t)m->slot * l->padded), .ldc = wide, .alpha = l->scale};
        struct gemm db = {.m = m->out, .n = l->padded, .k = n, .a_type = o->act, .b_type = o->act, .c_type = DT_F32,
                          .a = dy_i, .lda = stack->ld_out, .trans_a = true,
                          .b = at(h, o->act, (int64_t)m->slot * l->padded), .ldb = wide,
                          .c = s->grads + m->b, .ldc = l->padded, .alpha = 1, .accumulate = true};
        o->gemm(o, &dh);
        o->gemm(o, &db);
    }
}

/* dA += dh^T x and, unless dx is NULL, dx += dh A over `rows` rows of the stack that start at parameter offset a and column `column` of dh. */
static void backward_down(const struct lora *l, struct ops *o, const struct lora_step *s, const struct lora_stack *stack,
                          int64_t a, int32_t column, int32_t rows, void *dx, const void *x, int32_t n)
{
    int32_t wide = stack->n_modules * l->padded;
    const void *dh = at(s->dh, o->act, column);
    struct gemm da = {.m = rows, .n = stack->in, .k = n, .a_type = o->act, .b_type = o->act, .c_type = DT_F32,
                      .a = dh, .lda = wide, .trans_a = true, .b = x, .ldb = stack->in,
                      .c = s->grads + a, .ldc = stack->in, .alpha = 1, .accumulate = true};
    o->gemm(o, &da);
    if (dx == NULL)
        return;
    struct gemm back = {.m = n, .n = stack->in, .k = rows, .a_type = o->act, .b_type = o->act, .c_type = o->act,
                        .a = dh, .lda = wide, .b = at(s->weights, o->act, a), .ldb = stack->in,
                        .c = dx, .ldc = stack->in, .alpha = 1, .accumulate = true};
    o->gemm(o, &back);
}

void lora_backward(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *dx,
                   const void *dy, const void *x, const void *h, int32_t n)
{
    const struct lora_stack *stack = lora_stack(l, layer, g);
    if (stack->n_modules == 0)
        return;
    backward_up(l, o, s, stack, dy, h, n);
    if (!drops(l, s)) {
        backward_down(l, o, s, stack, stack->a, 0, stack->n_modules * l->padded, dx, x, n);
        return;
    }
    for (int32_t i = 0; i < stack->n_modules; i++) {
        const struct lora_module *m = &l->modules[stack->first + i];
        struct dropout key = drop_key(l, s, m);
        o->dropout_apply(o, s->xd, x, s->keys, n, m->in, &key, false);
        backward_down(l, o, s, stack, m->a, m->slot * l->padded, l->padded, NULL, s->xd, n);
        if (dx == NULL)
            continue;
        struct gemm back = {.m = n, .n = m->in, .k = l->padded, .a_type = o->act, .b_type = o->act, .c_type = o->act,
                            .a = at(s->dh, o->act, (int64_t)m->slot * l->padded), .lda = stack->n_modules * l->padded,
                            .b = at(s->weights, o->act, m->a), .ldb = m->in, .c = s->xd, .ldc = m->in, .alpha = 1};
        o->gemm(o, &back);
        o->dropout_apply(o, dx, s->xd, s->keys, n, m->in, &key, true);
    }
}
