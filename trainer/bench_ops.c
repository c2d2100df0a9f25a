/* bench_ops.c - `lorat bench ops`: every operation that is not a product, at the model's own sizes. Bytes are those that must
 * move once (each input read once, each output written once), so that a rate above the copy's means that a cache helped. Legend
 * as in ops.h; a: bytes of an activation, c: rows of a head chunk, P: trainable parameters. */
#include <math.h>
#include <stdio.h>

#include "trainer/base/mem.h"
#include "trainer/bench.h"

#define RUN(name) static void name(const struct bench_call *c, char **p)
#define OPS       struct ops *o = c->b->ops
#define FACTS     const struct facts *f = &c->b->facts

static size_t act_size(const struct bench *b) { return dtype_size(b->ops->act); }
/* Width of q, k and v together, and of q and k. */
static int32_t qkv_of(const struct facts *f) { return (f->h + 2 * f->k) * f->q; }
static int32_t qk_of(const struct facts *f) { return (f->h + f->k) * f->q; }

RUN(run_copy)
{
    int64_t elements = (int64_t)(c->sizes[0] / act_size(c->b));
    int32_t cols = 4096, rows = (int32_t)(elements / cols);
    c->b->ops->copy_2d(c->b->ops, p[0], cols, p[1], cols, rows, cols);
}
RUN(run_zero) { c->b->ops->zero(c->b->ops, p[0], c->sizes[0]); }
RUN(run_cast) { c->b->ops->cast(c->b->ops, p[0], c->b->ops->act, p[1], DT_F32, c->b->lora.count); }
RUN(run_copy_2d)
{
    FACTS;
    c->b->ops->copy_2d(c->b->ops, p[0], qk_of(f), p[1], qkv_of(f), c->b->n, qk_of(f));
}
RUN(run_gather)
{
    c->b->ops->gather_rows(c->b->ops, p[0], c->b->facts.d, p[1], c->b->facts.d, c->pool->index, c->b->n, c->b->facts.d);
}
RUN(run_scatter)
{
    c->b->ops->scatter_rows(c->b->ops, p[0], c->b->facts.d, p[1], c->b->facts.d, c->pool->index, c->b->n, c->b->facts.d);
}
RUN(run_add) { c->b->ops->add(c->b->ops, p[0], p[1], (int64_t)c->b->n * c->b->facts.d); }
RUN(run_embed)
{
    struct weight w = {p[1], c->b->ops->act, c->b->facts.v, c->b->facts.d};
    c->b->ops->embed_forward(c->b->ops, p[0], &w, c->pool->tokens, c->b->n);
}
RUN(run_rmsnorm_forward)
{
    OPS;
    FACTS;
    o->rmsnorm_forward(o, p[0], p[1], p[2], p[3], p[4], c->b->n, f->d, f->norm_eps);
}
RUN(run_rmsnorm_backward)
{
    OPS;
    FACTS;
    o->rmsnorm_backward(o, p[0], p[1], p[2], p[3], c->b->n, f->d, f->norm_eps);
}
RUN(run_head_norm_forward)
{
    OPS;
    FACTS;
    o->head_norm_forward(o, p[0], qkv_of(f), p[1], qk_of(f), p[2], c->b->n, f->h, f->q, f->norm_eps);
}
RUN(run_head_norm_backward)
{
    OPS;
    FACTS;
    o->head_norm_backward(o, p[0], qkv_of(f), p[0], qkv_of(f), p[1], qk_of(f), p[2], c->b->n, f->h, f->q, f->norm_eps);
}
RUN(run_rope)
{
    OPS;
    FACTS;
    o->rope(o, p[0], qkv_of(f), c->pool->positions, (const float *)p[1], c->b->n, f->h + f->k, f->q, false);
}
RUN(run_swiglu_forward) { c->b->ops->swiglu_forward(c->b->ops, p[0], p[1], c->b->n, c->b->facts.f); }
RUN(run_swiglu_backward)
{
    c->b->ops->swiglu_backward(c->b->ops, p[1], p[0], p[1], c->b->n, c->b->facts.f);
} /* in place, as in the model */
RUN(run_dropout)
{
    OPS;
    struct dropout d = {.seed = 1, .step = 2, .module = 3, .p = 0.1f};
    o->dropout_apply(o, p[0], p[1], (const uint32_t *)c->pool->index, c->b->n, c->b->facts.d, &d, false);
}
static void cross_entropy(const struct bench_call *c, char **p, bool backward)
{
    OPS;
    FACTS;
    o->cross_entropy(o, (float *)p[1], NULL, p[0], f->v, c->pool->tokens, (const float *)p[2], c->b->head_chunk, f->v, backward);
}
RUN(run_cross_entropy) { cross_entropy(c, p, false); }
RUN(run_cross_entropy_backward) { cross_entropy(c, p, true); }
RUN(run_argmax) { c->b->ops->argmax(c->b->ops, (int32_t *)p[1], p[0], c->b->facts.v, c->b->head_chunk, c->b->facts.v); }
RUN(run_weight_sum) { c->b->ops->weight_sum(c->b->ops, (float *)p[1], (const float *)p[0], c->b->n); }
RUN(run_grad_stats) { c->b->ops->grad_stats(c->b->ops, (float *)p[1], (const float *)p[0], c->b->lora.count); }
RUN(run_adamw)
{
    struct adamw a = {
        .lr = 1e-5f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .grad_scale = 1, .bias1 = 0.1f, .bias2 = 0.001f};
    c->b->ops->adamw_update(c->b->ops, (float *)p[0], (const float *)p[1], (float *)p[2], (float *)p[3], c->b->lora.count, &a);
}

static struct attention attention_of(const struct bench_call *c)
{
    FACTS;
    int32_t ld = qkv_of(f);
    return (struct attention){.n = c->b->n,
                              .heads = f->h,
                              .kv_heads = f->k,
                              .head_size = f->q,
                              .ld_q = ld,
                              .ld_k = ld,
                              .ld_v = ld,
                              .scale = 1.0f / sqrtf((float)f->q),
                              .spans = c->pool->spans,
                              .n_spans = c->pool->n_spans,
                              .max_span = c->b->c.data.sequence_length,
                              .square = true};
}
RUN(run_attention_forward)
{
    OPS;
    FACTS;
    struct attention a = attention_of(c);
    size_t k = (size_t)(f->h * f->q) * act_size(c->b), v = (size_t)qk_of(f) * act_size(c->b);
    o->attention_forward(o, &a, p[0], (float *)p[1], p[2], p[2] + k, p[2] + v);
}
/* out and lse are not those of q, k, v: the time does not depend on it. */
RUN(run_attention_backward)
{
    OPS;
    FACTS;
    struct attention a = attention_of(c);
    size_t k = (size_t)(f->h * f->q) * act_size(c->b), v = (size_t)qk_of(f) * act_size(c->b);
    o->attention_backward(o, &a, p[3], p[3] + k, p[3] + v, p[4], p[0], (const float *)p[1], p[2], p[2] + k, p[2] + v,
                          (float *)p[5]);
}

int bench_list_ops(const struct bench *b, struct bench_op out[BENCH_MOST_OPS])
{
    const struct facts *f = &b->facts;
    size_t a = act_size(b), n = (size_t)b->n, d = (size_t)f->d, ff = (size_t)f->f, v = (size_t)f->v, c = (size_t)b->head_chunk,
           p = (size_t)b->lora.count;
    size_t hq = (size_t)f->h * (size_t)f->q, qk = (size_t)qk_of(f), qkv = (size_t)qkv_of(f), nd = n * d * a,
           seq = (size_t)b->c.data.sequence_length;
    size_t lse = n * (size_t)f->h * 4, q = (size_t)f->q, table = seq * q * 4, pairs = 0;
    for (size_t i = 0; i < n; i++)
        pairs += i % seq + 1;
    double rows = (double)nd, gate = (double)(n * ff * a), attention = (double)pairs * (double)hq, flat = (double)p;
    const struct bench_op all[] = {
        {"zero", "4 P", run_zero, 4 * flat, 0, {4 * p}},
        {"cast", "(4 + a) P", run_cast, (4 + (double)a) * flat, 0, {a * p, 4 * p}},
        {"copy_2d", "2 n (H+K)Q a", run_copy_2d, 2 * (double)(n * qk * a), 0, {n * qk * a, n * qkv * a}},
        {"gather_rows", "2 n D a", run_gather, 2 * rows, 0, {nd, nd}},
        {"scatter_rows", "2 n D a", run_scatter, 2 * rows, 0, {nd, nd}},
        {"add", "3 n D a", run_add, 3 * rows, 0, {nd, nd}},
        {"embed_forward", "2 n D a", run_embed, 2 * rows, 0, {nd, v * d * a}},
        {"rmsnorm_forward", "4 n D a", run_rmsnorm_forward, 4 * rows, 0, {nd, nd, nd, nd, d * a}},
        {"rmsnorm_backward", "4 n D a", run_rmsnorm_backward, 4 * rows, 0, {nd, nd, nd, d * a}},
        {"head_norm_forward", "2 n HQ a", run_head_norm_forward, 2 * (double)(n * hq * a), 0, {n * qkv * a, n * qk * a, q * a}},
        {"head_norm_backward", "3 n HQ a", run_head_norm_backward, 3 * (double)(n * hq * a), 0, {n * qkv * a, n * qk * a, q * a}},
        {"rope", "2 n (H+K)Q a", run_rope, 2 * (double)(n * qk * a), 0, {n * qkv * a, table}},
        {"swiglu_forward", "3 n F a", run_swiglu_forward, 3 * gate, 0, {n * ff * a, 2 * n * ff * a}},
        {"swiglu_backward", "5 n F a", run_swiglu_backward, 5 * gate, 0, {n * ff * a, 2 * n * ff * a}},
        {"dropout_apply", "2 n D a", run_dropout, 2 * rows, 0, {nd, nd}},
        {"cross_entropy", "c V a", run_cross_entropy, (double)(c * v * a), 0, {c * v * a, 256, c * 4}},
        {"cross_entropy_backward", "2 c V a", run_cross_entropy_backward, 2 * (double)(c * v * a), 0, {c * v * a, 256, c * 4}},
        {"argmax", "c V a", run_argmax, (double)(c * v * a), 0, {c * v * a, c * 4}},
        {"weight_sum", "4 n", run_weight_sum, 4 * (double)n, 0, {n * 4, 256}},
        {"grad_stats", "4 P", run_grad_stats, 4 * flat, 0, {4 * p, 256}},
        {"adamw_update", "28 P", run_adamw, 28 * flat, 0, {4 * p, 4 * p, 4 * p, 4 * p}},
        {"attention_forward", "4 HQ a pair", run_attention_forward, 0, 4 * attention, {n * hq * a, lse, n * qkv * a}},
        {"attention_backward",
         "10 HQ a pair",
         run_attention_backward,
         0,
         10 * attention,
         {n * hq * a, lse, n * qkv * a, n * qkv * a, n * hq * a, lse}},
    };
    int count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (bench_wanted(b, all[i].name) &&
            (f->qk_norm || (all[i].run != run_head_norm_forward && all[i].run != run_head_norm_backward)))
            out[count++] = all[i];
    return count;
}

static int print(const struct bench *b, const struct bench_op *row, const struct bench_time *t, double copy, struct err *e)
{
    struct bench_row r;
    row_begin(&r, b, "ops", row->name, 24);
    row_text(&r, "formula", "%-14s", row->formula);
    row_number(&r, "us", "%12.1f us", 1e6 * t->median_s);
    row_number(&r, "bytes", "%12.2f MB", row->bytes > 0 ? (b->json ? row->bytes : row->bytes / 1e6) : NAN);
    row_number(&r, "gb_s", "%10.1f GB/s", row->bytes > 0 ? row->bytes / t->median_s / 1e9 : NAN);
    row_number(&r, "copy_share", "%7.0f %% of a copy",
               row->bytes > 0 && copy > 0 ? (b->json ? 1 : 100) * row->bytes / t->median_s / copy : NAN);
    row_number(&r, "tflop_s", "%10.2f TFLOP/s", row->flop > 0 ? row->flop / t->median_s / 1e12 : NAN);
    return row_end(&r, e);
}

/* The yardstick: bytes a second, read and written, of a plain copy that no cache can hold. */
static int measure_copy(const struct bench *b, const struct bench_pool *pool, double *rate, struct err *e)
{
    size_t bytes = pool->bytes / 2 / 65536 * 65536;
    struct bench_call c = {.b = b, .pool = pool, .run = run_copy, .sizes = {bytes, bytes}};
    struct bench_op row = {.name = "device copy", .formula = "2 bytes", .bytes = 2 * (double)bytes};
    struct bench_time t;
    TRY(pool_time(&c, &t, e));
    *rate = row.bytes / t.median_s;
    return print(b, &row, &t, *rate, e);
}

struct bench_call bench_op_call(const struct bench_op *op, const struct bench *b, const struct bench_pool *pool)
{
    struct bench_call c = {.b = b, .pool = pool, .run = op->run};
    for (int k = 0; k < BENCH_MOST_OPERANDS; k++)
        c.sizes[k] = op->sizes[k];
    return c;
}

int bench_ops(struct bench *b, struct err *e)
{
    struct bench_op rows[BENCH_MOST_OPS];
    struct bench_pool pool = {0};
    int n = bench_list_ops(b, rows), rc = 0;
    size_t least = 2 * 65536; /* two operands of the plain copy */
    double copy = 0;
    if (n == 0)
        FAIL(e, ERR_USAGE, "lorat bench: --only %.60s: no operation of this name. Leave --only out to see all",
             options_value(b->options, "only"));
    for (int i = 0; i < n; i++) {
        struct bench_call c = bench_op_call(&rows[i], b, NULL);
        least = pool_need(&c) > least ? pool_need(&c) : least;
    }
    TRY_DONE(pool_open(&pool, b, least, 0, e));
    TRY_DONE(measure_copy(b, &pool, &copy, e));
    for (int i = 0; i < n; i++) {
        struct bench_call c = bench_op_call(&rows[i], b, &pool);
        struct bench_time t;
        if (pool_time(&c, &t, e) != 0) {
            rc = err_prefix(e, "%s", rows[i].name);
            goto done;
        }
        TRY_DONE(print(b, &rows[i], &t, copy, e));
    }
done:
    pool_close(&pool);
    return rc;
}
