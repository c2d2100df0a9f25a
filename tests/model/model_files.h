/* model_files.h - model folders for tests: copies in a temporary folder that a test then damages, and a writer of safetensors. */
#ifndef LORAT_TESTS_MODEL_FILES_H
#define LORAT_TESTS_MODEL_FILES_H

#include <unistd.h>

#include "checkpoints/safetensors.h"
#include "tests/check.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

static char files_root[64]; /* a temporary folder of this process */

static inline void files_begin(void)
{
    snprintf(files_root, sizeof files_root, "/tmp/lorat-model-XXXXXX");
    CHECK(mkdtemp(files_root) != NULL);
}

static inline void files_end(void)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(files_root, &e), &e);
}

static inline void files_write(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[512];
    struct err e = {0};
    CHECK_OK(io_mkdirs(dir, &e), &e);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path); /* a new file, so that its inode and times differ */
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    if (f != NULL) {
        CHECK(fwrite(bytes, 1, n, f) == n);
        CHECK_INT(fclose(f), 0);
    }
}

static inline void files_write_text(const char *dir, const char *name, const char *text)
{
    files_write(dir, name, text, strlen(text));
}

static inline char *files_read(const char *dir, const char *name, size_t *n)
{
    char path[512], *text = NULL;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(io_read_file(path, ERR_IO, 64 << 20, &text, n, &e), &e);
    return text;
}

/* The files of tests/golden/<model>, without its adapter, as <root>/<name>. Returns the path. */
static inline const char *files_copy(const char *model, const char *name)
{
    static char to[256];
    char from[256], **names = NULL, path[512];
    size_t n = 0;
    struct err e = {0};
    snprintf(from, sizeof from, "tests/golden/%s", model);
    snprintf(to, sizeof to, "%s/%s", files_root, name);
    CHECK_OK(io_remove_tree(to, &e), &e);
    CHECK_OK(io_list(from, &names, &n, &e), &e);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", from, names[i]);
        if (io_is_dir(path) || strncmp(names[i], "expected", 8) == 0)
            continue;
        size_t bytes;
        char *text = files_read(from, names[i], &bytes);
        files_write(to, names[i], text, bytes);
        mem_free(text);
    }
    io_list_free(names, n);
    return to;
}

/* Replace the first `from` in a file by `to`. */
static inline void files_edit(const char *dir, const char *name, const char *from, const char *to)
{
    size_t n;
    char *text = files_read(dir, name, &n), *at = memmem(text, n, from, strlen(from));
    struct buf b = {0};
    CHECK(at != NULL);
    if (at != NULL) {
        buf_add(&b, text, (size_t)(at - text));
        buf_puts(&b, to);
        buf_add(&b, at + strlen(from), n - (size_t)(at - text) - strlen(from));
        files_write(dir, name, b.data, b.n);
    }
    buf_free(&b);
    mem_free(text);
}

static inline void files_remove(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_INT(unlink(path), 0);
}

/* A safetensors file with the tensors of `l`, and one more when extra_name is not NULL (F32, rank 1 or 2, of zeros). */
static inline void files_write_safetensors(const char *dir, const char *name, const struct tensor_list *l, const char *extra_name,
                                           int extra_rank, const int64_t *extra_shape)
{
    struct tensor *t = mem_alloc(l->n + 1, sizeof *t);
    struct buf b = {0};
    struct err e = {0};
    size_t n = l->n;
    for (size_t i = 0; i < n; i++)
        t[i] = l->tensors[i];
    if (extra_name != NULL) {
        t[n] = (struct tensor){.name = (char *)extra_name, .type = TT_F32, .rank = extra_rank};
        memcpy(t[n].shape, extra_shape, (size_t)extra_rank * sizeof *extra_shape);
        t[n].bytes = (uint64_t)tensor_count(&t[n]) * 4;
        n++;
    }
    CHECK_OK(safetensors_header(t, n, &b, &e), &e);
    for (size_t i = 0; i < n; i++) {
        char *bytes = mem_alloc(t[i].bytes + 1, 1);
        if (i < l->n) {
            const struct tensor *from = &l->tensors[i];
            CHECK_OK(io_pread_all(l->files[from->file].fd, "a tensor", bytes, from->bytes, (int64_t)from->offset, &e), &e);
        }
        buf_add(&b, bytes, t[i].bytes);
        mem_free(bytes);
    }
    files_write(dir, name, b.data, b.n);
    buf_free(&b);
    mem_free(t);
}

#endif
