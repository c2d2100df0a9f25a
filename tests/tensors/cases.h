/* cases.h - bad files, each with the part of the message it must get. A program with the arguments "--write FOLDER" writes its
 * cases as files instead of testing: that is where the fuzzers' corpora come from. */
#ifndef LORAT_TESTS_CASES_H
#define LORAT_TESTS_CASES_H

#include "tests/check.h"
#include "tests/fuzz/memory_file.h"
#include "trainer/base/buf.h"

static const char *cases_folder;

static inline void cases_init(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        cases_folder = argv[2];
}
/* Write the case when that is asked for; true = done with it. */
static inline int cases_written(const char *name, const struct buf *b)
{
    char path[4096];
    if (cases_folder == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%s", cases_folder, name);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL && fwrite(b->data, 1, b->n, f) == b->n);
    CHECK(f != NULL && fclose(f) == 0);
    return 1;
}

static inline void put_u32(struct buf *b, uint32_t v) { buf_add(b, &v, 4); }
static inline void put_u64(struct buf *b, uint64_t v) { buf_add(b, &v, 8); }
static inline void put_zeros(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_add(b, "", 1);
}

#endif
