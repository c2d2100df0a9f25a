/* memory_file.h - a table for trainer/base/io.h under which every path is one read-only file held in memory. */
#ifndef LORAT_TESTS_MEMORY_FILE_H
#define LORAT_TESTS_MEMORY_FILE_H

#include <errno.h>
#include <string.h>

#include "trainer/base/io.h"

static struct {
    const char *bytes;
    size_t n;
} memory_file;

static int memory_open(const char *path, int flags, mode_t mode) { return 1000; }
static ssize_t memory_pread(int fd, void *buf, size_t n, off_t at)
{
    if (at < 0 || (size_t)at >= memory_file.n)
        return 0;
    size_t left = memory_file.n - (size_t)at;
    n = n < left ? n : left;
    memcpy(buf, memory_file.bytes + at, n);
    return (ssize_t)n;
}
static int memory_close(int fd) { return 0; }
static int memory_fstat(int fd, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG | 0444;
    st->st_size = (off_t)memory_file.n;
    return 0;
}
static int memory_stat(const char *path, struct stat *st) { return memory_fstat(0, st); }

static const struct io_table memory_table = {
    .open = memory_open,
    .pread = memory_pread,
    .close = memory_close,
    .fstat = memory_fstat,
    .stat = memory_stat,
    .lstat = memory_stat,
};
/* From here on `io` reads these bytes, which are borrowed; io = &io_libc ends it. */
static inline void memory_file_is(const void *bytes, size_t n)
{
    memory_file.bytes = bytes;
    memory_file.n = n;
    io = &memory_table;
}

#endif
