/* comm_solo.c - one rank. */
#include "trainer/comm.h"

static int solo_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e) { return 0; }
static int solo_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e)
{
    FAIL(e, ERR_INTERNAL, "a shard of %lld bytes of one rank alone, expected several ranks", (long long)bytes_each);
}
static int solo_sum_host(struct comm *c, double *v, int n, struct err *e) { return 0; }
static int solo_share(struct comm *c, void *data, size_t bytes, struct err *e) { return 0; }
static int solo_same(struct comm *c, const char *what, const void *data, size_t bytes, struct err *e) { return 0; }
static void solo_alive(struct comm *c, int64_t step, const char *doing) {}
static int solo_waiting(struct comm *c, struct err *e) { return 0; }
static void solo_close(struct comm *c) {}

void comm_solo(struct comm *out)
{
    *out = (struct comm){.rank = 0, .ranks = 1, .sum = solo_sum, .gather = solo_gather, .sum_host = solo_sum_host, .share = solo_share, .same = solo_same,
                         .alive = solo_alive, .waiting = solo_waiting, .close = solo_close};
}
