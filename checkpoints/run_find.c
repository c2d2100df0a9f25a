#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

static int verify_file(void *arg, const char *name, uint64_t size, const uint8_t hash[32], struct err *e)
{
    const char *dir = arg;
    int fd = -1, rc = 0;
    int64_t found = 0;
    uint8_t is[HASH_BYTES];
    char *path = run_text("%s/%s", dir, name);
    if (path == NULL)
        return mem_fail(e, "a path", strlen(dir));
    TRY_DONE(io_open_regular(path, ERR_STATE, &fd, &found, e));
    if ((uint64_t)found != size) {
        rc = err_set(e, ERR_STATE, "%s: found %" PRId64 " bytes, expected %" PRIu64, name, found, size);
        goto done;
    }
    TRY_DONE(hash_file(fd, path, 0, found, is, e));
    if (memcmp(is, hash, HASH_BYTES) != 0)
        rc = err_set(e, ERR_STATE, "%s: SHA-256 differs from the manifest's", name);
done:
    if (fd >= 0)
        io->close(fd);
    mem_free(path);
    return rc;
}

int run_verify_step(const char *dir, int64_t step, struct err *e)
{
    int rc = 0;
    char *text = NULL, *path = run_text("%s/%s", dir, RUN_MANIFEST);
    size_t n = 0;
    int64_t found = -1;
    if (path == NULL)
        return mem_fail(e, "a path", strlen(dir));
    TRY_DONE(io_read_file(path, ERR_STATE, RUN_MANIFEST_MAX, &text, &n, e));
    TRY_DONE(run_manifest_read(text, n, RUN_MANIFEST, &found, verify_file, (void *)dir, e));
    if (step >= 0 && found != step)
        rc = err_set(e, ERR_STATE, "%s: step: found %" PRId64 ", expected %" PRId64 " as in the folder's name", RUN_MANIFEST,
                     found, step);
done:
    mem_free(text);
    mem_free(path);
    return rc;
}

bool run_is_unclear(const struct err *why) { return why->code != ERR_OK && why->code != ERR_STATE && why->code != ERR_IO; }

int run_verify(const char *checkpoint_dir, struct err *e)
{
    int64_t step = -1;
    const char *slash = strrchr(checkpoint_dir, '/');
    enum run_name_kind kind = run_name_parse(slash != NULL ? slash + 1 : checkpoint_dir, &step);
    if (run_verify_step(checkpoint_dir, kind == RUN_NAME_FOREIGN || kind == RUN_NAME_TEMPORARY ? -1 : step, e) != 0)
        return err_prefix(e, "%s", checkpoint_dir);
    return 0;
}

void run_found_free(struct run_found *f)
{
    mem_free(f->dir);
    mem_free(f->rejected);
    *f = (struct run_found){.step = -1};
}

/* 1: it verifies; 0: refused, a line in `said`; -1: could not be judged. */
static int judge(const char *checkpoints, const struct run_entry *c, char **dir, struct buf *said, struct err *e)
{
    struct err why;
    const char *line = said->n > 0 ? "\n" : "";
    if (!c->folder) {
        buf_printf(said, "%s%s: not a folder", line, c->name);
        return 0;
    }
    *dir = run_text("%s/%s", checkpoints, c->name);
    if (*dir == NULL)
        return mem_fail(e, "a path", strlen(checkpoints));
    if (run_verify_step(*dir, c->step, &why) == 0)
        return 1;
    mem_free(*dir);
    *dir = NULL;
    if (run_is_unclear(&why)) {
        if (e != NULL)
            *e = why;
        return -1;
    }
    buf_printf(said, "%s%s: %s", line, c->name, why.text);
    return 0;
}

int run_find(const char *run_dir, struct run_found *out, struct err *e)
{
    *out = (struct run_found){.step = -1};
    int rc = 0;
    struct buf said = {0};
    struct run_entries l = {0};
    char *checkpoints = run_text("%s/checkpoints", run_dir);
    if (checkpoints == NULL)
        return mem_fail(e, "a path", strlen(run_dir));
    TRY_DONE(run_entries_list(checkpoints, &l, e));
    int good = 0;
    for (size_t i = 0; i < l.n && good == 0; i++) {
        good = judge(checkpoints, &l.v[i], &out->dir, &said, e);
        if (good > 0)
            out->step = l.v[i].step;
    }
    if (good < 0)
        rc = -1;
    else if (said.failed)
        rc = mem_fail(e, "the list of refused checkpoints", said.n);
    else if (said.n > 0 && (out->rejected = mem_strdup(said.data)) == NULL)
        rc = mem_fail(e, "the list of refused checkpoints", said.n);
done:
    buf_free(&said);
    run_entries_free(&l);
    mem_free(checkpoints);
    if (rc != 0)
        run_found_free(out);
    return rc;
}
