/* test_products.c - linear_forward, linear_backward and gemm over odd, prime and edge shapes, strides, flags and types. */
#include "tests/ops/harness.h"

static const struct ops_dims dims = {
    .n = 1250, .max_span = 1, .d = 600, .f = 600, .h = 1, .k = 1, .q = 64, .v = 1000, .r = 64, .head_chunk = 127};

/* Sums of k products of unit normals are about sqrt(k) large; F32 sums err by far less than a unit of BF16. */
static double tolerance(int k, enum dtype type) { return sqrt(k > 0 ? k : 1) * (type == DT_BF16 ? 1e-5 : 5e-6); }

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

/* flags: 1 A transposed, 2 B transposed, 4 +=. pad: row distances beyond the width. shift: elements before each matrix, so that
 * it does not begin on a multiple of more than one or a few elements. */
static void gemm_shape(struct ops *o, int m, int n, int k, int flags, enum dtype c_type, float alpha, int pad, int shift)
{
    size_t size = dtype_size(o->act), c_size = dtype_size(c_type);
    struct gemm g = {.m = m,
                     .n = n,
                     .k = k,
                     .trans_a = flags & 1,
                     .trans_b = flags & 2,
                     .accumulate = flags & 4,
                     .a_type = o->act,
                     .b_type = o->act,
                     .c_type = c_type,
                     .alpha = alpha};
    g.lda = (g.trans_a ? m : k) + pad;
    g.ldb = (g.trans_b ? k : n) + 2 * pad;
    g.ldc = n + pad;
    struct array a = array_random(o, (int64_t)(g.trans_a ? k : m) * g.lda + shift, o->act, 1);
    struct array b = array_random(o, (int64_t)(g.trans_b ? n : k) * g.ldb + shift, o->act, 1);
    struct array c = array_random(o, (int64_t)m * g.ldc + shift, c_type, 3);
    double *want = malloc((size_t)c.count * 8);
    char what[120];
    g.a = (char *)a.dev + (size_t)shift * size;
    g.b = (char *)b.dev + (size_t)shift * size;
    g.c = (char *)c.dev + (size_t)shift * c_size;
    memcpy(want, c.host, (size_t)c.count * 8); /* what is around it must stay as it is */
    ref_gemm(&(struct ref_gemm){m, n, k, g.lda, g.ldb, g.ldc, g.trans_a, g.trans_b, g.accumulate, alpha}, a.host + shift,
             b.host + shift, want + shift);
    snprintf(what, sizeof(what), "gemm %d x %d x %d flags %d into %s, %d elements in", m, n, k, flags, dtype_name(c_type), shift);
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
    struct array x = array_random(o, 65 * 70, o->act, 1), w = array_random(o, 33 * 70, o->act, 1),
                 y = array_new(o, 65 * 33, o->act);
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

/* An adapter's products as the model has them: N tokens, width D, padded rank R, F32 gradients; and slices that begin anywhere.
 */
static void adapters(struct ops *o)
{
    static const int ranks[] = {16, 48, 64};
    enum { N = 192, D = 576 };
    for (int i = 0; i < 3; i++) {
        int r = ranks[i];
        gemm_shape(o, N, r, D, 2, o->act, 1, 0, 0);      /* x A^T */
        gemm_shape(o, N, D, r, 2 | 4, o->act, 1, 64, 0); /* y += (x A^T) B^T into a wider row */
        gemm_shape(o, r, D, N, 1 | 4, DT_F32, 1, 0, 0);  /* dA += */
        gemm_shape(o, D, r, N, 1 | 4, DT_F32, 1, 0, 0);  /* dB += */
        gemm_shape(o, N, D, r, 4, o->act, 1, 0, 0);      /* dx += */
    }
    for (int shift = 1; shift <= 8; shift *= 2)
        for (int flags = 0; flags < 8; flags++) {
            gemm_shape(o, 33, 24, 40, flags, o->act, 1, 0, shift);
            gemm_shape(o, 33, 24, 40, flags, DT_F32, 1, 8, shift);
        }
}

/* The bias of a slice of a fused projection begins anywhere. */
static void shifted_bias(struct ops *o)
{
    enum { N = 65, OUT = 40, IN = 24 };
    struct array x = array_random(o, N * IN, o->act, 1), w = array_random(o, OUT * IN, o->act, 1),
                 bias = array_random(o, OUT + 8, o->act, 4);
    struct array y = array_random(o, N * OUT, o->act, 1);
    struct weight weight = {w.dev, o->act, OUT, IN};
    double *want = calloc(N * OUT, 8);
    for (int shift = 0; shift <= 8; shift = shift ? 2 * shift : 1) {
        ref_linear_forward(want, x.host, w.host, bias.host + shift, N, OUT, IN);
        o->linear_forward(o, y.dev, x.dev, &weight, (char *)bias.dev + (size_t)shift * dtype_size(o->act), N);
        array_compare("linear_forward with a shifted bias", &y, want, 0, tolerance(IN, o->act));
    }
    free(want);
    struct array *all[] = {&x, &w, &bias, &y};
    for (int i = 0; i < 4; i++)
        array_free(all[i]);
}

/* A size below 0 is a failure. Last: the failure stays. */
static void negative_refused(struct ops *o)
{
    struct array x = array_random(o, 16, o->act, 1);
    struct gemm g = {.m = 2,
                     .n = 2,
                     .k = -1,
                     .a = x.dev,
                     .b = x.dev,
                     .c = x.dev,
                     .lda = 2,
                     .ldb = 2,
                     .ldc = 2,
                     .a_type = o->act,
                     .b_type = o->act,
                     .c_type = o->act,
                     .alpha = 1};
    struct err e = {0};
    o->gemm(o, &g);
    CHECK(o->sync(o, &e) != 0);
    CHECK_INT(e.code, ERR_INTERNAL);
    CHECK_HAS(e.text, "expected sizes of 0 or more");
    array_free(&x);
}

int ops_test(struct ops *o)
{
    /* The last of each: nothing to do, and the sum of nothing. */
    static const int linear[][3] = {{1, 64, 64},    {2, 127, 7}, {63, 96, 48},   {64, 64, 576}, {65, 33, 31},
                                    {127, 1, 65},   {1, 1, 1},   {64, 192, 576}, {3, 577, 191}, {1250, 17, 9},
                                    {3, 49152, 16}, {3, 5, 0},   {3, 0, 5},      {0, 4, 6}};
    static const int sizes[][3] = {{64, 48, 576}, {64, 576, 48}, {48, 576, 128}, {16, 65, 127}, {1, 7, 63}, {127, 16, 2},
                                   {16, 7, 1250}, {1250, 3, 16}, {5, 9, 0},      {65, 64, 0},   {0, 7, 5},  {7, 0, 5}};
    test_workspace(o, &dims);
    for (size_t i = 0; i < sizeof(linear) / sizeof(linear[0]); i++)
        linear_shape(o, linear[i][0], linear[i][1], linear[i][2]);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int flags = 0; flags < 8; flags++)
            for (int wide = 0; wide <= (o->act == DT_BF16); wide++)
                gemm_shape(o, sizes[i][0], sizes[i][1], sizes[i][2], flags, wide ? DT_F32 : o->act, flags & 1 ? 0.37f : 1.0f,
                           flags & 2 ? 16 : 0, 0);
    adapters(o);
    shifted_bias(o);
    nan_shows(o);
    test_no_failure(o, "at the end");
    negative_refused(o);
    return check_failures;
}
