/* comm_nccl.c - ranks on cards: the device's data goes by NCCL, the host's as before (comm_local.c, or one rank alone).
 *
 * NCCL does not notice a peer that is gone, so nobody blocks in it. Before a sum every rank waits until its own card has done what was
 * queued, then for all ranks on the host, where a lost one is seen; only then the sum is queued. From there it is short work for all, and
 * one that has not ended within the peers' time-out is an error of NCCL or of the links. While a rank waits it counts as alive: whoever
 * stands still is named by the watcher (ranks.h), whose word also ends the waiting. */
#include <string.h>
#include <time.h>

#include "kernels/cuda/plugin.h"
#include "trainer/base/clock.h"
#include "trainer/base/mem.h"
#include "trainer/comm.h"
#include "trainer/preflight.h"

#define LATER_S 1.0 /* beyond the time-out: the watcher, who can name a rank that stands still, speaks first */

struct nccl_ranks {
    const struct cuda_nccl *table;
    struct cuda_nccl_comm *comm;
    double timeout_s;
    double queued_s; /* how long the card may be busy before a sum */
    int64_t step;
    bool failed; /* work of a lost rank may be queued: NCCL is not closed */
    void (*host_alive)(struct comm *c, int64_t step, const char *doing);
    void (*host_close)(struct comm *c);
};

/* What a step has queued may be long work. Before a preflight's sum nothing is queued but copies, which are what it tests. */
static void nccl_alive(struct comm *c, int64_t step, const char *doing)
{
    struct nccl_ranks *n = c->device;
    n->step = step;
    n->queued_s = strcmp(doing, PREFLIGHT_DOING) == 0 ? n->timeout_s + LATER_S : 10 * n->timeout_s;
    n->host_alive(c, step, doing);
}

static int lost(struct comm *c, struct err *e)
{
    struct nccl_ranks *n = c->device;
    n->failed = true;
    return e != NULL && e->code != ERR_STOPPED && strncmp(e->text, "rank ", 5) != 0 ? err_prefix(e, "rank %d at step %lld", c->rank, (long long)n->step) : -1;
}

/* Until the card has done everything that was queued. */
static int drain(struct comm *c, const char *what, double most_s, struct err *e)
{
    struct nccl_ranks *n = c->device;
    double start = clock_s();
    for (int64_t turn = 0;; turn++) {
        bool done;
        if (n->table->done(n->comm, &done, e) != 0 || (!done && c->waiting(c, e) != 0))
            return lost(c, e);
        if (done)
            return 0;
        if (clock_s() - start > most_s) {
            n->failed = true;
            FAIL(e, ERR_PEER,
                 "rank %d at step %lld: %s has not ended within %g s, expected it to. The last checkpoint is intact; `lorat doctor` looks at "
                 "the cards and the links between them, compute.peer_timeout allows more",
                 c->rank, (long long)n->step, what, most_s);
        }
        if (turn > 2000)
            nanosleep(&(struct timespec){0, 50000}, NULL);
    }
}

static int nccl_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e)
{
    struct nccl_ranks *n = c->device;
    double all_here = 0, start;
    TRY(drain(c, "the work queued on the card", n->queued_s, e));
    start = clock_s(); /* what was queued before is not the sum's cost, waiting for the others is */
    if (c->sum_host(c, &all_here, 1, e) != 0 || n->table->sum(n->comm, p, count, e) != 0)
        return lost(c, e);
    TRY(drain(c, "the sum over ranks", n->timeout_s + LATER_S, e));
    c->cost.wait_s += clock_s() - start;
    c->cost.bytes += count * (int64_t)sizeof *p;
    return 0;
}

/* Queued; it costs the step time only where the computation beside it is shorter: measured where it is waited for (ops.h, fetch_waited). */
static int nccl_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e)
{
    struct nccl_ranks *n = c->device;
    if (n->table->gather(n->comm, slot, dst, shard, (size_t)bytes_each, e) != 0)
        return lost(c, e);
    c->cost.bytes += bytes_each * c->ranks / 2;
    return 0;
}

static void nccl_close(struct comm *c)
{
    struct nccl_ranks *n = c->device;
    if (n == NULL)
        return;
    if (!n->failed)
        n->table->close(n->comm);
    c->device = NULL;
    n->host_close(c);
    mem_free(n);
}

/* Have all ranks a usable NCCL? The first of them that has none says why, on every rank. */
static int all_have_it(struct comm *c, const struct cuda_nccl *table, char id[CUDA_NCCL_ID], bool *out, struct err *e)
{
    struct err why = {0};
    double missing = table == NULL || table->id(id, &why) != 0;
    if (table == NULL)
        err_set(&why, ERR_DEVICE, "NCCL: this plug-in has none");
    TRY(c->sum_host(c, &missing, 1, e));
    *out = missing == 0;
    if (missing > 0 && why.code == ERR_OK)
        err_set(&why, ERR_DEVICE, "NCCL: another rank has none");
    if (missing > 0)
        *e = why;
    return 0;
}

int comm_nccl(struct comm *c, struct ops *o, const struct cuda_nccl *table, double timeout_s, bool *there, struct err *e)
{
    char id[CUDA_NCCL_ID] = {0};
    TRY(all_have_it(c, table, id, there, e));
    if (!*there)
        return 0;
    TRY(c->share(c, id, sizeof id, e));
    struct nccl_ranks *n = mem_alloc(1, sizeof *n);
    if (n == NULL)
        return mem_fail(e, "the ranks' table", sizeof *n);
    *n = (struct nccl_ranks){.table = table, .timeout_s = timeout_s, .queued_s = 10 * timeout_s, .host_alive = c->alive,
                             .host_close = c->close};
    if (table->open(o, id, c->ranks, c->rank, &n->comm, e) != 0) {
        mem_free(n);
        return -1;
    }
    c->device = n;
    c->sum = nccl_sum;
    c->gather = nccl_gather;
    c->alive = nccl_alive;
    c->close = nccl_close;
    return 0;
}
