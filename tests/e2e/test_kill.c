/* K1: kill -9 of a run that saves every step, at file calls all over it (most of them inside saves) and at moments in time.
 * Whatever the instant: nothing on the disk is damaged, the newest checkpoint that verifies is not older than the last "saved"
 * line, and the run resumed ends in the bytes of the run that nobody killed. */
#include <signal.h>
#include <sys/wait.h>

#include "tests/e2e/e2e.h"

/* Under a sanitizer, which a killed process gives no time to report, a quarter of them. */
#if defined(__SANITIZE_ADDRESS__)
enum { SHARE = 4 };
#else
enum { SHARE = 1 };
#endif
enum { STEPS = 6, BY_CALL = 190 / SHARE, BY_TIME = 36 / SHARE, RESUME_EACH = 6 };

static int n_killed, n_resumed, n_in_save;

static void resume(const char *when, long long at)
{
    if (e2e_run("train job.yaml --resume --quiet --set name=k") != 0) {
        fprintf(stderr, "killed %s %lld: the resumed run failed:\n%s\n", when, at, e2e_out);
        check_failures++;
    } else if (!e2e_same_state("ref", "k", STEPS) ||
               !e2e_same("runs/ref/adapter/adapter_model.safetensors", "runs/k/adapter/adapter_model.safetensors")) {
        fprintf(stderr, "killed %s %lld: the resumed run ends in other bytes\n", when, at);
        check_failures++;
    }
    CHECK_INT(e2e_count_temporaries("runs/k"), 0);
    n_resumed++;
}

/* What a killed process left, and every RESUME_EACH-th time the whole way to the end. */
static void look(const char *when, long long at, int code)
{
    bool rejected;
    int64_t said = e2e_last_saved(), found = e2e_found("k", &rejected);
    if (code == 128 + SIGKILL)
        n_killed++;
    else
        CHECK_INT(code, 0);
    n_in_save += e2e_exists("runs/k/checkpoints") && code != 0;
    if (found < said || rejected) {
        fprintf(stderr, "killed %s %lld: found step %lld%s, the last one said to be saved is %lld\n", when, at, (long long)found,
                rejected ? " behind a damaged one" : "", (long long)said);
        check_failures++;
    }
    if (code == 128 + SIGKILL && n_killed % RESUME_EACH == 0)
        resume(when, at);
}

static int64_t count_calls(void)
{
    char *text;
    CHECK_INT(e2e_run_how(&(struct e2e_how){.fault = "log:calls"}, "train job.yaml --set name=ref"), 0);
    text = e2e_read("calls", NULL);
    int64_t n = text != NULL ? atoll(text) : 0;
    free(text);
    CHECK(n > BY_CALL);
    return n;
}

static void kill_at_calls(int64_t calls)
{
    for (int64_t i = 0; i < BY_CALL; i++) {
        char spec[32];
        int64_t n = 1 + i * (calls - 1) / (BY_CALL - 1);
        e2e_remove("runs/k");
        snprintf(spec, sizeof spec, "kill:%lld", (long long)n);
        look("at call", n, e2e_run_how(&(struct e2e_how){.fault = spec}, "train job.yaml --set name=k"));
    }
}

static void kill_at_times(double seconds)
{
    for (int i = 0; i < BY_TIME; i++) {
        double wait = seconds * (i + 0.5) / BY_TIME;
        e2e_remove("runs/k");
        pid_t child = e2e_start(&(struct e2e_how){0}, "train job.yaml --set name=k");
        e2e_sleep(wait);
        kill(child, SIGKILL);
        look("after ms", (long long)(wait * 1e3), e2e_wait(child));
    }
}

/* Killed again and again, each time a little further: the run comes to its end all the same, and to the same end. */
static void kill_again(int64_t calls)
{
    int code = 128 + SIGKILL;
    e2e_remove("runs/k");
    for (int64_t i = 0; i < 40 && code == 128 + SIGKILL; i++) {
        char spec[32];
        snprintf(spec, sizeof spec, "kill:%lld", (long long)(calls / 3 + 7 * i));
        code = e2e_run_how(&(struct e2e_how){.fault = spec}, "train job.yaml --resume --set name=k");
        look("again, round", i, code == 0 ? 0 : 128 + SIGKILL);
        CHECK(code == 0 || code == 128 + SIGKILL);
    }
    resume("again and again", 0);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    int64_t calls = count_calls();
    double start = e2e_now();
    E2E_RUN(0, "train job.yaml --set name=plain");
    double seconds = e2e_now() - start;
    CHECK(e2e_same_state("ref", "plain", STEPS));
    kill_at_calls(calls);
    kill_at_times(seconds);
    kill_again(calls);
    printf("%lld calls; killed %d times, %d of them with checkpoints begun, resumed to the end %d times\n", (long long)calls,
           n_killed, n_in_save, n_resumed);
    CHECK(n_killed >= 200 / SHARE);
    CHECK(n_in_save >= 120 / SHARE);
    CHECK(n_resumed >= 25 / SHARE);
    return e2e_end();
}
