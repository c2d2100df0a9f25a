/* preflight.c - patterned copies compared byte for byte, sums with known answers, and how fast both were. See preflight.h. */
#include "trainer/preflight.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/clock.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

enum { COPY_BYTES = 64 << 20, SUM_COUNT = 4096, LATENCY_ROUNDS = 20, SLOT = 0 };

struct flight {
    struct comm *c;
    struct ops *o;
    int64_t bytes;
    void *mine, *all; /* device: (bytes), (ranks, bytes) */
    float *token;     /* device: (1), behind mine */
    char *host;       /* (bytes) */
};

/* Word i of what rank r sends in a round: no two ranks, rounds or places have the same, and no word is zero for long. */
static uint32_t word_of(int r, int round, int64_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u ^ (uint32_t)(r + 1) * 0x9E3779B9u ^ (uint32_t)(round + 1) * 0x85EBCA6Bu;
    return x ^ x >> 15;
}

static void fill(const struct flight *f, int rank, int round)
{
    uint32_t *w = (uint32_t *)(void *)f->host;
    for (int64_t i = 0; i < f->bytes / 4; i++)
        w[i] = word_of(rank, round, i);
}

static int compare(const struct flight *f, int from, int round, struct err *e)
{
    const uint32_t *w = (const uint32_t *)(const void *)f->host;
    int64_t wrong = 0, first = -1, zeros = 0;
    for (int64_t i = 0; i < f->bytes / 4; i++)
        if (w[i] != word_of(from, round, i)) {
            first = first < 0 ? i : first;
            wrong++;
            zeros += w[i] == 0;
        }
    if (wrong == 0)
        return 0;
    FAIL(e, ERR_DEVICE,
         "preflight: of %lld words from rank %d rank %d received %lld wrong ones (%lld of them zero), the first at byte %lld: 0x%08x, expected 0x%08x. "
         PREFLIGHT_ADVICE,
         (long long)(f->bytes / 4), from, f->c->rank, (long long)wrong, (long long)zeros, (long long)(4 * first), w[first],
         word_of(from, round, first));
}

/* The copies alone, which take their time in the call or, on the second queue, while the first one waits for them: that is what the
 * backend tells. The sum behind them is not counted. It waits for them as one who is alive: whoever never came is the one that stands
 * still. */
static int timed_gather(struct flight *f, double *seconds, struct err *e)
{
    struct ops *o = f->o;
    if (o->fetch_waited != NULL)
        o->fetch_waited(o); /* what came before is not of these copies */
    double start = clock_s();
    TRY(f->c->gather(f->c, o, SLOT, f->all, f->mine, f->bytes, e));
    double in_call = clock_s() - start;
    o->fetch_wait(o, SLOT);
    TRY(f->c->sum(f->c, o, f->token, 1, e));
    TRY(o->sync(o, e));
    double behind = o->fetch_waited != NULL ? o->fetch_waited(o) : 0;
    *seconds = behind > in_call ? behind : in_call;
    return 0;
}

/* Every rank's pattern to every other. */
static int copy_round(struct flight *f, int round, double *seconds, struct err *e)
{
    struct ops *o = f->o;
    fill(f, f->c->rank, round);
    o->upload(o, f->mine, f->host, (size_t)f->bytes);
    o->zero(o, f->all, (size_t)f->bytes * (size_t)f->c->ranks);
    TRY(o->sync(o, e));
    double together = 0;
    TRY(f->c->sum_host(f->c, &together, 1, e)); /* the clock starts when all are here */
    TRY(timed_gather(f, seconds, e));
    for (int r = 0; r < f->c->ranks; r++) {
        f->c->alive(f->c, 0, PREFLIGHT_DOING);
        TRY(o->download(o, f->host, (char *)f->all + (int64_t)r * f->bytes, (size_t)f->bytes, e));
        TRY(compare(f, r, round, e));
    }
    return 0;
}

/* Whole numbers below 2^24: the sum is exact in any order. */
static int sum_round(struct flight *f, struct err *e)
{
    struct ops *o = f->o;
    float *v = (float *)(void *)f->host;
    int n = f->c->ranks;
    for (int i = 0; i < SUM_COUNT; i++)
        v[i] = (float)(i + 1 + f->c->rank * 1000);
    o->upload(o, f->mine, v, SUM_COUNT * sizeof *v);
    TRY(f->c->sum(f->c, o, f->mine, SUM_COUNT, e));
    TRY(o->download(o, v, f->mine, SUM_COUNT * sizeof *v, e));
    for (int i = 0; i < SUM_COUNT; i++) {
        float want = (float)(n * (i + 1) + 1000 * (n * (n - 1) / 2));
        if (!(v[i] == want))
            FAIL(e, ERR_DEVICE, "preflight: element %d of a sum over %d ranks came to %g on rank %d, expected %g. " PREFLIGHT_ADVICE, i, n, (double)v[i],
                 f->c->rank, (double)want);
    }
    return 0;
}

static int measure_latency(struct flight *f, double *out, struct err *e)
{
    double best = 1e9;
    f->o->zero(f->o, f->mine, sizeof(float));
    for (int i = 0; i < LATENCY_ROUNDS; i++) {
        double start = clock_s();
        TRY(f->c->sum(f->c, f->o, f->mine, 1, e));
        TRY(f->o->sync(f->o, e));
        double one = clock_s() - start;
        best = one < best ? one : best;
    }
    *out = best;
    return 0;
}

static int fly(struct flight *f, struct preflight_result *r, struct err *e)
{
    double seconds = 0, both = 0;
    f->c->alive(f->c, 0, PREFLIGHT_DOING);
    f->o->zero(f->o, f->token, sizeof *f->token);
    TRY(sum_round(f, e));
    TRY(copy_round(f, 0, &seconds, e));
    TRY(copy_round(f, 1, &both, e)); /* the first one also made connections; other bytes, so that what was left lying is not taken for them */
    TRY(measure_latency(f, &r->latency_s, e));
    seconds = both < seconds ? both : seconds;
    r->gb_s = seconds > 0 ? 1e-9 * (double)f->bytes * (f->c->ranks - 1) / seconds : 0;
    return 0;
}

/* NCCL has come to no end, with every rank alive and waiting: then no watcher has advice to give. (Where another rank is gone, that
 * one's words are the run's.) */
static int add_advice(struct err *e)
{
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ". " PREFLIGHT_ADVICE);
    return -1;
}

int preflight(struct comm *c, struct ops *o, const struct preflight_options *options, struct preflight_result *out, struct err *e)
{
    struct flight f = {.c = c, .o = o, .bytes = options->bytes > 0 ? options->bytes : COPY_BYTES};
    struct preflight_result r = {0};
    int rc = 0;
    if (c->ranks < 2)
        return 0;
    if (f.bytes % 4 != 0 || f.bytes < (int64_t)(SUM_COUNT * sizeof(float)))
        FAIL(e, ERR_INTERNAL, "preflight: copies of %lld bytes, expected whole words and %zu or more", (long long)f.bytes, SUM_COUNT * sizeof(float));
    if ((f.host = mem_alloc((size_t)f.bytes, 1)) == NULL)
        return mem_fail(e, "the preflight's pattern", (size_t)f.bytes);
    TRY_DONE(o->alloc(o, (size_t)f.bytes + sizeof *f.token, &f.mine, e));
    f.token = (float *)(void *)((char *)f.mine + f.bytes);
    TRY_DONE(o->alloc(o, (size_t)f.bytes * (size_t)c->ranks, &f.all, e));
    rc = fly(&f, &r, e);
    if (rc != 0 && (e->code == ERR_PEER || c->over)) /* giving memory back would wait for what the card may never end */
        return e->code == ERR_PEER ? add_advice(e) : -1;
    TRY_DONE(rc);
    if (c->rank == 0)
        log_note("preflight %d ranks: %s from each to each arrived byte for byte, twice, at %.1f GB/s; a small sum takes %.1f us", c->ranks,
                 num_format_bytes((char[32]){0}, (uint64_t)f.bytes), r.gb_s, 1e6 * r.latency_s);
    if (c->rank == 0 && r.gb_s < options->least_gb_s)
        log_warn("preflight: copies between the cards run at %.2f GB/s, expected %.0f or more. A card in a narrow slot, or one link of several? lorat "
                 "doctor tells more",
                 r.gb_s, options->least_gb_s);
    if (out != NULL)
        *out = r;
done:
    if (f.all != NULL)
        o->release(o, f.all);
    if (f.mine != NULL)
        o->release(o, f.mine);
    mem_free(f.host);
    return rc;
}
