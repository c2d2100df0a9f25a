/* test_cards.c - argv[3] is the plug-in of the simulated card. Ranks on two cards through the CUDA backend and NCCL (tests/sim/nccl.cpp):
 * the same bits as one card with twice the micro-batches, with the base whole on each and sharded, and again without NCCL. P4, P5:
 * a killed or stopped rank ends the run in time, in words, and the run goes on from its last checkpoint. */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

#define JOB "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set compute.gpus=%s --set name=%s"

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

static void test_unequal(void)
{
    setenv("LORAT_SIM_CARDS", "3090,4090", 1);
    E2E_RUN(ERR_DEVICE, JOB " --set compute.parallel=sharded", "[0,1]", "u");
    CHECK_HAS(e2e_out, "expected cards that are alike");
    CHECK_HAS(e2e_out, "simulated RTX 4090");
    E2E_RUN(0, JOB, "[0,1]", "unequal");
    CHECK_HAS(e2e_out, "not alike");
    CHECK(e2e_same_state("one", "unequal", 6));
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
}

/* The children of a process that are ranks of its own; fewer than 2: none. */
static int children(pid_t parent, pid_t out[2])
{
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        char path[300], text[512] = "";
        long pid = strtol(entry->d_name, NULL, 10), ppid = 0;
        snprintf(path, sizeof path, "/proc/%ld/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        char *after = f != NULL && fgets(text, sizeof text, f) != NULL ? strrchr(text, ')') : NULL;
        if (f != NULL)
            fclose(f);
        if (after != NULL && sscanf(after + 1, " %*c %ld", &ppid) == 1 && ppid == parent && n < 2)
            out[n++] = (pid_t)pid;
    }
    if (d != NULL)
        closedir(d);
    return n;
}

/* One of two ranks is gone (whichever /proc lists second). */
static void test_lost(const char *name, int sig, const char *more, const char *says)
{
    pid_t ranks[2];
    char path[128];
    bool rejected;
    pid_t run = e2e_start(&(struct e2e_how){0}, JOB " --set train.max_steps=2000 --set checkpoint.keep=2000 --set compute.peer_timeout=3 %s", "[0,1]", name, more);
    double start = e2e_now();
    snprintf(path, sizeof path, "runs/%s/checkpoints/step-00000003", name);
    while (!e2e_exists(path) && e2e_now() - start < 60)
        e2e_sleep(0.01);
    CHECK(e2e_exists(path));
    if (children(run, ranks) != 2) {
        kill(run, SIGKILL);
        CHECK(!"two ranks");
        return;
    }
    kill(ranks[1], sig);
    start = e2e_now();
    CHECK_INT(e2e_wait(run), ERR_PEER);
    printf("%s: left %.1f s after the signal\n", name, e2e_now() - start);
    CHECK_HAS(e2e_out, says);
    CHECK_HAS(e2e_out, "at step ");
    CHECK(kill(ranks[0], 0) != 0 && kill(ranks[1], 0) != 0);
    CHECK(e2e_found(name, &rejected) >= 3 && !rejected);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    if (argc < 4)
        return 2;
    setenv("LORAT_CUDA", argv[3], 1);
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
    e2e_usual("tiny-llama");
    test_bits();
    test_unequal();
    test_lost("kill", SIGKILL, "", "was killed by signal 9");
    test_lost("kill-sharded", SIGKILL, "--set compute.parallel=sharded", "was killed by signal 9");
    test_lost("stop-sharded", SIGSTOP, "--set compute.parallel=sharded", "has not moved for 3 s");
    return e2e_end();
}
