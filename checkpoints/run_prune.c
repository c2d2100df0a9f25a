#include <errno.h>
#include <string.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

/* Is it one of ours: a real folder with a manifest in it? */
static int is_ours(const char *checkpoints, const struct run_entry *c, bool *out, struct err *e)
{
    struct stat st;
    char *path = run_text("%s/%s/%s", checkpoints, c->name, RUN_MANIFEST);
    if (path == NULL)
        return mem_fail(e, "a path", strlen(checkpoints));
    *out = c->folder && io->lstat(path, &st) == 0 && S_ISREG(st.st_mode);
    mem_free(path);
    return 0;
}

static int verifies(const char *checkpoints, const struct run_entry *c, bool *out, struct err *e)
{
    struct err why;
    char *path = run_text("%s/%s", checkpoints, c->name);
    if (path == NULL)
        return mem_fail(e, "a path", strlen(checkpoints));
    *out = run_verify_step(path, c->step, &why) == 0;
    mem_free(path);
    if (!*out && run_is_unclear(&why)) {
        if (e != NULL)
            *e = why;
        return -1;
    }
    return 0;
}

/* The first `keep` from the newest verified one on stay, and everything newer than that: it is refused by run_find, and the run
 * will write these steps again. Hashing stops at the newest one that verifies, and is not done at all while nothing is to go. */
static int remove_old(const char *checkpoints, const struct run_entries *l, int keep, int64_t also_keep, struct err *e)
{
    size_t i = 0;
    bool good = false, ours;
    if (l->n <= 1)
        return 0;
    for (size_t n = 0, ours_n = 0;; n++) {
        if (n == l->n)
            return 0;
        TRY(is_ours(checkpoints, &l->v[n], &ours, e));
        ours_n += ours;
        if (ours_n > (size_t)keep || (ours && l->v[n].kind == RUN_NAME_OLD))
            break;
    }
    for (; i < l->n && !good; i++) {
        TRY(is_ours(checkpoints, &l->v[i], &ours, e));
        if (ours)
            TRY(verifies(checkpoints, &l->v[i], &good, e));
    }
    if (!good)
        return 0;
    int64_t last = l->v[i - 1].step; /* the step counted last */
    for (int kept = 1; i < l->n; i++) {
        const struct run_entry *c = &l->v[i];
        TRY(is_ours(checkpoints, c, &ours, e));
        if (!ours)
            continue;
        if (c->step == last) { /* displaced by one of the same step */
            TRY(run_drop(checkpoints, c->name, c->step, e));
            continue;
        }
        last = c->step;
        if (kept < keep)
            kept++;
        else if (c->step != also_keep)
            TRY(run_drop(checkpoints, c->name, c->step, e));
    }
    return 0;
}

int run_prune(const char *run_dir, int keep, int64_t also_keep, struct err *e)
{
    int rc = 0;
    struct stat st;
    struct run_entries l = {0};
    char *checkpoints = run_text("%s/checkpoints", run_dir);
    if (checkpoints == NULL)
        return mem_fail(e, "a path", strlen(run_dir));
    if (io->lstat(checkpoints, &st) != 0) {
        if (errno != ENOENT)
            rc = err_errno(e, ERR_IO, errno, "%s: cannot be examined", checkpoints);
        goto done;
    }
    if (!S_ISDIR(st.st_mode)) {
        rc = err_set(e, ERR_STATE,
                     "%s: a link or a file, expected a folder: no old checkpoint is removed through it. Make the run's parent "
                     "folder the link",
                     checkpoints);
        goto done;
    }
    TRY_DONE(run_entries_list(checkpoints, &l, e));
    TRY_DONE(run_remove_temporaries(checkpoints, &l, e));
    TRY_DONE(remove_old(checkpoints, &l, keep < 1 ? 1 : keep, also_keep, e));
done:
    run_entries_free(&l);
    mem_free(checkpoints);
    return rc;
}
