/* test_attention.c - attention over mixes of spans, group sizes and head sizes; finite differences of the reference. */
#include "tests/ops/harness.h"

struct shape {
    int heads, kv_heads, q;
    int spans[12]; /* q_len of each, 0 ends */
    int more_keys; /* k_len - q_len of every span: generation, forward only */
};

static struct ref_attention reference_of(const struct attention *a, const struct span *spans)
{
    return (struct ref_attention){a->n, a->heads, a->kv_heads, a->head_size, a->ld_q, a->ld_k, a->ld_v, a->n_spans, a->scale, spans};
}

static int fill_spans(const struct shape *s, struct span *spans, int *n_keys, int *max_span)
{
    int n = 0, count = 0;
    *n_keys = *max_span = 0;
    for (; s->spans[count]; count++) {
        spans[count] = (struct span){n, s->spans[count], *n_keys, s->spans[count] + s->more_keys};
        n += s->spans[count];
        *n_keys += spans[count].k_len;
        *max_span = spans[count].k_len > *max_span ? spans[count].k_len : *max_span;
    }
    return count;
}

/* Are the first `cols` of each row of ld the same? */
static bool same_columns(const struct array *a, const struct array *b, int ld, int cols)
{
    double *x = array_get(a), *y = array_get(b);
    bool same = true;
    for (int64_t i = 0; i < a->count; i++)
        same &= i % ld >= cols || x[i] == y[i];
    free(x);
    free(y);
    return same;
}

/* Outputs carry the error of rounded probabilities in BF16: 2^-9 of values of the size of v, averaged. */
static void one_shape(struct ops *o, const struct shape *s)
{
    struct span spans[12];
    struct attention a = {.heads = s->heads, .kv_heads = s->kv_heads, .head_size = s->q, .scale = 1 / sqrtf((float)s->q)};
    int keys, hq = s->heads * s->q, kq = s->kv_heads * s->q;
    a.n_spans = fill_spans(s, spans, &keys, &a.max_span);
    a.n = spans[a.n_spans - 1].q0 + spans[a.n_spans - 1].q_len;
    a.ld_q = hq + (s->q % 16 ? 8 : 2 * kq); /* as within a fused qkv */
    a.ld_k = kq + 16;
    a.ld_v = kq + 8;
    struct span *on_device = test_upload(o, spans, sizeof(*spans) * (size_t)a.n_spans);
    a.spans = on_device;
    struct ops_dims dims = {.n = a.n, .max_span = a.max_span, .d = hq, .f = 1, .h = s->heads, .k = s->kv_heads, .q = s->q, .v = 1,
                            .r = 16, .head_chunk = 1};
    test_workspace(o, &dims);
    struct array q = array_random(o, (int64_t)a.n * a.ld_q, o->act, 1), k = array_random(o, (int64_t)keys * a.ld_k, o->act, 1);
    struct array v = array_random(o, (int64_t)keys * a.ld_v, o->act, 1), out = array_new(o, (int64_t)a.n * hq, o->act);
    struct array lse = array_new(o, (int64_t)a.n * s->heads, DT_F32);
    struct ref_attention r = reference_of(&a, spans);
    double *want = calloc((size_t)a.n * (size_t)hq, 8), *want_lse = calloc((size_t)a.n * (size_t)s->heads, 8);
    char what[128];
    snprintf(what, sizeof(what), "attention_forward %d/%d heads of %d, first span %d", s->heads, s->kv_heads, s->q, s->spans[0]);
    ref_attention_forward(&r, want, want_lse, q.host, k.host, v.host);
    o->attention_forward(o, &a, out.dev, lse.dev, q.dev, k.dev, v.dev);
    test_no_failure(o, what);
    double loose = o->act == DT_BF16 ? 8e-3 : 4e-6;
    array_compare(what, &out, want, 0, loose);
    array_compare("lse", &lse, want_lse, 1e-6, 4e-6);
    void *first = array_raw(&out), *first_lse = array_raw(&lse);
    o->attention_forward(o, &a, out.dev, NULL, q.dev, k.dev, v.dev);
    same_bits(what, &out, first);
    if (!s->more_keys) {
        struct array dout = array_random(o, (int64_t)a.n * hq, o->act, 1), dq = array_new(o, q.count, o->act);
        struct array dk = array_new(o, k.count, o->act), dv = array_new(o, v.count, o->act);
        struct array delta = array_new(o, lse.count, DT_F32);
        double *want_q = calloc((size_t)q.count, 8), *want_k = calloc((size_t)k.count, 8), *want_v = calloc((size_t)v.count, 8);
        ref_attention_backward(&r, want_q, want_k, want_v, dout.host, q.host, k.host, v.host);
        o->attention_backward(o, &a, dq.dev, dk.dev, dv.dev, dout.dev, out.dev, lse.dev, q.dev, k.dev, v.dev, delta.dev);
        test_no_failure(o, "attention_backward");
        double spread = o->act == DT_BF16 ? 0.012 : 4e-6, many = sqrt(s->heads / s->kv_heads);
        snprintf(what, sizeof(what), "dq %d/%d heads of %d, first span %d", s->heads, s->kv_heads, s->q, s->spans[0]);
        array_compare(what, &dq, want_q, 0, 2 * spread);
        what[1] = 'k';
        array_compare(what, &dk, want_k, spread / 2, 2 * spread * many);
        what[1] = 'v';
        array_compare(what, &dv, want_v, spread / 2, 2 * spread * many);
        void *q1 = array_raw(&dq), *k1 = array_raw(&dk), *v1 = array_raw(&dv);
        o->attention_backward(o, &a, dq.dev, dk.dev, dv.dev, dout.dev, out.dev, lse.dev, q.dev, k.dev, v.dev, delta.dev);
        same_bits("dq", &dq, q1);
        same_bits("dk", &dk, k1);
        same_bits("dv", &dv, v1);
        if (o->unified) { /* the CPU's own promise, beyond ops.h */
            o->attention_backward(o, &a, q.dev, k.dev, v.dev, dout.dev, out.dev, lse.dev, q.dev, k.dev, v.dev, delta.dev);
            CHECK(same_columns(&dq, &q, a.ld_q, hq) && same_columns(&dk, &k, a.ld_k, kq) && same_columns(&dv, &v, a.ld_v, kq));
        }
        free(q1);
        free(k1);
        free(v1);
        free(want_q);
        free(want_k);
        free(want_v);
        array_free(&dout);
        array_free(&dq);
        array_free(&dk);
        array_free(&dv);
        array_free(&delta);
    }
    free(first);
    free(first_lse);
    free(want);
    free(want_lse);
    array_free(&q);
    array_free(&k);
    array_free(&v);
    array_free(&out);
    array_free(&lse);
    o->release(o, on_device);
}

/* d loss / d x by central differences, loss = sum(dout out) of the reference forward. */
static void finite_differences(void)
{
    struct span spans[] = {{0, 5, 0, 5}, {5, 1, 5, 1}, {6, 3, 6, 3}};
    struct ref_attention r = {9, 4, 2, 8, 32, 16, 16, 3, 0.37, spans};
    enum { NQ = 9 * 32, NK = 9 * 16 };
    double x[NQ + 2 * NK], dout[NQ], out[NQ], got[NQ + 2 * NK];
    test_seed(7);
    for (int i = 0; i < NQ + 2 * NK; i++)
        x[i] = test_normal();
    for (int i = 0; i < NQ; i++)
        dout[i] = test_normal();
    ref_attention_backward(&r, got, got + NQ, got + NQ + NK, dout, x, x + NQ, x + NQ + NK);
    for (int i = 0; i < NQ + 2 * NK; i++) {
        double kept = x[i], loss[2] = {0};
        for (int side = 0; side < 2; side++) {
            x[i] = kept + (side ? 1e-5 : -1e-5);
            ref_attention_forward(&r, out, NULL, x, x + NQ, x + NQ + NK);
            for (int j = 0; j < NQ; j++)
                loss[side] += out[j] * dout[j];
        }
        x[i] = kept;
        CHECK_NEAR(got[i], (loss[1] - loss[0]) / 2e-5, 1e-7);
    }
}

/* A NaN key reaches every query that sees it, and no other span. */
static void nan_shows(struct ops *o)
{
    struct span spans[] = {{0, 70, 0, 70}, {70, 30, 70, 30}};
    struct span *on_device = test_upload(o, spans, sizeof(spans));
    struct attention a = {100, 3, 1, 16, 48, 16, 16, 0.25f, on_device, 2, 70};
    struct ops_dims dims = {.n = 100, .max_span = 70, .d = 48, .f = 1, .h = 3, .k = 1, .q = 16, .v = 1, .r = 16, .head_chunk = 1};
    test_workspace(o, &dims);
    struct array q = array_random(o, 4800, o->act, 1), k = array_random(o, 1600, o->act, 1), v = array_random(o, 1600, o->act, 1);
    struct array out = array_new(o, 4800, o->act), lse = array_new(o, 300, DT_F32), delta = array_new(o, 300, DT_F32);
    struct array dq = array_new(o, 4800, o->act), dk = array_new(o, 1600, o->act), dv = array_new(o, 1600, o->act);
    for (int kind = 0; kind < 3; kind++) {
        struct array *bad = kind == 2 ? &v : &k;
        double kept = bad->host[40 * 16 + 3];
        bad->host[40 * 16 + 3] = kind == 1 ? INFINITY : NAN;
        array_put(bad);
        o->attention_forward(o, &a, out.dev, lse.dev, q.dev, k.dev, v.dev);
        o->attention_backward(o, &a, dq.dev, dk.dev, dv.dev, q.dev, out.dev, lse.dev, q.dev, k.dev, v.dev, delta.dev);
        double *got = array_get(&out), *gq = array_get(&dq);
        int hidden = 0, leaked = 0;
        for (int i = 0; i < 100; i++)
            for (int h = 0; h < 3; h++) {
                bool seen = false, back = false;
                for (int j = 0; j < 16; j++) {
                    seen |= !isfinite(got[i * 48 + h * 16 + j]);
                    back |= !isfinite(gq[i * 48 + h * 16 + j]);
                }
                /* An infinite key makes a score of +inf or -inf: the latter is a probability of 0, rightly finite. */
                bool must = i >= 40 && i < 70 && (kind != 1 || q.host[i * 48 + h * 16 + 3] > 0);
                hidden += must && (!seen || !back);
                leaked += i >= 70 && (seen || back);
            }
        CHECK_INT(hidden, 0);
        CHECK_INT(leaked, 0);
        free(got);
        free(gq);
        bad->host[40 * 16 + 3] = kept;
        array_put(bad);
    }
    struct array *all[] = {&q, &k, &v, &out, &lse, &delta, &dq, &dk, &dv};
    for (int i = 0; i < 9; i++)
        array_free(all[i]);
    o->release(o, on_device);
}

int ops_test(struct ops *o)
{
    static const struct shape shapes[] = {
        {1, 1, 8, {1}, 0},
        {3, 1, 16, {2, 63, 1, 64}, 0},
        {9, 3, 64, {65, 20, 127}, 0},
        {4, 4, 80, {64, 1, 1, 30}, 0},
        {4, 2, 128, {100, 128}, 0},
        {3, 3, 64, {200, 7}, 0},
        {2, 1, 256, {70}, 0},
        {6, 2, 24, {33, 90, 5, 64, 129}, 0},
        {9, 3, 64, {1}, 126},
        {4, 2, 16, {1, 3, 65}, 61},
        {2, 2, 40, {64, 100}, 64},
    };
    static bool checked;
    if (!checked)
        finite_differences();
    checked = true;
    test_seed(3);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        one_shape(o, &shapes[i]);
    nan_shows(o);
    test_no_failure(o, "at the end");
    return check_failures;
}
