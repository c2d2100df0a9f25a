#include "trainer/tuned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"

#define TUNED_FILE "tuned.txt"
enum { PATH_BYTES = 256, MOST_BYTES = 4 << 20 };

static const char *path_of(const char *run_dir, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/" TUNED_FILE, run_dir);
    return path;
}

int tuned_save(struct ops *o, const char *run_dir, struct err *e)
{
    char path[PATH_BYTES];
    struct buf text = {0};
    int rc = o->tuned(o, &text, e);
    if (rc == 0)
        rc = text.failed ? mem_fail(e, path_of(run_dir, path), text.n)
                         : io_write_file_atomic(path_of(run_dir, path), text.data, text.n, e);
    buf_free(&text);
    return rc;
}

static void name_of(const char *text, size_t n, char name[TUNED_NAME])
{
    uint8_t hash[HASH_BYTES];
    char hex[HASH_HEX];
    hash_bytes(text, n, hash);
    snprintf(name, TUNED_NAME, TUNED_FILE " %.12s", hash_hex(hash, hex));
}

int tuned_use(struct ops *o, const char *run_dir, bool resumed, char name[TUNED_NAME], struct err *e)
{
    char path[PATH_BYTES], *text = NULL;
    size_t n;
    struct err why = {0};
    name[0] = '\0';
    if (!io_exists(path_of(run_dir, path)))
        return 0;
    int rc = -1;
    if (o->set_tuned == NULL)
        err_set(&why, ERR_STATE, "made for a card, and this run is on %s", o->device);
    else if (io_read_file(path, ERR_STATE, MOST_BYTES, &text, &n, &why) == 0)
        rc = o->set_tuned(o, text, n, &why);
    if (rc == 0)
        name_of(text, n, name);
    free(text);
    if (rc == 0) {
        log_note("products  %s", path);
        return 0;
    }
    if (resumed)
        FAIL(e, ERR_STATE,
             "%s: %.600s, where this run began with a table: without it the run would go on with other bits. Remove the file to "
             "go on all the "
             "same, begin anew with --fresh, or, if another card made it, resume there",
             path, why.text);
    log_warn("%s: %s. The library's own choice of algorithms is used; remove the file, or run lorat tune before a run begins",
             path, why.text);
    return 0;
}

bool tuned_alone(const char *run_dir)
{
    char **names;
    size_t n, others = 0;
    if (!io_is_dir(run_dir) || io_list(run_dir, &names, &n, NULL) != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool temporary = names[i][0] == '.' && strstr(names[i], ".tmp-") != NULL; /* of a write that was killed */
        others += strcmp(names[i], TUNED_FILE) != 0 && strcmp(names[i], "lock") != 0 && !temporary;
    }
    io_list_free(names, n);
    return others == 0;
}

char *tuned_keep(const char *run_dir)
{
    char path[PATH_BYTES], *text = NULL;
    size_t n;
    struct err ignored;
    if (!io_exists(path_of(run_dir, path)) || io_read_file(path, ERR_STATE, MOST_BYTES, &text, &n, &ignored) != 0)
        return NULL;
    return text;
}

int tuned_put_back(const char *run_dir, const char *text, struct err *e)
{
    char path[PATH_BYTES];
    return io_write_file_atomic(path_of(run_dir, path), text, strlen(text), e);
}
