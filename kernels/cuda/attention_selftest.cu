/* attention_selftest.cu - is cuDNN's attention fit to be used here? Random q, k, v and dout in the model's layout (q, k, v as
 * columns of one matrix) at the job's own heads, head size and longest document; forward and backward twice by cuDNN, once by
 * ours.
 *
 * The bounds. Both sides round the probabilities, dS and every result to BF16 (relative 2^-9 at most, 0.0011 in the root mean
 * square) and sum in F32, so two right answers differ by two or three such roundings: 0.003 of a tensor's Euclidean norm; in
 * gradients more, since dP - delta cancels. Asked is 2^-6 = 0.016 of the norm, and for each row (one token, one head) 2^-5 of its
 * own norm or 2^-6 of the largest row's: rows whose exact value is nothing, as dq of a document's first token, hold only
 * rounding. A document that is masked wrongly, or a row that was not written (memory is filled with NaN before), is far outside.
 *
 * Tokens: the call's, at most 8,192, halved until the test's memory is at most 1/64 of the card's: a function of the shape and
 * the card, not of what is free. */
#include "kernels/cuda/attention_select.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
}

enum { TEST_TOKENS = 8192, TEST_REPEATS = 5 };
static const double norm_bound = 0x1p-6, row_bound = 0x1p-5, least_bound = 0x1p-6, lse_bound = 1e-3;

/* The device's block: results first, so that they are filled and read back in one piece. */
struct bench {
    struct cuda *c;
    struct attention_cudnn *x;
    struct attention a;
    bf16 *out, *dqkv; /* results: (n, HQ), (n, ld) */
    float *lse;       /* (n, H) */
    bf16 *qkv, *dout;
    float *delta;
    size_t result_bytes;
};
struct result {
    bf16 *out, *dqkv;
    float *lse;
};

static int32_t hq_of(const struct attention *a) { return a->heads * a->head_size; }
static int32_t kq_of(const struct attention *a) { return a->kv_heads * a->head_size; }

static size_t result_bytes(const struct attention *a)
{
    return (size_t)a->n * ((size_t)(hq_of(a) + a->ld_q) * sizeof(bf16) + (size_t)a->heads * sizeof(float));
}
static size_t block_bytes(const struct attention *a) { return 2 * result_bytes(a) + (size_t)a->n * sizeof(struct span); }

/* The call's shape with a layout of its own, cut to the test's memory. */
static struct attention shape_of(const struct attention *call, size_t budget)
{
    struct attention a = *call;
    a.ld_q = a.ld_k = a.ld_v = hq_of(&a) + 2 * kq_of(&a);
    a.n = a.n < TEST_TOKENS ? a.n : TEST_TOKENS;
    while (a.n > 64 && block_bytes(&a) > budget)
        a.n = (a.n / 2 + 63) / 64 * 64;
    a.max_span = a.max_span < a.n ? a.max_span : a.n;
    a.n_spans = 0;
    a.spans = NULL;
    return a;
}

/* Documents of many lengths, the longest among them, until the tokens are used up. */
static void fill_spans(struct attention *a, struct span *spans)
{
    const int32_t l = a->max_span, lengths[] = {l, 1, l / 2 + 1, 17, l * 3 / 4 + 1, 64};
    for (int32_t at = 0; at < a->n; a->n_spans++) {
        int32_t length = lengths[a->n_spans % (int32_t)(sizeof(lengths) / sizeof(lengths[0]))];
        length = length > l ? l : length;
        length = length > a->n - at ? a->n - at : length;
        spans[a->n_spans] = span{at, length, at, length};
        at += length;
    }
}

/* Uniform in +-1; q's columns in +-4, so that the softmax is neither flat nor a choice of one key. */
static void fill_random(bf16 *p, int32_t n, int32_t ld, int32_t n_wide, uint32_t seed)
{
    uint32_t s = seed;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < ld; j++) {
            s ^= s << 13, s ^= s >> 17, s ^= s << 5; /* xorshift32: Marsaglia 2003 */
            p[(size_t)i * (size_t)ld + (size_t)j] = bf16_from_f32((float)(int32_t)s * 0x1p-31f * (j < n_wide ? 4.0f : 1.0f));
        }
}

static void place(struct bench *b, char *block)
{
    size_t n = (size_t)b->a.n, hq = (size_t)hq_of(&b->a), ld = (size_t)b->a.ld_q;
    b->result_bytes = result_bytes(&b->a);
    b->out = (bf16 *)block;
    b->dqkv = b->out + n * hq;
    b->lse = (float *)(b->dqkv + n * ld);
    b->dout = (bf16 *)(block + b->result_bytes);
    b->qkv = b->dout + n * hq;
    b->delta = (float *)(b->qkv + n * ld);
    b->a.spans = (const struct span *)(block + 2 * b->result_bytes);
}

static int upload(struct bench *b)
{
    struct attention *a = &b->a;
    struct ops *o = &b->c->ops;
    size_t numbers = (size_t)a->n * (size_t)a->ld_q;
    bf16 *host = (bf16 *)mem_alloc(numbers, sizeof(bf16));
    struct span *spans = (struct span *)mem_alloc((size_t)a->n, sizeof(*spans));
    int rc = host && spans ? 0 : -1;
    if (rc == 0) {
        fill_spans(a, spans);
        cuda_upload(o, (void *)a->spans, spans, sizeof(*spans) * (size_t)a->n_spans);
        fill_random(host, a->n, a->ld_q, hq_of(a), 12345);
        cuda_upload(o, b->qkv, host, numbers * sizeof(bf16));
        fill_random(host, a->n, hq_of(a), 0, 54321);
        cuda_upload(o, b->dout, host, (size_t)a->n * (size_t)hq_of(a) * sizeof(bf16));
    }
    mem_free(spans);
    mem_free(host);
    return rc;
}

static int queue(struct bench *b, enum attention_side side, struct err *e)
{
    const struct attention *a = &b->a;
    bf16 *k = b->qkv + hq_of(a), *v = k + kq_of(a), *dk = b->dqkv + hq_of(a), *dv = dk + kq_of(a);
    if (side == SIDE_CUDNN) {
        TRY(attention_cudnn_forward(b->x, a, b->out, b->lse, b->qkv, k, v, e));
        return attention_cudnn_backward(b->x, a, b->dqkv, dk, dv, b->dout, b->out, b->lse, b->qkv, k, v, e);
    }
    attention_own_forward(b->c, a, b->out, b->lse, b->qkv, k, v);
    attention_own_backward(b->c, a, b->dqkv, dk, dv, b->dout, b->out, b->lse, b->qkv, k, v, b->delta);
    return cuda_check(&b->c->ops, e);
}

/* One forward and backward into NaN-filled memory, read back into r. */
static int run(struct bench *b, enum attention_side side, struct result *r, struct err *e)
{
    if (!cuda_ok(b->c, cudaMemsetAsync(b->out, 0xff, b->result_bytes, b->c->stream), "attention's self-test"))
        return cuda_check(&b->c->ops, e);
    TRY(queue(b, side, e));
    return cuda_download(&b->c->ops, r->out, b->out, b->result_bytes, e);
}

static int same_bits(const struct bench *b, const struct result *one, const struct result *two, struct err *e)
{
    size_t n = (size_t)b->a.n;
    if (memcmp(one->out, two->out, n * (size_t)hq_of(&b->a) * sizeof(bf16)) != 0 ||
        memcmp(one->lse, two->lse, n * (size_t)b->a.heads * sizeof(float)) != 0)
        FAIL(e, ERR_DEVICE, "cuDNN's forward gave other bits the second time");
    if (memcmp(one->dqkv, two->dqkv, n * (size_t)b->a.ld_q * sizeof(bf16)) != 0)
        FAIL(e, ERR_DEVICE, "cuDNN's backward gave other bits the second time");
    return 0;
}

/* One tensor: `heads` rows of head size at each token, ld apart. */
struct rows {
    const char *name;
    const bf16 *x, *y; /* cuDNN's, ours */
    int32_t n, ld, heads, size;
};
static double norm_of(const bf16 *x, const bf16 *minus, int32_t size)
{
    double sum = 0;
    for (int32_t i = 0; i < size; i++) {
        double d = (double)bf16_to_f32(x[i]) - (minus ? (double)bf16_to_f32(minus[i]) : 0);
        sum += d * d;
    }
    return sqrt(sum);
}
static int agree(const struct rows *r, struct err *e)
{
    double largest = 0, all = 0, off = 0;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t h = 0; h < r->heads; h++) {
            double norm = norm_of(r->y + (size_t)i * (size_t)r->ld + (size_t)h * (size_t)r->size, NULL, r->size);
            largest = norm > largest ? norm : largest;
            all += norm * norm;
        }
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t h = 0; h < r->heads; h++) {
            size_t at = (size_t)i * (size_t)r->ld + (size_t)h * (size_t)r->size;
            double d = norm_of(r->x + at, r->y + at, r->size), own = norm_of(r->y + at, NULL, r->size);
            double most = fmax(row_bound * own, least_bound * largest);
            if (!(d <= most))
                FAIL(e, ERR_DEVICE, "cuDNN's %s differs from ours by %.3g at token %d, head %d, expected at most %.3g", r->name,
                     d, i, h, most);
            off += d * d;
        }
    if (!(sqrt(off) <= norm_bound * sqrt(all)))
        FAIL(e, ERR_DEVICE, "cuDNN's %s differs from ours by %.3g of its norm, expected at most %.3g", r->name, sqrt(off / all),
             norm_bound);
    return 0;
}

static int same_values(const struct bench *b, const struct result *x, const struct result *y, struct err *e)
{
    const struct attention *a = &b->a;
    int32_t hq = hq_of(a), kq = kq_of(a);
    const struct rows tensors[] = {{"output", x->out, y->out, a->n, hq, a->heads, a->head_size},
                                   {"dq", x->dqkv, y->dqkv, a->n, a->ld_q, a->heads, a->head_size},
                                   {"dk", x->dqkv + hq, y->dqkv + hq, a->n, a->ld_q, a->kv_heads, a->head_size},
                                   {"dv", x->dqkv + hq + kq, y->dqkv + hq + kq, a->n, a->ld_q, a->kv_heads, a->head_size}};
    TRY(agree(&tensors[0], e));
    for (size_t i = 0; i < (size_t)a->n * (size_t)a->heads; i++)
        if (!(fabs((double)x->lse[i] - (double)y->lse[i]) <= lse_bound * (1 + fabs((double)y->lse[i]))))
            FAIL(e, ERR_DEVICE, "cuDNN's log-sum-exp is %.6g, expected ours, %.6g", (double)x->lse[i], (double)y->lse[i]);
    for (int i = 1; i < 4; i++)
        TRY(agree(&tensors[i], e));
    return 0;
}

/* Microseconds of a forward and backward, over TEST_REPEATS behind one that warms up. */
static int time_side(struct bench *b, enum attention_side side, float *us, struct err *e)
{
    struct cuda *c = b->c;
    cudaEvent_t from = NULL, to = NULL;
    float ms = 0;
    int rc = queue(b, side, e);
    bool good = rc == 0 && cuda_ok(c, cudaEventCreateWithFlags(&from, cudaEventDefault), "an event") &&
                cuda_ok(c, cudaEventCreateWithFlags(&to, cudaEventDefault), "an event") &&
                cuda_ok(c, cudaEventRecord(from, c->stream), "an event");
    for (int i = 0; good && rc == 0 && i < TEST_REPEATS; i++)
        rc = queue(b, side, e);
    good = good && rc == 0 && cuda_ok(c, cudaEventRecord(to, c->stream), "an event") &&
           cuda_ok(c, cudaEventSynchronize(to), "an event") && cuda_ok(c, cudaEventElapsedTime(&ms, from, to), "an event");
    if (from)
        cudaEventDestroy(from);
    if (to)
        cudaEventDestroy(to);
    *us = ms * 1000 / TEST_REPEATS;
    return good ? 0 : rc != 0 ? rc : cuda_check(&c->ops, e);
}

/* r[0], r[1] cuDNN's, r[2] ours: in one block of the host. */
static int compare(struct bench *b, char *host, float us[2], struct err *e)
{
    struct result r[3];
    for (int i = 0; i < 3; i++) {
        r[i].out = (bf16 *)(host + (size_t)i * b->result_bytes);
        r[i].dqkv = r[i].out + (size_t)b->a.n * (size_t)hq_of(&b->a);
        r[i].lse = (float *)(r[i].dqkv + (size_t)b->a.n * (size_t)b->a.ld_q);
    }
    TRY(run(b, SIDE_CUDNN, &r[0], e));
    TRY(run(b, SIDE_CUDNN, &r[1], e));
    TRY(same_bits(b, &r[0], &r[1], e));
    TRY(run(b, SIDE_OWN, &r[2], e));
    TRY(same_values(b, &r[0], &r[2], e));
    for (int side = SIDE_OWN; us && side <= SIDE_CUDNN; side++)
        TRY(time_side(b, (enum attention_side)side, &us[side], e));
    return 0;
}

static size_t budget_of(struct cuda *c)
{
    size_t left = 0, total = 0;
    cuda_ok(c, cudaMemGetInfo(&left, &total), "asking for free memory");
    return total / 64;
}

size_t attention_selftest_bytes(struct cuda *c, const struct attention *call)
{
    struct attention a = shape_of(call, budget_of(c));
    return block_bytes(&a);
}

int attention_selftest(struct cuda *c, struct attention_cudnn *x, const struct attention *call, void *scratch, size_t bytes,
                       float us[2], struct err *e)
{
    struct bench b = {};
    void *block = scratch;
    char *host = NULL;
    int rc = -1;
    b.c = c;
    b.x = x;
    b.a = shape_of(call, budget_of(c));
    if (block && bytes < block_bytes(&b.a))
        FAIL(e, ERR_DEVICE, "%zu bytes are too little for cuDNN's self-test, expected %zu", bytes, block_bytes(&b.a));
    if (!block && cudaMalloc(&block, block_bytes(&b.a)) != cudaSuccess) {
        cudaGetLastError(); /* said here, not by the next call */
        cuda_fail(c, ERR_DEVICE,
                  "cuda: no memory for the %zu bytes of cuDNN's self-test, expected enough. Lower the batch, or set "
                  "LORAT_ATTENTION=mma",
                  block_bytes(&b.a)); /* not a reason for ours: the same job would have other bits on a fuller card */
        return cuda_check(&c->ops, e);
    }
    place(&b, (char *)block);
    host = (char *)mem_alloc(3, b.result_bytes);
    if (!host || upload(&b) != 0)
        mem_fail(e, "cuDNN's self-test", 3 * b.result_bytes);
    else
        rc = compare(&b, host, us, e);
    mem_free(host);
    if (block != scratch)
        cudaFree(block);
    return rc;
}
