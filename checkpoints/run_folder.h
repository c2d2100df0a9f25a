/* run_folder.h - inside of run_*.c: the names in runs/<name>/checkpoints/, the manifest, and how a folder leaves it.
 *
 *   step-00000010               a checkpoint
 *   step-00000010.old           the one that a newer save of the same step displaced; it goes when the newer one is on the disk
 *   .tmp-step-00000010-<pid>    a save under way, or what a kill left of it
 *   .tmp-drop-00000010-<pid>    a removal under way, or what a kill left of it
 *   anything else               not lorat's: never read, never touched */
#ifndef LORAT_RUN_FOLDER_H
#define LORAT_RUN_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

#define RUN_MANIFEST "manifest.json"
enum { RUN_MANIFEST_VERSION = 1, RUN_MANIFEST_MAX = 1 << 20 /* bytes */, RUN_FILE_NAME_MAX = 255 };

enum run_name_kind { RUN_NAME_FOREIGN, RUN_NAME_STEP, RUN_NAME_OLD, RUN_NAME_TEMPORARY };
/* Pure. *step is set for RUN_NAME_STEP and RUN_NAME_OLD; may be NULL. */
enum run_name_kind run_name_parse(const char *name, int64_t *step);
/* A plain file name: not empty, no slash, no control character, no leading dot, at most RUN_FILE_NAME_MAX bytes. */
bool run_name_is_plain(const char *name);
/* Allocated text; NULL when out of memory. Free with mem_free. */
char *run_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A checkpoint (or a displaced one) of a run, newest first in a list; at the same step the current one before the displaced one.
 */
struct run_entry {
    int64_t step;
    enum run_name_kind kind;
    char *name;
    bool folder; /* a real folder; links and files under a checkpoint's name are listed, so that they can be spoken of */
};
struct run_entries {
    struct run_entry *v;
    size_t n;
    char **names; /* the whole folder, sorted */
    size_t n_names;
};
/* What lies in `dir`; a missing folder is empty. */
int run_entries_list(const char *dir, struct run_entries *out, struct err *e);
void run_entries_free(struct run_entries *l);

/* Remove the temporaries in the list. Nobody else can be at work on one: a run has one process. */
int run_remove_temporaries(const char *checkpoints, const struct run_entries *l, struct err *e);
/* Take a checkpoint folder away: a temporary name first (on the disk before anything below it goes), so that no half folder ever
 * has a checkpoint's name. */
int run_drop(const char *checkpoints, const char *name, int64_t step, struct err *e);
int run_fsync_parent(const char *path, struct err *e);

struct run_sum {
    const char *name;
    uint64_t bytes;
    uint8_t hash[32];
};
/* The manifest's text, appended to b. */
int run_manifest_write(int64_t step, const struct run_sum *files, size_t n, struct buf *b, struct err *e);
typedef int run_manifest_want(void *arg, const char *name, uint64_t size, const uint8_t hash[32], struct err *e);
/* run_manifest_parse that also tells the step. */
int run_manifest_read(const char *bytes, size_t n, const char *where, int64_t *step, run_manifest_want *want, void *arg,
                      struct err *e);
/* As run_verify, but messages begin with the file's name, and the manifest must be of `step` (-1 = any). ERR_STATE or ERR_IO:
 * the folder is no good; any other code: it could not be judged. */
int run_verify_step(const char *dir, int64_t step, struct err *e);
/* Was it such another code, no memory say? Then nothing may be concluded, least of all removed. */
bool run_is_unclear(const struct err *why);

#endif
