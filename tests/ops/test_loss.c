/* test_loss.c - cross_entropy, weight_sum and argmax. */
#include "tests/ops/harness.h"

static void entropy(struct ops *o, int n, int v, int ld, double scale)
{
    struct array logits = array_random(o, (int64_t)n * ld, o->act, scale), weights = array_new(o, n, DT_F32);
    struct array nll = array_new(o, n, DT_F32), loss = array_new(o, 1, DT_F32);
    int32_t *targets = malloc((size_t)n * 4);
    double *want = malloc((size_t)logits.count * 8), *want_nll = calloc((size_t)n, 8), want_loss = 0.5, sum = 0;
    for (int i = 0; i < n; i++) {
        targets[i] = (int32_t)((i * 7919LL + v - 1) % v);
        weights.host[i] = i % 5 == 3 ? 0 : 0.25 * (i % 4 + 1);
        sum += weights.host[i];
        if (i % 5 == 3)
            targets[i] = i % 2 ? -1 : v + 7; /* not looked at, as the row weighs nothing */
        if (i % 5 == 3)
            logits.host[(int64_t)i * ld] = NAN;
    }
    array_put(&logits);
    array_put(&weights);
    loss.host[0] = 0.5;
    array_put(&loss);
    int32_t *on_device = test_upload(o, targets, (size_t)n * 4);
    memcpy(want, logits.host, (size_t)logits.count * 8);
    ref_cross_entropy(&want_loss, want_nll, want, ld, targets, weights.host, n, v, true);
    o->cross_entropy(o, loss.dev, nll.dev, logits.dev, ld, on_device, weights.dev, n, v, false);
    array_compare("cross_entropy loss", &loss, &want_loss, 2e-6, 1e-5);
    array_compare("cross_entropy nll", &nll, want_nll, 2e-6, 1e-5);
    array_put(&loss);
    void *bits_nll = array_raw(&nll);
    o->cross_entropy(o, loss.dev, NULL, logits.dev, ld, on_device, weights.dev, n, v, true);
    array_compare("cross_entropy loss with backward", &loss, &want_loss, 2e-6, 1e-5);
    array_compare("cross_entropy gradient", &logits, want, 1e-5, 1e-6);
    void *bits = array_raw(&logits), *bits_loss = array_raw(&loss);
    array_put(&loss);
    array_put(&logits);
    o->cross_entropy(o, loss.dev, nll.dev, logits.dev, ld, on_device, weights.dev, n, v, true);
    same_bits("cross_entropy gradient", &logits, bits);
    same_bits("cross_entropy loss", &loss, bits_loss);
    same_bits("cross_entropy nll", &nll, bits_nll);
    o->zero(o, loss.dev, 4);
    o->weight_sum(o, loss.dev, weights.dev, n);
    o->weight_sum(o, loss.dev, weights.dev, n);
    array_compare("weight_sum, twice", &loss, &(double){2 * sum}, 1e-7, 1e-30);
    test_no_failure(o, "cross_entropy");
    free(targets);
    free(want);
    free(want_nll);
    free(bits);
    free(bits_nll);
    free(bits_loss);
    o->release(o, on_device);
    struct array *all[] = {&logits, &weights, &nll, &loss};
    for (int i = 0; i < 4; i++)
        array_free(all[i]);
}

static void largest(struct ops *o, int n, int v, int ld)
{
    struct array logits = array_random(o, (int64_t)n * ld, o->act, 1);
    for (int i = 0; i < n; i++) {
        for (int j = v; j < ld; j++)
            logits.host[(int64_t)i * ld + j] = 100; /* padding is not a logit */
        logits.host[(int64_t)i * ld + (i * 31) % v] = 50;
        logits.host[(int64_t)i * ld + v - 1] = 50; /* a tie: the first wins */
    }
    array_put(&logits);
    int32_t *out = malloc((size_t)n * 4), *on_device = test_upload(o, out, (size_t)n * 4);
    struct err e = {0};
    o->argmax(o, on_device, logits.dev, ld, n, v);
    CHECK_OK(o->download(o, out, on_device, (size_t)n * 4, &e), &e);
    for (int i = 0; i < n; i++)
        CHECK_INT(out[i], (i * 31) % v);
    free(out);
    o->release(o, on_device);
    array_free(&logits);
}

/* A NaN anywhere in a row that weighs something, or +inf, must be in the loss and in the row's gradient. */
static void nan_shows(struct ops *o)
{
    enum { V = 1003, LD = 1008 };
    static const int places[] = {0, 15, 500, V - 1};
    for (int kind = 0; kind < 2; kind++)
        for (int p = 0; p < 4; p++) {
            struct array logits = array_random(o, 2 * LD, o->act, 1), loss = array_new(o, 1, DT_F32);
            struct array weights = array_new(o, 2, DT_F32);
            int32_t targets[2] = {5, 6}, *on_device = test_upload(o, targets, sizeof(targets));
            weights.host[0] = weights.host[1] = 1;
            array_put(&weights);
            logits.host[places[p]] = kind ? INFINITY : NAN;
            array_put(&logits);
            o->cross_entropy(o, loss.dev, NULL, logits.dev, LD, on_device, weights.dev, 2, V, true);
            double *l = array_get(&loss), *g = array_get(&logits);
            CHECK(!isfinite(l[0]));
            CHECK(!isfinite(g[places[p]]));
            CHECK(isfinite(g[LD + places[p]]));
            free(l);
            free(g);
            o->release(o, on_device);
            array_free(&logits);
            array_free(&loss);
            array_free(&weights);
        }
}

/* A logit of -infinity is a token that cannot come: probability 0, and nothing else changes. */
static void impossible_token(struct ops *o)
{
    enum { V = 600 };
    struct array logits = array_random(o, V, o->act, 1), loss = array_new(o, 1, DT_F32), weights = array_new(o, 1, DT_F32);
    int32_t target = 5, *on_device = test_upload(o, &target, 4);
    double nll, want_loss = 0, *want = malloc(V * 8);
    weights.host[0] = 1;
    array_put(&weights);
    for (int j = 0; j < V; j++)
        if (j != 7 && (j == target + 1 || j >= 8)) /* also for all that a thread has */
            logits.host[j] = -INFINITY;
    array_put(&logits);
    memcpy(want, logits.host, V * 8);
    ref_cross_entropy(&want_loss, &nll, want, V, &target, weights.host, 1, V, true);
    o->cross_entropy(o, loss.dev, NULL, logits.dev, V, on_device, weights.dev, 1, V, true);
    array_compare("cross_entropy loss beside -inf", &loss, &want_loss, 2e-6, 1e-5);
    array_compare("cross_entropy gradient beside -inf", &logits, want, 1e-5, 1e-6);
    free(want);
    o->release(o, on_device);
    array_free(&logits);
    array_free(&loss);
    array_free(&weights);
}

static void finite_differences(void)
{
    double x[2 * 7], g[2 * 7], w[2] = {0.7, 2}, nll[2], loss = 0;
    int32_t targets[2] = {6, 0};
    test_seed(13);
    for (int i = 0; i < 14; i++)
        x[i] = g[i] = test_normal();
    ref_cross_entropy(&loss, nll, g, 7, targets, w, 2, 7, true);
    for (int i = 0; i < 14; i++) {
        double kept = x[i], side[2] = {0};
        for (int s = 0; s < 2; s++) {
            x[i] = kept + (s ? 1e-5 : -1e-5);
            ref_cross_entropy(&side[s], nll, x, 7, targets, w, 2, 7, false);
        }
        x[i] = kept;
        CHECK_NEAR(g[i], (side[1] - side[0]) / 2e-5, 1e-8);
    }
}

int ops_test(struct ops *o)
{
    test_workspace(o, &(struct ops_dims){.n = 64, .max_span = 1, .d = 64, .f = 64, .h = 1, .k = 1, .q = 64, .v = 64, .r = 16,
                                         .head_chunk = 127});
    static bool checked;
    if (!checked)
        finite_differences();
    checked = true;
    test_seed(17);
    entropy(o, 1, 7, 7, 1);
    entropy(o, 64, 7, 16, 10);
    entropy(o, 127, 127, 128, 3);
    entropy(o, 5, 49152, 49152, 4);
    entropy(o, 3, 1001, 1024, 30); /* nearly certain rows */
    entropy(o, 2, 151936, 151936, 3); /* Qwen3's vocabulary */
    largest(o, 1, 7, 7);
    largest(o, 65, 127, 128);
    largest(o, 3, 49152, 49152);
    largest(o, 2, 151936, 151936);
    nan_shows(o);
    impossible_token(o);
    test_no_failure(o, "at the end");
    return check_failures;
}
