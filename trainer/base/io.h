/* io.h - every file-system call of lorat's own goes through `io`, so that tests can fail the N-th one or lose unsynced writes.
 * (HDF5 opens its files itself; a dataset is written beside its final name, sealed, synced and renamed through this table.) */
#ifndef LORAT_IO_H
#define LORAT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "trainer/base/err.h"

/* The calls, with the signatures and errno of their libc namesakes. */
struct io_table {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*pread)(int fd, void *buf, size_t n, off_t at);
    ssize_t (*read)(int fd, void *buf, size_t n);
    ssize_t (*write)(int fd, const void *buf, size_t n);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*mkdir)(const char *path, mode_t mode);
    int (*unlink)(const char *path);
    int (*rmdir)(const char *path);
    int (*stat)(const char *path, struct stat *st);
    int (*lstat)(const char *path, struct stat *st);
    int (*fstat)(int fd, struct stat *st);
    int (*ftruncate)(int fd, off_t size);
};
extern const struct io_table io_libc;
extern const struct io_table *io; /* = &io_libc; only tests point it elsewhere */

/* Open a regular file for reading (O_CLOEXEC). A missing path, a folder, a FIFO, an unreadable file each get their own sentence
 * with `code` as exit code. *size_out may be NULL. */
int io_open_regular(const char *path, enum err_code code, int *fd_out, int64_t *size_out, struct err *e);
/* Read exactly n bytes at `at`, through EINTR and short reads; path is for the message. */
int io_pread_all(int fd, const char *path, void *buf, size_t n, int64_t at, struct err *e);
/* Whole file into a malloc'ed buffer (NUL-terminated behind the last byte); refuses more than max_bytes. Caller frees. */
int io_read_file(const char *path, enum err_code code, size_t max_bytes, char **out, size_t *n_out, struct err *e);
/* Write all, through EINTR and short writes. */
int io_write_all(int fd, const char *path, const void *buf, size_t n, struct err *e);
/* Replace `path` with these bytes so that a reader sees the old or the new file, whole: temporary beside it, write, fsync,
 * rename, fsync folder. Nothing is left behind on failure. */
int io_write_file_atomic(const char *path, const void *buf, size_t n, struct err *e);
int io_fsync_dir(const char *dir, struct err *e);
/* mkdir -p; an existing folder is fine, an existing file is an error. */
int io_mkdirs(const char *path, struct err *e);
/* Remove a folder and all below it, never following a symbolic link out of it. Missing is fine. */
int io_remove_tree(const char *path, struct err *e);
bool io_exists(const char *path);
bool io_is_dir(const char *path);
/* Names in a folder without "." and "..", sorted by strcmp; free with io_list_free. */
int io_list(const char *dir, char ***names_out, size_t *n_out, struct err *e);
void io_list_free(char **names, size_t n);
/* "~" and "~/x" expanded by $HOME; malloc'ed. NULL only when out of memory. */
char *io_expand_home(const char *path);

#endif
