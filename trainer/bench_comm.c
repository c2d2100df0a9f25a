/* bench_comm.c - `lorat bench comm`: sums and gathers between ranks over sizes, as training makes them, with their results checked.
 *
 * Rates as nccl-tests defines them (its doc/PERFORMANCE.md): with S bytes of the whole buffer and n ranks in t seconds, the
 * algorithm's is S/t, the bus's 2(n-1)/n of that for an all-reduce and (n-1)/n for an all-gather. The bus rate is what a link must
 * carry, whatever the number of ranks, and is held against the link's own. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/clock.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/bench.h"
#include "trainer/interconnect.h"
#include "trainer/preflight.h"
#include "trainer/ranks.h"

enum { LEAST_BYTES = 64 << 10, MOST_ROUNDS = 1000, QUEUED = 16, SLOT = 0 };
#define MOST_BYTES ((int64_t)256 << 20)
#define DOING      "measuring"

struct session {
    const struct bench *b;
    struct train_ranks ranks;
    int64_t most;
    struct comm *c;   /* of this rank */
    struct ops *o;
    float *send, *all; /* device: (most) each */
    float *host;      /* (most) */
};

/* Exact in F32, also as a sum over ranks. */
static float value(int rank, int64_t i) { return (float)(i % 1021 + 2048 * (rank + 1)); }

static void upload_mine(struct session *s, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        s->host[i] = value(s->c->rank, i);
    s->o->upload(s->o, to, s->host, (size_t)count * sizeof(float));
}

static int call_sum(struct session *s, int64_t count, struct err *e) { return s->c->sum(s->c, s->o, s->all, count, e); }

static int call_gather(struct session *s, int64_t count, struct err *e)
{
    TRY(s->c->gather(s->c, s->o, SLOT, s->all, s->send, count / s->c->ranks * (int64_t)sizeof(float), e));
    s->o->fetch_wait(s->o, SLOT);
    return 0;
}

static float wanted_sum(const struct session *s, int64_t i, int64_t count)
{
    float sum = value(0, i);
    for (int r = 1; r < s->c->ranks; r++)
        sum += value(r, i);
    return sum;
}

static float wanted_gather(const struct session *s, int64_t i, int64_t count)
{
    int64_t each = count / s->c->ranks;
    return value((int)(i / each), i % each);
}

static const struct kind {
    const char *name;
    int (*call)(struct session *s, int64_t count, struct err *e);
    float (*wanted)(const struct session *s, int64_t i, int64_t count);
    bool reduce;
} kinds[] = {{"all-reduce", call_sum, wanted_sum, true}, {"all-gather", call_gather, wanted_gather, false}};

/* One call whose result is looked at on every rank; *wrong over all of them. */
static int check_result(struct session *s, const struct kind *k, int64_t count, double *wrong, struct err *e)
{
    if (k->reduce)
        upload_mine(s, s->all, count);
    else
        upload_mine(s, s->send, count / s->c->ranks);
    TRY(k->call(s, count, e));
    TRY(s->o->download(s->o, s->host, s->all, (size_t)count * sizeof(float), e));
    *wrong = 0;
    for (int64_t i = 0; i < count; i++)
        *wrong += !(s->host[i] == k->wanted(s, i, count));
    return s->c->sum_host(s->c, wrong, 1, e);
}

static int time_rounds(struct session *s, const struct kind *k, int64_t count, int64_t rounds, double *seconds, struct err *e)
{
    double together = 0;
    s->o->zero(s->o, s->all, (size_t)count * sizeof(float)); /* sums of sums would leave the numbers that F32 has */
    TRY(s->o->sync(s->o, e));
    TRY(s->c->sum_host(s->c, &together, 1, e));
    double start = clock_s();
    for (int64_t i = 0; i < rounds; i++) {
        TRY(k->call(s, count, e));
        if (i % QUEUED == QUEUED - 1) { /* gathers are only queued: the watcher should see that they move */
            TRY(s->o->sync(s->o, e));
            s->c->alive(s->c, 0, DOING);
        }
    }
    TRY(s->o->sync(s->o, e));
    *seconds = (clock_s() - start) / (double)rounds;
    return s->c->share(s->c, seconds, sizeof *seconds, e);
}

static void print_row(const struct session *s, const struct kind *k, int64_t bytes, double seconds, double wrong)
{
    int n = s->c->ranks;
    double alg = 1e-9 * (double)bytes / seconds, bus = alg * (k->reduce ? 2.0 : 1.0) * (n - 1) / n;
    if (s->c->rank != 0)
        return;
    if (s->b->json)
        printf("{\"bench\": \"comm\", \"name\": \"%s\", \"ranks\": %d, \"bytes\": %lld, \"seconds\": %.9g, \"alg_gb_s\": %.6g, \"bus_gb_s\": %.6g, "
               "\"wrong\": %.0f}\n",
               k->name, n, (long long)bytes, seconds, alg, bus, wrong);
    else
        printf("%-10s %9lld KiB %12.1f us %9.2f %9.2f %9.0f\n", k->name, (long long)(bytes >> 10), 1e6 * seconds, alg, bus, wrong);
    fflush(stdout);
}

static int measure(struct session *s, const struct kind *k, int64_t bytes, struct err *e)
{
    int64_t count = bytes / (int64_t)sizeof(float) / s->c->ranks * s->c->ranks;
    double seconds, wrong;
    TRY(check_result(s, k, count, &wrong, e));
    TRY(time_rounds(s, k, count, 1, &seconds, e));
    double rounds = s->b->budget_s / seconds;
    TRY(time_rounds(s, k, count, rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : (int64_t)rounds, &seconds, e));
    print_row(s, k, count * (int64_t)sizeof(float), seconds, wrong);
    if (wrong > 0)
        FAIL(e, ERR_VERIFY, "bench comm: %s of %lld bytes: %.0f wrong elements over all ranks, expected none. " PREFLIGHT_ADVICE, k->name,
             (long long)bytes, wrong);
    return 0;
}

static int measure_all(struct session *s, struct err *e)
{
    if (s->c->rank == 0 && !s->b->json)
        printf("%d ranks on %s\n%-10s %13s %15s %9s %9s %9s\n", s->c->ranks, s->o->device, "", "size", "time", "alg GB/s", "bus GB/s", "wrong");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int64_t bytes = LEAST_BYTES; bytes <= s->most; bytes *= 4)
            TRY(measure(s, &kinds[i], bytes, e));
    return 0;
}

static int allocate(struct session *s, struct err *e)
{
    TRY(s->o->alloc(s->o, (size_t)s->most, (void **)&s->send, e));
    TRY(s->o->alloc(s->o, (size_t)s->most, (void **)&s->all, e));
    s->host = mem_alloc((size_t)s->most, 1);
    return s->host != NULL ? 0 : mem_fail(e, "the buffer of results", (size_t)s->most);
}

static int rank_body(struct comm *c, void *arg, struct err *e)
{
    struct session *s = arg;
    struct interconnect link = {.log = -1};
    struct config mine;
    int rc = 0;
    s->c = c;
    TRY_DONE(interconnect_open(&link, &s->ranks, s->b->c.compute.interconnect, c, e));
    train_ranks_job(&s->b->c, &s->ranks, c->rank, &mine);
    TRY_DONE(device_open(&mine, &s->o, NULL, e));
    TRY_DONE(train_ranks_join(c, s->o, s->b->c.compute.peer_timeout, "Sums and gathers", e));
    TRY_DONE(allocate(s, e));
    c->alive(c, 0, DOING);
    c->cost = (struct comm_cost){0};
    interconnect_start(&link);
    TRY_DONE(measure_all(s, e));
    if (c->rank == 0) {
        const char *way = interconnect_end(&link, c->ranks, c->cost.bytes);
        printf(s->b->json ? "{\"bench\": \"comm\", \"interconnect\": \"%s\"}\n" : "interconnect: %s\n", way);
        TRY_DONE(log_output_done(e)); /* this process's own stdout, which the verb's end does not see */
    }
done:
    interconnect_close(&link);
    if (rc != 0) /* this process ends, and giving a card's memory back would wait for work that a lost rank has a part in */
        return rc;
    c->close(c); /* before the card: NCCL's work is on its queues */
    s->o->release(s->o, s->send);
    s->o->release(s->o, s->all);
    s->o->close(s->o);
    mem_free(s->host);
    return 0;
}

/* Ranks and cards as a job names them. Nothing of its model, data or batch is used; 720 rows divide by most numbers of cards. */
static int make_job(struct bench *b, struct err *e)
{
    const struct options *o = b->options;
    int64_t ranks = 2;
    const char *gpus = options_or(o, "gpus", "auto");
    bool list = strcmp(gpus, "auto") != 0;
    struct buf y = {0};
    TRY(options_i64(o, "ranks", 1, RANKS_MAX, &ranks, e));
    bool cpu = device_is_cpu(&b->c);
    if (cpu && options_given(o, "gpus"))
        FAIL(e, ERR_USAGE, "lorat bench comm: found --gpus, and this would run on the CPU, expected a card. `lorat doctor` looks for cards; --ranks N "
                           "is for the CPU");
    buf_printf(&y, "name: bench\nmodel: {path: none}\ndata: {train: none}\ntrain: {max_steps: 1, warmup_steps: 0, batch: %lld}\n",
               (long long)(cpu ? ranks : 720));
    buf_printf(&y, "compute: {device: %s, threads: %s, ranks: %lld, gpus: %s%s%s, interconnect: %s}\n", cpu ? "cpu" : "cuda",
               options_or(o, "threads", "null"), (long long)(cpu || options_given(o, "ranks") ? ranks : 1), list ? "[" : "", gpus, list ? "]" : "",
               options_or(o, "interconnect", "auto"));
    int rc = y.failed ? mem_fail(e, "a job", y.n) : config_parse(y.data, y.n, "lorat bench comm, as a job file", &b->c, e);
    if (rc != 0)
        e->code = ERR_USAGE;
    buf_free(&y);
    return rc;
}

int bench_comm(struct bench *b, struct err *e)
{
    struct session s = {.b = b};
    int64_t most = MOST_BYTES >> 20;
    TRY(make_job(b, e));
    TRY(options_i64(b->options, "most", 1, MOST_BYTES >> 20, &most, e));
    s.most = most << 20;
    TRY(train_ranks(&b->c, &s.ranks, e));
    if (s.ranks.n < 2)
        FAIL(e, ERR_USAGE, "lorat bench comm: one rank, expected two or more. Name several cards with --gpus 0,1, or processes of the CPU with --device "
                           "cpu --ranks 2");
    return ranks_run(&(struct ranks_options){.ranks = s.ranks.n}, rank_body, &s, e);
}
