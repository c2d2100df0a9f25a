/* The preflight over CPU ranks, and over links that flip a bit, deliver zeros, add wrongly, are slow, or never answer: a table that
 * passes calls on and spoils them. And over an NCCL whose sum or gather never ends while every rank waits for it, as peer access that
 * is granted and does not work shows itself: nobody stands still then, and memory of such a card cannot be given back. Where the backend
 * tells how long the copies took, the rate is by that alone. */
#include <time.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/preflight.h"
#include "trainer/ranks.h"

enum fault { NONE, FLIP, ZEROS, STALE, WRONG_SUM, SLOW, TOLD, HANG_GATHER, HANG_SUM, STUCK_GATHER, STUCK_SUM };
#define NCCL_TIMEOUT_S 0.5
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

/* ---- an NCCL that gets stuck ---- */

static bool stuck;
static int nccl_id(char id[CUDA_NCCL_ID], struct err *e) { return 0; }
static int nccl_open(struct ops *o, const char *id, int ranks, int rank, struct cuda_nccl_comm **out, struct err *e)
{
    *out = (struct cuda_nccl_comm *)(void *)o;
    return 0;
}
static int nccl_sum(struct cuda_nccl_comm *n, float *p, int64_t count, struct err *e)
{
    stuck |= fault == STUCK_SUM;
    return real.sum(&real, (struct ops *)(void *)n, p, count, e);
}
static int nccl_gather(struct cuda_nccl_comm *n, int slot, void *dst, const void *shard, size_t bytes_each, struct err *e)
{
    stuck |= fault == STUCK_GATHER;
    return real.gather(&real, (struct ops *)(void *)n, slot, dst, shard, (int64_t)bytes_each, e);
}
static int nccl_done(struct cuda_nccl_comm *n, bool *done, struct err *e)
{
    *done = !stuck;
    return 0;
}
static void nccl_close(struct cuda_nccl_comm *n) {}
static const struct cuda_nccl nccl = {nccl_id, nccl_open, nccl_sum, nccl_gather, nccl_done, nccl_close};

static void (*cpu_release)(struct ops *o, void *p);
static void release(struct ops *o, void *p)
{
    while (stuck)
        pause(); /* as cudaFree does */
    cpu_release(o, p);
}

#define TOLD_S 1000.0 /* longer than anything here takes */
/* Asked before the copies and behind them. */
static double told(struct ops *o)
{
    static int asked;
    return asked++ % 2 == 0 ? 77 * TOLD_S : TOLD_S;
}

static int body(struct comm *c, void *arg, struct err *e)
{
    const struct preflight_options options = {.bytes = 3 << 20, .least_gb_s = fault == SLOW ? 4 : 0};
    struct preflight_result r = {0};
    struct comm bad = *c;
    struct ops *o;
    real = *c;
    bool there;
    bad.gather = bad_gather;
    bad.sum = bad_sum;
    TRY(ops_cpu_open(DT_F32, 1, &o, e));
    cpu_release = o->release;
    o->release = release;
    if (fault == TOLD)
        o->fetch_waited = told;
    if (fault >= STUCK_GATHER)
        TRY(comm_nccl(&bad, o, &nccl, NCCL_TIMEOUT_S, &there, e));
    int rc = preflight(&bad, o, &options, &r, e);
    o->close(o);
    if (rc == 0 && c->ranks > 1 && !(r.gb_s > 0 && r.latency_s > 0))
        FAIL(e, ERR_VERIFY, "%g GB/s, %g s, expected both above zero", r.gb_s, r.latency_s);
    double want = 1e-9 * (double)options.bytes * (c->ranks - 1) / TOLD_S;
    if (rc == 0 && fault == TOLD && !(fabs(r.gb_s - want) <= 1e-12 * want))
        FAIL(e, ERR_VERIFY, "%g GB/s, expected %g: what the backend told of the copies, and no more", r.gb_s, want);
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

/* What ranks print into `said`, by way of a file without a name. */
static void said_of(enum fault f, char *said, size_t size)
{
    struct err e = {0};
    FILE *file = tmpfile();
    int own = dup(STDERR_FILENO);
    CHECK(file != NULL && own >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    int rc = run(f, 2, 30, &e);
    dup2(own, STDERR_FILENO);
    close(own);
    CHECK_OK(rc, &e);
    rewind(file);
    said[fread(said, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* Slow copies are spoken of and not refused. */
static void test_slow(void)
{
    static const char warning[] = "expected 4 or more";
    static char said[1 << 14];
    said_of(SLOW, said, sizeof said);
    CHECK_HAS(said, warning);
    said_of(NONE, said, sizeof said);
    CHECK_HAS(said, "preflight 2 ranks");
    CHECK(strstr(said, warning) == NULL && strstr(said, "warning") == NULL);
}

int main(void)
{
    struct err e = {0};
    for (int ranks = 1; ranks <= 4; ranks++)
        CHECK_OK(run(NONE, ranks, 30, &e), &e);
    test_slow();
    for (int ranks = 2; ranks <= 3; ranks++)
        CHECK_OK(run(TOLD, ranks, 30, &e), &e);
    fails(FLIP, ERR_DEVICE, "received 1 wrong ones");
    CHECK(run(FLIP, 2, 30, &e) == -1);
    CHECK_HAS(e.text, "from rank 0 rank 1");
    CHECK_HAS(e.text, "at byte 3145724");
    fails(ZEROS, ERR_DEVICE, "(786432 of them zero)");
    fails(STALE, ERR_DEVICE, "(0 of them zero)");
    fails(WRONG_SUM, ERR_DEVICE, "element 4095 of a sum");
    fails(HANG_GATHER, ERR_PEER, "has not moved for 0.5 s at step 0 (preflight)");
    fails(HANG_SUM, ERR_PEER, "(preflight)");
    fails(STUCK_GATHER, ERR_PEER, "the work queued on the card has not ended within 1.5 s");
    fails(STUCK_SUM, ERR_PEER, "the sum over ranks has not ended within 1.5 s");
    return check_done();
}
