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

/* What is put where: NaN or infinity at column BAD_COLUMN of a row of the first span. */
enum { BAD_COLUMN = 3, BAD_SPAN = 70 };
static const struct bad {
    char where; /* q, k or v */
    int row;
    double value;
    bool no_score; /* all the query's scores become -inf, else at least one is NaN or +inf (q), or that of a positive q (k) */
} bads[] = {{'k', 40, NAN, false},       {'k', 40, INFINITY, false}, {'v', 40, NAN, false},      {'q', 40, NAN, false},
            {'q', 69, -INFINITY, false}, {'q', 0, INFINITY, false},  {'q', 0, -INFINITY, false}, {'q', 67, -INFINITY, true}};

/* Must query i of head h be seen to be spoiled? One head's q is spoiled, and the only key head's k or v. */
static bool is_spoiled(const struct problem *p, const struct bad *b, int i, int h)
{
    if (b->where == 'q')
        return i == b->row && h == 1;
    /* An infinite key makes a score of +inf or -inf: the latter is a probability of 0, rightly finite. */
    return i >= b->row && i < BAD_SPAN && (!isinf(b->value) || p->q.host[i * p->a.ld_q + h * p->s->q + BAD_COLUMN] > 0);
}

static bool finite_row(const double *x, int n)
{
    bool finite = true;
    for (int i = 0; i < n; i++)
        finite &= isfinite(x[i]);
    return finite;
}

static void spoil(struct problem *p, const struct bad *b)
{
    struct array *x = b->where == 'q' ? &p->q : b->where == 'k' ? &p->k : &p->v;
    int at = b->where == 'q' ? b->row * p->a.ld_q + p->s->q : b->row * (b->where == 'k' ? p->a.ld_k : p->a.ld_v);
    for (int i = 0; b->no_score && i < p->keys; i++)
        p->k.host[i * p->a.ld_k + BAD_COLUMN] = 0.1 + fabs(p->k.host[i * p->a.ld_k + BAD_COLUMN]);
    array_put(&p->k);
    x->host[at + BAD_COLUMN] = b->value;
    array_put(x);
}

static void one_bad(struct ops *o, int size, const struct bad *b)
{
    const struct shape s = {3, 1, size, {BAD_SPAN, 30}, 0, 0, false};
    struct problem p;
    problem_open(&p, o, &s);
    const struct attention *a = &p.a;
    struct array dout = array_random(o, p.out.count, o->act, 1), delta = array_new(o, p.lse.count, DT_F32);
    struct array dq = array_new(o, p.q.count, o->act), dk = array_new(o, p.k.count, o->act), dv = array_new(o, p.v.count, o->act);
    spoil(&p, b);
    o->attention_forward(o, a, p.out.dev, p.lse.dev, p.q.dev, p.k.dev, p.v.dev);
    o->attention_backward(o, a, dq.dev, dk.dev, dv.dev, dout.dev, p.out.dev, p.lse.dev, p.q.dev, p.k.dev, p.v.dev, delta.dev);
    double *out = array_get(&p.out), *gq = array_get(&dq), *gk = array_get(&dk), *gv = array_get(&dv);
    int hidden = 0, leaked = 0;
    for (int i = 0; i < a->n; i++)
        for (int h = 0; h < s.heads; h++) {
            bool forward = finite_row(out + i * p.hq + h * size, size), back = finite_row(gq + i * a->ld_q + h * size, size);
            /* Within its span a key or value of NaN may also reach queries before it: 0 times NaN. */
            bool apart = b->where == 'q' ? i != b->row || h != 1 : i >= BAD_SPAN;
            hidden += is_spoiled(&p, b, i, h) && (forward || back);
            leaked += apart && (!forward || !back);
            leaked += i >= BAD_SPAN && !(finite_row(gk + i * a->ld_k, size) && finite_row(gv + i * a->ld_v, size));
        }
    if (hidden || leaked) {
        fprintf(stderr, "%s: %g in %c of token %d, head size %d: %d rows are finite that should not be, %d the other way\n",
                o->device, b->value, b->where, b->row, size, hidden, leaked);
        check_failures++;
    }
    double *gone[] = {out, gq, gk, gv};
    for (int i = 0; i < 4; i++)
        free(gone[i]);
    struct array *all[] = {&dout, &delta, &dq, &dk, &dv};
    for (int i = 0; i < 5; i++)
        array_free(all[i]);
    problem_close(&p);
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
        for (size_t b = 0; is_run(o, &like) && b < sizeof(bads) / sizeof(bads[0]); b++)
            one_bad(o, sizes[i], &bads[b]);
    }
    test_no_failure(o, "at the end");
    if (forced("mma"))
        wish_refused(o);
    return check_failures;
}
