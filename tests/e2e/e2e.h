/* e2e.h - shared by the end-to-end tests: the real program, run as a user runs it, on the tiny models of tests/golden in a
 * temporary folder.
 *
 * A test's main() begins with e2e_begin(argc, argv) and ends with `return e2e_end()`. argv[1] is lorat, argv[2] is lorat_fault
 * (tests/fault/lorat_fault.c). In between the working folder is the temporary one, so runs/ and .cache/ are the test's own. */
#ifndef LORAT_TESTS_E2E_H
#define LORAT_TESTS_E2E_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/check.h"

extern char e2e_root[512];   /* the repository */
extern char e2e_golden[600]; /* its tests/golden */
extern char e2e_dir[64];     /* the temporary folder, also the working folder */
extern char *e2e_out;        /* what the last e2e_run or e2e_wait printed, both streams; "" when nothing */

void e2e_begin(int argc, char **argv);
int e2e_end(void);

/* How a process is started; zero is plain. */
struct e2e_how {
    const char *fault;  /* LORAT_FAULT for lorat_fault; NULL = lorat itself */
    int64_t file_limit; /* RLIMIT_FSIZE in bytes; 0 = none */
    bool closed;        /* standard descriptors closed */
    const char *output; /* both streams go to this file; NULL = to a file that e2e_out is read from */
};
/* Arguments are split at spaces; '...' keeps spaces. Returns the exit code; 128 + n for signal n. */
int e2e_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
int e2e_run_how(const struct e2e_how *how, const char *format, ...) __attribute__((format(printf, 2, 3)));
pid_t e2e_start(const struct e2e_how *how, const char *format, ...) __attribute__((format(printf, 2, 3)));
int e2e_wait(pid_t child);
bool e2e_running(pid_t child); /* has it not ended yet? e2e_wait is still to come */
/* e2e_run whose exit code must be `code`; prints the output when it is another. */
#define E2E_RUN(code, ...)                                                                                                       \
    do {                                                                                                                         \
        int got_ = e2e_run(__VA_ARGS__);                                                                                         \
        if (got_ != (code)) {                                                                                                    \
            fprintf(stderr, "%s:%d: exit code %d, expected %d; output:\n%s\n", __FILE__, __LINE__, got_, (code), e2e_out);       \
            check_failures++;                                                                                                    \
        }                                                                                                                        \
    } while (0)

/* The children of a process, from /proc, oldest first, at most 8: the ranks of a run in their order (process numbers do not wrap within
 * a test). */
int e2e_children(pid_t parent, pid_t out[8]);
/* Threads of a process, and processor time that its first thread has used; 0 when there is no such process. */
int e2e_count_threads(pid_t pid);
double e2e_busy_s(pid_t pid);
/* Waits until the process has taken a signal that was sent to it: a second one would else be lost in the first. */
void e2e_taken(pid_t pid, int sig);
/* Places of a process's memory that have a name in /dev/shm; -1: its map cannot be read. */
int e2e_count_shared(pid_t pid);

/* A job file. Model `model` of tests/golden, dataset d.h5, six steps of four rows of 32 tokens, a save after each. */
void e2e_job(const char *path, const char *name, const char *model);
/* A dataset of `documents` of 6 to 30 tokens below `vocab`, about two thirds of them trained, a tenth of the documents for
 * validation. */
void e2e_dataset(const char *path, int documents, int vocab, int seed);
/* The usual beginning: d.h5 and job.yaml (run "t") for a model. */
void e2e_usual(const char *model);

void e2e_write(const char *path, const char *text);
char *e2e_read(const char *path, size_t *n); /* malloc'ed, NUL-terminated; NULL when missing; n may be NULL */
bool e2e_same(const char *a, const char *b); /* both there, same bytes */
void e2e_remove(const char *path);
bool e2e_exists(const char *path);
void e2e_sleep(double seconds);
double e2e_now(void);

/* adapter_model, optimizer and state.json of a step of two runs: same bytes? Says which differ. */
bool e2e_same_state(const char *run_a, const char *run_b, int64_t step);
/* The step of the last "saved" line of e2e_out; -1 when none. */
int64_t e2e_last_saved(void);
/* The newest checkpoint of a run that verifies; -1 when none. *rejected: newer ones were refused. */
int64_t e2e_found(const char *run, bool *rejected);
/* Names below a folder that begin with ".tmp" or end in ".tmp" or ".old": what a killed or failed save may leave. */
int e2e_count_temporaries(const char *dir);
/* A number of runs/<run>/summary.json; NaN when missing. */
double e2e_summary(const char *run, const char *key);
/* Small repeatable numbers for choosing instants: 0 <= result < below. */
int64_t e2e_random(int64_t below);

#endif
