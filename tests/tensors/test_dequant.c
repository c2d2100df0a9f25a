/* Every tensor type against the values of the PyPI package gguf (tests/golden/make_dequant.py), bit for bit. */
#include "checkpoints/gguf.h"

#include "tests/check.h"
#include "trainer/base/io.h"

static char *load(const char *path, size_t want)
{
    char *bytes;
    size_t n = 0;
    struct err e = {0};
    CHECK_OK(io_read_file(path, ERR_DATA, 1 << 20, &bytes, &n, &e), &e);
    CHECK_INT(n, want);
    return bytes;
}

/* Rows [row0, row0 + rows) read as both types equal the expected values at `at`. */
static void same(const struct tensor_list *l, const struct tensor *t, int64_t row0, int64_t rows, const float *f32, const bf16 *h)
{
    enum { ROOM = 16 * 96 };
    static float got[ROOM];
    static bf16 got_h[ROOM];
    struct err e = {0};
    int64_t rest = t->shape[1];
    CHECK(rows * rest <= ROOM);
    CHECK_OK(tensor_read(l, t, row0, rows, DT_F32, got, &e), &e);
    CHECK_OK(tensor_read(l, t, row0, rows, DT_BF16, got_h, &e), &e);
    int f32_same = memcmp(got, f32 + row0 * rest, (size_t)(rows * rest) * 4) == 0;
    int bf16_same = memcmp(got_h, h + row0 * rest, (size_t)(rows * rest) * 2) == 0;
    if (!f32_same || !bf16_same)
        fprintf(stderr, "%s rows %lld+%lld: f32 %s, bf16 %s\n", t->name, (long long)row0, (long long)rows,
                f32_same ? "same" : "differ", bf16_same ? "same" : "differ");
    CHECK(f32_same && bf16_same);
}

static void ranges(const struct tensor_list *l, const struct tensor *t)
{
    float x[96];
    struct err e = {0};
    CHECK_INT(tensor_read(l, t, -1, 1, DT_F32, x, &e), -1);
    CHECK_INT(tensor_read(l, t, t->shape[0], 1, DT_F32, x, &e), -1);
    CHECK_INT(tensor_read(l, t, 0, t->shape[0] + 1, DT_F32, x, &e), -1);
    CHECK_INT(tensor_read(l, t, 1, INT64_MAX, DT_F32, x, &e), -1);
    CHECK_INT(tensor_read(l, t, 0, 1, DT_I32, x, &e), -1);
    CHECK_INT(e.code, ERR_INTERNAL);
    CHECK_OK(tensor_read(l, t, t->shape[0], 0, DT_F32, x, &e), &e);
}

int main(void)
{
    struct gguf *g;
    struct tensor_list l = {0};
    struct err e = {0};
    int64_t at = 0;
    CHECK_OK(gguf_open("tests/golden/tensors/dequant.gguf", &g, &l, &e), &e);
    CHECK_INT(l.n, 9);
    float *f32 = (float *)load("tests/golden/tensors/dequant.f32", 32256);
    bf16 *h = (bf16 *)load("tests/golden/tensors/dequant.bf16", 16128);
    if (check_failures)
        return check_done();
    for (size_t i = 0; i < l.n; i++) {
        const struct tensor *t = &l.tensors[i];
        CHECK_INT(t->rank, 2);
        CHECK_INT(t->shape[1], 96);
        CHECK(strstr(t->name, tensor_type_name(t->type)) != NULL);
        same(&l, t, 0, t->shape[0], f32 + at, h + at);
        for (int64_t row = 0; row < t->shape[0]; row++)
            same(&l, t, row, 1, f32 + at, h + at);
        same(&l, t, 2, 3, f32 + at, h + at);
        ranges(&l, t);
        at += tensor_count(t);
    }
    CHECK_INT(at, 32256 / 4);
    free(f32);
    free(h);
    gguf_close(g);
    tensor_list_close(&l);
    return check_done();
}
