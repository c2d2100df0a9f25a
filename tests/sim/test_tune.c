/* test_tune.c - measured algorithms of products: the fastest sound one is taken, the text brings it back bit for bit on a fresh
 * backend, and a text of another card, of another library, cut or changed is refused by name. The library is
 * tests/sim/cublaslt.cpp, whose algorithms differ in bits and in what the clock of events says. */
#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "trainer/base/mem.h"
#include "trainer/base/rng.h"

enum { N = 64, D = 96, R = 16, SCRATCH = 8 << 20, ENOUGH_S = 3600 };
struct job {
    struct ops *o;
    void *workspace, *scratch, *x, *w, *y, *grad;
};

static void *block(struct ops *o, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    CHECK_OK(o->alloc(o, bytes, &p, &e), &e);
    return p;
}

static void fill(struct ops *o, void *dev, int64_t count, uint64_t seed)
{
    bf16 *host = malloc((size_t)count * 2);
    for (int64_t i = 0; i < count; i++)
        host[i] = bf16_from_f32(2 * rng_unit(rng_at(seed, RNG_INIT, (uint32_t)i, 0, 0).v[0]) - 1);
    o->upload(o, dev, host, (size_t)count * 2);
    free(host);
}

static struct job job_open(void)
{
    struct job j = {0};
    struct err e = {0};
    CHECK_OK(lorat_cuda_plugin()->open(0, DT_BF16, &j.o, &e), &e);
    if (!j.o)
        exit(check_done());
    struct ops_dims dims = {.n = N, .max_span = 1, .d = D, .f = D, .h = 1, .k = 1, .q = 64, .v = D, .r = R, .head_chunk = N};
    size_t bytes = j.o->workspace_bytes(j.o, &dims);
    j.workspace = block(j.o, bytes);
    j.o->set_workspace(j.o, j.workspace, bytes);
    j.scratch = block(j.o, SCRATCH);
    j.x = block(j.o, N * D * 2);
    j.w = block(j.o, D * D * 2);
    j.y = block(j.o, N * D * 2);
    j.grad = block(j.o, R * D * 4);
    fill(j.o, j.x, N * D, 1);
    fill(j.o, j.w, D * D, 2);
    return j;
}

static void job_close(struct job *j)
{
    struct err e = {0};
    CHECK_OK(j->o->sync(j->o, &e), &e);
    void *all[] = {j->workspace, j->scratch, j->x, j->w, j->y, j->grad};
    for (int i = 0; i < 6; i++)
        j->o->release(j->o, all[i]);
    j->o->close(j->o);
}

/* Three products as a step has them; their results' bits. */
static void work(struct job *j, unsigned char *bits)
{
    struct err e = {0};
    struct weight w = {j->w, DT_BF16, D, D};
    struct gemm g = {.m = R,
                     .n = D,
                     .k = N,
                     .a = j->x,
                     .b = j->y,
                     .c = j->grad,
                     .lda = D,
                     .ldb = D,
                     .ldc = D,
                     .trans_a = true,
                     .accumulate = true,
                     .a_type = DT_BF16,
                     .b_type = DT_BF16,
                     .c_type = DT_F32,
                     .alpha = 1};
    j->o->zero(j->o, j->grad, R * D * 4);
    j->o->linear_forward(j->o, j->y, j->x, &w, j->w, N);
    j->o->gemm(j->o, &g);
    j->o->linear_backward(j->o, j->y, j->x, &w, N, true);
    CHECK_OK(j->o->download(j->o, bits, j->y, N * D * 2, &e), &e);
    CHECK_OK(j->o->download(j->o, bits + N * D * 2, j->grad, R * D * 4, &e), &e);
}
enum { BITS = N * D * 2 + R * D * 4 };

static size_t count(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

/* Tuning one job; the text is the caller's. */
static void tuned_text(struct buf *text, unsigned char *tuned_bits)
{
    static unsigned char before[BITS], again[BITS];
    struct job j = job_open();
    struct err e = {0};
    work(&j, before);
    work(&j, again);
    CHECK(memcmp(before, again, BITS) == 0); /* no algorithm whose bits change from run to run */
    CHECK_OK(j.o->tune(j.o, j.scratch, SCRATCH, ENOUGH_S, &e), &e);
    CHECK_OK(j.o->tuned(j.o, text, &e), &e);
    work(&j, tuned_bits);
    CHECK(memcmp(before, tuned_bits, BITS) != 0); /* the one that splits the sum is faster and gives other bits */
    int64_t allocated = mem_count();
    for (int i = 0; i < 3; i++) {
        work(&j, again);
        CHECK(memcmp(tuned_bits, again, BITS) == 0);
    }
    CHECK_INT(mem_count() - allocated, 0);
    CHECK_INT(count(text->data, " bf16 bf16 "), 2);
    CHECK_INT(count(text->data, " bf16 f32 "), 1);
    CHECK_HAS(text->data, "lorat products 1 ");
    CHECK_HAS(text->data, "\nend 3 #");
    CHECK(strncmp(text->data + strlen("lorat products 1 "), j.o->device, strlen(j.o->device)) == 0);
    job_close(&j);
}

/* A fresh backend with the text, before and after it has plans of its own. */
static void brought_back(const struct buf *text, const unsigned char *want)
{
    static unsigned char got[BITS];
    struct buf again = {0};
    struct err e = {0};
    for (int late = 0; late < 2; late++) {
        struct job j = job_open();
        if (late)
            work(&j, got);
        CHECK_OK(j.o->set_tuned(j.o, text->data, text->n, &e), &e);
        work(&j, got);
        CHECK(memcmp(got, want, BITS) == 0);
        CHECK_OK(j.o->tuned(j.o, &again, &e), &e);
        CHECK_STR(again.data, text->data);
        job_close(&j);
    }
    buf_free(&again);
}

/* The scratch holds some shapes' operands, or no time is left: said, and the library's own choice stays. */
static void not_tuned(void)
{
    static unsigned char before[BITS], after[BITS];
    struct job j = job_open();
    struct buf text = {0};
    struct err e = {0};
    work(&j, before);
    CHECK_OK(j.o->tune(j.o, j.scratch, 48 << 10, ENOUGH_S, &e), &e); /* the two of 64 x 96 x 96 do not fit */
    CHECK_OK(j.o->tuned(j.o, &text, &e), &e);
    CHECK_INT(count(text.data, "# 64 x 96 x 96"), 2);
    CHECK_INT(count(text.data, "scratch memory does not hold"), 2);
    CHECK_HAS(text.data, "\nend 1 #");
    CHECK_OK(j.o->set_tuned(j.o, text.data, text.n, &e), &e); /* comments are read over */
    job_close(&j);
    j = job_open();
    work(&j, before);
    CHECK_OK(j.o->tune(j.o, j.scratch, SCRATCH, 0, &e), &e);
    work(&j, after);
    CHECK(memcmp(before, after, BITS) == 0);
    CHECK_OK(j.o->tuned(j.o, &text, &e), &e);
    CHECK_INT(count(text.data, "no time was left"), 3);
    CHECK_HAS(text.data, "\nend 0 #");
    job_close(&j);
    buf_free(&text);
}

static void refused(struct ops *o, const char *bytes, size_t n, const char *part)
{
    struct err e = {0};
    CHECK(o->set_tuned(o, bytes, n, &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_HAS(e.text, "tuned products");
    CHECK_HAS(e.text, part);
    CHECK(strstr(e.text, "un lorat tune") == NULL); /* whether that helps hangs on whether the run has begun */
}

static void damaged(const struct buf *text)
{
    struct job j = job_open();
    char *bytes = malloc(text->n + 1);
    struct buf empty = {0};
    struct err e = {0};
    for (size_t at = 0; at < text->n; at++) { /* one letter, anywhere */
        memcpy(bytes, text->data, text->n + 1);
        bytes[at] ^= 1;
        refused(j.o, bytes, text->n, "line ");
    }
    for (size_t n = 0; n < text->n; n++)
        refused(j.o, text->data, n, "expected what lorat tune wrote");
    memcpy(bytes, text->data, text->n + 1);
    char *third = strchr(strchr(bytes, '\n') + 1, '\n') + 1;
    third[3] = third[3] == '7' ? '8' : '7';
    refused(j.o, bytes, text->n, "line 3: damaged");
    CHECK_OK(j.o->tuned(j.o, &empty, &e), &e); /* nothing of a refused text is used */
    CHECK_HAS(empty.data, "\nend 0 #");
    job_close(&j);
    buf_free(&empty);
    free(bytes);
}

static uint32_t check_of(uint32_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619u; /* FNV-1a */
    return h;
}
/* Texts as another card, and another version of the library, would have written them. */
static void elsewhere(void)
{
    struct job j = job_open();
    const char *cards[] = {"NVIDIA GeForce RTX 4090, 8.9", j.o->device}, *versions[] = {"130100", "120803"};
    const char *found[] = {"made on NVIDIA GeForce RTX 4090, 8.9", "with cuBLASLt 120803"};
    for (int i = 0; i < 2; i++) {
        char head[256];
        struct buf text = {0};
        snprintf(head, sizeof head, "lorat products 1 %s; cuBLASLt %s", cards[i], versions[i]);
        buf_printf(&text, "%s #%08x", head, check_of(2166136261u, head));
        uint32_t h = check_of(check_of(2166136261u, text.data), "end 0");
        buf_printf(&text, "\nend 0 #%08x\n", h);
        refused(j.o, text.data, text.n, found[i]);
        buf_free(&text);
    }
    job_close(&j);
}

/* What gains less than timings differ by is no reason for other bits. */
static void no_gain(void)
{
    static float before[R * D], after[R * D];
    struct job j = job_open();
    struct buf text = {0};
    struct err e = {0};
    struct gemm g = {.m = R,
                     .n = D,
                     .k = 32,
                     .a = j.x,
                     .b = j.w,
                     .c = j.grad,
                     .lda = D,
                     .ldb = D,
                     .ldc = D,
                     .trans_a = true,
                     .a_type = DT_BF16,
                     .b_type = DT_BF16,
                     .c_type = DT_F32,
                     .alpha = 1};
    j.o->gemm(j.o, &g);
    CHECK_OK(j.o->download(j.o, before, j.grad, sizeof before, &e), &e);
    CHECK_OK(j.o->tune(j.o, j.scratch, SCRATCH, ENOUGH_S, &e), &e);
    j.o->gemm(j.o, &g);
    CHECK_OK(j.o->download(j.o, after, j.grad, sizeof after, &e), &e);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_OK(j.o->tuned(j.o, &text, &e), &e);
    CHECK_HAS(text.data, "\nend 1 #"); /* the library's own choice, kept by name */
    buf_free(&text);
    job_close(&j);
}

/* Products of no size: nothing to add up gives zeros, nothing to write writes nothing; and one that the library cannot do is
 * said. */
static void no_size(void)
{
    struct job j = job_open();
    float out[R * D], zeros[R * D] = {0}, ones[R * D];
    struct err e = {0};
    struct gemm g = {.m = R,
                     .n = D,
                     .k = 0,
                     .a = j.x,
                     .b = j.x,
                     .c = j.grad,
                     .lda = D,
                     .ldb = D,
                     .ldc = D,
                     .trans_a = true,
                     .accumulate = true,
                     .a_type = DT_BF16,
                     .b_type = DT_BF16,
                     .c_type = DT_F32,
                     .alpha = 1};
    for (int i = 0; i < R * D; i++)
        ones[i] = 1;
    j.o->upload(j.o, j.grad, ones, sizeof ones);
    j.o->gemm(j.o, &g);
    g.m = 0;
    g.k = N;
    j.o->gemm(j.o, &g);
    CHECK_OK(j.o->download(j.o, out, j.grad, sizeof out, &e), &e);
    CHECK(memcmp(out, ones, sizeof out) == 0);
    g.m = R;
    g.k = 0;
    g.accumulate = false;
    j.o->gemm(j.o, &g);
    CHECK_OK(j.o->download(j.o, out, j.grad, sizeof out, &e), &e);
    CHECK(memcmp(out, zeros, sizeof out) == 0);
    g.k = N;
    g.ldc = D - 1;
    j.o->gemm(j.o, &g);
    CHECK(j.o->sync(j.o, &e) != 0);
    CHECK_INT(e.code, ERR_DEVICE);
    CHECK_HAS(e.text, "gemm: cuBLASLt 13.1.0, a product of 16 x 96 x 64, bf16 into f32, A transposed: ");
    e = (struct err){0};
    void *all[] = {j.workspace, j.scratch, j.x, j.w, j.y, j.grad};
    for (int i = 0; i < 6; i++)
        j.o->release(j.o, all[i]);
    j.o->close(j.o);
}

int main(void)
{
    static unsigned char bits[BITS];
    struct buf text = {0};
    tuned_text(&text, bits);
    brought_back(&text, bits);
    not_tuned();
    damaged(&text);
    elsewhere();
    no_gain();
    no_size();
    buf_free(&text);
    return check_done();
}
