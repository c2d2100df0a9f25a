/* comm_local.c - ranks of one machine through shared memory. Sums are made by every rank for itself, in rank order, from what all have
 * put on the board: the same bits everywhere, and no rank is special. Device memory that the host cannot read goes through a copy. */
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "trainer/base/clock.h"
#include "trainer/base/mem.h"
#include "trainer/base/stop.h"
#include "trainer/ranks_shared.h"

struct local {
    struct ranks_shared *s;
    int64_t chunks;   /* pieces exchanged so far: its parity names the half of the board */
    int64_t barriers;
    pid_t parent;
    float *stage;     /* (RANKS_CHUNK) for device memory; made at first use */
};

static void local_alive(struct comm *c, int64_t step, const char *doing)
{
    struct local *l = c->state;
    struct rank_slot *me = &l->s->slot[c->rank];
    int sig = stop_signal(), none = 0;
    atomic_store(&me->step, step);
    atomic_store(&me->doing, doing);
    atomic_fetch_add(&me->progress, 1);
    if (sig != 0)
        atomic_compare_exchange_strong(&l->s->stop, &none, sig);
    else if ((sig = atomic_load(&l->s->stop)) != 0)
        stop_request(sig);
}

/* A rank that has left on a request to stop, which is then this rank's word too; NULL: none. */
static const struct rank_slot *stopped(const struct local *l)
{
    for (int k = 0; k < l->s->ranks; k++)
        if (atomic_load(&l->s->slot[k].result) == RANK_FAILED && l->s->slot[k].error.code == ERR_STOPPED)
            return &l->s->slot[k];
    return NULL;
}

/* The others' word for it, or that they were told to leave. */
static int gone(struct comm *c, struct err *e)
{
    struct local *l = c->state;
    const struct rank_slot *me = &l->s->slot[c->rank], *stop = stopped(l);
    int first = atomic_load(&l->s->first_failed) - 1;
    c->over = true;
    if (first < 0 && stop != NULL) {
        *e = stop->error;
        return -1;
    }
    if (first < 0 || first == c->rank)
        FAIL(e, ERR_PEER, "rank %d left at step %lld (%s): another rank is gone", c->rank, (long long)atomic_load(&me->step),
             atomic_load(&me->doing));
    const struct rank_slot *other = &l->s->slot[first];
    FAIL(e, ERR_PEER, "rank %d left at step %lld (%s): rank %d ended at step %lld (%s)", c->rank, (long long)atomic_load(&me->step),
         atomic_load(&me->doing), first, (long long)atomic_load(&other->step), atomic_load(&other->doing));
}

static int local_waiting(struct comm *c, struct err *e)
{
    struct local *l = c->state;
    atomic_fetch_add(&l->s->slot[c->rank].progress, 1);
    if (atomic_load(&l->s->leave))
        return gone(c, e);
    if (getppid() != l->parent)
        FAIL(e, ERR_PEER, "rank %d: the process that started the ranks is gone, expected it to watch them", c->rank);
    return 0;
}

/* All ranks have come here. The wait counts as progress: whom it waits for is the one that stands still. */
static int barrier(struct comm *c, struct err *e)
{
    struct local *l = c->state;
    int64_t mine = ++l->barriers;
    atomic_store(&l->s->slot[c->rank].arrived, mine);
    for (int r = 0; r < c->ranks; r++)
        for (int64_t turn = 0; atomic_load(&l->s->slot[r].arrived) < mine; turn++) {
            int rc = local_waiting(c, e);
            if (atomic_load(&l->s->slot[r].arrived) >= mine) /* it came, and only then it left */
                break;
            TRY(rc);
            if (turn > 2000)
                nanosleep(&(struct timespec){0, 100000}, NULL);
        }
    return 0;
}

/* n floats of every rank, side by side: board[r * RANKS_CHUNK]. mine is copied first; the board stays good until the exchange after next. */
static int exchange(struct comm *c, const void *mine, size_t bytes, const float **board, struct err *e)
{
    struct local *l = c->state;
    int half = (int)(l->chunks++ & 1);
    memcpy(ranks_board(l->s, half, c->rank), mine, bytes);
    TRY(barrier(c, e));
    *board = ranks_board(l->s, half, 0);
    return 0;
}

static int sum_chunk(struct comm *c, float *p, int64_t n, struct err *e)
{
    const float *board;
    TRY(exchange(c, p, (size_t)n * sizeof *p, &board, e));
    memcpy(p, board, (size_t)n * sizeof *p);
    for (int r = 1; r < c->ranks; r++) {
        const float *from = board + (int64_t)r * RANKS_CHUNK;
        for (int64_t i = 0; i < n; i++)
            p[i] += from[i];
    }
    return 0;
}

/* Memory of the host between a device that it cannot read and the board. */
static int stage_for(struct comm *c, const struct ops *o, struct err *e)
{
    struct local *l = c->state;
    if (!o->unified && l->stage == NULL && (l->stage = mem_alloc(RANKS_CHUNK, sizeof *l->stage)) == NULL)
        return mem_fail(e, "the buffer that sums go through", RANKS_CHUNK * sizeof *l->stage);
    return 0;
}

static int local_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e)
{
    struct local *l = c->state;
    TRY(stage_for(c, o, e));
    TRY(o->sync(o, e)); /* what was queued before is not the sum's cost */
    double start = clock_s();
    for (int64_t at = 0; at < count; at += RANKS_CHUNK) {
        int64_t n = count - at < RANKS_CHUNK ? count - at : RANKS_CHUNK;
        float *here = o->unified ? p + at : l->stage;
        if (!o->unified)
            TRY(o->download(o, here, p + at, (size_t)n * sizeof *p, e));
        TRY(sum_chunk(c, here, n, e));
        if (!o->unified)
            o->upload(o, p + at, here, (size_t)n * sizeof *p);
    }
    c->cost.wait_s += clock_s() - start;
    c->cost.bytes += count * (int64_t)sizeof *p;
    return o->check(o, e);
}

/* Through the board, a chunk at a time; the slot's fetch is over when this returns. Reading another rank's part needs no barrier of its
 * own: see `exchange`. */
static int local_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e)
{
    enum { CHUNK = RANKS_CHUNK * (int)sizeof(float) };
    const float *board;
    TRY(stage_for(c, o, e));
    TRY(o->sync(o, e)); /* what was queued may still use dst */
    double start = clock_s();
    for (int64_t at = 0; at < bytes_each; at += CHUNK) {
        size_t n = (size_t)(bytes_each - at < CHUNK ? bytes_each - at : CHUNK);
        const void *mine = (const char *)shard + at;
        struct local *l = c->state;
        if (!o->unified) {
            TRY(o->download(o, l->stage, mine, n, e));
            mine = l->stage;
        }
        TRY(exchange(c, mine, n, &board, e));
        for (int r = 0; r < c->ranks; r++)
            o->upload(o, (char *)dst + r * bytes_each + at, board + (int64_t)r * RANKS_CHUNK, n);
    }
    c->cost.wait_s += clock_s() - start;
    c->cost.bytes += bytes_each * c->ranks / 2;
    return o->check(o, e);
}

static int local_sum_host(struct comm *c, double *v, int n, struct err *e)
{
    const float *board;
    if (n < 0 || (size_t)n * sizeof *v > RANKS_CHUNK * sizeof *board)
        FAIL(e, ERR_INTERNAL, "a sum of %d numbers, expected at most %d", n, RANKS_CHUNK / 2);
    TRY(exchange(c, v, (size_t)n * sizeof *v, &board, e));
    for (int i = 0; i < n; i++) {
        double sum = 0, one;
        for (int r = 0; r < c->ranks; r++) {
            memcpy(&one, (const char *)(board + (int64_t)r * RANKS_CHUNK) + (size_t)i * sizeof one, sizeof one);
            sum += one;
        }
        v[i] = sum;
    }
    return 0;
}

static int local_share(struct comm *c, void *data, size_t bytes, struct err *e)
{
    const float *board;
    for (size_t at = 0; at < bytes; at += RANKS_CHUNK * sizeof *board) {
        size_t left = bytes - at, n = left < RANKS_CHUNK * sizeof *board ? left : RANKS_CHUNK * sizeof *board;
        TRY(exchange(c, (char *)data + at, n, &board, e));
        memcpy((char *)data + at, board, n);
    }
    return 0;
}

static int local_same(struct comm *c, const char *what, const void *data, size_t bytes, struct err *e)
{
    const float *board;
    if (bytes > RANKS_CHUNK * sizeof *board)
        FAIL(e, ERR_INTERNAL, "%s: %zu bytes to compare, expected at most %zu", what, bytes, RANKS_CHUNK * sizeof *board);
    TRY(exchange(c, data, bytes, &board, e));
    for (int r = 1; r < c->ranks; r++)
        if (memcmp(board, board + (int64_t)r * RANKS_CHUNK, bytes) != 0)
            FAIL(e, ERR_PEER, "rank %d: another %s than rank 0, expected the same on all ranks. Nothing was changed; start again when nothing "
                              "writes to the job's files",
                 r, what);
    return 0;
}

static void local_close(struct comm *c)
{
    struct local *l = c->state;
    if (l == NULL)
        return;
    mem_free(l->stage);
    mem_free(l);
    c->state = NULL;
}

int comm_local(struct ranks_shared *s, int rank, struct comm *out, struct err *e)
{
    struct local *l = mem_alloc(1, sizeof *l);
    if (l == NULL)
        return mem_fail(e, "the ranks' table", sizeof *l);
    *l = (struct local){.s = s, .parent = getppid()};
    *out = (struct comm){.rank = rank, .ranks = s->ranks, .state = l, .sum = local_sum, .gather = local_gather, .sum_host = local_sum_host, .share = local_share,
                         .same = local_same, .alive = local_alive, .waiting = local_waiting, .close = local_close};
    return 0;
}
