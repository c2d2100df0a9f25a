/* test_cards.c - argv[3] is the plug-in of the simulated card. Ranks on two cards through the CUDA backend and NCCL (tests/sim/nccl.cpp):
 * the same bits as one card with twice the micro-batches, with the base whole on each and sharded, and again without NCCL. P3: a
 * signal to one rank stops both. P4, P5, P7: a killed or stopped rank, or a card that fails, ends the run in time, in words that name
 * it, and the run goes on from its last checkpoint. No process and no shared memory is left. */
#include <signal.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

#define JOB "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set compute.gpus=%s --set name=%s"
#define LONG " --set train.max_steps=2000"

static void test_bits(void)
{
    E2E_RUN(0, JOB, "[0]", "one");
    E2E_RUN(0, JOB, "[0,1]", "two");
    CHECK_HAS(e2e_out, "whole on each of 2 ranks (data parallel)");
    CHECK(strstr(e2e_out, "through the host's memory instead") == NULL);
    CHECK(e2e_same_state("one", "two", 6));
    E2E_RUN(0, JOB " --set compute.parallel=sharded", "[0,1]", "sharded");
    CHECK_HAS(e2e_out, "sharded, each of 2 ranks holds 1/2 of every block");
    CHECK(e2e_same_state("one", "sharded", 6));
    E2E_RUN(0, JOB " --set model.placement=host", "[0]", "host");
    CHECK(e2e_same_state("one", "host", 6));
    setenv("LORAT_SIM_NCCL", "none", 1);
    E2E_RUN(0, JOB " --set compute.parallel=sharded", "[0,1]", "plain");
    unsetenv("LORAT_SIM_NCCL");
    CHECK_HAS(e2e_out, "libnccl.so.2 is not there");
    CHECK_HAS(e2e_out, "and every block of the base go through the host's memory instead");
    CHECK(e2e_same_state("one", "plain", 6));
}

/* What adds the gradients up is recorded, and a resume with something else says so. */
static void test_sums(void)
{
    E2E_RUN(75, JOB " --stop-after 2", "[0,1]", "sums");
    setenv("NCCL_ALGO", "Tree", 1);
    E2E_RUN(75, JOB " --resume --stop-after 3", "[0,1]", "sums");
    CHECK_HAS(e2e_out, "\n  sums: NCCL, NCCL_ALGO=Ring, NCCL_PROTO=Simple -> NCCL, NCCL_ALGO=Tree, NCCL_PROTO=Simple\n");
    setenv("LORAT_SIM_NCCL", "none", 1);
    E2E_RUN(75, JOB " --resume --stop-after 4", "[0,1]", "sums");
    CHECK_HAS(e2e_out, "\n  sums: NCCL, NCCL_ALGO=Tree, NCCL_PROTO=Simple -> through the host's memory, in rank order\n");
    unsetenv("LORAT_SIM_NCCL");
    unsetenv("NCCL_ALGO");
    E2E_RUN(75, JOB " --resume --stop-after 5", "[0]", "sums"); /* nothing to add */
    CHECK(strstr(e2e_out, "goes on with something else") == NULL);
}

/* A resume leaves the base where it lay. */
static void test_placement(void)
{
    E2E_RUN(75, JOB " --set compute.parallel=sharded --stop-after 2", "[0,1]", "place");
    E2E_RUN(75, JOB " --resume --stop-after 3", "[0,1]", "place");
    CHECK_HAS(e2e_out, "sharded, each of 2 ranks holds 1/2 of every block");
    CHECK_HAS(e2e_out, "the base stays sharded, as in the steps so far; whole on each rank it would fit now");
    E2E_RUN(75, JOB " --resume --stop-after 4 --set compute.parallel=data", "[0,1]", "place");
    CHECK_HAS(e2e_out, "whole on each of 2 ranks (data parallel)");
    E2E_RUN(0, JOB " --resume", "[0,1]", "place");
    CHECK_HAS(e2e_out, "whole on each of 2 ranks (data parallel)");
    CHECK(e2e_same_state("one", "place", 6));
    E2E_RUN(75, JOB " --set compute.parallel=sharded --stop-after 2", "[0,1]", "moved");
    setenv("LORAT_SIM_CARDS", "3090,4090", 1); /* which cannot share a base */
    E2E_RUN(75, JOB " --resume --stop-after 3 -q", "[0,1]", "moved");
    CHECK_HAS(e2e_out, "lorat: warning: the base was sharded, each of 2 ranks holds 1/2 of every block in the steps so far and is now whole on each");
    CHECK_HAS(e2e_out, "To go back choose cards that are alike (compute.gpus), and resume with --set compute.parallel=sharded");
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
}

static void test_unequal(void)
{
    setenv("LORAT_SIM_CARDS", "3090,4090", 1);
    E2E_RUN(ERR_DEVICE, JOB " --set compute.parallel=sharded", "[0,1]", "u");
    CHECK_HAS(e2e_out, "expected cards that are alike");
    CHECK_HAS(e2e_out, "simulated RTX 4090");
    E2E_RUN(0, JOB, "[0,1]", "unequal");
    CHECK_HAS(e2e_out, "not alike");
    CHECK_HAS(e2e_out, "card 0 is the slower by its maker's table, 71 against 165 TFLOP/s");
    CHECK(e2e_same_state("one", "unequal", 6));
    E2E_RUN(75, "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set name=auto --stop-after 1");
    CHECK_HAS(e2e_out, "card 1, simulated RTX 4090, is of another kind than card 0 and is left out: compute.gpus can name both");
    setenv("LORAT_SIM_CARDS", "4090,a100", 1); /* one that no table here has: as measured, which may be either */
    E2E_RUN(75, JOB " --stop-after 1", "[0,1]", "unequal-measured");
    CHECK_HAS(e2e_out, " is the slower as measured now, ");
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
}

/* Products tuned for two cards that are not alike: the table is the first one's, and the second goes without, on a resume too. */
static void test_tuned(void)
{
    setenv("LORAT_SIM_CARDS", "3090,4090", 1);
    E2E_RUN(0, "tune job.yaml --set compute.device=cuda --set train.micro_batch=2 --set compute.gpus=[0,1] --set name=tuned --seconds 1 --keep");
    E2E_RUN(75, JOB " --stop-after 2", "[0,1]", "tuned");
    CHECK_HAS(e2e_out, "[rank 1] lorat: warning: runs/tuned/tuned.txt: tuned products: made on ");
    E2E_RUN(0, JOB " --resume", "[0,1]", "tuned");
    CHECK(strstr(e2e_out, "goes on with something else") == NULL);
    E2E_RUN(75, JOB " --stop-after 2", "[0,1]", "straight");
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
    E2E_RUN(0, JOB " --resume", "[0]", "straight"); /* another number of ranks, as one may */
    CHECK_HAS(e2e_out, "which may round otherwise:\n  ranks: 2 -> 1");
}

/* A long run on two cards, at its third checkpoint. 0: it is not there. */
static pid_t begin(const char *name, const char *more, pid_t ranks[8])
{
    char path[128];
    pid_t run = e2e_start(&(struct e2e_how){0}, JOB LONG " --set checkpoint.keep=2000 --set compute.peer_timeout=3 %s", "[0,1]", name, more);
    double start = e2e_now();
    snprintf(path, sizeof path, "runs/%s/checkpoints/step-00000003", name);
    while (!e2e_exists(path) && e2e_running(run) && e2e_now() - start < 60)
        e2e_sleep(0.01);
    int n = e2e_children(run, ranks);
    CHECK(e2e_exists(path));
    CHECK_INT(n, 2);
    for (int i = 0; i < n; i++)
        CHECK_INT(e2e_count_shared(ranks[i]), 0); /* nothing that could be left behind */
    if (n == 2)
        return run;
    kill(run, SIGKILL);
    return 0;
}

static void check_nobody_left(const pid_t ranks[8]) { CHECK(kill(ranks[0], 0) != 0 && kill(ranks[1], 0) != 0); }

/* One of the two is gone: it is the one that is named. */
static void test_lost(const char *name, int rank, int sig, double most_s, const char *more, const char *says)
{
    pid_t ranks[8];
    bool rejected;
    pid_t run = begin(name, more, ranks);
    if (run == 0)
        return;
    kill(ranks[rank], sig);
    double start = e2e_now();
    CHECK_INT(e2e_wait(run), ERR_PEER);
    double took = e2e_now() - start;
    printf("%s: left %.1f s after the signal\n", name, took);
    CHECK(took < most_s);
    CHECK_HAS(e2e_out, says);
    CHECK_HAS(e2e_out, "at step ");
    check_nobody_left(ranks);
    CHECK(e2e_found(name, &rejected) >= 3 && !rejected);
}

/* A request to stop that only one rank receives: all stop at the same step, with one checkpoint. */
static void test_stopped(const char *name, int rank)
{
    pid_t ranks[8];
    bool rejected;
    pid_t run = begin(name, "--set compute.parallel=sharded", ranks);
    if (run == 0)
        return;
    kill(ranks[rank], SIGTERM);
    CHECK_INT(e2e_wait(run), ERR_STOPPED);
    CHECK_HAS(e2e_out, "stopped: at step ");
    CHECK_INT(e2e_found(name, &rejected), e2e_last_saved());
    check_nobody_left(ranks);
    E2E_RUN(75, JOB LONG " --set compute.parallel=sharded --resume --stop-after %lld", "[0,1]", name,
            (long long)e2e_last_saved() + 1);
}

/* The second card fails: its words are the run's, and only they. */
static void test_broken(const char *name, const char *fault, const char *more, const char *says, const char *also, bool begun)
{
    bool rejected;
    setenv("LORAT_SIM_FAIL", fault, 1);
    E2E_RUN(ERR_DEVICE, JOB LONG " --set compute.peer_timeout=3 %s", "[0,1]", name, more);
    unsetenv("LORAT_SIM_FAIL");
    CHECK_HAS(e2e_out, says);
    CHECK_HAS(e2e_out, also);
    const char *first = strstr(e2e_out, "error:");
    CHECK(first != NULL && strstr(first + 1, "error:") == NULL);
    int64_t step = e2e_found(name, &rejected);
    CHECK(begun ? step > 0 && !rejected : step < 0);
    if (begun)
        E2E_RUN(75, JOB LONG " --resume --stop-after %lld", "[0,1]", name, (long long)step + 1);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    if (argc < 4)
        return 2;
    setenv("LORAT_CUDA", argv[3], 1);
    setenv("LORAT_SIM_CARDS", "none", 1);
    e2e_usual("tiny-llama");
    E2E_RUN(ERR_DEVICE, "train job.yaml --set compute.device=auto");
    CHECK_HAS(e2e_out, "auto, and there are signs of an NVIDIA card: the driver finds no card");
    CHECK_HAS(e2e_out, "list it? To run on the CPU all the same");
    setenv("LORAT_SIM_CARDS", "a card that is none", 1);
    E2E_RUN(ERR_DEVICE, "train job.yaml --set compute.device=cuda");
    CHECK_HAS(e2e_out, "ended early (exit code 99)");
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
    test_bits();
    test_sums();
    test_placement();
    test_unequal();
    test_tuned();
    test_lost("kill", 0, SIGKILL, 2, "", "rank 0 was killed by signal 9");
    test_lost("kill-sharded", 1, SIGKILL, 2, "--set compute.parallel=sharded", "rank 1 was killed by signal 9");
    test_lost("stop", 0, SIGSTOP, 6, "", "rank 0 has not moved for 3 s");
    test_lost("stop-sharded", 1, SIGSTOP, 6, "--set compute.parallel=sharded", "rank 1 has not moved for 3 s");
    test_stopped("term-1", 1);
    test_broken("launch", "launch:1000:719@1", "", "rank 1 at step ", "unspecified launch failure", true);
    test_broken("launch-sharded", "launch:1000:719@1", "--set compute.parallel=sharded", "rank 1 at step ", "unspecified launch failure",
                true);
    test_broken("memory", "cudaMalloc:6:2@1", "", "rank 1", "memory", false);
    return e2e_end();
}
