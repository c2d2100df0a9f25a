/* test_rows.c - rmsnorm, head norm, rope, swiglu, dropout, embedding, copies and conversions. */
#include "tests/ops/harness.h"

/* Absolute slack: F32 arithmetic on numbers of size one. */
enum { SHAPES = 8 };
static const int rows_of[SHAPES] = {1, 2, 63, 64, 65, 127, 3, 9}, width_of[SHAPES] = {1, 7, 576, 48, 31, 17, 1001, 2048};
static double *copy_of(const struct array *a)
{
    double *out = malloc((size_t)a->count * 8 + 8);
    memcpy(out, a->host, (size_t)a->count * 8);
    return out;
}

static void rmsnorm(struct ops *o, int n, int d)
{
    int64_t count = (int64_t)n * d;
    struct array x = array_random(o, count, o->act, 2), delta = array_random(o, count, o->act, 1), w = array_random(o, d, o->act, 1);
    struct array y = array_new(o, count, o->act), sum = array_new(o, count, o->act), dx = array_random(o, count, o->act, 1);
    double *want = copy_of(&y), *want_sum = copy_of(&y), *want_dx = copy_of(&dx);
    for (int with_delta = 0; with_delta < 2; with_delta++) {
        ref_rmsnorm_forward(want, want_sum, x.host, with_delta ? delta.host : NULL, w.host, n, d, 1e-5, o->act);
        o->rmsnorm_forward(o, y.dev, sum.dev, x.dev, with_delta ? delta.dev : NULL, w.dev, n, d, 1e-5f);
        array_compare("rmsnorm_forward y", &y, want, 2e-6, 1e-6);
        array_compare("rmsnorm_forward sum", &sum, want_sum, 0, 1e-30);
        void *bits = array_raw(&y);
        o->rmsnorm_forward(o, y.dev, NULL, x.dev, with_delta ? delta.dev : NULL, w.dev, n, d, 1e-5f);
        same_bits("rmsnorm_forward without sum", &y, bits);
        o->rmsnorm_forward(o, y.dev, NULL, sum.dev, NULL, w.dev, n, d, 1e-5f);
        same_bits("rmsnorm_forward of the kept sum", &y, bits);
        free(bits);
    }
    ref_rmsnorm_backward(want_dx, delta.host, x.host, w.host, n, d, 1e-5);
    o->rmsnorm_backward(o, dx.dev, delta.dev, x.dev, w.dev, n, d, 1e-5f);
    array_compare("rmsnorm_backward", &dx, want_dx, 2e-6, d < 16 ? 1e-4 : 4e-6); /* at d = 1 two large terms cancel */
    o->rmsnorm_forward(o, y.dev, x.dev, x.dev, delta.dev, w.dev, n, d, 1e-5f);
    array_compare("rmsnorm_forward sum in place", &x, want_sum, 0, 1e-30);
    free(want);
    free(want_sum);
    free(want_dx);
    struct array *all[] = {&x, &delta, &w, &y, &sum, &dx};
    for (int i = 0; i < 6; i++)
        array_free(all[i]);
}

static void head_norm_and_rope(struct ops *o, int n, int heads, int q)
{
    int ld = heads * q + 8, ld_y = heads * q;
    struct array x = array_random(o, (int64_t)n * ld, o->act, 1), w = array_random(o, q, o->act, 1);
    struct array y = array_new(o, (int64_t)n * ld_y, o->act), dy = array_random(o, (int64_t)n * ld_y, o->act, 1);
    double *want = copy_of(&y), *turned = copy_of(&x);
    ref_head_norm_forward(want, ld_y, x.host, ld, w.host, n, heads, q, 1e-6);
    o->head_norm_forward(o, y.dev, ld_y, x.dev, ld, w.dev, n, heads, q, 1e-6f);
    array_compare("head_norm_forward", &y, want, 2e-6, 1e-6);
    ref_head_norm_backward(want, ld_y, dy.host, ld_y, x.host, ld, w.host, n, heads, q, 1e-6);
    o->head_norm_backward(o, y.dev, ld_y, dy.dev, ld_y, x.dev, ld, w.dev, n, heads, q, 1e-6f);
    array_compare("head_norm_backward", &y, want, 4e-6, 8e-6);
    o->head_norm_backward(o, dy.dev, ld_y, dy.dev, ld_y, x.dev, ld, w.dev, n, heads, q, 1e-6f);
    array_compare("head_norm_backward in place", &dy, want, 4e-6, 8e-6);
    /* rope: there, and in place back */
    int32_t *positions = malloc((size_t)n * 4);
    for (int i = 0; i < n; i++)
        positions[i] = (i * 7) % 50;
    struct array table = array_new(o, 50LL * q, DT_F32);
    for (int i = 0; i < 50 * q / 2; i++) {
        double angle = i / (q / 2) * pow(100, -2.0 * (i % (q / 2)) / q);
        table.host[2 * i] = cos(angle);
        table.host[2 * i + 1] = sin(angle);
    }
    array_put(&table);
    int32_t *on_device = test_upload(o, positions, (size_t)n * 4);
    for (int backward = 0; backward < 2; backward++) {
        array_put(&x);
        memcpy(turned, x.host, (size_t)x.count * 8);
        ref_rope(turned, ld, positions, table.host, n, heads, q, backward);
        o->rope(o, x.dev, ld, on_device, table.dev, n, heads, q, backward);
        array_compare("rope", &x, turned, 1e-6, 1e-6);
    }
    o->rope(o, x.dev, ld, on_device, table.dev, n, heads, q, false);
    array_compare("rope there and back", &x, x.host, o->act == DT_BF16 ? 0x1p-7 : 1e-6, o->act == DT_BF16 ? 0.02 : 2e-6);
    /* y may be x */
    array_put(&x);
    ref_head_norm_forward(turned, ld, x.host, ld, w.host, n, heads, q, 1e-6);
    for (int i = 0; i < n; i++)
        for (int j = heads * q; j < ld; j++)
            turned[(size_t)i * ld + j] = x.host[(size_t)i * ld + j];
    o->head_norm_forward(o, x.dev, ld, x.dev, ld, w.dev, n, heads, q, 1e-6f);
    array_compare("head_norm_forward in place", &x, turned, 2e-6, 1e-6);
    free(want);
    free(turned);
    free(positions);
    o->release(o, on_device);
    struct array *all[] = {&x, &w, &y, &dy, &table};
    for (int i = 0; i < 5; i++)
        array_free(all[i]);
}

static void swiglu(struct ops *o, int n, int f)
{
    struct array gu = array_random(o, 2LL * n * f, o->act, 3), a = array_new(o, (int64_t)n * f, o->act);
    struct array da = array_random(o, (int64_t)n * f, o->act, 1), dgu = array_new(o, gu.count, o->act);
    double *want = copy_of(&a), *want_d = copy_of(&gu);
    gu.host[0] = 200; /* saturated both ways: silu is g or 0, not NaN */
    gu.host[gu.count / 2 - f < 0 ? 0 : (n / 2) * 2 * f] = -200;
    array_put(&gu);
    ref_swiglu_forward(want, gu.host, n, f);
    o->swiglu_forward(o, a.dev, gu.dev, n, f);
    array_compare("swiglu_forward", &a, want, 2e-6, 1e-6);
    ref_swiglu_backward(want_d, da.host, gu.host, n, f);
    o->swiglu_backward(o, dgu.dev, da.dev, gu.dev, n, f);
    array_compare("swiglu_backward", &dgu, want_d, 4e-6, 4e-6);
    void *bits = array_raw(&dgu);
    o->swiglu_backward(o, gu.dev, da.dev, gu.dev, n, f);
    same_bits("swiglu_backward in place", &gu, bits);
    free(bits);
    free(want);
    free(want_d);
    struct array *all[] = {&gu, &a, &da, &dgu};
    for (int i = 0; i < 4; i++)
        array_free(all[i]);
}

static void dropout(struct ops *o, int n, int d, float p)
{
    struct dropout drop = {0x123456789abcdefULL, 77, 5, p};
    struct array x = array_random(o, (int64_t)n * d, o->act, 1), y = array_random(o, x.count, o->act, 1);
    uint32_t *keys = malloc((size_t)n * 4);
    for (int i = 0; i < n; i++)
        keys[i] = (uint32_t)i * 2654435761u;
    uint32_t *on_device = test_upload(o, keys, (size_t)n * 4);
    double *want = copy_of(&y);
    ref_dropout(want, x.host, keys, n, d, &drop, true);
    o->dropout_apply(o, y.dev, x.dev, on_device, n, d, &drop, true);
    array_compare("dropout_apply +=", &y, want, 1e-6, 1e-6);
    ref_dropout(want, x.host, keys, n, d, &drop, false);
    o->dropout_apply(o, y.dev, x.dev, on_device, n, d, &drop, false);
    array_compare("dropout_apply", &y, want, 1e-6, 1e-30);
    void *bits = array_raw(&y);
    o->dropout_apply(o, x.dev, x.dev, on_device, n, d, &drop, false);
    same_bits("dropout_apply in place", &x, bits);
    double kept = 0;
    for (int64_t i = 0; i < x.count; i++)
        kept += want[i] != 0;
    if (x.count > 10000)
        CHECK_NEAR(kept / (double)x.count, 1 - p, 0.02);
    free(bits);
    free(want);
    free(keys);
    o->release(o, on_device);
    array_free(&x);
    array_free(&y);
}

static void copies(struct ops *o, int n, int d)
{
    struct array x = array_random(o, (int64_t)n * d, o->act, 1), y = array_random(o, (int64_t)n * (d + 3), o->act, 1);
    double *want = copy_of(&y);
    for (int i = 0; i < n; i++)
        memcpy(want + (size_t)i * (size_t)(d + 3), x.host + (size_t)i * (size_t)d, (size_t)d * 8);
    o->copy_2d(o, y.dev, d + 3, x.dev, d, n, d);
    array_compare("copy_2d", &y, want, 0, 1e-30);
    struct array z = array_random(o, x.count, o->act, 1);
    double *sum = copy_of(&z);
    for (int64_t i = 0; i < z.count; i++)
        sum[i] += x.host[i];
    o->add(o, z.dev, x.dev, z.count);
    array_compare("add", &z, sum, 0, 1e-30);
    /* every type to every other that casts to */
    struct array wide = array_new(o, x.count, DT_F32), narrow = array_new(o, x.count, DT_BF16);
    o->cast(o, wide.dev, DT_F32, x.dev, o->act, x.count);
    array_compare("cast to f32", &wide, x.host, 0, 1e-30);
    struct array exact = array_random(o, x.count, DT_F32, 1);
    o->cast(o, narrow.dev, DT_BF16, exact.dev, DT_F32, x.count);
    double *rounded = copy_of(&exact);
    for (int64_t i = 0; i < exact.count; i++)
        rounded[i] = bf16_to_f32(bf16_from_f32((float)exact.host[i]));
    double *got = array_get(&narrow);
    for (int64_t i = 0; i < exact.count; i++)
        CHECK(got[i] == rounded[i]);
    o->cast(o, x.dev, o->act, x.dev, o->act, x.count);
    array_compare("cast to itself", &x, x.host, 0, 1e-30);
    o->zero(o, wide.dev, (size_t)wide.count * 4);
    memset(want, 0, (size_t)x.count * 8);
    array_compare("zero", &wide, want, 0, 1e-30);
    /* rows of an embedding */
    int32_t tokens[5] = {n - 1, 0, n / 2, 0, n - 1};
    int32_t *on_device = test_upload(o, tokens, sizeof(tokens));
    struct array rows = array_new(o, 5LL * d, o->act);
    struct weight table = {x.dev, o->act, n, d};
    o->embed_forward(o, rows.dev, &table, on_device, 5);
    double *want_rows = copy_of(&rows);
    for (int i = 0; i < 5; i++)
        memcpy(want_rows + i * d, x.host + (size_t)tokens[i] * (size_t)d, (size_t)d * 8);
    array_compare("embed_forward", &rows, want_rows, 0, 1e-30);
    o->release(o, on_device);
    void *held[] = {want, sum, rounded, got, want_rows};
    for (int i = 0; i < 5; i++)
        free(held[i]);
    struct array *all[] = {&x, &y, &z, &wide, &narrow, &exact, &rows};
    for (int i = 0; i < 7; i++)
        array_free(all[i]);
}

/* F16 to F32 and BF16, exactly; every finite F16 number, infinities and NaN. */
static void halves(struct ops *o)
{
    uint16_t *h = malloc(65536 * 2);
    for (int i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    void *on_device = test_upload(o, h, 65536 * 2);
    struct array wide = array_new(o, 65536, DT_F32), narrow = array_new(o, 65536, DT_BF16);
    o->cast(o, wide.dev, DT_F32, on_device, DT_F16, 65536);
    o->cast(o, narrow.dev, DT_BF16, on_device, DT_F16, 65536);
    double *f = array_get(&wide), *b = array_get(&narrow);
    for (int i = 0; i < 65536; i++) {
        float want = f16_to_f32(h[i]);
        CHECK(isnan(want) ? isnan(f[i]) && isnan(b[i]) : f[i] == want && b[i] == bf16_to_f32(bf16_from_f32(want)));
    }
    free(h);
    free(f);
    free(b);
    o->release(o, on_device);
    array_free(&wide);
    array_free(&narrow);
}

/* One NaN or infinity in, and the row it is in shows it; the rows beside it don't. */
static void nan_shows(struct ops *o)
{
    enum { N = 3, W = 70 };
    for (int kind = 0; kind < 2; kind++) {
        struct array x = array_random(o, N * W, o->act, 1), w = array_random(o, W, o->act, 1), y = array_new(o, N * W, o->act);
        struct array half = array_new(o, N * W / 2, o->act), dx = array_new(o, N * W, o->act);
        struct array small = array_random(o, N * W / 2, o->act, 1), ones = array_random(o, N * W, o->act, 1);
        uint32_t keys[N] = {1, 2, 3}, *on_device = test_upload(o, keys, sizeof(keys));
        struct dropout drop = {1, 2, 3, 0.5f};
        x.host[W + 33] = kind ? INFINITY : NAN;
        array_put(&x);
        struct {
            const char *name;
            struct array *out;
            int width;
        } made[] = {{"rmsnorm_forward", &y, W}, {"rmsnorm_backward", &dx, W}, {"rmsnorm_backward of dy", &dx, W},
                    {"swiglu_forward", &half, W / 2}, {"swiglu_backward", &y, W}, {"dropout_apply", &y, W}, {"add", &y, W},
                    {"cast", &y, W}};
        for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
            array_put(&y);
            array_put(&dx);
            switch (i) {
            case 0:
                o->rmsnorm_forward(o, y.dev, NULL, x.dev, NULL, w.dev, N, W, 1e-5f);
                break;
            case 1:
                o->rmsnorm_backward(o, dx.dev, ones.dev, x.dev, w.dev, N, W, 1e-5f);
                break;
            case 2:
                o->rmsnorm_backward(o, dx.dev, x.dev, ones.dev, w.dev, N, W, 1e-5f);
                break;
            case 3:
                o->swiglu_forward(o, half.dev, x.dev, N, W / 2);
                break;
            case 4:
                o->swiglu_backward(o, y.dev, small.dev, x.dev, N, W / 2);
                break;
            case 5:
                o->dropout_apply(o, y.dev, x.dev, on_device, N, W, &drop, false);
                break;
            case 6:
                o->add(o, y.dev, x.dev, N * W);
                break;
            default:
                o->cast(o, y.dev, o->act, x.dev, o->act, N * W);
            }
            double *got = array_get(made[i].out);
            bool bad[N] = {false};
            for (int r = 0; r < N; r++)
                for (int j = 0; j < made[i].width; j++)
                    bad[r] |= !isfinite(got[r * made[i].width + j]);
            if (!bad[1] || bad[0] || bad[2]) {
                fprintf(stderr, "%s (%s): rows not finite: %d %d %d, expected 0 1 0 for %s\n", made[i].name, o->device, bad[0], bad[1],
                        bad[2], kind ? "an infinity" : "a NaN");
                check_failures++;
            }
            free(got);
        }
        o->release(o, on_device);
        struct array *all[] = {&x, &w, &y, &half, &dx, &small, &ones};
        for (int i = 0; i < 7; i++)
            array_free(all[i]);
    }
}

/* Central differences of the reference's forward functions against its backward functions. */
static double probe(int op, const double *x, const double *w, const double *dy, int n, int d)
{
    double y[64], loss = 0;
    if (op == 0)
        ref_rmsnorm_forward(y, NULL, x, NULL, w, n, d, 1e-3, DT_F32);
    else if (op == 1)
        ref_head_norm_forward(y, d, x, d, w, n, 2, d / 2, 1e-3);
    else
        ref_swiglu_forward(y, x, n, d / 2);
    for (int i = 0; i < (op == 2 ? n * d / 2 : n * d); i++)
        loss += y[i] * dy[i];
    return loss;
}
static void finite_differences(void)
{
    enum { N = 3, W = 10 };
    double x[N * W], w[W], dy[N * W], dx[N * W];
    test_seed(11);
    for (int i = 0; i < N * W; i++) {
        x[i] = test_normal();
        dy[i] = test_normal();
    }
    for (int i = 0; i < W; i++)
        w[i] = test_normal();
    for (int op = 0; op < 3; op++) {
        memset(dx, 0, sizeof(dx));
        if (op == 0)
            ref_rmsnorm_backward(dx, dy, x, w, N, W, 1e-3);
        else if (op == 1)
            ref_head_norm_backward(dx, W, dy, W, x, W, w, N, 2, W / 2, 1e-3);
        else
            ref_swiglu_backward(dx, dy, x, N, W / 2);
        for (int i = 0; i < N * W; i++) {
            double kept = x[i], up, down;
            x[i] = kept + 1e-5;
            up = probe(op, x, w, dy, N, W);
            x[i] = kept - 1e-5;
            down = probe(op, x, w, dy, N, W);
            x[i] = kept;
            CHECK_NEAR(dx[i], (up - down) / 2e-5, 1e-7);
        }
    }
}

int ops_test(struct ops *o)
{
    test_workspace(o, &(struct ops_dims){.n = 64, .max_span = 1, .d = 64, .f = 64, .h = 1, .k = 1, .q = 64, .v = 64, .r = 16,
                                         .head_chunk = 64});
    static bool checked;
    if (!checked)
        finite_differences();
    checked = true;
    test_seed(5);
    for (int i = 0; i < SHAPES; i++) {
        rmsnorm(o, rows_of[i], width_of[i]);
        swiglu(o, rows_of[i], width_of[i]);
        dropout(o, rows_of[i], width_of[i], i % 2 ? 0.1f : 0.5f);
        copies(o, rows_of[i], width_of[i]);
    }
    /* Wide rows: as wide as a block has room for in registers, and beyond. */
    static const int wide[] = {4096, 5120, 8192, 8200, 16392};
    for (int i = 0; i < 5; i++)
        rmsnorm(o, 2, wide[i]);
    swiglu(o, 3, 8200);
    dropout(o, 2, 8200, 0.1f);
    copies(o, 600, 8);
    static const int q_of[] = {8, 16, 64, 80, 128};
    for (int i = 0; i < 5; i++)
        head_norm_and_rope(o, rows_of[i], i % 3 * 4 + 1, q_of[i]);
    head_norm_and_rope(o, 9, 40, 128); /* Qwen3-8B's q and k heads together */
    head_norm_and_rope(o, 5, 14, 64);
    head_norm_and_rope(o, 3, 3, 512);
    head_norm_and_rope(o, 2, 5, 34);
    halves(o);
    nan_shows(o);
    test_no_failure(o, "at the end");
    return check_failures;
}
