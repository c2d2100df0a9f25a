/* test_moves.c - rows gathered, scattered and copied with gaps; and the same numbers at other addresses: an operation that moves 16
 * bytes at a time where it can must give the same bits where it cannot. */
#include "tests/ops/harness.h"

/* Rows of `cols` in steps of `ld` on both sides, some of them nowhere. What lies between and beside them stays as it was. */
static void listed_rows(struct ops *o, int n, int rows, int cols, int ld)
{
    struct array x = array_random(o, (int64_t)rows * ld, o->act, 1), y = array_random(o, (int64_t)rows * ld, o->act, 1);
    int32_t *index = malloc((size_t)n * 4);
    double *want = malloc((size_t)y.count * 8);
    memcpy(want, y.host, (size_t)y.count * 8);
    for (int i = 0; i < n; i++)
        index[i] = i % 4 == 2 ? -1 : (i * 7 + 3) % rows; /* distinct as long as n <= rows and 7 does not divide rows */
    int32_t *on_device = test_upload(o, index, (size_t)n * 4);
    o->gather_rows(o, y.dev, ld, x.dev, ld, on_device, n, cols);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < cols; j++)
            want[(size_t)i * ld + j] = index[i] < 0 ? 0 : x.host[(size_t)index[i] * ld + j];
    array_compare("gather_rows", &y, want, 0, 1e-30);
    array_put(&y);
    memcpy(want, y.host, (size_t)y.count * 8);
    o->scatter_rows(o, y.dev, ld, x.dev, ld, on_device, n, cols);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < cols && index[i] >= 0; j++)
            want[(size_t)index[i] * ld + j] = x.host[(size_t)i * ld + j];
    array_compare("scatter_rows", &y, want, 0, 1e-30);
    array_put(&y);
    memcpy(want, y.host, (size_t)y.count * 8);
    o->copy_2d(o, y.dev, ld, x.dev, ld, rows, cols);
    for (int i = 0; i < rows; i++)
        memcpy(want + (size_t)i * ld, x.host + (size_t)i * ld, (size_t)cols * 8);
    array_compare("copy_2d", &y, want, 0, 1e-30);
    free(index);
    free(want);
    o->release(o, on_device);
    array_free(&x);
    array_free(&y);
}

/* The same numbers one element further on: no pointer is on 16 bytes there. */
static void *one_on(struct ops *o, const struct array *a, struct array *held)
{
    *held = array_new(o, a->count + 1, a->type);
    char *at = (char *)held->dev + dtype_size(a->type);
    void *raw = array_raw(a);
    o->upload(o, at, raw, (size_t)a->count * dtype_size(a->type));
    free(raw);
    return at;
}
static void same_at(struct ops *o, const char *what, const struct array *a, const void *elsewhere)
{
    size_t bytes = (size_t)a->count * dtype_size(a->type);
    void *here = array_raw(a), *there = malloc(bytes);
    struct err e = {0};
    CHECK_OK(o->download(o, there, elsewhere, bytes, &e), &e);
    if (memcmp(here, there, bytes) != 0) {
        fprintf(stderr, "%s (%s, %s): other bits at an odd address\n", what, o->device, dtype_name(o->act));
        check_failures++;
    }
    free(here);
    free(there);
}

static void odd_addresses(struct ops *o, int n, int d, int heads)
{
    enum { X, Y, W, OUT, GU, ARRAYS };
    int64_t count = (int64_t)n * d;
    struct array a[ARRAYS], held[ARRAYS];
    void *odd[ARRAYS];
    for (int i = 0; i < ARRAYS; i++) {
        a[i] = array_random(o, i == W ? d : i == GU ? 2 * count : count, o->act, 1);
        odd[i] = one_on(o, &a[i], &held[i]);
    }
    o->rmsnorm_forward(o, a[OUT].dev, NULL, a[X].dev, a[Y].dev, a[W].dev, n, d, 1e-5f);
    o->rmsnorm_forward(o, odd[OUT], NULL, odd[X], odd[Y], odd[W], n, d, 1e-5f);
    same_at(o, "rmsnorm_forward", &a[OUT], odd[OUT]);
    o->rmsnorm_backward(o, a[OUT].dev, a[Y].dev, a[X].dev, a[W].dev, n, d, 1e-5f);
    o->rmsnorm_backward(o, odd[OUT], odd[Y], odd[X], odd[W], n, d, 1e-5f);
    same_at(o, "rmsnorm_backward", &a[OUT], odd[OUT]);
    o->head_norm_forward(o, a[OUT].dev, d, a[X].dev, d, a[W].dev, n, heads, d / heads, 1e-5f);
    o->head_norm_forward(o, odd[OUT], d, odd[X], d, odd[W], n, heads, d / heads, 1e-5f);
    same_at(o, "head_norm_forward", &a[OUT], odd[OUT]);
    o->head_norm_backward(o, a[OUT].dev, d, a[Y].dev, d, a[X].dev, d, a[W].dev, n, heads, d / heads, 1e-5f);
    o->head_norm_backward(o, odd[OUT], d, odd[Y], d, odd[X], d, odd[W], n, heads, d / heads, 1e-5f);
    same_at(o, "head_norm_backward", &a[OUT], odd[OUT]);
    o->swiglu_forward(o, a[OUT].dev, a[GU].dev, n, d);
    o->swiglu_forward(o, odd[OUT], odd[GU], n, d);
    same_at(o, "swiglu_forward", &a[OUT], odd[OUT]);
    o->swiglu_backward(o, a[GU].dev, a[OUT].dev, a[GU].dev, n, d);
    o->swiglu_backward(o, odd[GU], odd[OUT], odd[GU], n, d);
    same_at(o, "swiglu_backward", &a[GU], odd[GU]);
    o->add(o, a[Y].dev, a[X].dev, count);
    o->add(o, odd[Y], odd[X], count);
    same_at(o, "add", &a[Y], odd[Y]);
    for (int i = 0; i < ARRAYS; i++) {
        array_free(&a[i]);
        array_free(&held[i]);
    }
}

/* rope, dropout and cross-entropy: tables beside the rows. */
static void odd_tables(struct ops *o, int n, int d)
{
    struct array x = array_random(o, (int64_t)n * d, o->act, 1), table = array_random(o, 100LL * d, DT_F32, 1), held;
    struct array weights = array_random(o, n, DT_F32, 1), loss = array_new(o, 1, DT_F32), odd_loss = array_new(o, 1, DT_F32);
    int32_t *rows = malloc((size_t)n * 4);
    for (int i = 0; i < n; i++)
        rows[i] = i * 3 % 100;
    int32_t *on_device = test_upload(o, rows, (size_t)n * 4);
    void *odd = one_on(o, &x, &held);
    struct dropout drop = {5, 6, 7, 0.25f};
    o->rope(o, x.dev, d, on_device, table.dev, n, 2, d / 2, false);
    o->rope(o, odd, d, on_device, table.dev, n, 2, d / 2, false);
    same_at(o, "rope", &x, odd);
    o->dropout_apply(o, x.dev, x.dev, (uint32_t *)on_device, n, d, &drop, false);
    o->dropout_apply(o, odd, odd, (uint32_t *)on_device, n, d, &drop, false);
    same_at(o, "dropout_apply", &x, odd);
    o->cross_entropy(o, loss.dev, NULL, x.dev, d, on_device, weights.dev, n, d - 1, true);
    o->cross_entropy(o, odd_loss.dev, NULL, odd, d, on_device, weights.dev, n, d - 1, true);
    same_at(o, "cross_entropy gradient", &x, odd);
    same_at(o, "cross_entropy loss", &loss, odd_loss.dev);
    free(rows);
    o->release(o, on_device);
    struct array *all[] = {&x, &table, &held, &weights, &loss, &odd_loss};
    for (int i = 0; i < 6; i++)
        array_free(all[i]);
}

/* The trainable block: F32, whatever act is. */
static void odd_block(struct ops *o, int64_t count)
{
    enum { P, G, M, V, ARRAYS };
    struct array a[ARRAYS], held[ARRAYS], half[2], stats[2];
    void *odd[ARRAYS];
    struct adamw s = {.lr = 0.01f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .grad_scale = 1, .bias1 = 0.1f, .bias2 = 0.001f};
    for (int i = 0; i < ARRAYS; i++) {
        a[i] = array_random(o, count, DT_F32, 1);
        for (int64_t j = 0; i == V && j < count; j++)
            a[i].host[j] *= a[i].host[j];
        array_put(&a[i]);
        odd[i] = one_on(o, &a[i], &held[i]);
    }
    for (int i = 0; i < 2; i++) {
        half[i] = array_new(o, count, DT_BF16);
        stats[i] = array_new(o, 2, DT_F32);
        o->grad_stats(o, stats[i].dev, i ? odd[G] : a[G].dev, count);
        o->adamw_update(o, i ? odd[P] : a[P].dev, i ? odd[G] : a[G].dev, i ? odd[M] : a[M].dev, i ? odd[V] : a[V].dev, count, &s);
        o->cast(o, half[i].dev, DT_BF16, i ? odd[P] : a[P].dev, DT_F32, count);
    }
    same_at(o, "grad_stats", &stats[0], stats[1].dev);
    same_at(o, "adamw_update", &a[P], odd[P]);
    same_at(o, "cast", &half[0], half[1].dev);
    for (int i = 0; i < ARRAYS; i++) {
        array_free(&a[i]);
        array_free(&held[i]);
    }
    for (int i = 0; i < 2; i++) {
        array_free(&half[i]);
        array_free(&stats[i]);
    }
}

int ops_test(struct ops *o)
{
    test_workspace(o, &(struct ops_dims){.n = 64, .max_span = 1, .d = 64, .f = 64, .h = 1, .k = 1, .q = 64, .v = 64, .r = 16,
                                         .head_chunk = 64});
    test_seed(23);
    listed_rows(o, 1, 1, 1, 1);
    listed_rows(o, 5, 11, 7, 9);
    listed_rows(o, 65, 100, 48, 64);
    listed_rows(o, 3, 5, 4104, 4112);
    listed_rows(o, 2, 3, 9001, 9001);
    odd_addresses(o, 3, 64, 4);
    odd_addresses(o, 5, 1024, 4);
    odd_addresses(o, 2, 8224, 32);
    odd_tables(o, 5, 64);
    odd_tables(o, 3, 512);
    odd_block(o, 5);
    odd_block(o, 20003);
    test_no_failure(o, "at the end");
    return check_failures;
}
