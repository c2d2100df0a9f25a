/* The preflight over CPU ranks, and over links that flip a bit, deliver zeros, add wrongly, are slow, or never answer: a table that
 * passes calls on and spoils them. */
#include <time.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/preflight.h"
#include "trainer/ranks.h"

enum fault { NONE, FLIP, ZEROS, STALE, WRONG_SUM, SLOW, HANG_GATHER, HANG_SUM };
static enum fault fault;
static struct comm real; /* of this rank; the double stands before it */
static int gathers;
static char before[3 << 20];

static int bad_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes, struct err *e)
{
    bool me = c->rank == c->ranks - 1;
    if (fault == HANG_GATHER && me)
        for (;;)
            pause();
    if (fault == SLOW)
        nanosleep(&(struct timespec){0, 200000000}, NULL);
    TRY(real.gather(&real, o, slot, dst, shard, bytes, e));
    if (fault == STALE && me && gathers++ > 0)
        memcpy(dst, before, (size_t)bytes); /* the second round brings the first one's bytes again */
    if (fault == STALE && me)
        memcpy(before, dst, (size_t)bytes);
    if (fault == FLIP && me)
        ((char *)dst)[bytes - 3] ^= 16; /* of what rank 0 sent; the CPU's memory is the device's */
    if (fault == ZEROS && me)
        memset(dst, 0, (size_t)bytes);
    return 0;
}

static int bad_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e)
{
    if (fault == HANG_SUM && c->rank == 0)
        for (;;)
            pause();
    TRY(real.sum(&real, o, p, count, e));
    if (fault == WRONG_SUM && c->rank == 0)
        p[count - 1] += 1;
    return 0;
}

static int body(struct comm *c, void *arg, struct err *e)
{
    const struct preflight_options options = {.bytes = 3 << 20, .least_gb_s = fault == SLOW ? 4 : 0};
    struct preflight_result r = {0};
    struct comm bad = *c;
    struct ops *o;
    real = *c;
    bad.gather = bad_gather;
    bad.sum = bad_sum;
    TRY(ops_cpu_open(DT_F32, 1, &o, e));
    int rc = preflight(&bad, o, &options, &r, e);
    o->close(o);
    if (rc == 0 && c->ranks > 1 && !(r.gb_s > 0 && r.latency_s > 0))
        FAIL(e, ERR_VERIFY, "%g GB/s, %g s, expected both above zero", r.gb_s, r.latency_s);
    return rc;
}

static int run(enum fault f, int ranks, double timeout_s, struct err *e)
{
    fault = f;
    return ranks_run(&(struct ranks_options){.ranks = ranks, .timeout_s = timeout_s}, body, NULL, e);
}

static void fails(enum fault f, int code, const char *part)
{
    struct err e = {0};
    CHECK(run(f, 2, f == HANG_GATHER || f == HANG_SUM ? 0.5 : 30, &e) == -1);
    CHECK_INT(e.code, code);
    CHECK_HAS(e.text, part);
    CHECK_HAS(e.text, "NCCL_P2P_DISABLE=1");
}

int main(void)
{
    struct err e = {0};
    for (int ranks = 1; ranks <= 4; ranks++)
        CHECK_OK(run(NONE, ranks, 30, &e), &e);
    CHECK_OK(run(SLOW, 2, 30, &e), &e); /* said, not refused */
    fails(FLIP, ERR_DEVICE, "received 1 wrong ones");
    CHECK(run(FLIP, 2, 30, &e) == -1);
    CHECK_HAS(e.text, "from rank 0 rank 1");
    CHECK_HAS(e.text, "at byte 3145724");
    fails(ZEROS, ERR_DEVICE, "(786432 of them zero)");
    fails(STALE, ERR_DEVICE, "(0 of them zero)");
    fails(WRONG_SUM, ERR_DEVICE, "element 4095 of a sum");
    fails(HANG_GATHER, ERR_PEER, "has not moved for 0.5 s at step 0 (preflight)");
    fails(HANG_SUM, ERR_PEER, "(preflight)");
    return check_done();
}
