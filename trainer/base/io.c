#include "trainer/base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/base/buf.h"
#include "trainer/base/mem.h"

static int libc_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static int libc_stat(const char *path, struct stat *st) { return stat(path, st); }
static int libc_lstat(const char *path, struct stat *st) { return lstat(path, st); }
static int libc_fstat(int fd, struct stat *st) { return fstat(fd, st); }

const struct io_table io_libc = {
    .open = libc_open,
    .pread = pread,
    .read = read,
    .write = write,
    .fsync = fsync,
    .close = close,
    .rename = rename,
    .mkdir = mkdir,
    .unlink = unlink,
    .rmdir = rmdir,
    .stat = libc_stat,
    .lstat = libc_lstat,
    .fstat = libc_fstat,
    .ftruncate = ftruncate,
};
const struct io_table *io = &io_libc;

static int open_again(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = io->open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int fsync_again(int fd)
{
    int rc;
    do
        rc = io->fsync(fd);
    while (rc != 0 && errno == EINTR);
    return rc;
}

/* Linux releases the descriptor even when close reports EINTR; asking again could close another thread's file. */
static int close_once(int fd) { return io->close(fd) != 0 && errno != EINTR ? -1 : 0; }

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISREG(mode)  ? "a file"
                            : "a device";
}

static int open_failed(const char *path, enum err_code code, int saved, struct err *e)
{
    struct stat st;
    if (path[0] == '\0')
        FAIL(e, code, "an empty path, expected the name of a file");
    if (saved == ENOENT && io->lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        FAIL(e, code, "%s: a symbolic link whose target is missing, expected a file. Restore the target or give its path", path);
    if (saved == ENOENT)
        FAIL(e, code, "%s: not found, expected a file. Check the path", path);
    if (saved == ENOTDIR)
        FAIL(e, code, "%s: a part of the path is not a folder, expected a file. Check the path", path);
    if (saved == EACCES || saved == EPERM)
        FAIL(e, code, "%s: no permission to read it, expected a readable file. Check its owner and mode", path);
    if (saved == ENXIO)
        FAIL(e, code, "%s: a socket or device, expected a regular file", path);
    return err_errno(e, code, saved, "%s: cannot be opened", path);
}

int io_open_regular(const char *path, enum err_code code, int *fd_out, int64_t *size_out, struct err *e)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO without a writer would block here for good. It means nothing for a regular file. */
    int fd = open_again(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    *fd_out = -1;
    if (fd < 0)
        return open_failed(path, code, errno, e);
    if (io->fstat(fd, &st) != 0) {
        err_errno(e, code, errno, "%s: cannot be examined", path);
        close_once(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        close_once(fd);
        FAIL(e, code, "%s: %s, expected a regular file. Give the path of a file", path, kind_of(st.st_mode));
    }
    *fd_out = fd;
    if (size_out != NULL)
        *size_out = st.st_size;
    return 0;
}

int io_pread_all(int fd, const char *path, void *buf, size_t n, int64_t at, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = io->pread(fd, (char *)buf + done, n - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, ERR_IO, errno, "%s: reading %zu bytes at %lld failed", path, n, (long long)at);
        if (got == 0)
            FAIL(e, ERR_IO, "%s: ends at byte %lld, expected %zu bytes at %lld. The file is cut short; fetch or build it again",
                 path, (long long)at + (long long)done, n, (long long)at);
        done += (size_t)got;
    }
    return 0;
}

int io_read_file(const char *path, enum err_code code, size_t max_bytes, char **out, size_t *n_out, struct err *e)
{
    int fd, rc = 0;
    int64_t size;
    char *data = NULL;
    size_t n = 0, cap;

    *out = NULL;
    TRY(io_open_regular(path, code, &fd, &size, e));
    if ((uint64_t)size > max_bytes)
        goto too_big;
    /* One byte more than stated, to see the end in the same call; files under /proc state 0 and are grown below. */
    cap = (size_t)size + 1;
    for (;;) {
        if (n == cap || data == NULL) {
            cap = data == NULL ? cap : cap * 2;
            char *grown = mem_realloc(data, cap + 1, 1);
            if (grown == NULL) {
                rc = mem_fail(e, path, cap + 1);
                goto done;
            }
            data = grown;
        }
        ssize_t got = io->read(fd, data + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rc = err_errno(e, ERR_IO, errno, "%s: reading failed at byte %zu", path, n);
            goto done;
        }
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > max_bytes)
            goto too_big;
    }
    data[n] = '\0';
    *out = data;
    *n_out = n;
    data = NULL;
    goto done;
too_big:
    rc = err_set(e, code, "%s: larger than %zu bytes, expected a smaller file of this kind. Check the path", path, max_bytes);
done:
    mem_free(data);
    close_once(fd);
    return rc;
}

int io_write_all(int fd, const char *path, const void *buf, size_t n, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = io->write(fd, (const char *)buf + done, n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_errno(e, ERR_IO, put == 0 ? ENOSPC : errno, "%s: writing failed", path);
        done += (size_t)put;
    }
    return 0;
}

int io_fsync_dir(const char *dir, struct err *e)
{
    int fd = open_again(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), rc = 0;
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "%s: the folder cannot be opened to sync it", dir);
    /* Some network and FUSE file systems cannot sync a folder and say so with EINVAL. */
    if (fsync_again(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        rc = err_errno(e, ERR_IO, errno, "%s: syncing the folder failed", dir);
    close_once(fd);
    return rc;
}

static int write_and_sync(const char *temporary, const char *path, const void *buf, size_t n, struct err *e)
{
    int fd = open_again(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "%s: cannot be written", path);
    int rc = io_write_all(fd, path, buf, n, e);
    if (rc == 0 && fsync_again(fd) != 0)
        rc = err_errno(e, ERR_IO, errno, "%s: syncing to disk failed", path);
    if (close_once(fd) != 0 && rc == 0)
        rc = err_errno(e, ERR_IO, errno, "%s: closing failed", path);
    if (rc == 0 && io->rename(temporary, path) != 0)
        rc = err_errno(e, ERR_IO, errno, "%s: replacing the file failed", path);
    if (rc != 0)
        io->unlink(temporary);
    return rc;
}

int io_write_file_atomic(const char *path, const void *buf, size_t n, struct err *e)
{
    struct buf dir = {0}, temporary = {0};
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    struct stat st;
    int rc = 0;

    if (name[0] == '\0')
        FAIL(e, ERR_IO, "\"%s\": no file name, expected the path of a file to write", path);
    /* The rename would put a file in the place of /dev/stdout. */
    if (io->stat(path, &st) != 0) {
        if (errno != ENOENT)
            return err_errno(e, ERR_IO, errno, "%s: cannot be written", path);
    } else if (!S_ISREG(st.st_mode))
        FAIL(e, ERR_IO, "%s: %s, expected a new name or a regular file to replace. Give the path of a file", path, kind_of(st.st_mode));
    buf_printf(&dir, "%.*s", (int)(name - path), path);
    buf_printf(&temporary, "%s.%s.tmp-%ld", dir.data == NULL ? "" : dir.data, name, (long)getpid());
    if (dir.n == 0)
        buf_puts(&dir, ".");
    if (dir.failed || temporary.failed)
        TRY_DONE(mem_fail(e, path, strlen(path)));
    TRY_DONE(write_and_sync(temporary.data, path, buf, n, e));
    TRY_DONE(io_fsync_dir(dir.data, e));
done:
    buf_free(&temporary);
    buf_free(&dir);
    return rc;
}

int io_mkdirs(const char *path, struct err *e)
{
    char *copy = mem_strdup(path), *end;
    int rc = 0, saved = 0;
    if (copy == NULL)
        return mem_fail(e, path, strlen(path));
    if (copy[0] == '\0')
        TRY_DONE(err_set(e, ERR_IO, "an empty path, expected the name of a folder"));
    for (end = copy + strspn(copy, "/"); rc == 0 && *end != '\0'; end += strspn(end, "/")) {
        end += strcspn(end, "/");
        char was = *end;
        *end = '\0';
        if (io->mkdir(copy, 0777) != 0) {
            saved = errno;
            struct stat st;
            /* What matters is that a folder stands there: mkdir may also say EACCES or EROFS of an existing parent. */
            bool there = io->stat(copy, &st) == 0;
            if (!there && io->lstat(copy, &st) == 0 && S_ISLNK(st.st_mode))
                rc = err_set(e, ERR_IO, "%s: a symbolic link whose target is missing, expected a folder. Restore the target or remove it",
                             copy);
            else if (!there)
                rc = err_errno(e, ERR_IO, saved, "%s: the folder cannot be made", copy);
            else if (!S_ISDIR(st.st_mode))
                rc = err_set(e, ERR_IO, "%s: %s, expected a folder. Remove it or choose another path", copy, kind_of(st.st_mode));
        }
        *end = was;
    }
done:
    mem_free(copy);
    return rc;
}

static int remove_below(struct buf *path, struct err *e)
{
    struct stat st;
    if (io->lstat(path->data, &st) != 0)
        return errno == ENOENT ? 0 : err_errno(e, ERR_IO, errno, "%s: cannot be examined", path->data);
    if (!S_ISDIR(st.st_mode)) {
        if (io->unlink(path->data) != 0 && errno != ENOENT)
            return err_errno(e, ERR_IO, errno, "%s: cannot be removed", path->data);
        return 0;
    }
    char **names;
    size_t n, length = path->n;
    int rc = io_list(path->data, &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        buf_printf(path, "/%s", names[i]);
        rc = path->failed ? mem_fail(e, "removing a folder", length) : remove_below(path, e);
        path->n = length;
        path->data[length] = '\0';
    }
    if (rc != 0)
        goto done;
    if (io->rmdir(path->data) != 0 && errno != ENOENT)
        rc = err_errno(e, ERR_IO, errno, "%s: cannot be removed", path->data);
done:
    io_list_free(names, n);
    return rc;
}

int io_remove_tree(const char *path, struct err *e)
{
    struct buf b = {0};
    buf_puts(&b, path);
    int rc = b.failed ? mem_fail(e, path, strlen(path)) : remove_below(&b, e);
    buf_free(&b);
    return rc;
}

bool io_exists(const char *path)
{
    struct stat st;
    return io->stat(path, &st) == 0;
}

bool io_is_dir(const char *path)
{
    struct stat st;
    return io->stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int io_list(const char *dir, char ***names_out, size_t *n_out, struct err *e)
{
    char **names = NULL;
    size_t n = 0, cap = 0;
    struct dirent *entry;
    *names_out = NULL;
    *n_out = 0;
    DIR *d = opendir(dir);
    if (d == NULL)
        return err_errno(e, ERR_IO, errno, "%s: the folder cannot be listed", dir);
    while (errno = 0, (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (n == cap) {
            char **grown = mem_realloc(names, cap = cap ? cap * 2 : 16, sizeof *names);
            if (grown == NULL)
                goto no_memory;
            names = grown;
        }
        if ((names[n] = mem_strdup(entry->d_name)) == NULL)
            goto no_memory;
        n++;
    }
    if (errno != 0) {
        err_errno(e, ERR_IO, errno, "%s: listing the folder failed", dir);
        goto failed;
    }
    closedir(d);
    if (n != 0)
        qsort(names, n, sizeof *names, by_name);
    *names_out = names;
    *n_out = n;
    return 0;
no_memory:
    mem_fail(e, dir, n * sizeof *names);
failed:
    closedir(d);
    io_list_free(names, n);
    return -1;
}

void io_list_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free(names[i]);
    mem_free(names);
}

char *io_expand_home(const char *path)
{
    const char *home = getenv("HOME");
    if (path[0] != '~' || (path[1] != '\0' && path[1] != '/') || home == NULL || home[0] == '\0')
        return mem_strdup(path);
    size_t n = strlen(home) + strlen(path);
    char *out = mem_alloc(n, 1);
    if (out != NULL)
        snprintf(out, n, "%s%s", home, path + 1);
    return out;
}
