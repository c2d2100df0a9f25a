/* lt_tune.cu - measure the algorithms that cuBLASLt offers for the products of a job, and keep the fastest in a table.
 *
 * Every shape that was used is given operands in the scratch memory, random numbers of the size that activations have (zeros
 * would run cooler and so faster than a job does). The operands are rotated, so that they are not found in the L2 cache: 128 MiB
 * of them or what the scratch holds. An algorithm that gives other bits in a second run is left out, whatever the library says of
 * it; then each is timed by events over a fixed number of runs. Shapes go by the work that they stand for, the most first, until
 * the time is used up. */
#include "kernels/cuda/attention_select.h"
#include "kernels/cuda/lt.h"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "trainer/base/clock.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}
#include "kernels/cuda/device.cuh"

enum { CANDIDATES = 24, MOST_COPIES = 8, MOST_RUNS = 20 };
static const size_t past_l2_bytes = (size_t)128 << 20;

/* Pseudo-random numbers in (-1, 1): a multiplicative hash of the index. */
template <typename T> __global__ void fill_random(T *p, int64_t count, uint32_t seed)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        uint32_t h = ((uint32_t)i ^ seed) * 0x9E3779B9u;
        h = (h ^ h >> 15) * 0x85EBCA6Bu;
        p[i] = from_float<T>((float)(int32_t)(h ^ h >> 13) * 0x1p-31f);
    }
}
/* *differ += how many of `count` words differ. */
__global__ void count_differences(uint32_t *differ, const uint32_t *x, const uint32_t *y, int64_t count)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    uint32_t mine = 0;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        mine += x[i] != y[i];
    if (mine)
        atomic_add(differ, mine);
}
static dim3 grid_for(int64_t count)
{
    int64_t blocks = (count + ROW_BLOCK - 1) / ROW_BLOCK;
    return dim3((unsigned)(blocks < 2048 ? blocks : 2048));
}
static void random_numbers(struct cuda *c, void *p, uint8_t type, size_t bytes, uint32_t seed)
{
    int64_t count = (int64_t)(bytes / dtype_size((enum dtype)type));
    if (type == DT_BF16)
        cuda_launch(c, "tune", grid_for(count), ROW_BLOCK, 0, fill_random<bf16>, (bf16 *)p, count, seed);
    else
        cuda_launch(c, "tune", grid_for(count), ROW_BLOCK, 0, fill_random<float>, (float *)p, count, seed);
}

/* One shape's operands in the scratch: |differences|bias|second C| a b c | a b c | ... */
struct bench {
    struct cuda *c;
    struct lt_plan *p;
    char *bias, *second, *copies;
    uint32_t *differ;
    size_t a_bytes, b_bytes, c_bytes, copy_bytes; /* rounded up to 256 */
    int n_copies;
    cudaEvent_t from, to;
};
/* `base` is on 256 bytes; the operand stands as its shape says, 16 bytes or more being all the same. */
static char *aligned(char *base, uint8_t alignment) { return alignment < 16 ? base + alignment : base; }

static size_t rounded(int64_t rows, int64_t ld, uint8_t type)
{
    return (size_t)num_round_up(rows * ld * (int64_t)dtype_size((enum dtype)type) + 16, 256); /* 16: room for `aligned` */
}
/* False when the scratch is too small. */
static bool lay_out(struct bench *b, char *scratch, size_t bytes)
{
    const struct lt_shape *s = &b->p->shape;
    size_t bias_bytes = rounded(1, s->n, s->c_type), fixed;
    b->a_bytes = rounded(s->trans_a ? s->k : s->m, s->lda, s->type);
    b->b_bytes = rounded(s->trans_b ? s->n : s->k, s->ldb, s->type);
    b->c_bytes = rounded(s->m, s->ldc, s->c_type);
    b->copy_bytes = b->a_bytes + b->b_bytes + b->c_bytes;
    fixed = 256 + bias_bytes + b->c_bytes;
    b->differ = (uint32_t *)scratch;
    b->bias = scratch + 256;
    b->second = b->bias + bias_bytes;
    b->copies = b->second + b->c_bytes;
    if (bytes < fixed + b->copy_bytes)
        return false;
    size_t fit = (bytes - fixed) / b->copy_bytes, want = past_l2_bytes / b->copy_bytes + 1;
    b->n_copies = (int)(fit < want ? fit : want);
    b->n_copies = b->n_copies < MOST_COPIES ? b->n_copies : MOST_COPIES;
    random_numbers(b->c, b->bias, s->c_type, bias_bytes, 1);
    for (int i = 0; i < b->n_copies; i++) {
        random_numbers(b->c, b->copies + b->copy_bytes * (size_t)i, s->type, b->a_bytes, 2);
        random_numbers(b->c, b->copies + b->copy_bytes * (size_t)i + b->a_bytes, s->type, b->b_bytes, 3);
    }
    return true;
}
static struct lt_operands operands(const struct bench *b, int copy)
{
    const struct lt_shape *s = &b->p->shape;
    char *at = b->copies + b->copy_bytes * (size_t)copy;
    struct lt_operands x = {aligned(at, s->align_a), aligned(at + b->a_bytes, s->align_b), aligned(b->bias, s->align_bias),
                            aligned(at + b->a_bytes + b->b_bytes, s->align_c)};
    return x;
}

/* Does it run, and give the same bits twice? -1: the card failed. */
static int same_twice(struct bench *b, const cublasLtMatmulAlgo_t *algo, bool *same, struct err *e)
{
    struct cuda *c = b->c;
    uint32_t differ = 1;
    struct lt_operands x = operands(b, 0), y = x;
    y.c = aligned(b->second, b->p->shape.align_c);
    *same = false;
    random_numbers(c, b->copies + b->a_bytes + b->b_bytes, b->p->shape.c_type, b->c_bytes, 4); /* all of it, as it is compared */
    random_numbers(c, b->second, b->p->shape.c_type, b->c_bytes, 4);
    if (lt_run(c, b->p, algo, 1.0f, &x) != CUBLAS_STATUS_SUCCESS || lt_run(c, b->p, algo, 1.0f, &y) != CUBLAS_STATUS_SUCCESS)
        return cuda_sync(&c->ops, e); /* refused, as a shape's pointers may not suit it after all: not a failure */
    cuda_ok(c, cudaMemsetAsync(b->differ, 0, sizeof(*b->differ), c->stream), "tune");
    cuda_launch(c, "tune", grid_for((int64_t)(b->c_bytes / 4)), ROW_BLOCK, 0, count_differences, b->differ,
                (const uint32_t *)(b->copies + b->a_bytes + b->b_bytes), (const uint32_t *)b->second, (int64_t)(b->c_bytes / 4));
    TRY(cuda_download(&c->ops, &differ, b->differ, sizeof(differ), e));
    *same = differ == 0;
    return 0;
}

/* Nanoseconds of one of `runs` runs. */
static int time_runs(struct bench *b, const cublasLtMatmulAlgo_t *algo, int runs, int64_t *ns, struct err *e)
{
    struct cuda *c = b->c;
    float ms = 0;
    cuda_ok(c, cudaEventRecord(b->from, c->stream), "tune");
    for (int i = 0; i < runs; i++) {
        struct lt_operands x = operands(b, i % b->n_copies);
        if (lt_run(c, b->p, algo, 1.0f, &x) != CUBLAS_STATUS_SUCCESS)
            FAIL(e, ERR_DEVICE, "tune: an algorithm that ran before is refused, expected the same. Run lorat tune again");
    }
    cuda_ok(c, cudaEventRecord(b->to, c->stream), "tune");
    if (!c->failed && cuda_ok(c, cudaEventSynchronize(b->to), "tune"))
        cuda_ok(c, cudaEventElapsedTime(&ms, b->from, b->to), "tune");
    *ns = (int64_t)((double)ms * 1e6 / runs + 0.5);
    return cuda_check(&c->ops, e);
}

/* A gain below this may be chance: the algorithm that the library thinks fastest stays. */
static const double least_gain = 0.02;

/* The fastest of the sound ones into the plan, if that gains something; share_s: about what may be spent on it. */
static int tune_shape(struct bench *b, double share_s, struct err *e)
{
    cublasLtMatmulHeuristicResult_t offered[CANDIDATES];
    struct lt_plan *p = b->p;
    int n = lt_candidates(b->c, p, offered, CANDIDATES), best = -1;
    int64_t best_ns = 0, ns = 0, first_ns = 0;
    p->untuned = "no algorithm gave the same bits twice";
    for (int i = 0; i < n; i++) {
        bool same;
        TRY(same_twice(b, &offered[i].algo, &same, e));
        if (!same)
            continue;
        TRY(time_runs(b, &offered[i].algo, 2, &ns, e));
        double fit = share_s / n / ((double)ns * 1e-9 + 1e-9);
        TRY(time_runs(b, &offered[i].algo, fit < 2 ? 2 : fit > MOST_RUNS ? MOST_RUNS : (int)fit, &ns, e));
        if (i == 0)
            first_ns = ns;
        if (best < 0 || ns < best_ns) {
            best = i;
            best_ns = ns;
        }
    }
    if (best < 0)
        return 0;
    if (first_ns && (double)best_ns > (1 - least_gain) * (double)first_ns) {
        best = 0;
        best_ns = first_ns;
    }
    p->algo = offered[best].algo;
    p->workspace = offered[best].workspaceSize;
    p->tuned = true;
    p->untuned = NULL;
    p->ns = best_ns;
    p->heuristic_ns = first_ns ? first_ns : best_ns;
    return 0;
}

static double work_of(const struct lt_plan *p) { return (double)p->uses * p->shape.m * p->shape.n * p->shape.k; }
static int by_work(const void *x, const void *y)
{
    const struct lt_plan *a = *(struct lt_plan *const *)x, *b = *(struct lt_plan *const *)y;
    double wa = work_of(a), wb = work_of(b);
    return wa != wb ? (wa < wb) - (wa > wb) : memcmp(&a->shape, &b->shape, sizeof(a->shape));
}
static int by_shape(const void *x, const void *y)
{
    const struct lt_shape *a = &(*(struct lt_plan *const *)x)->shape, *b = &(*(struct lt_plan *const *)y)->shape;
    return a->m != b->m ? (a->m > b->m) - (a->m < b->m) : a->n != b->n ? (a->n > b->n) - (a->n < b->n) : memcmp(a, b, sizeof(*a));
}
/* All plans in an order that does not depend on the table's; the caller frees the list. */
static struct lt_plan **sorted(const struct lt *lt, int (*order)(const void *, const void *), size_t *n)
{
    struct lt_plan **list = (struct lt_plan **)mem_alloc(lt->n + 1, sizeof(*list));
    *n = 0;
    for (size_t i = 0; list && i < lt->capacity; i++)
        if (lt->slots[i].used)
            list[(*n)++] = &lt->slots[i];
    if (list)
        qsort(list, *n, sizeof(*list), order);
    return list;
}

int cuda_tune(struct ops *o, void *scratch, size_t bytes, double budget_s, struct err *e)
{
    struct cuda *c = cuda_of(o);
    struct bench b = {};
    size_t n;
    int rc = cuda_sync(o, e) != 0 ? -1 : attention_select_tune(c, scratch, bytes, e);
    double end = clock_s() + budget_s;
    struct lt_plan **list = rc == 0 ? sorted(c->lt, by_work, &n) : NULL;
    if (rc != 0 || !list)
        return rc != 0 ? rc : mem_fail(e, "the list of products", c->lt->n * sizeof(*list));
    b.c = c;
    if (!cuda_ok(c, cudaEventCreate(&b.from), "tune") || !cuda_ok(c, cudaEventCreate(&b.to), "tune"))
        TRY_DONE(cuda_check(o, e));
    for (size_t i = 0; i < n; i++) {
        double left = end - clock_s();
        b.p = list[i];
        if (left <= 0)
            b.p->untuned = "no time was left";
        else if (!lay_out(&b, (char *)scratch, bytes))
            b.p->untuned = "the scratch memory does not hold its operands";
        else
            TRY_DONE(tune_shape(&b, left / (double)(n - i < 4 ? n - i : 4), e)); /* the first shapes are most of the work */
    }
done:
    if (b.to)
        cudaEventDestroy(b.to);
    if (b.from)
        cudaEventDestroy(b.from);
    mem_free(list);
    return rc;
}

int cuda_tuned(struct ops *o, struct buf *out, struct err *e)
{
    struct cuda *c = cuda_of(o);
    size_t n, rows = 0;
    struct lt_plan **list = sorted(c->lt, by_shape, &n);
    if (!list)
        return mem_fail(e, "the list of products", c->lt->n * sizeof(*list));
    buf_clear(out);
    lt_table_head(out, o->device, (int64_t)cublasLtGetVersion(), c->lt->attention);
    for (size_t i = 0; i < n; i++) {
        struct lt_row row;
        if (!list[i]->tuned && list[i]->untuned)
            lt_table_comment(out, &list[i]->shape, list[i]->untuned);
        if (!list[i]->tuned)
            continue;
        row.shape = list[i]->shape;
        memcpy(row.algo, &list[i]->algo, sizeof(row.algo));
        row.ns = list[i]->ns;
        row.heuristic_ns = list[i]->heuristic_ns;
        lt_table_row(out, &row);
        rows++;
    }
    lt_table_end(out, rows);
    mem_free(list);
    if (out->failed)
        return mem_fail(e, "the table of products", out->n);
    return 0;
}

static_assert(sizeof(cublasLtMatmulAlgo_t) == LT_ALGO_BYTES, "an algorithm is kept as its bytes");

/* A row as a plan: the library accepts the algorithm, and it is one that may be used. */
static bool plan_from(struct cuda *c, const struct lt_row *row, struct lt_plan *p)
{
    cublasLtMatmulHeuristicResult_t told;
    *p = {};
    p->shape = row->shape;
    memcpy(&p->algo, row->algo, sizeof(p->algo));
    p->used = p->tuned = true;
    p->ns = row->ns;
    p->heuristic_ns = row->heuristic_ns;
    for (int apart = 0; apart <= row->shape.bias; apart++) {
        if (lt_describe(p, apart) != CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoCheck(c->lt->handle, &p->desc, &p->a, &p->b, &p->c, &p->c, &p->algo, &told) !=
                CUBLAS_STATUS_SUCCESS)
            continue;
        p->workspace = told.workspaceSize;
        return p->workspace <= (size_t)LT_WORKSPACE && lt_allowed(&p->algo);
    }
    return false;
}

static int use_rows(struct cuda *c, const struct lt_table *t, struct err *e)
{
    struct lt_plan p;
    char shape[128];
    for (size_t i = 0; i < t->n; i++) /* all of them, or none */
        if (!plan_from(c, &t->rows[i], &p))
            FAIL(e, ERR_STATE,
                 "tuned products: %s: an algorithm that this cuBLASLt refuses, expected one of its own",
                 lt_shape_text(&t->rows[i].shape, shape, sizeof(shape)));
    for (size_t i = 0; i < t->n; i++) {
        struct lt_plan *slot = lt_slot(c->lt, &t->rows[i].shape);
        if (!slot)
            return mem_fail(e, "the table of products", c->lt->capacity * sizeof(*slot));
        plan_from(c, &t->rows[i], &p);
        p.uses = slot->used ? slot->uses : 0;
        c->lt->n += !slot->used;
        *slot = p;
    }
    lt_set_attention(c, t->attention);
    return 0;
}

int cuda_set_tuned(struct ops *o, const char *text, size_t n, struct err *e)
{
    struct lt_table t;
    int rc = 0;
    TRY(lt_table_parse(text, n, &t, e));
    if (strcmp(t.gpu, o->device) != 0 || t.version != (int64_t)cublasLtGetVersion())
        TRY_DONE(err_set(e, ERR_STATE,
                         "tuned products: made on %s with cuBLASLt %lld, expected %s with %zu",
                         t.gpu, (long long)t.version, o->device, cublasLtGetVersion()));
    TRY_DONE(use_rows(cuda_of(o), &t, e));
done:
    lt_table_free(&t);
    return rc;
}
