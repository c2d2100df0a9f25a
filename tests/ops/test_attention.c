/* test_attention.c - attention over mixes of spans, group sizes and head sizes; finite differences of the reference.
 *
 * The CUDA backend has a kernel for every shape and a fast one for some; $LORAT_ATTENTION forces one (kernels/cuda/attention.cu).
 * Under "mma" a few shapes of the fast one are run and others must be refused: so it is known that it is what "auto" takes. Under
 * "plain" only BF16 is run, since F32 never takes another. */
#include "tests/ops/harness.h"

enum { MOST_SPANS = 40 };
struct shape {
    int heads, kv_heads, q;
    int spans[MOST_SPANS]; /* q_len of each, 0 ends */
    int more_keys;         /* k_len - q_len of every span: generation, forward only */
    int odd;               /* added to the row distances: rows do not lie on 16 bytes */
    bool bf16;             /* in BF16 alone: what F32 would repeat of a smaller shape */
};

/* A shape's operands, and what the reference makes of them. */
struct problem {
    struct ops *o;
    const struct shape *s;
    struct span spans[MOST_SPANS], *on_device;
    struct attention a;
    struct ref_attention ref;
    int keys, hq, kq; /* key tokens; columns of q and of k */
    struct array q, k, v, out, lse;
    double *want, *want_lse;
};

static bool forced(const char *path)
{
    const char *want = getenv("LORAT_ATTENTION");
    return want && strcmp(path, want) == 0;
}

static bool is_run(const struct ops *o, const struct shape *s)
{
    if (forced("mma"))
        return o->act == DT_BF16 && (s->q == 64 || s->q == 128) && !s->odd && !s->bf16;
    return o->act == DT_BF16 || (!s->bf16 && !forced("plain"));
}

static void describe(char what[128], const struct problem *p, const char *name)
{
    snprintf(what, 128, "%s %d/%d heads of %d, first span %d and %d keys", name, p->s->heads, p->s->kv_heads, p->s->q,
             p->s->spans[0], p->s->more_keys);
}

static void fill_spans(struct problem *p)
{
    struct attention *a = &p->a;
    for (const int *len = p->s->spans; a->n_spans < MOST_SPANS && len[a->n_spans]; a->n_spans++) {
        struct span *to = &p->spans[a->n_spans];
        *to = (struct span){a->n, len[a->n_spans], p->keys, len[a->n_spans] + p->s->more_keys};
        a->n += to->q_len;
        p->keys += to->k_len;
        a->max_span = to->k_len > a->max_span ? to->k_len : a->max_span;
    }
    p->on_device = test_upload(p->o, p->spans, sizeof(*p->spans) * (size_t)a->n_spans);
    a->spans = p->on_device;
}

static void problem_open(struct problem *p, struct ops *o, const struct shape *s)
{
    int hq = s->heads * s->q, kq = s->kv_heads * s->q;
    *p = (struct problem){.o = o, .s = s, .hq = hq, .kq = kq};
    p->a = (struct attention){.heads = s->heads, .kv_heads = s->kv_heads, .head_size = s->q, .scale = 1 / sqrtf((float)s->q)};
    fill_spans(p);
    struct attention *a = &p->a;
    a->square = s->more_keys == 0;
    a->ld_q = hq + (s->q % 16 ? 8 : 2 * kq) + s->odd; /* as within a fused qkv */
    a->ld_k = kq + 16 + s->odd;
    a->ld_v = kq + 8 + s->odd;
    struct ops_dims dims = {.n = a->n,
                            .max_span = a->max_span,
                            .d = hq,
                            .f = 1,
                            .h = s->heads,
                            .k = s->kv_heads,
                            .q = s->q,
                            .v = 1,
                            .r = 16,
                            .head_chunk = 1};
    test_workspace(o, &dims);
    p->q = array_random(o, (int64_t)a->n * a->ld_q, o->act, 1);
    p->k = array_random(o, (int64_t)p->keys * a->ld_k, o->act, 1);
    p->v = array_random(o, (int64_t)p->keys * a->ld_v, o->act, 1);
    p->out = array_new(o, (int64_t)a->n * hq, o->act);
    p->lse = array_new(o, (int64_t)a->n * s->heads, DT_F32);
    p->want = calloc((size_t)p->out.count, 8);
    p->want_lse = calloc((size_t)p->lse.count, 8);
    p->ref = (struct ref_attention){a->n,    a->heads, a->kv_heads, a->head_size, a->ld_q,
                                    a->ld_k, a->ld_v,  a->n_spans,  a->scale,     p->spans};
    ref_attention_forward(&p->ref, p->want, p->want_lse, p->q.host, p->k.host, p->v.host);
}

static void problem_close(struct problem *p)
{
    struct array *all[] = {&p->q, &p->k, &p->v, &p->out, &p->lse};
    for (int i = 0; i < 5; i++)
        array_free(all[i]);
    free(p->want);
    free(p->want_lse);
    p->o->release(p->o, p->on_device);
}

/* Outputs carry the error of rounded probabilities in BF16: 2^-9 of values of the size of v, averaged. */
static void forward_matches(struct problem *p)
{
    char what[128];
    describe(what, p, "attention_forward");
    p->o->attention_forward(p->o, &p->a, p->out.dev, p->lse.dev, p->q.dev, p->k.dev, p->v.dev);
    test_no_failure(p->o, what);
    array_compare(what, &p->out, p->want, 0, p->o->act == DT_BF16 ? 8e-3 : 4e-6);
    describe(what, p, "lse");
    array_compare(what, &p->lse, p->want_lse, 1e-6, 4e-6);
    void *first = array_raw(&p->out);
    p->o->attention_forward(p->o, &p->a, p->out.dev, p->lse.dev, p->q.dev, p->k.dev, p->v.dev);
    same_bits(what, &p->out, first);
    free(first);
    /* Without lse another kernel may be at work (never cuDNN's): right, not the same bits. */
    describe(what, p, "attention_forward without lse");
    p->o->attention_forward(p->o, &p->a, p->out.dev, NULL, p->q.dev, p->k.dev, p->v.dev);
    array_compare(what, &p->out, p->want, 0, p->o->act == DT_BF16 ? 8e-3 : 4e-6);
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

/* After forward_matches, whose out and lse it takes. Ends with q, k and v overwritten where a backend allows that. */
static void backward_matches(struct problem *p)
{
    struct ops *o = p->o;
    const struct attention *a = &p->a;
    struct array dout = array_random(o, p->out.count, o->act, 1), delta = array_new(o, p->lse.count, DT_F32);
    struct array d[3] = {array_new(o, p->q.count, o->act), array_new(o, p->k.count, o->act), array_new(o, p->v.count, o->act)};
    const struct array *x[3] = {&p->q, &p->k, &p->v};
    double *want[3], spread = o->act == DT_BF16 ? 0.012 : 4e-6, many = sqrt(a->heads / a->kv_heads);
    void *first[3];
    char what[3][128];
    for (int i = 0; i < 3; i++)
        want[i] = calloc((size_t)d[i].count, 8);
    ref_attention_backward(&p->ref, want[0], want[1], want[2], dout.host, p->q.host, p->k.host, p->v.host);
    for (int run = 0; run < 2; run++) {
        o->attention_backward(o, a, d[0].dev, d[1].dev, d[2].dev, dout.dev, p->out.dev, p->lse.dev, p->q.dev, p->k.dev, p->v.dev,
                              delta.dev);
        test_no_failure(o, "attention_backward");
        for (int i = 0; i < 3; i++) {
            const char *const names[3] = {"dq", "dk", "dv"};
            describe(what[i], p, names[i]);
            if (run == 0) {
                array_compare(what[i], &d[i], want[i], i ? spread / 2 : 0, 2 * spread * (i ? many : 1));
                first[i] = array_raw(&d[i]);
            } else
                same_bits(what[i], &d[i], first[i]);
        }
    }
    if (o->unified) { /* the CPU's own promise, beyond ops.h */
        o->attention_backward(o, a, p->q.dev, p->k.dev, p->v.dev, dout.dev, p->out.dev, p->lse.dev, p->q.dev, p->k.dev, p->v.dev,
                              delta.dev);
        CHECK(same_columns(&d[0], x[0], a->ld_q, p->hq) && same_columns(&d[1], x[1], a->ld_k, p->kq) &&
              same_columns(&d[2], x[2], a->ld_v, p->kq));
    }
    for (int i = 0; i < 3; i++) {
        free(want[i]);
        free(first[i]);
        array_free(&d[i]);
    }
    array_free(&dout);
    array_free(&delta);
}

static void one_shape(struct ops *o, const struct shape *s)
{
    struct problem p;
    if (!is_run(o, s))
        return;
    problem_open(&p, o, s);
    forward_matches(&p);
    if (!s->more_keys)
        backward_matches(&p);
    problem_close(&p);
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

/* A NaN key or value, or an infinite key, reaches every query that sees it, and no other span. */
static void nan_shows(struct ops *o, int size)
{
    enum { N = 100, HEADS = 3, BAD = 40, FIRST = 70 }; /* of the second span */
    struct span spans[] = {{0, FIRST, 0, FIRST}, {FIRST, N - FIRST, FIRST, N - FIRST}};
    struct span *on_device = test_upload(o, spans, sizeof(spans));
    int hq = HEADS * size;
    struct attention a = {.n = N,
                          .heads = HEADS,
                          .kv_heads = 1,
                          .head_size = size,
                          .ld_q = hq,
                          .ld_k = size,
                          .ld_v = size,
                          .scale = 1 / sqrtf((float)size),
                          .spans = on_device,
                          .n_spans = 2,
                          .max_span = FIRST};
    struct ops_dims dims = {
        .n = N, .max_span = FIRST, .d = hq, .f = 1, .h = HEADS, .k = 1, .q = size, .v = 1, .r = 16, .head_chunk = 1};
    test_workspace(o, &dims);
    struct array q = array_random(o, N * hq, o->act, 1), k = array_random(o, N * size, o->act, 1),
                 v = array_random(o, N * size, o->act, 1);
    struct array out = array_new(o, N * hq, o->act), lse = array_new(o, N * HEADS, DT_F32),
                 delta = array_new(o, N * HEADS, DT_F32);
    struct array dq = array_new(o, N * hq, o->act), dk = array_new(o, N * size, o->act), dv = array_new(o, N * size, o->act);
    for (int kind = 0; kind < 3; kind++) {
        struct array *bad = kind == 2 ? &v : &k;
        double kept = bad->host[BAD * size + 3];
        bad->host[BAD * size + 3] = kind == 1 ? INFINITY : NAN;
        array_put(bad);
        o->attention_forward(o, &a, out.dev, lse.dev, q.dev, k.dev, v.dev);
        o->attention_backward(o, &a, dq.dev, dk.dev, dv.dev, q.dev, out.dev, lse.dev, q.dev, k.dev, v.dev, delta.dev);
        double *got = array_get(&out), *gq = array_get(&dq), *gk = array_get(&dk), *gv = array_get(&dv);
        int hidden = 0, leaked = 0;
        for (int i = 0; i < N; i++)
            for (int h = 0; h < HEADS; h++) {
                bool seen = false, back = false, other = false;
                for (int j = 0; j < size; j++) {
                    seen |= !isfinite(got[i * hq + h * size + j]);
                    back |= !isfinite(gq[i * hq + h * size + j]);
                    other |= !isfinite(gk[i * size + j]) || !isfinite(gv[i * size + j]);
                }
                /* An infinite key makes a score of +inf or -inf: the latter is a probability of 0, rightly finite. */
                bool must = i >= BAD && i < FIRST && (kind != 1 || q.host[i * hq + h * size + 3] > 0);
                hidden += must && (!seen || !back);
                leaked += i >= FIRST && (seen || back || other);
            }
        CHECK_INT(hidden, 0);
        CHECK_INT(leaked, 0);
        double *gone[] = {got, gq, gk, gv};
        for (int i = 0; i < 4; i++)
            free(gone[i]);
        bad->host[BAD * size + 3] = kept;
        array_put(bad);
    }
    struct array *all[] = {&q, &k, &v, &out, &lse, &delta, &dq, &dk, &dv};
    for (int i = 0; i < 9; i++)
        array_free(all[i]);
    o->release(o, on_device);
}

/* A wish for the fast kernel where it cannot be is an error that says why. Last: the failure stays. */
static void wish_refused(struct ops *o)
{
    static const struct shape narrow = {1, 1, 8, {1}, 0, 0, false};
    struct problem p;
    struct err e = {0};
    problem_open(&p, o, &narrow);
    o->attention_forward(o, &p.a, p.out.dev, p.lse.dev, p.q.dev, p.k.dev, p.v.dev);
    CHECK(o->sync(o, &e) != 0);
    CHECK_INT(e.code, ERR_DEVICE);
    CHECK_HAS(e.text, "head size 8");
    problem_close(&p);
}

int ops_test(struct ops *o)
{
    static const struct shape shapes[] = {
        {1, 1, 8, {1}, 0, 0, false},
        {3, 1, 16, {2, 63, 1, 64}, 0, 0, false},
        {9, 3, 64, {65, 20, 127}, 0, 0, false},
        {4, 4, 80, {64, 1, 1, 30}, 0, 0, false},
        {4, 2, 128, {100, 128}, 0, 0, false},
        {3, 3, 64, {200, 7}, 0, 0, false},
        {2, 1, 256, {70}, 0, 0, false},
        {6, 2, 24, {33, 90, 5, 64, 129}, 0, 0, false},
        {9, 3, 64, {1}, 126, 0, false},
        {4, 2, 16, {1, 3, 65}, 61, 0, false},
        {2, 2, 40, {64, 100}, 64, 0, false},
        /* around the edges of tiles of 16, 32 and 64 rows */
        {2, 1, 8, {1, 15, 16, 17, 31, 32, 33, 63, 65, 127, 130, 257}, 0, 0, false},
        {2, 2, 64, {1, 15, 16, 17, 63, 64, 65, 127}, 0, 0, true},
        {2, 1, 64, {128, 129, 130, 31, 33}, 0, 0, true},
        {2, 1, 128, {17, 1, 63, 64, 65, 129, 15, 130}, 0, 0, true},
        {3, 1, 128, {127, 16, 32, 33}, 0, 0, true},
        /* groups, and a long span */
        {4, 1, 64, {257}, 0, 0, true},
        {8, 1, 64, {70, 9}, 0, 0, true},
        {8, 1, 128, {66}, 0, 0, true},
        {1, 1, 128, {257, 3}, 0, 0, true},
        /* many tiny spans: more than a warp's worth, and one that is longer than all */
        {2,
         1,
         64,
         {1, 2, 1, 3, 1, 1, 1, 2, 5, 1, 1, 1, 7, 1, 1, 1, 2, 1, 1, 1, 9, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1, 66, 1, 2},
         0,
         0,
         true},
        /* generation */
        {4, 2, 64, {1, 1, 1}, 200, 0, true},
        {4, 1, 64, {3, 65, 16}, 61, 0, true},
        {2, 1, 128, {1, 70}, 64, 0, true},
        {3, 3, 128, {1, 2}, 129, 0, true},
        /* rows that do not lie on 16 bytes */
        {2, 1, 64, {66, 3}, 0, 1, false},
        {2, 1, 128, {40}, 5, 4, true},
    };
    static bool checked;
    if (!checked)
        finite_differences();
    checked = true;
    test_seed(3);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        one_shape(o, &shapes[i]);
    static const int sizes[] = {16, 64, 128};
    for (int i = 0; i < 3; i++) {
        struct shape like = {1, 1, sizes[i], {1}, 0, 0, false};
        if (is_run(o, &like))
            nan_shows(o, sizes[i]);
    }
    test_no_failure(o, "at the end");
    if (forced("mma"))
        wish_refused(o);
    return check_failures;
}
