#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum { STAGE = 4 << 20 }; /* bytes; small pieces (rows without their padding) are gathered to this much for one write */

struct writer {
    int fd;
    const char *path;
    struct hash *hash;
    char *stage; /* STAGE bytes, borrowed */
    size_t used;
    uint64_t total;
};

static int put(struct writer *w, const void *bytes, size_t n, struct err *e)
{
    hash_add(w->hash, bytes, n);
    w->total += n;
    return io_write_all(w->fd, w->path, bytes, n, e);
}

static int flush(struct writer *w, struct err *e)
{
    size_t n = w->used;
    w->used = 0;
    return n == 0 ? 0 : put(w, w->stage, n, e);
}

static int add(struct writer *w, const char *bytes, size_t n, struct err *e)
{
    while (n > 0) {
        size_t room = STAGE - w->used, part = n < room ? n : room;
        if (w->used == 0 && n >= STAGE) {
            TRY(put(w, bytes, part, e));
        } else {
            memcpy(w->stage + w->used, bytes, part);
            w->used += part;
            if (w->used == STAGE)
                TRY(flush(w, e));
        }
        bytes += part;
        n -= part;
    }
    return 0;
}

static int open_new(const char *path, int *fd, struct err *e)
{
    do
        *fd = io->open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    while (*fd < 0 && errno == EINTR);
    return *fd < 0 ? err_errno(e, ERR_IO, errno, "%s: cannot be created", path) : 0;
}

/* Write one file and bring it to the disk. An fsync that failed is not repeated: the kernel may have dropped the pages it could
 * not write, and a second fsync would then report success for data that is gone. */
static int write_file(const char *dir, const struct run_file *f, char *stage, struct run_sum *sum, struct err *e)
{
    int rc = 0;
    struct writer w = {.fd = -1, .stage = stage, .hash = hash_new()};
    char *path = run_text("%s/%s", dir, f->name);
    if (path == NULL || w.hash == NULL) {
        rc = mem_fail(e, "a checkpoint file", strlen(dir));
        goto done;
    }
    w.path = path;
    TRY_DONE(open_new(path, &w.fd, e));
    for (size_t i = 0; i < f->n_pieces; i++)
        TRY_DONE(add(&w, f->pieces[i].bytes, f->pieces[i].n, e));
    TRY_DONE(flush(&w, e));
    if (io->fsync(w.fd) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: fsync failed", path);
        goto done;
    }
    int closed = io->close(w.fd);
    w.fd = -1;
    if (closed != 0 && errno != EINTR) { /* EINTR: the descriptor is gone and the data is already on the disk */
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be closed", path);
        goto done;
    }
    sum->name = f->name;
    sum->bytes = w.total;
    hash_finish(w.hash, sum->hash);
    w.hash = NULL;
done:
    if (w.fd >= 0)
        io->close(w.fd);
    hash_abandon(w.hash);
    mem_free(path);
    return rc;
}

/* All files, then the manifest, then the folder itself. */
static int write_folder(const char *dir, int64_t step, const struct run_file *files, size_t n, struct err *e)
{
    int rc = 0;
    struct buf text = {0};
    char *stage = mem_alloc(STAGE, 1);
    struct run_sum own, *sums = mem_alloc(n + 1, sizeof *sums);
    if (stage == NULL || sums == NULL) {
        rc = mem_fail(e, "saving a checkpoint", STAGE);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        TRY_DONE(write_file(dir, &files[i], stage, &sums[i], e));
    TRY_DONE(run_manifest_write(step, sums, n, &text, e));
    struct run_piece piece = {text.data, text.n};
    struct run_file manifest = {RUN_MANIFEST, &piece, 1};
    TRY_DONE(write_file(dir, &manifest, stage, &own, e));
    TRY_DONE(io_fsync_dir(dir, e));
done:
    buf_free(&text);
    mem_free(sums);
    mem_free(stage);
    return rc;
}

/* Both step-N and step-N.old are there: an earlier replacement was cut off before its end. One that verifies stays. */
static int settle_old(const char *checkpoints, const char *final, const char *old, int64_t step, bool *there, struct err *e)
{
    struct err why = {0}, old_why = {0};
    bool good = run_verify_step(final, step, &why) == 0;
    bool old_good = !good && run_verify_step(old, step, &old_why) == 0;
    const struct err *unclear = run_is_unclear(&why) ? &why : run_is_unclear(&old_why) ? &old_why : NULL;
    if (unclear != NULL)
        return err_set(e, unclear->code, "%s", unclear->text);
    *there = !old_good;
    return run_drop(checkpoints, strrchr(old_good ? final : old, '/') + 1, step, e);
}

/* Give the finished temporary its name. A checkpoint of the same step is moved to step-N.old first: it may be the newest one that
 * verifies, and run_find looks there too, so that no moment is without one of the two. */
static int place(const char *checkpoints, const char *tmp, int64_t step, struct err *e)
{
    int rc = 0;
    struct stat st;
    char name[48], old_name[48];
    snprintf(name, sizeof name, "step-%08" PRId64, step);
    snprintf(old_name, sizeof old_name, "step-%08" PRId64 ".old", step);
    char *final = run_text("%s/%s", checkpoints, name), *old = run_text("%s/%s", checkpoints, old_name);
    if (final == NULL || old == NULL) {
        rc = mem_fail(e, "a path", strlen(checkpoints));
        goto done;
    }
    bool there = io->lstat(final, &st) == 0;
    if (!there && errno != ENOENT) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be examined", final);
        goto done;
    }
    if (there && !S_ISDIR(st.st_mode)) {
        rc = err_set(e, ERR_STATE, "%s: found something else, expected a checkpoint folder or nothing. Move it away", final);
        goto done;
    }
    if (there && io->lstat(old, &st) == 0)
        TRY_DONE(settle_old(checkpoints, final, old, step, &there, e));
    if (there && io->rename(final, old) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be renamed to %s", final, old_name);
        goto done;
    }
    if (io->rename(tmp, final) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be renamed to %s", tmp, name);
        if (there)
            io->rename(old, final);
        goto done;
    }
    TRY_DONE(io_fsync_dir(checkpoints, e));
    /* The new one is on the disk; what can fail from here on leaves rubbish that run_prune takes away. */
    if (io->lstat(old, &st) == 0 && S_ISDIR(st.st_mode))
        run_drop(checkpoints, old_name, step, NULL);
done:
    mem_free(final);
    mem_free(old);
    return rc;
}

static int check_names(const struct run_file *files, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (!run_name_is_plain(files[i].name) || strcmp(files[i].name, RUN_MANIFEST) == 0)
            FAIL(e, ERR_INTERNAL, "found the file name \"%.300s\", expected a plain one other than %s. Report this",
                 files[i].name, RUN_MANIFEST);
        for (size_t j = 0; j < i; j++)
            if (strcmp(files[i].name, files[j].name) == 0)
                FAIL(e, ERR_INTERNAL, "found the file name %s twice, expected each once. Report this", files[i].name);
    }
    return 0;
}

static int save(const char *run_dir, int64_t step, const struct run_file *files, size_t n, struct err *e)
{
    int rc = 0;
    struct run_entries l = {0};
    char *checkpoints = run_text("%s/checkpoints", run_dir);
    char *tmp = run_text("%s/checkpoints/.tmp-step-%08" PRId64 "-%ld", run_dir, step, (long)getpid());
    if (checkpoints == NULL || tmp == NULL) {
        rc = mem_fail(e, "a path", strlen(run_dir));
        goto done;
    }
    /* The folders on the way are synced each time: a killed process may have made them without. */
    TRY_DONE(io_mkdirs(checkpoints, e));
    TRY_DONE(run_fsync_parent(run_dir, e));
    TRY_DONE(io_fsync_dir(run_dir, e));
    /* What killed saves left takes the room that this one may need; one may even have our process id. */
    TRY_DONE(run_entries_list(checkpoints, &l, e));
    TRY_DONE(run_remove_temporaries(checkpoints, &l, e));
    if (io->mkdir(tmp, 0755) != 0) {
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be created", tmp);
        goto done;
    }
    rc = write_folder(tmp, step, files, n, e);
    if (rc == 0)
        rc = place(checkpoints, tmp, step, e);
    if (rc != 0)
        io_remove_tree(tmp, NULL);
done:
    run_entries_free(&l);
    mem_free(tmp);
    mem_free(checkpoints);
    return rc;
}

int run_save(const char *run_dir, int64_t step, const struct run_file *files, size_t n, struct err *e)
{
    int rc = step < 0 ? err_set(e, ERR_INTERNAL, "found step %" PRId64 ", expected one from 0 on. Report this", step)
                      : check_names(files, n, e);
    if (rc == 0)
        rc = save(run_dir, step, files, n, e);
    return rc == 0 ? 0 : err_prefix(e, "%s: the checkpoint of step %" PRId64 " is not saved", run_dir, step);
}
