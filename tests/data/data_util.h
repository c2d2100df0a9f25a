/* data_util.h - a folder for a test's files, inputs of made-up documents, a dataset built from them. */
#ifndef LORAT_DATA_UTIL_H
#define LORAT_DATA_UTIL_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datasets/dataset.h"
#include "tests/check.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"

static char util_dir[64];

/* A fresh folder below /tmp; util_end removes it. */
static inline const char *util_begin(void)
{
    snprintf(util_dir, sizeof util_dir, "/tmp/lorat-data-XXXXXX");
    if (mkdtemp(util_dir) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
    return util_dir;
}
static inline int util_end(void)
{
    io_remove_tree(util_dir, NULL);
    return check_done();
}
static inline const char *util_path(const char *name)
{
    static char path[4096][128]; /* enough for a test to keep what it got */
    static int turn;
    turn = (turn + 1) % 4096;
    snprintf(path[turn], sizeof path[turn], "%s/%s", util_dir, name);
    return path[turn];
}
static inline void util_write(const char *path, const void *bytes, size_t n)
{
    struct err e = {0};
    CHECK_OK(io_write_file_atomic(path, bytes, n, &e), &e);
}
static inline void util_text(const char *path, const char *text) { util_write(path, text, strlen(text)); }

/* The made-up data: document d of length n holds tokens (d * 37 + i * 11) % 997; weight 0 where (d + i) % 3 == 0 when masked. */
static inline int32_t util_token(int64_t d, int64_t i) { return (int32_t)((d * 37 + i * 11) % 997); }
static inline float util_weight(int64_t d, int64_t i, bool masked) { return masked && (d + i) % 3 == 0 ? 0.0f : 1.0f; }
static inline void util_add_document(struct buf *b, int64_t d, int64_t n, bool masked)
{
    buf_puts(b, "{\"tokens\":[");
    for (int64_t i = 0; i < n; i++)
        buf_printf(b, "%s%d", i ? "," : "", util_token(d, i));
    buf_puts(b, "],\"loss\":[");
    for (int64_t i = 0; i < n; i++)
        buf_printf(b, "%s%g", i ? "," : "", (double)util_weight(d, i, masked));
    buf_puts(b, "]}\n");
}
/* A dataset of documents with these lengths. */
static inline void util_dataset(const char *path, const int32_t *lengths, int64_t n, bool masked)
{
    struct buf b = {0};
    struct err e = {0};
    struct dataset_facts facts;
    const char *input = util_path("util.jsonl");
    for (int64_t d = 0; d < n; d++)
        util_add_document(&b, d, lengths[d], masked);
    util_write(input, b.data, b.n);
    buf_free(&b);
    struct build_options o = {.inputs = &input, .n_inputs = 1, .output = path, .eos = -1, .vocab = 997, .replace = true};
    CHECK_OK(dataset_build(&o, &facts, &e), &e);
}

#endif
