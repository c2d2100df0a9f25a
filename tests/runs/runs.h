/* runs.h - checkpoints whose every byte is a function of (step, salt), so that a reader can tell a mixed one. */
#ifndef LORAT_TESTS_RUNS_H
#define LORAT_TESTS_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

/* A new empty folder under $TMPDIR, /dev/shm or /tmp; removed by runs_remove. */
char *runs_folder(void);
void runs_remove(char *folder);
/* Save state.json (holds the salt), weights.bin (several pieces) and empty.bin. */
int runs_save(const char *run, int64_t step, int salt, struct err *e);
/* run_find, then every byte is compared. Returns the step (-1 = none) and its salt; *rejected (may be NULL) is malloc'ed. */
int64_t runs_load(const char *run, int *salt, char **rejected);
/* How many names in <run>/checkpoints are of a kind: "step-", ".tmp-", ".old" behind. */
int runs_count_steps(const char *run);
int runs_count_temporaries(const char *run);
int runs_count_old(const char *run);
void runs_write(const char *path, const void *bytes, size_t n);
/* Text made by printf in one of eight rotating buffers. */
const char *runs_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
