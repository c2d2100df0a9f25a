/* bench_pool.c - operands for `lorat bench gemm` and `ops`: one block of device memory that each call divides for itself. */
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/rng.h"
#include "trainer/bench.h"

static size_t padded(size_t bytes) { return (size_t)num_round_up((int64_t)bytes, ARENA_ALIGN); }

size_t pool_need(const struct bench_call *c)
{
    size_t sum = 0;
    for (int i = 0; i < BENCH_MOST_OPERANDS && c->sizes[i] > 0; i++)
        sum += padded(c->sizes[i]);
    return sum;
}

/* Upload n numbers made by `make`. */
static int put_index(const struct bench *b, int32_t **out, int32_t (*make)(const struct bench *b, int32_t i), struct err *e)
{
    size_t bytes = (size_t)b->n * sizeof(int32_t);
    int32_t *host = mem_alloc(bytes, 1);
    int rc = 0;
    if (host == NULL)
        return mem_fail(e, "an index", bytes);
    for (int32_t i = 0; i < b->n; i++)
        host[i] = make(b, i);
    TRY_DONE(b->ops->alloc(b->ops, bytes, (void **)out, e));
    b->ops->upload(b->ops, *out, host, bytes);
done:
    mem_free(host);
    return rc;
}

static int32_t shuffled(const struct bench *b, int32_t i) { return (int32_t)rng_permute(1, 0, (uint64_t)b->n, (uint64_t)i); }
static int32_t token(const struct bench *b, int32_t i)
{
    return (int32_t)(rng_at(1, RNG_SAMPLE, (uint32_t)i, 0, 0).v[0] % (uint32_t)b->facts.v);
}
static int32_t position(const struct bench *b, int32_t i) { return i % b->c.data.sequence_length; }

static int put_spans(struct bench_pool *p, const struct bench *b, struct err *e)
{
    int32_t length = b->c.data.sequence_length;
    p->n_spans = (int32_t)num_div_up(b->n, length);
    size_t bytes = (size_t)p->n_spans * sizeof(struct span);
    struct span *host = mem_alloc(bytes, 1);
    int rc = 0;
    if (host == NULL)
        return mem_fail(e, "the documents", bytes);
    p->pairs = 0;
    for (int32_t i = 0; i < p->n_spans; i++) {
        int32_t from = i * length, n = b->n - from < length ? b->n - from : length;
        host[i] = (struct span){from, n, from, n};
        p->pairs += 0.5 * n * (n + 1.0);
    }
    TRY_DONE(b->ops->alloc(b->ops, bytes, (void **)&p->spans, e));
    b->ops->upload(b->ops, p->spans, host, bytes);
done:
    mem_free(host);
    return rc;
}

static int set_workspace(struct bench_pool *p, const struct bench *b, struct err *e)
{
    const struct facts *f = &b->facts;
    struct ops_dims d = {.n = b->n,
                         .max_span = b->c.data.sequence_length,
                         .d = f->d,
                         .f = f->f,
                         .h = f->h,
                         .k = f->k,
                         .q = f->q,
                         .v = f->v,
                         .r = 3 * b->lora.padded,
                         .head_chunk = b->head_chunk};
    size_t bytes = b->ops->workspace_bytes(b->ops, &d);
    TRY(b->ops->alloc(b->ops, bytes, &p->workspace, e));
    b->ops->set_workspace(b->ops, p->workspace, bytes);
    return 0;
}

int pool_open(struct bench_pool *p, const struct bench *b, size_t least, float low, struct err *e)
{
    size_t half_gib = (size_t)1 << 29, more = least * BENCH_SETS < half_gib ? least * BENCH_SETS : half_gib;
    *p = (struct bench_pool){.o = b->ops, .bytes = least > more ? least : more, .low = low};
    TRY(b->ops->alloc(b->ops, p->bytes, (void **)&p->base, e));
    TRY(put_index(b, &p->index, shuffled, e));
    TRY(put_index(b, &p->tokens, token, e));
    TRY(put_index(b, &p->positions, position, e));
    TRY(put_spans(p, b, e));
    TRY(set_workspace(p, b, e));
    return b->ops->sync(b->ops, e);
}

void pool_close(struct bench_pool *p)
{
    void *all[] = {p->base, p->index, p->tokens, p->positions, p->spans, p->workspace};
    if (p->o == NULL)
        return;
    p->o->set_workspace(p->o, NULL, 0);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] != NULL)
            p->o->release(p->o, all[i]);
    *p = (struct bench_pool){0};
}

void pool_fill(const struct bench_pool *p)
{
    bench_fill(p->o, p->base, p->o->act, (int64_t)(p->bytes / dtype_size(p->o->act)), p->low, 1, 1);
}

void pool_run(const struct bench_call *c, int64_t i)
{
    size_t need = pool_need(c);
    int64_t sets = (int64_t)(c->pool->bytes / need);
    char *p[BENCH_MOST_OPERANDS] = {NULL}, *at = c->pool->base + (size_t)(i % (sets < BENCH_SETS ? sets : BENCH_SETS)) * need;
    for (int k = 0; k < BENCH_MOST_OPERANDS && c->sizes[k] > 0; k++) {
        p[k] = at;
        at += padded(c->sizes[k]);
    }
    c->run(c, p);
}

static void timed(void *arg, int64_t i) { pool_run(arg, i); }

int pool_time(const struct bench_call *c, struct bench_time *out, struct err *e)
{
    if (pool_need(c) == 0 || pool_need(c) > c->pool->bytes)
        FAIL(e, ERR_INTERNAL, "bench: operands of %zu bytes, expected at most the pool's %zu", pool_need(c), c->pool->bytes);
    /* Anew for each: what was repeated in place thousands of times before may have left infinities. */
    pool_fill(c->pool);
    return bench_calls(c->b->ops, timed, (void *)(uintptr_t)c, c->b->budget_s, out, e);
}
