/* P1: SIGINT, SIGTERM and SIGHUP at moments all over a run, loading, evaluation and saves among them: exit code 75, and the run
 * resumed ends in the bytes of the undisturbed one. P2: a second signal ends the process at once, the last checkpoint is intact.
 * K11: a second process on the same run is refused. */
#include <signal.h>
#include <sys/wait.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

enum { TIMES = 24, SPREAD = 15 };

static const char usual[] = "train job.yaml --set eval.every=2",
                  slow[] = "train slow.yaml --set data.packing=false --set train.batch=6000 "
                           "--set train.micro_batch=1 --set train.max_steps=3";

static void stop_at(double seconds, int sig, int *stopped)
{
    bool rejected;
    e2e_remove("runs/s");
    pid_t child = e2e_start(&(struct e2e_how){0}, "%s --set name=s", usual);
    e2e_sleep(seconds);
    kill(child, sig);
    int code = e2e_wait(child);
    /* In its first moment a program has no handlers yet, and a signal at the end comes too late. */
    bool early = code == 128 + sig && e2e_out[0] == '\0' && !e2e_exists("runs/s/checkpoints");
    if (code != ERR_STOPPED && code != 0 && !early) {
        fprintf(stderr, "signal %d after %.3f s: exit code %d, output:\n%s\n", sig, seconds, code, e2e_out);
        check_failures++;
    }
    *stopped += code == ERR_STOPPED;
    if (code == ERR_STOPPED)
        CHECK_HAS(e2e_out, "lorat: stopped: ");
    CHECK(e2e_found("s", &rejected) >= e2e_last_saved() && !rejected);
    CHECK_INT(e2e_count_temporaries("runs/s"), 0);
    if (code != 0)
        E2E_RUN(0, "%s --set name=s --resume", usual);
    if (!e2e_same_state("ref", "s", 6)) {
        fprintf(stderr, "signal %d after %.3f s, then resumed: other bytes\n", sig, seconds);
        check_failures++;
    }
}

static void test_stop(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    int stopped = 0;
    double start = e2e_now();
    E2E_RUN(0, "%s --set name=ref", usual);
    double whole = e2e_now() - start;
    int tried = 0;
    for (; tried < 3 * TIMES && stopped < TIMES; tried++) {
        int before = stopped;
        stop_at(whole * (tried % SPREAD + 0.5) / SPREAD, signals[tried % 3], &stopped);
        whole *= stopped == before && tried % SPREAD > SPREAD / 2 ? 0.9 : 1.01; /* the machine's speed changes */
    }
    printf("%d of %d signals stopped the run, the others came too early or too late\n", stopped, tried);
    CHECK_INT(stopped, TIMES);
}

/* Until the run's lock names the process. */
static void wait_for_lock(const char *path, const char *pid)
{
    bool held = false;
    for (double start = e2e_now(); !held && e2e_now() - start < 60;) {
        char *text = e2e_read(path, NULL);
        held = text != NULL && strncmp(text, pid, strlen(pid)) == 0;
        free(text);
        e2e_sleep(0.005);
    }
    CHECK(held);
}

/* Until the process is within a step: the thread that reads the dataset begins when all else is ready, and the first thread has worked
 * since (by its own processor time, which a busy machine does not stretch). */
static void wait_for_step(pid_t child)
{
    while (e2e_running(child) && e2e_count_threads(child) < 2)
        e2e_sleep(0.001);
    double before = e2e_busy_s(child);
    while (e2e_running(child) && e2e_busy_s(child) < before + 0.05)
        e2e_sleep(0.001);
    CHECK(e2e_running(child));
}

/* One step of this job takes seconds of work, so that there is something to interrupt: a process that left after the step would have
 * said so. */
static void test_second_signal(void)
{
    bool rejected;
    e2e_dataset("d.h5", 5000, 96, 1);
    E2E_RUN(75, "%s --stop-after 1", slow);
    pid_t child = e2e_start(&(struct e2e_how){.output = "slow.txt"}, "%s --resume", slow);
    char pid[32];
    snprintf(pid, sizeof pid, "%lld ", (long long)child);
    wait_for_lock("runs/slow/lock", pid);
    /* K11, while it is at work. */
    E2E_RUN(ERR_STATE, "%s --resume", slow);
    pid[strlen(pid) - 1] = '\0';
    CHECK_HAS(e2e_out, pid);
    E2E_RUN(ERR_STATE, "train slow.yaml --fresh");
    CHECK_HAS(e2e_out, pid);
    CHECK(e2e_exists("runs/slow/checkpoints/step-00000001"));
    wait_for_step(child);
    kill(child, SIGINT);
    e2e_taken(child, SIGINT);
    e2e_sleep(0.3); /* two signals within a quarter of a second are one request: stop.c */
    kill(child, SIGINT);
    int code = e2e_wait(child);
    CHECK_INT(code, ERR_STOPPED);
    char *said = e2e_read("slow.txt", NULL);
    CHECK_HAS(said, "resuming runs/slow at step 1 of 3");
    CHECK(said != NULL && strstr(said, "stopped: at step") == NULL && strstr(said, "step 2/3") == NULL);
    free(said);
    CHECK_INT(e2e_found("slow", &rejected), 1);
    CHECK(!rejected);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    test_stop();
    e2e_job("slow.yaml", "slow", "tiny-llama");
    test_second_signal();
    return e2e_end();
}
