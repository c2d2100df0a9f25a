/* K2 for the whole program: one file call of a run fails (ENOSPC, EIO), or the disk is full from there on. The run goes on with a
 * warning, or leaves with one sentence and an exit code that says what could not be read or written; every checkpoint that was
 * said to be saved is there, no temporary is left, and the run resumed ends in the bytes of the undisturbed one. */
#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

enum { STEPS = 6, ONCE = 72, FULL = 12 };

static int n_warned, n_left, n_silent;

static int count_lines(const char *begin)
{
    int n = 0;
    size_t length = strlen(begin);
    for (const char *line = e2e_out; line != NULL && *line != '\0';) {
        n += strncmp(line, begin, length) == 0;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return n;
}

static void complain(const char *spec, const char *what)
{
    fprintf(stderr, "%s: %s; output:\n%s\n", spec, what, e2e_out);
    check_failures++;
}

static void one(const char *spec)
{
    bool rejected;
    e2e_remove("runs/k");
    e2e_remove(".cache");
    int code = e2e_run_how(&(struct e2e_how){.fault = spec}, "train job.yaml --set name=k");
    int errors = count_lines("lorat: error: "), warnings = count_lines("lorat: warning: ") - 1; /* the usual one: no tokenizer */
    if (code == 0 && errors > 0)
        complain(spec, "an error was printed, but the exit code is 0");
    if (code != 0 && errors != 1)
        complain(spec, "expected one error message");
    if (code < 0 || code == ERR_INTERNAL || code == ERR_USAGE || code > ERR_IO)
        complain(spec, "left with an exit code that does not say what could not be read or written");
    n_left += code != 0;
    n_warned += code == 0 && warnings > 0;
    n_silent += code == 0 && warnings <= 0;
    int64_t said = e2e_last_saved(), found = e2e_found("k", &rejected);
    if (found < said || rejected)
        complain(spec, "a checkpoint that was said to be saved is not there");
    /* A removal that failed half way leaves what it could not remove, says so, and the next save clears it away. */
    bool dropping = strstr(e2e_out, "Old checkpoints were left in place") != NULL;
    if (!dropping && e2e_count_temporaries("runs") + e2e_count_temporaries(".cache") > 0)
        complain(spec, "temporaries were left");
    if (e2e_run("train job.yaml --resume --set name=k") != 0)
        complain(spec, "the resumed run failed");
    else if (!e2e_same_state("ref", "k", STEPS) ||
             !e2e_same("runs/ref/adapter/adapter_model.safetensors", "runs/k/adapter/adapter_model.safetensors"))
        complain(spec, "the resumed run ends in other bytes");
    if (e2e_count_temporaries("runs") + e2e_count_temporaries(".cache") > 0)
        complain(spec, "temporaries were left by the resumed run");
}

int main(int argc, char **argv)
{
    char spec[64];
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    CHECK_INT(e2e_run_how(&(struct e2e_how){.fault = "log:calls"}, "train job.yaml --set name=ref"), 0);
    char *text = e2e_read("calls", NULL);
    int64_t calls = text != NULL ? atoll(text) : 0;
    free(text);
    CHECK(calls > ONCE);
    for (int64_t i = 0; i < ONCE; i++) {
        snprintf(spec, sizeof spec, "fail:%lld:%s", (long long)(1 + i * (calls - 1) / (ONCE - 1)), i % 2 ? "EIO" : "ENOSPC");
        one(spec);
    }
    for (int64_t i = 0; i < FULL; i++) {
        snprintf(spec, sizeof spec, "full:%lld", (long long)(1 + i * (calls - 1) / FULL));
        one(spec);
    }
    printf("%lld calls; of %d faults %d ended the run, %d were warned of, %d made no difference\n", (long long)calls, ONCE + FULL,
           n_left, n_warned, n_silent);
    CHECK(n_warned >= 20);
    CHECK(n_left >= 10);
    return e2e_end();
}
