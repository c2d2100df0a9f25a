/* test_backend.c - the backend itself: memory, the sticky error, no allocation after first use, determinism beside other work. */
#include "tests/ops/harness.h"
#include "trainer/base/mem.h"

static void memory(struct ops *o)
{
    int64_t left = -1, total = -1;
    struct err e = {0};
    CHECK_OK(o->memory(o, &left, &total, &e), &e);
    CHECK(left > 0 && left <= total);
    void *p = NULL;
    CHECK(o->alloc(o, (size_t)1 << 60, &p, &e) != 0);
    CHECK_INT(e.code, ERR_DEVICE);
    for (size_t bytes = 1; bytes < (size_t)32 << 20; bytes = bytes * 7 + 1) {
        CHECK_OK(o->alloc(o, bytes, &p, &e), &e);
        CHECK_INT((uintptr_t)p % 256, 0);
        o->zero(o, p, bytes);
        o->release(o, p);
    }
}

/* The same product and attention again and again, with others between: same bits, nothing allocated. */
static void repeated(struct ops *o)
{
    enum { N = 192, D = 64, ROUNDS = 5 };
    struct span spans[] = {{0, 150, 0, 150}, {150, 42, 150, 42}}, *on_device = test_upload(o, spans, sizeof(spans));
    struct attention a = {N, 2, 1, 32, D, 32, 32, 0.2f, on_device, 2, 150, true};
    struct array x = array_random(o, N * D, o->act, 1), w = array_random(o, D * D, o->act, 0.1), y = array_new(o, N * D, o->act);
    struct array k = array_random(o, N * 32, o->act, 1), out = array_new(o, N * D, o->act), dq = array_new(o, N * D, o->act);
    struct array dk = array_new(o, N * 32, o->act), dv = array_new(o, N * 32, o->act), lse = array_new(o, N * 2, DT_F32);
    struct array delta = array_new(o, N * 2, DT_F32), da = array_random(o, D * D, DT_F32, 1);
    struct weight weight = {w.dev, o->act, D, D};
    struct gemm g = {.m = D, .n = D, .k = N, .a = x.dev, .b = y.dev, .c = da.dev, .lda = D, .ldb = D, .ldc = D, .trans_a = true,
                     .accumulate = true, .a_type = o->act, .b_type = o->act, .c_type = DT_F32, .alpha = 0.5f};
    void *bits[4] = {NULL};
    const struct array *watched[] = {&y, &dq, &dk, &da};
    struct err e = {0};
    for (int round = 0; round < ROUNDS; round++) {
        array_put(&da);
        int64_t allocated = mem_count();
        for (int other = 0; other < round; other++)
            o->linear_backward(o, out.dev, x.dev, &weight, 64, false);
        o->linear_forward(o, y.dev, x.dev, &weight, NULL, N);
        o->attention_forward(o, &a, out.dev, lse.dev, y.dev, k.dev, k.dev);
        o->attention_backward(o, &a, dq.dev, dk.dev, dv.dev, x.dev, out.dev, lse.dev, y.dev, k.dev, k.dev, delta.dev);
        o->gemm(o, &g);
        CHECK_OK(o->sync(o, &e), &e);
        if (round > 1)
            CHECK_INT(mem_count() - allocated, 0);
        for (int i = 0; i < 4; i++) {
            if (!bits[i])
                bits[i] = array_raw(watched[i]);
            same_bits("repeated", watched[i], bits[i]);
        }
    }
    for (int i = 0; i < 4; i++)
        free(bits[i]);
    o->release(o, on_device);
    struct array *all[] = {&x, &w, &y, &k, &out, &dq, &dk, &dv, &lse, &delta, &da};
    for (int i = 0; i < 11; i++)
        array_free(all[i]);
}

/* A failure is remembered: what follows does nothing, and sync, check and download say why. */
static void sticky(struct ops *o)
{
    struct array y = array_random(o, 8, o->act, 1);
    struct gemm g = {.m = 2, .n = 2, .k = 2, .a = y.dev, .b = y.dev, .c = y.dev, .lda = 2, .ldb = 2, .ldc = 2, .a_type = DT_I32,
                     .b_type = o->act, .c_type = o->act, .alpha = 1};
    struct err e = {0};
    void *before = array_raw(&y), *after = malloc(64);
    CHECK_OK(o->check(o, &e), &e);
    o->gemm(o, &g);
    CHECK(o->check(o, &e) != 0);
    CHECK_HAS(e.text, "gemm");
    o->zero(o, y.dev, (size_t)y.count * dtype_size(o->act));
    e = (struct err){0};
    CHECK(o->sync(o, &e) != 0);
    CHECK_HAS(e.text, "gemm");
    CHECK(o->download(o, after, y.dev, 4, &e) != 0);
    free(before);
    free(after);
    array_free(&y);
}

int ops_test(struct ops *o)
{
    memory(o);
    test_workspace(o, &(struct ops_dims){.n = 192, .max_span = 150, .d = 64, .f = 64, .h = 2, .k = 1, .q = 32, .v = 64, .r = 16,
                                         .head_chunk = 64});
    repeated(o);
    test_no_failure(o, "before the sticky failure");
    sticky(o);
    return check_failures;
}
