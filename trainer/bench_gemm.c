/* bench_gemm.c - `lorat bench gemm`: every product of a training step at the model's own shapes. The list of products is made
 * from the same tables that the model uses (lora.h), with their transposes, row distances and types. */
#include <math.h>
#include <stdio.h>

#include "trainer/bench.h"

struct list {
    const struct bench *b;
    struct bench_product *p; /* (BENCH_MOST_PRODUCTS) */
    int n;
};

static struct bench_product *add(struct list *l, const char *name, const char *what, int32_t m, int32_t n, int32_t k,
                                 double times)
{
    struct bench_product *p = &l->p[l->n];
    *p = (struct bench_product){.m = m, .n = n, .k = k, .times = times};
    snprintf(p->name, sizeof p->name, "%s %s", name, what);
    if (l->n + 1 < BENCH_MOST_PRODUCTS)
        l->n++;
    return p;
}

static void add_linear(struct list *l, const char *name, int32_t rows, int32_t out, int32_t in, double times)
{
    add(l, name, "forward", rows, out, in, times)->kind = LINEAR_FORWARD;
    add(l, name, "backward", rows, in, out, times)->kind = LINEAR_BACKWARD;
}

static void add_gemm(struct list *l, const char *name, const char *what, double times, struct gemm g)
{
    struct bench_product *p = add(l, name, what, g.m, g.n, g.k, times);
    g.a_type = g.b_type = l->b->ops->act;
    g.alpha = 1;
    p->kind = GEMM;
    p->gemm = g;
}

/* The six products of an adapter's group, as lora.c asks for them. */
static void add_group(struct list *l, enum lora_group group, const char *name)
{
    static const char *const kinds[LORA_KINDS] = {"q", "k", "v", "o", "gate", "up", "down"};
    const struct lora *lora = &l->b->lora;
    const struct lora_stack *s = lora_stack(lora, 0, group);
    int32_t rows = l->b->n, r = lora->padded, wide = s->n_modules * r;
    enum dtype act = l->b->ops->act;
    double layers = l->b->facts.l;
    add_gemm(
        l, name, "h = x A'", layers,
        (struct gemm){.m = rows, .n = wide, .k = s->in, .lda = s->in, .ldb = s->in, .ldc = wide, .trans_b = true, .c_type = act});
    for (int32_t i = 0; i < s->n_modules; i++) {
        const struct lora_module *m = &lora->modules[s->first + i];
        const char *kind = kinds[m->kind];
        if (i > 0 && m->out == lora->modules[s->first + i - 1].out)
            continue; /* v as k, up as gate */
        double times = layers * (i + 1 < s->n_modules && m->out == lora->modules[s->first + i + 1].out ? 2 : 1);
        add_gemm(l, kind, "y += h B'", times,
                 (struct gemm){.m = rows,
                               .n = m->out,
                               .k = r,
                               .lda = wide,
                               .ldb = r,
                               .ldc = s->ld_out,
                               .trans_b = true,
                               .accumulate = true,
                               .c_type = act});
        add_gemm(l, kind, "dh = dy B", times,
                 (struct gemm){.m = rows, .n = r, .k = m->out, .lda = s->ld_out, .ldb = r, .ldc = wide, .c_type = act});
        add_gemm(l, kind, "dB += dy' h", times,
                 (struct gemm){.m = m->out,
                               .n = r,
                               .k = rows,
                               .lda = s->ld_out,
                               .ldb = wide,
                               .ldc = r,
                               .trans_a = true,
                               .accumulate = true,
                               .c_type = DT_F32});
    }
    add_gemm(l, name, "dA += dh' x", layers,
             (struct gemm){.m = wide,
                           .n = s->in,
                           .k = rows,
                           .lda = wide,
                           .ldb = s->in,
                           .ldc = s->in,
                           .trans_a = true,
                           .accumulate = true,
                           .c_type = DT_F32});
    add_gemm(l, name, "dx += dh A", layers,
             (struct gemm){
                 .m = rows, .n = s->in, .k = wide, .lda = wide, .ldb = s->in, .ldc = s->in, .accumulate = true, .c_type = act});
}

int bench_list_products(const struct bench *b, struct bench_product out[BENCH_MOST_PRODUCTS])
{
    struct list list = {.b = b, .p = out}, *l = &list;
    const struct facts *f = &l->b->facts;
    int32_t hq = f->h * f->q, n = l->b->n;
    double layers = f->l;
    add_linear(l, "qkv", n, hq + 2 * f->k * f->q, f->d, layers);
    add_linear(l, "o", n, f->d, hq, layers);
    add_linear(l, "gate_up", n, 2 * f->f, f->d, layers);
    add_linear(l, "down", n, f->d, f->f, layers);
    add_linear(l, "head", l->b->head_chunk, f->v, f->d, (double)n / l->b->head_chunk);
    add_group(l, GROUP_QKV, "qkv");
    add_group(l, GROUP_O, "o");
    add_group(l, GROUP_GATE_UP, "gate_up");
    add_group(l, GROUP_DOWN, "down");
    return l->n;
}

static size_t cells(int32_t rows, int32_t ld, enum dtype t) { return (size_t)rows * (size_t)ld * dtype_size(t); }

/* c, a, b */
static void operand_sizes(const struct bench_product *p, enum dtype act, size_t sizes[3])
{
    const struct gemm *g = &p->gemm;
    if (p->kind == GEMM) {
        sizes[0] = cells(g->m, g->ldc, g->c_type);
        sizes[1] = cells(g->trans_a ? g->k : g->m, g->lda, act);
        sizes[2] = cells(g->trans_b ? g->n : g->k, g->ldb, act);
        return;
    }
    sizes[0] = cells(p->m, p->n, act);
    sizes[1] = cells(p->m, p->k, act);
    sizes[2] = cells(p->n, p->k, act);
}

static void run(const struct bench_call *c, char **at)
{
    const struct bench_product *p = c->arg;
    struct ops *o = c->b->ops;
    struct gemm g = p->gemm;
    struct weight w = {at[2], o->act, p->n, p->k};
    switch (p->kind) {
    case LINEAR_FORWARD:
        o->linear_forward(o, at[0], at[1], &w, NULL, p->m);
        break;
    case LINEAR_BACKWARD:
        w.out = p->k;
        w.in = p->n;
        o->linear_backward(o, at[0], at[1], &w, p->m, false);
        break;
    case GEMM:
        g.c = at[0];
        g.a = at[1];
        g.b = at[2];
        o->gemm(o, &g);
        break;
    }
}

static int print(const struct bench *b, const struct bench_product *p, double seconds, double best, double all, struct err *e)
{
    struct bench_row r;
    double flop = 2.0 * p->m * p->n * p->k;
    row_begin(&r, b, "gemm", p->name, 22);
    row_number(&r, "m", "%8.0f", p->m);
    row_number(&r, "n", " x %7.0f", p->n);
    row_number(&r, "k", " x %7.0f", p->k);
    row_number(&r, "us", "%12.1f us", 1e6 * seconds);
    row_number(&r, "tflop_s", "%10.2f TFLOP/s", flop / seconds / 1e12);
    row_number(&r, "best_share", "%6.0f %% of the best", (b->json ? 1 : 100) * flop / seconds / best);
    row_number(&r, "step_share", "%8.2f %% of all products' time", (b->json ? 1 : 100) * p->times * seconds / all);
    return row_end(&r, e);
}

struct bench_call bench_product_call(const struct bench_product *product, const struct bench *b, const struct bench_pool *pool)
{
    struct bench_call c = {.b = b, .pool = pool, .run = run, .arg = product};
    operand_sizes(product, b->ops->act, c.sizes);
    return c;
}

int bench_gemm(struct bench *b, struct err *e)
{
    struct bench_product p[BENCH_MOST_PRODUCTS];
    struct bench_pool pool = {0};
    double seconds[BENCH_MOST_PRODUCTS] = {0}, best = 0, all = 0;
    size_t least = 1;
    int rc = 0, n = bench_list_products(b, p);
    for (int i = 0; i < n; i++) {
        struct bench_call c = bench_product_call(&p[i], b, NULL);
        least = pool_need(&c) > least ? pool_need(&c) : least;
    }
    TRY_DONE(pool_open(&pool, b, least, -1, e));
    for (int i = 0; i < n; i++) {
        struct bench_call c = bench_product_call(&p[i], b, &pool);
        struct bench_time t;
        if (!bench_wanted(b, p[i].name))
            continue;
        if (pool_time(&c, &t, e) != 0) {
            rc = err_prefix(e, "%s", p[i].name);
            goto done;
        }
        seconds[i] = t.median_s;
        best = fmax(best, 2.0 * p[i].m * p[i].n * p[i].k / t.median_s);
        all += p[i].times * t.median_s;
    }
    for (int i = 0; i < n; i++)
        if (seconds[i] > 0)
            TRY_DONE(print(b, &p[i], seconds[i], best, all, e));
    if (best == 0)
        rc = err_set(e, ERR_USAGE, "lorat bench: --only %.60s: no product of this name. Leave --only out to see all",
                     options_value(b->options, "only"));
done:
    pool_close(&pool);
    return rc;
}
