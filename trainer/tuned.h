/* tuned.h - runs/<name>/tuned.txt: which algorithm of a product library the run uses for each shape. `lorat tune` writes it,
 * training reads it. Another table may give other bits, so a run keeps the one it began with. */
#ifndef LORAT_TUNED_H
#define LORAT_TUNED_H

#include <stdbool.h>

#include "kernels/ops.h"

enum { TUNED_NAME = 40 };
/* What the backend has chosen into the run's folder, atomically. */
int tuned_save(struct ops *o, const char *run_dir, struct err *e);
/* The run's table into the backend, where there is one. One that does not fit (of another GPU or library version) is a warning,
 * and the library's own choice is used; with `resumed` it is ERR_STATE, because the bits of a run that began with it would
 * change. name: "tuned.txt 0123456789ab", with the beginning of its SHA-256, when a table is in use; else "". */
int tuned_use(struct ops *o, const char *run_dir, bool resumed, char name[TUNED_NAME], struct err *e);
/* Does the folder hold nothing of a run yet, but perhaps a table, or the lock of a process that was stopped before it had begun? */
bool tuned_alone(const char *run_dir);
/* The run's table as text (malloc'ed), NULL where there is none or it cannot be read; and back into another folder. */
char *tuned_keep(const char *run_dir);
int tuned_put_back(const char *run_dir, const char *text, struct err *e);

#endif
