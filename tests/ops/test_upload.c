/* test_upload.c - the way in and out: the host's bytes are copied before upload returns, and land in their turn among operations.
 */
#include "tests/ops/harness.h"

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 2654435761u >> 13 ^ i >> 7); }

static void *block(struct ops *o, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    CHECK_OK(o->alloc(o, bytes, &p, &e), &e);
    return p;
}

/* A host buffer that is written over as soon as upload has returned. */
static void overwritten(struct ops *o)
{
    enum { N = 4096, ROUNDS = 40 };
    uint8_t *host = malloc(N), *back = malloc((size_t)N * ROUNDS), *dev = block(o, (size_t)N * ROUNDS);
    struct err e = {0};
    for (int r = 0; r < ROUNDS; r++) {
        memset(host, r + 1, N);
        o->upload(o, dev + (size_t)r * N, host, N);
        memset(host, 0xee, N);
    }
    CHECK_OK(o->download(o, back, dev, (size_t)N * ROUNDS, &e), &e);
    for (int r = 0; r < ROUNDS; r++)
        CHECK(back[(size_t)r * N] == r + 1 && back[(size_t)r * N + N - 1] == r + 1);
    free(host);
    free(back);
    o->release(o, dev);
}

/* 100 MB in pieces of odd sizes, a few bytes up to 19 MiB, from one host buffer that is used again each time; back at once and in
 * pieces. */
static void odd_pieces(struct ops *o)
{
    static const size_t sizes[] = {1, 1048576, 7, 1048577, 8388608, 3, 20000003, 65537, 8388609, 999, 4194301, 1048575};
    const size_t all = 100000003;
    uint8_t *host = malloc(20000003), *back = malloc(all), *dev = block(o, all);
    struct err e = {0};
    size_t at = 0, wrong = 0;
    for (int i = 0; at < all; i++) {
        size_t n = sizes[i % 12] < all - at ? sizes[i % 12] : all - at;
        for (size_t j = 0; j < n; j++)
            host[j] = byte_at(at + j);
        o->upload(o, dev + at, host, n);
        at += n;
    }
    CHECK_OK(o->download(o, back, dev, all, &e), &e);
    for (size_t i = 0; i < all; i++)
        wrong += back[i] != byte_at(i);
    CHECK_INT(wrong, 0);
    CHECK_OK(o->download(o, back, dev + 12345679, 8388608 + 5, &e), &e);
    for (size_t i = 0; i < 8388608 + 5; i++)
        wrong += back[i] != byte_at(i + 12345679);
    CHECK_INT(wrong, 0);
    free(host);
    free(back);
    o->release(o, dev);
}

/* Uploads into one buffer between operations that read it: each sees what was uploaded last before it. `count` act elements. */
static void interleaved(struct ops *o, int rows, int cols, int rounds)
{
    size_t count = (size_t)rows * (size_t)cols, bytes = count * dtype_size(o->act);
    char *in = block(o, bytes), *out = block(o, bytes * (size_t)rounds), *back = malloc(bytes * (size_t)rounds),
         *host = malloc(bytes);
    struct err e = {0};
    for (int r = 0; r < rounds; r++) {
        for (size_t i = 0; i < bytes; i++)
            host[i] = (char)(1 + (r * 31 + (int)(i % 89)) % 63); /* small positive numbers of either type */
        o->upload(o, in, host, bytes);
        memset(host, 0x7f, bytes);
        o->copy_2d(o, out + bytes * (size_t)r, cols, in, cols, rows, cols);
    }
    o->upload(o, in, host, bytes); /* behind the last reader */
    CHECK_OK(o->download(o, back, out, bytes * (size_t)rounds, &e), &e);
    for (int r = 0; r < rounds; r++) {
        size_t wrong = 0;
        for (size_t i = 0; i < bytes; i++)
            wrong += back[bytes * (size_t)r + i] != (char)(1 + (r * 31 + (int)(i % 89)) % 63);
        if (wrong != 0) {
            fprintf(stderr, "interleaved %d x %d: round %d of %d has %zu wrong bytes of %zu\n", rows, cols, r, rounds, wrong,
                    bytes);
            check_failures++;
        }
    }
    free(host);
    free(back);
    o->release(o, in);
    o->release(o, out);
}

int ops_test(struct ops *o)
{
    struct err e = {0};
    uint8_t unchanged = 5;
    overwritten(o);
    if (o->act == DT_F32) /* bytes are bytes: once */
        odd_pieces(o);
    interleaved(o, 3, 17, 300);    /* a batch's small arrays */
    interleaved(o, 256, 1024, 12); /* as large as goes through the small ring, and more of them than it holds */
    interleaved(o, 1100, 1024, 3); /* in pieces */
    o->upload(o, &unchanged, &unchanged, 0);
    CHECK_OK(o->download(o, &unchanged, &unchanged, 0, &e), &e);
    CHECK_INT(unchanged, 5);
    test_no_failure(o, "at the end");
    return check_failures;
}
