/* Ranks of one machine through the program. R3: one rank with two micro-batches = two ranks with one, bit for bit; four as well.
 * A checkpoint of one rank goes on with two and back. P1, P3: a signal to all or to one rank: all stop at the same step with one
 * checkpoint, exit code 75. P4: kill -9 of one rank: the others leave within two seconds, rank and step are named, the last
 * checkpoint resumes. P5: kill -STOP: exit code 8 within the time-out. P7: an error of one rank is the run's.
 * (Ranks that differ or never come: tests/ranks/test_rank_faults.c.) */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "kernels/plugin.h"
#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

#define JOB "train job.yaml --set train.micro_batch=%d --set compute.ranks=%d --set name=%s"

static void test_same_bits(void)
{
    E2E_RUN(0, JOB, 2, 1, "one");
    E2E_RUN(0, JOB, 2, 2, "two");
    E2E_RUN(0, JOB, 1, 1, "four-micro");
    E2E_RUN(0, JOB, 1, 4, "four");
    CHECK(e2e_same("runs/one/adapter/adapter_model.safetensors", "runs/two/adapter/adapter_model.safetensors"));
    CHECK(e2e_same_state("one", "two", 6));
    CHECK(e2e_same_state("four-micro", "four", 6));
    /* Each summary says how many there were. */
    CHECK(e2e_summary("two", "ranks") == 2 && e2e_summary("one", "ranks") == 1);
    CHECK(e2e_summary("two", "tokens") == e2e_summary("one", "tokens"));
}

/* The base sharded over the ranks, or in host memory: the same bits as whole on each of them. A placement may change at a resume. */
static void test_placements(void)
{
    E2E_RUN(0, JOB " --set compute.parallel=sharded", 2, 2, "sharded");
    CHECK_HAS(e2e_out, "sharded, each of 2 ranks holds 1/2 of every block");
    CHECK(e2e_same_state("two", "sharded", 6));
    E2E_RUN(0, JOB " --set compute.parallel=sharded", 1, 4, "sharded-four");
    CHECK(e2e_same_state("four", "sharded-four", 6));
    E2E_RUN(0, JOB " --set model.placement=host", 2, 1, "host");
    CHECK_HAS(e2e_out, "in host memory");
    CHECK(e2e_same_state("one", "host", 6));
    E2E_RUN(75, JOB " --set compute.parallel=sharded --stop-after 3", 2, 2, "changed");
    E2E_RUN(0, JOB " --set model.placement=host --resume", 2, 2, "changed");
    CHECK(e2e_same_state("two", "changed", 6));
}

static void test_elastic(void)
{
    E2E_RUN(75, JOB " --stop-after 2", 2, 1, "elastic");
    E2E_RUN(75, JOB " --stop-after 4 --resume", 2, 2, "elastic");
    E2E_RUN(0, JOB " --resume", 2, 1, "elastic");
    CHECK(e2e_same_state("one", "elastic", 6));
}

/* The newest checkpoint's step by its name; -1 when there is none. */
static int64_t newest(const char *name)
{
    char path[128];
    long long step, most = -1;
    snprintf(path, sizeof path, "runs/%s/checkpoints", name);
    DIR *d = opendir(path);
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (sscanf(entry->d_name, "step-%lld", &step) == 1 && step > most)
            most = step;
    if (d != NULL)
        closedir(d);
    return most;
}

/* A long run of two ranks, begun; waits for its third checkpoint. Ends the test when there are no two to send signals to. */
static pid_t begin(const char *name, const char *more, pid_t ranks[8])
{
    pid_t run = e2e_start(&(struct e2e_how){0}, JOB " --set train.max_steps=2000 --set checkpoint.keep=2 %s", 2, 2, name, more);
    double start = e2e_now();
    while (newest(name) < 3 && e2e_running(run) && e2e_now() - start < 60)
        e2e_sleep(0.01);
    int n = e2e_children(run, ranks);
    CHECK(newest(name) >= 3);
    CHECK_INT(n, 2);
    for (int i = 0; i < n; i++) /* what has no name cannot be left behind, or be there from another time */
        CHECK_INT(e2e_count_shared(ranks[i]), 0);
    if (n != 2) {
        kill(run, SIGKILL);
        exit(check_done());
    }
    return run;
}

static void test_lost(const char *name, int rank, int sig, double most_s, const char *says)
{
    pid_t ranks[8];
    pid_t run = begin(name, "--set compute.peer_timeout=1", ranks);
    kill(ranks[rank], sig);
    double start = e2e_now();
    CHECK_INT(e2e_wait(run), ERR_PEER);
    CHECK(e2e_now() - start < most_s);
    CHECK_HAS(e2e_out, says);
    CHECK_HAS(e2e_out, "at step ");
    CHECK(kill(ranks[0], 0) != 0 && kill(ranks[1], 0) != 0); /* nobody is left */
    bool rejected;
    int64_t step = e2e_found(name, &rejected);
    CHECK(step >= 3 && !rejected);
    E2E_RUN(75, JOB " --set train.max_steps=2000 --resume --stop-after %lld", 2, 2, name, (long long)step + 2);
}

static void test_stopped(const char *name, int rank, int sig)
{
    pid_t ranks[8];
    pid_t run = begin(name, "", ranks);
    kill(rank < 0 ? run : ranks[rank], sig);
    CHECK_INT(e2e_wait(run), ERR_STOPPED);
    CHECK_HAS(e2e_out, "stopped: at step ");
    int64_t saved = e2e_last_saved();
    bool rejected;
    CHECK_INT(e2e_found(name, &rejected), saved);
    E2E_RUN(75, JOB " --set train.max_steps=2000 --resume --stop-after %lld", 2, 2, name, (long long)saved + 1);
}

/* What cannot be is one sentence. */
static void test_refused(void)
{
    E2E_RUN(ERR_CONFIG, JOB, 2, 3, "r");
    CHECK_HAS(
        e2e_out,
        "train.batch: 4 rows cannot be shared by 3 ranks, expected a multiple of 3. Set it to 6, or take 2 with compute.ranks");
    E2E_RUN(ERR_CONFIG, JOB, 4, 2, "r");
    CHECK_HAS(e2e_out, "train.micro_batch: found 4, expected a divisor of the 2 rows of each of 2 ranks. The nearest is 2");
    E2E_RUN(ERR_CONFIG, JOB, 1, 17, "r");
    CHECK_HAS(e2e_out, "compute.ranks");
    E2E_RUN(ERR_CONFIG, JOB " --set compute.parallel=sharded --set model.placement=host", 2, 2, "r");
    CHECK_HAS(e2e_out, "expected one of the two");
    E2E_RUN(ERR_CONFIG, JOB " --set compute.parallel=sharded", 2, 1, "r");
    CHECK_HAS(e2e_out, "expected several that share the base");
    unsetenv("LORAT_CUDA");
    if (!plugin_card_present()) { /* cards are named and none is here: not on the CPU then */
        E2E_RUN(ERR_DEVICE, JOB " --set compute.device=auto --set compute.gpus=[0,1]", 2, 1, "r");
        CHECK_HAS(e2e_out, "compute.gpus: names cards, and there is no sign of an NVIDIA card here");
    }
    CHECK(!e2e_exists("runs/r"));
    /* One rank's error is the run's, said once: the run is there already. */
    E2E_RUN(ERR_STATE, JOB, 2, 2, "one");
    CHECK_HAS(e2e_out, "--resume");
    char *first = strstr(e2e_out, "error:");
    CHECK(first != NULL && strstr(first + 1, "error:") == NULL);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama");
    test_same_bits();
    test_placements();
    test_elastic();
    test_refused();
    test_lost("kill-1", 1, SIGKILL, 2, "rank 1 was killed by signal 9");
    test_lost("kill-0", 0, SIGKILL, 2, "rank 0 was killed by signal 9");
    test_lost("segv-1", 1, SIGSEGV, 2, "rank 1");
    test_lost("stop-1", 1, SIGSTOP, 4, "rank 1 has not moved for 1 s");
    test_stopped("term-all", -1, SIGTERM);
    test_stopped("int-1", 1, SIGINT);
    test_stopped("hup-0", 0, SIGHUP);
    return e2e_end();
}
