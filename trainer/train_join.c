/* train_join.c - ranks before their first step: joined, found to train the same, their links tested, the slower one named. */
#include "trainer/base/hash.h"
#include "trainer/base/log.h"
#include "trainer/preflight.h"
#include "trainer/train_internal.h"

enum { SIMULATED_BYTES = 256 << 10 }; /* of the preflight's copies on a simulated card, which has no links to load */

int run_join_cards(struct run *r, struct err *e)
{
    bool sharded = r->job.plan.shape.place.kind == FROZEN_SHARDED; /* which would be very slow without NCCL */
    return train_ranks_join(&r->job.comm, r->job.ops, r->job.c.compute.peer_timeout,
                            sharded ? "Gradients and every block of the base" : "Gradients", e);
}

/* The model's files as this rank has opened them: hashing them on every rank would read a large base several times. */
static int compare_base(struct run *r, struct err *e)
{
    struct comm *c = &r->job.comm;
    struct buf stamp = {0};
    uint8_t digest[HASH_BYTES];
    if (c->ranks == 1)
        return 0;
    int rc = source_stamp(&r->job.source, &stamp, e);
    if (rc == 0)
        hash_bytes(stamp.data, stamp.n, digest);
    buf_free(&stamp);
    return rc == 0 ? c->same(c, "base model", digest, sizeof digest, e) : -1;
}

/* Who trains together must train the same. The ranks are forks of one process, so what can differ is what each of them opens for
 * itself, and what a person does to those files meanwhile. */
int run_compare_ranks(struct run *r, struct err *e)
{
    struct comm *c = &r->job.comm;
    char libraries[256] = "";
    device_libraries(r->job.ops, libraries, sizeof libraries);
    TRY(c->same(c, "lorat", LORAT_VERSION, sizeof LORAT_VERSION, e));
    TRY(c->same(c, "set of libraries", libraries, sizeof libraries, e));
    TRY(c->same(c, "job", &r->job.c, sizeof r->job.c, e));
    TRY(c->same(c, "dataset", r->state.dataset, sizeof r->state.dataset, e));
    TRY(c->same(c, "tokenizer", r->state.tokenizer, sizeof r->state.tokenizer, e));
    TRY(compare_base(r, e));
    TRY(c->same(c, "number of steps", &r->total, sizeof r->total, e));
    TRY(c->same(c, "placement", &r->job.plan.shape.place, sizeof r->job.plan.shape.place, e));
    return c->same(c, "plan", &r->job.plan.micro_batch, sizeof r->job.plan.micro_batch, e);
}

/* Before memory is taken: the arenas may leave no room for it. Ranks of the CPU share memory, which needs no proof. */
int run_test_links(struct run *r, struct err *e)
{
    const struct cuda_plugin *plugin;
    if (r->job.comm.ranks < 2 || r->job.ops->unified)
        return 0;
    TRY(plugin_cuda(&plugin, e));
    struct preflight_options o = {.least_gb_s = 2};
    if (plugin->simulated)
        o = (struct preflight_options){.bytes = SIMULATED_BYTES};
    return preflight(&r->job.comm, r->job.ops, &o, NULL, e);
}

/* Cards that are not alike: every step waits for the slower one, and that one should be known. */
int run_warn_unequal(struct run *r, struct err *e)
{
    const struct plan_device *d = &r->job.plan.device;
    char slowest[128];
    if (r->job.comm.ranks == 1 || d->unequal[0] == '\0')
        return 0;
    TRY(train_ranks_slowest(r->job.ranks, &r->job.comm, r->job.gemm_rate, slowest, sizeof slowest, e));
    if (r->lead)
        log_warn("%s: not alike; every step takes as long as the slower of them needs%s%s", d->unequal, slowest[0] != '\0' ? ": " : "",
                 slowest);
    return 0;
}
