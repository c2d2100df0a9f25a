/* test_update.c - grad_stats and adamw_update. */
#include "tests/ops/harness.h"

static void stats(struct ops *o, int64_t count)
{
    struct array g = array_random(o, count, DT_F32, 1), out = array_new(o, 2, DT_F32);
    double want[2] = {0};
    for (int64_t i = 0; i < count; i++)
        want[0] += g.host[i] * g.host[i];
    o->grad_stats(o, out.dev, g.dev, count);
    array_compare("grad_stats", &out, want, 1e-7, 1e-30);
    void *bits = array_raw(&out);
    o->grad_stats(o, out.dev, g.dev, count);
    same_bits("grad_stats", &out, bits);
    free(bits);
    if (count >= 3) {
        g.host[0] = NAN;
        g.host[count / 2] = INFINITY;
        g.host[count - 1] = -INFINITY;
        array_put(&g);
        o->grad_stats(o, out.dev, g.dev, count);
        double *got = array_get(&out);
        CHECK(!isfinite(got[0]));
        CHECK_INT(got[1], 3);
        free(got);
    }
    /* Squares beyond F32: finite numbers are not counted as bad ones. */
    g.host[0] = 3e38;
    for (int64_t i = 1; i < count; i++)
        g.host[i] = 0;
    array_put(&g);
    o->grad_stats(o, out.dev, g.dev, count);
    double *got = array_get(&out);
    CHECK_INT(got[1], 0);
    free(got);
    array_free(&g);
    array_free(&out);
}

static void update(struct ops *o, int64_t count)
{
    struct array p = array_random(o, count, DT_F32, 1), g = array_random(o, count, DT_F32, 10), m = array_random(o, count, DT_F32, 0.1);
    struct array v = array_random(o, count, DT_F32, 0.1);
    for (int64_t i = 0; i < count; i++)
        v.host[i] = v.host[i] * v.host[i];
    array_put(&v);
    for (int step = 0; step < 3; step++) {
        struct adamw a = {.lr = 0.01f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .weight_decay = 0.1f, .grad_scale = 0.3f,
                          .bias1 = (float)(1 - pow(0.9, step + 1)), .bias2 = (float)(1 - pow(0.999, step + 1))};
        ref_adamw(p.host, g.host, m.host, v.host, count, &a);
        o->adamw_update(o, p.dev, g.dev, m.dev, v.dev, count, &a);
        array_compare("adamw p", &p, p.host, 1e-6, 1e-6);
        array_compare("adamw m", &m, m.host, 1e-6, 1e-6);
        array_compare("adamw v", &v, v.host, 1e-6, 1e-6);
    }
    /* Zero gradient, fresh state: only the decay moves p. NaN reaches the parameter. */
    for (int64_t i = 0; i < count; i++)
        g.host[i] = m.host[i] = v.host[i] = 0;
    g.host[count - 1] = NAN;
    array_put(&p);
    array_put(&g);
    array_put(&m);
    array_put(&v);
    struct adamw a = {.lr = 0.01f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .weight_decay = 0, .grad_scale = 1, .bias1 = 0.1f,
                      .bias2 = 0.001f};
    o->adamw_update(o, p.dev, g.dev, m.dev, v.dev, count, &a);
    double *got = array_get(&p);
    for (int64_t i = 0; i + 1 < count; i++)
        CHECK(got[i] == p.host[i]);
    CHECK(isnan(got[count - 1]));
    free(got);
    struct array *all[] = {&p, &g, &m, &v};
    for (int i = 0; i < 4; i++)
        array_free(all[i]);
}

int ops_test(struct ops *o)
{
    test_workspace(o, &(struct ops_dims){.n = 64, .max_span = 1, .d = 64, .f = 64, .h = 1, .k = 1, .q = 64, .v = 64, .r = 16,
                                         .head_chunk = 64});
    static const int64_t counts[] = {1, 2, 7, 63, 127, 16384, 16385, 100003};
    test_seed(19);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        stats(o, counts[i]);
        update(o, counts[i]);
    }
    stats(o, 4300001); /* longer parts */
    test_no_failure(o, "at the end");
    return check_failures;
}
