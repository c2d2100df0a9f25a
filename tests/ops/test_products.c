/* test_products.c - linear_forward, linear_backward and gemm over odd, prime and edge shapes, strides, flags and types. */
#include "tests/ops/harness.h"

static const struct ops_dims dims = {.n = 1250, .max_span = 1, .d = 600, .f = 600, .h = 1, .k = 1, .q = 64, .v = 1000, .r = 64,
                                     .head_chunk = 127};

/* Sums of k products of unit normals are about sqrt(k) large; F32 sums err by far less than a unit of BF16. */
static double tolerance(int k, enum dtype type) { return sqrt(k) * (type == DT_BF16 ? 1e-5 : 5e-6); }

static void linear_shape(struct ops *o, int n, int out, int in)
{
    struct array x = array_random(o, (int64_t)n * in, o->act, 1), w = array_random(o, (int64_t)out * in, o->act, 1);
    struct array bias = array_random(o, out, o->act, 4), y = array_random(o, (int64_t)n * out, o->act, 1);
    struct weight weight = {w.dev, o->act, out, in};
    double *want = calloc((size_t)n * (size_t)(out > in ? out : in), 8);
    char what[100];
    for (int biased = 0; biased < 2; biased++) {
        snprintf(what, sizeof(what), "linear_forward %d x %d x %d%s", n, out, in, biased ? " + bias" : "");
        ref_linear_forward(want, x.host, w.host, biased ? bias.host : NULL, n, out, in);
        o->linear_forward(o, y.dev, x.dev, &weight, biased ? bias.dev : NULL, n);
        array_compare(what, &y, want, 0, tolerance(in, o->act));
        void *first = array_raw(&y);
        o->linear_forward(o, y.dev, x.dev, &weight, biased ? bias.dev : NULL, n);
        same_bits(what, &y, first);
        free(first);
    }
    struct array dy = array_random(o, (int64_t)n * out, o->act, 1), dx = array_random(o, (int64_t)n * in, o->act, 9);
    for (int accumulate = 1; accumulate >= 0; accumulate--) {
        snprintf(what, sizeof(what), "linear_backward %d x %d x %d accumulate %d", n, out, in, accumulate);
        memcpy(want, dx.host, (size_t)n * (size_t)in * 8);
        ref_linear_backward(want, dy.host, w.host, n, out, in, accumulate);
        o->linear_backward(o, dx.dev, dy.dev, &weight, n, accumulate);
        array_compare(what, &dx, want, 0, tolerance(out, o->act));
    }
    test_no_failure(o, what);
    free(want);
    struct array *all[] = {&x, &w, &bias, &y, &dy, &dx};
    for (int i = 0; i < 6; i++)
        array_free(all[i]);
}

static void gemm_shape(struct ops *o, int m, int n, int k, int flags, enum dtype c_type, float alpha, int pad)
{
    struct gemm g = {.m = m, .n = n, .k = k, .trans_a = flags & 1, .trans_b = flags & 2, .accumulate = flags & 4, .a_type = o->act,
                     .b_type = o->act, .c_type = c_type, .alpha = alpha};
    g.lda = (g.trans_a ? m : k) + pad;
    g.ldb = (g.trans_b ? k : n) + 2 * pad;
    g.ldc = n + pad;
    struct array a = array_random(o, (int64_t)(g.trans_a ? k : m) * g.lda, o->act, 1);
    struct array b = array_random(o, (int64_t)(g.trans_b ? n : k) * g.ldb, o->act, 1);
    struct array c = array_random(o, (int64_t)m * g.ldc, c_type, 3);
    double *want = malloc((size_t)c.count * 8);
    char what[120];
    g.a = a.dev;
    g.b = b.dev;
    g.c = c.dev;
    memcpy(want, c.host, (size_t)c.count * 8); /* the padding must stay as it is */
    ref_gemm(&(struct ref_gemm){m, n, k, g.lda, g.ldb, g.ldc, g.trans_a, g.trans_b, g.accumulate, alpha}, a.host, b.host, want);
    snprintf(what, sizeof(what), "gemm %d x %d x %d flags %d into %s", m, n, k, flags, dtype_name(c_type));
    o->gemm(o, &g);
    test_no_failure(o, what);
    array_compare(what, &c, want, 0, tolerance(k, c_type) * fmaxf(1, alpha));
    void *first = array_raw(&c);
    array_put(&c);
    o->gemm(o, &g);
    same_bits(what, &c, first);
    free(first);
    free(want);
    array_free(&a);
    array_free(&b);
    array_free(&c);
}

/* A NaN or infinity in either factor is in every sum that uses it, also of a kept output. */
static void nan_shows(struct ops *o)
{
    struct array x = array_random(o, 65 * 70, o->act, 1), w = array_random(o, 33 * 70, o->act, 1), y = array_new(o, 65 * 33, o->act);
    struct weight weight = {w.dev, o->act, 33, 70};
    x.host[40 * 70 + 69] = NAN;
    x.host[41 * 70] = INFINITY;
    array_put(&x);
    o->linear_forward(o, y.dev, x.dev, &weight, NULL, 65);
    double *got = array_get(&y);
    for (int j = 0; j < 33; j++) {
        CHECK(isnan(got[40 * 33 + j]));
        CHECK(!isfinite(got[41 * 33 + j]));
        CHECK(isfinite(got[42 * 33 + j]));
    }
    free(got);
    array_free(&x);
    array_free(&w);
    array_free(&y);
}

int ops_test(struct ops *o)
{
    static const int linear[][3] = {{1, 64, 64},  {2, 127, 7},  {63, 96, 48},  {64, 64, 576}, {65, 33, 31},
                                    {127, 1, 65}, {1, 1, 1},    {64, 192, 576}, {3, 577, 191}, {1250, 17, 9}};
    static const int sizes[][3] = {{64, 48, 576}, {64, 576, 48}, {48, 576, 128}, {16, 65, 127}, {1, 7, 63}, {127, 16, 2},
                                   {16, 7, 1250}, {1250, 3, 16}};
    test_workspace(o, &dims);
    for (size_t i = 0; i < sizeof(linear) / sizeof(linear[0]); i++)
        linear_shape(o, linear[i][0], linear[i][1], linear[i][2]);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int flags = 0; flags < 8; flags++)
            for (int wide = 0; wide <= (o->act == DT_BF16); wide++)
                gemm_shape(o, sizes[i][0], sizes[i][1], sizes[i][2], flags, wide ? DT_F32 : o->act, flags & 1 ? 0.37f : 1.0f,
                           flags & 2 ? 16 : 0);
    nan_shows(o);
    test_no_failure(o, "at the end");
    return check_failures;
}
