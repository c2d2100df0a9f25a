/* test_ranks.c - ranks of one machine: sums in rank order with the same bits, and every way that a rank can be lost (P3 to P8 below
 * the program: tests/e2e has them above). Each case starts real processes; none may be left behind. */
#include "trainer/ranks.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/base/stop.h"

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void nap(double s) { nanosleep(&(struct timespec){(time_t)s, (long)((s - (double)(time_t)s) * 1e9)}, NULL); }

/* A failed check in a child is an error of its rank. */
#define NEED(cond)                                                                   \
    do {                                                                             \
        if (!(cond))                                                                 \
            FAIL(e, ERR_VERIFY, "rank %d: line %d: %s is false", c->rank, __LINE__, #cond); \
    } while (0)

static int run(int ranks, double timeout_s, int (*body)(struct comm *, void *, struct err *), void *arg, struct err *e)
{
    struct ranks_options o = {.ranks = ranks, .timeout_s = timeout_s};
    int rc = ranks_run(&o, body, arg, e);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1); /* no child is left */
    return rc;
}

/* Sums longer and shorter than the board, in rank order: with numbers of very different size another order gives other bits. */
static float term(int rank, int64_t i) { return (rank % 2 ? -1.0f : 1.0f) * (float)(1 + (i * 7919 + rank * 104729) % 1000) * (rank % 3 == 1 ? 1e6f : 1e-3f); }

static int sums(struct comm *c, void *arg, struct err *e)
{
    static const int64_t counts[] = {1, 5, 262144, 262145, 700001};
    struct ops *o;
    TRY(ops_cpu_open(DT_F32, 1, &o, e));
    for (int round = 0; round < 5; round++) {
        int64_t n = counts[round];
        float *p = malloc((size_t)n * sizeof *p);
        for (int64_t i = 0; i < n; i++)
            p[i] = term(c->rank, i);
        TRY(c->sum(c, o, p, n, e));
        for (int64_t i = 0; i < n; i++) {
            float want = term(0, i);
            for (int r = 1; r < c->ranks; r++)
                want += term(r, i);
            NEED(p[i] == want);
        }
        free(p);
        double two[3] = {c->rank, 1, 1e-9 * c->rank};
        TRY(c->sum_host(c, two, 3, e));
        NEED(two[0] == c->ranks * (c->ranks - 1) / 2.0 && two[1] == c->ranks);
        char text[3000000];
        memset(text, 'a' + c->rank, sizeof text);
        TRY(c->share(c, text, sizeof text, e));
        NEED(text[0] == 'a' && text[sizeof text - 1] == 'a');
        TRY(c->same(c, "text", text, 1000, e));
    }
    o->close(o);
    return 0;
}

static void test_sums(void)
{
    for (int ranks = 1; ranks <= 4; ranks++) {
        struct err e = {0};
        CHECK_OK(run(ranks, 0, sums, NULL, &e), &e);
    }
}

/* Steps with a sum each; at step `at` rank 1 does what the case says. */
struct loss {
    int how; /* a signal to itself, or 0 = an error of its own, -1 = exit(3), -2 = another text than rank 0 */
    int64_t at;
};
static int losing(struct comm *c, void *arg, struct err *e)
{
    const struct loss *l = arg;
    for (int64_t step = 0; step < 100; step++) {
        double v = 1;
        c->alive(c, step, "training");
        if (c->rank == 1 && step == l->at) {
            if (l->how > 0)
                raise(l->how);
            if (l->how == 0)
                FAIL(e, ERR_DEVICE, "rank 1: out of memory");
            if (l->how == -1)
                _exit(3);
        }
        if (l->how == -2 && step == l->at)
            TRY(c->same(c, "dataset", c->rank == 1 ? "x" : "y", 1, e));
        TRY(c->sum_host(c, &v, 1, e));
        nap(0.002);
    }
    return 0;
}

static void test_losses(void)
{
    static const struct {
        struct loss loss;
        double timeout_s, most_s;
        enum err_code code;
        const char *says;
    } cases[] = {
        {{SIGKILL, 7}, 0, 2, ERR_PEER, "rank 1 was killed by signal 9 (Killed) at step 7 (training)"},
        {{SIGABRT, 0}, 0, 2, ERR_PEER, "rank 1 was killed by signal 6"},
        {{SIGSTOP, 3}, 0.5, 2.5, ERR_PEER, "rank 1 has not moved for 0.5 s at step 3 (training)"},
        {{0, 5}, 0, 2, ERR_DEVICE, "rank 1: out of memory"},
        {{-1, 5}, 0, 2, ERR_PEER, "rank 1 ended with exit code 3 at step 5 (training)"},
        {{-2, 2}, 0, 2, ERR_PEER, "rank 1: another dataset than rank 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int ranks = 2; ranks <= 3; ranks++) {
            struct err e = {0};
            struct loss loss = cases[i].loss;
            double start = now_s();
            CHECK(run(ranks, cases[i].timeout_s, losing, &loss, &e) != 0);
            CHECK_INT(e.code, cases[i].code);
            CHECK_HAS(e.text, cases[i].says);
            CHECK(now_s() - start < cases[i].most_s);
        }
}

/* A request to stop that one rank receives reaches all, and all stop at the same step. */
static int stopping(struct comm *c, void *arg, struct err *e)
{
    stop_install();
    for (int64_t step = 0; step < 1000; step++) {
        if (c->rank == *(int *)arg && step == 4)
            raise(SIGTERM);
        c->alive(c, step, "training");
        double stop[2] = {stop_requested(), (double)step};
        TRY(c->sum_host(c, stop, 2, e));
        NEED(stop[1] == (double)step * c->ranks);
        if (stop[0] > 0)
            FAIL(e, ERR_STOPPED, "at step %lld", (long long)step);
    }
    return 0;
}

static void test_stop(void)
{
    for (int who = 0; who < 3; who++) {
        struct err e = {0};
        CHECK(run(3, 0, stopping, &who, &e) != 0);
        CHECK_INT(e.code, ERR_STOPPED);
        CHECK_STR(e.text, "at step 4");
    }
}

/* A rank that leaves on a request to stop, as while it loads, when another has begun to wait for it and a third is still at work: all
 * stop, with the first one's words. */
static int stopping_alone(struct comm *c, void *arg, struct err *e)
{
    double v = 1;
    if (c->rank == *(int *)arg)
        FAIL(e, ERR_STOPPED, "while the model was loading");
    for (int i = 0; i < 30 && c->rank == (*(int *)arg + 1) % c->ranks; i++) {
        c->alive(c, 0, "loading");
        nap(0.1);
    }
    TRY(c->sum_host(c, &v, 1, e));
    return 0;
}

static void test_stop_alone(void)
{
    for (int who = 0; who < 3; who++) {
        struct err e = {0};
        CHECK(run(3, 0, stopping_alone, &who, &e) != 0);
        CHECK_INT(e.code, ERR_STOPPED);
        CHECK_STR(e.text, "while the model was loading");
    }
}

/* A rank that computes for long without a collective call is fine as long as it says so; one whose parent is gone leaves. */
static int slow(struct comm *c, void *arg, struct err *e)
{
    double v = 1;
    for (int i = 0; i < 20 && c->rank == 1; i++) {
        c->alive(c, 0, "loading");
        nap(0.05);
    }
    return c->sum_host(c, &v, 1, e);
}

static int sleeping(struct comm *c, void *arg, struct err *e)
{
    for (int i = 0; i < 600; i++) {
        double v = 1;
        c->alive(c, i, "training");
        TRY(c->sum_host(c, &v, 1, e));
        nap(0.1);
    }
    return 0;
}

/* The watcher itself is killed: its ranks end within two seconds. A pipe that all of them hold open shows when the last is gone. */
static void test_orphans(void)
{
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct err e = {0};
        struct ranks_options o = {.ranks = 3};
        close(ends[0]);
        _exit(ranks_run(&o, sleeping, NULL, &e) == 0 ? 0 : 1);
    }
    close(ends[1]);
    nap(0.3);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    double start = now_s();
    CHECK(read(ends[0], &byte, 1) == 0); /* end of file: nobody holds the other end */
    CHECK(now_s() - start < 2);
    close(ends[0]);
}

int main(void)
{
    struct err e = {0};
    test_sums();
    test_losses();
    test_stop();
    test_stop_alone();
    CHECK_OK(run(2, 0.4, slow, NULL, &e), &e);
    test_orphans();
    CHECK(ranks_run(&(struct ranks_options){.ranks = 17}, sums, NULL, &e) != 0);
    CHECK_HAS(e.text, "compute.ranks: 17, expected 1 to 16");
    return check_done();
}
