#include "checkpoints/run_folder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

char *run_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : mem_alloc((size_t)n + 1, 1);
    if (text == NULL)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

/* "-1234" behind a temporary's step: the process that made it. */
static bool is_pid_tail(const char *s) { return s[0] == '-' && s[1] != 0 && strspn(s + 1, "0123456789") == strlen(s + 1); }

enum run_name_kind run_name_parse(const char *name, int64_t *step)
{
    static const char *const heads[] = {"step-", ".tmp-step-", ".tmp-drop-"};
    for (int i = 0; i < 3; i++) {
        size_t head = strlen(heads[i]);
        if (strncmp(name, heads[i], head) != 0)
            continue;
        size_t n = strspn(name + head, "0123456789");
        char digits[24], again[24];
        int64_t found;
        if (n < 8 || n >= sizeof digits)
            return RUN_NAME_FOREIGN;
        memcpy(digits, name + head, n);
        digits[n] = 0;
        if (!num_parse_i64(digits, &found))
            return RUN_NAME_FOREIGN;
        snprintf(again, sizeof again, "%08" PRId64, found);
        if (strcmp(digits, again) != 0)
            return RUN_NAME_FOREIGN;
        const char *tail = name + head + n;
        if (i > 0)
            return is_pid_tail(tail) ? RUN_NAME_TEMPORARY : RUN_NAME_FOREIGN;
        if (step != NULL)
            *step = found;
        return *tail == 0 ? RUN_NAME_STEP : strcmp(tail, ".old") == 0 ? RUN_NAME_OLD : RUN_NAME_FOREIGN;
    }
    return RUN_NAME_FOREIGN;
}

bool run_name_is_plain(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > RUN_FILE_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] == '/' || (unsigned char)name[i] < 32 || name[i] == 127)
            return false;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct run_entry *x = a, *y = b;
    if (x->step != y->step)
        return x->step > y->step ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

void run_entries_free(struct run_entries *l)
{
    mem_free(l->v);
    io_list_free(l->names, l->n_names);
    memset(l, 0, sizeof *l);
}

int run_entries_list(const char *dir, struct run_entries *out, struct err *e)
{
    struct stat st;
    memset(out, 0, sizeof *out);
    if (io->stat(dir, &st) !=
        0) /* only a folder that is certainly missing is empty: a run that cannot be read is not a new run */
        return errno == ENOENT ? 0 : err_errno(e, ERR_IO, errno, "%s: cannot be examined", dir);
    TRY(io_list(dir, &out->names, &out->n_names, e));
    out->v = mem_alloc(out->n_names + 1, sizeof *out->v);
    if (out->v == NULL) {
        mem_fail(e, "the list of checkpoints", (out->n_names + 1) * sizeof *out->v);
        run_entries_free(out);
        return -1;
    }
    for (size_t i = 0; i < out->n_names; i++) {
        struct run_entry c = {.name = out->names[i]};
        c.kind = run_name_parse(c.name, &c.step);
        if (c.kind != RUN_NAME_STEP && c.kind != RUN_NAME_OLD)
            continue;
        char *path = run_text("%s/%s", dir, c.name);
        if (path == NULL) {
            run_entries_free(out);
            return mem_fail(e, "a path", strlen(dir));
        }
        int found = io->lstat(path, &st), saved = errno;
        if (found != 0 && saved != ENOENT) {
            err_errno(e, ERR_IO, saved, "%s: cannot be examined", path);
            mem_free(path);
            run_entries_free(out);
            return -1;
        }
        c.folder = found == 0 && S_ISDIR(st.st_mode);
        mem_free(path);
        out->v[out->n++] = c;
    }
    qsort(out->v, out->n, sizeof *out->v, newest_first);
    return 0;
}

int run_remove_temporaries(const char *checkpoints, const struct run_entries *l, struct err *e)
{
    for (size_t i = 0; i < l->n_names; i++) {
        struct stat st;
        if (run_name_parse(l->names[i], NULL) != RUN_NAME_TEMPORARY)
            continue;
        char *path = run_text("%s/%s", checkpoints, l->names[i]);
        if (path == NULL)
            return mem_fail(e, "a path", strlen(checkpoints));
        int rc = io->lstat(path, &st) == 0 && S_ISDIR(st.st_mode) ? io_remove_tree(path, e) : 0;
        mem_free(path);
        TRY(rc);
    }
    return 0;
}

int run_fsync_parent(const char *path, struct err *e)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *parent = n == 0 ? run_text(".") : run_text("%.*s", (int)n, path);
    if (parent == NULL)
        return mem_fail(e, "a path", n);
    int rc = io_fsync_dir(parent, e);
    mem_free(parent);
    return rc;
}

int run_drop(const char *checkpoints, const char *name, int64_t step, struct err *e)
{
    int rc = 0;
    char *from = run_text("%s/%s", checkpoints, name);
    char *to = run_text("%s/.tmp-drop-%08" PRId64 "-%ld", checkpoints, step, (long)getpid());
    if (from == NULL || to == NULL) {
        rc = mem_fail(e, "a path", strlen(checkpoints));
        goto done;
    }
    TRY_DONE(io_remove_tree(to, e)); /* of a killed process that had the same id */
    if (io->rename(from, to) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be renamed for its removal", from);
        goto done;
    }
    TRY_DONE(io_fsync_dir(checkpoints, e));
    TRY_DONE(io_remove_tree(to, e));
done:
    mem_free(from);
    mem_free(to);
    return rc;
}

int run_move_aside(const char *run_dir, char **moved_to, struct err *e)
{
    *moved_to = NULL;
    int n = (int)strlen(run_dir);
    while (n > 1 && run_dir[n - 1] == '/')
        n--;
    struct stat st;
    struct run_lock *lock = NULL;
    char *from = run_text("%.*s", n, run_dir);
    if (from == NULL)
        return mem_fail(e, "a path", (size_t)n);
    int rc = 0;
    char *to = NULL;
    if (io->lstat(from, &st) != 0) {
        if (errno != ENOENT)
            rc = err_errno(e, ERR_IO, errno, "%s: cannot be examined", from);
        goto done;
    }
    /* A process that still works on the run would go on writing under the name that the new run is about to take. */
    TRY_DONE(run_lock_take(from, &lock, e));
    for (int i = 1; i < 1000000; i++) {
        mem_free(to);
        to = run_text("%s.old-%d", from, i);
        if (to == NULL) {
            rc = mem_fail(e, "a path", (size_t)n);
            goto done;
        }
        if (io->lstat(to, &st) != 0 && errno == ENOENT)
            break;
    }
    if (io->rename(from, to) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be renamed to %s", from, to);
        goto done;
    }
    rc = run_fsync_parent(from, e);
    if (rc != 0) {
        err_prefix(e, "%s: renamed to %s, but not yet on the disk", from, to);
        goto done;
    }
    *moved_to = to;
    to = NULL;
done:
    run_lock_drop(lock);
    mem_free(to);
    mem_free(from);
    return rc;
}
