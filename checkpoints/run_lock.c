#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

struct run_lock {
    int fd; /* closing it is what releases: ranks forked later share it, and the lock lasts until the last of them is gone */
};

static int refuse(int fd, const char *path, struct err *e)
{
    char text[320] = "";
    ssize_t n = io->pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    char pid[32] = "of unknown id", host[256] = "";
    sscanf(text, "%31s %255s", pid, host);
    FAIL(e, ERR_STATE, "%s: held by process %s%s%s, expected a run that no other process works on. Wait for it or stop it", path,
         pid, host[0] != 0 ? " on " : "", host);
}

/* The lock's file could have been moved aside with its run between open and flock. */
static bool still_there(int fd, const char *path)
{
    struct stat a, b;
    return io->fstat(fd, &a) == 0 && io->stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* 0: locked, 1: try again, -1. */
static int try_lock(const char *path, int *fd_out, struct err *e)
{
    int fd, rc;
    do
        fd = io->open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "%s: cannot be opened", path);
    do
        rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        rc = errno == EWOULDBLOCK ? refuse(fd, path, e) : err_errno(e, ERR_IO, errno, "%s: cannot be locked", path);
    else if (!still_there(fd, path))
        rc = 1;
    if (rc == 0)
        *fd_out = fd;
    else
        io->close(fd);
    return rc;
}

/* For the message only, so that a full disk does not keep a run from starting. */
static void sign(int fd, const char *path)
{
    char text[320], host[256];
    if (gethostname(host, sizeof host) != 0)
        snprintf(host, sizeof host, "unknown");
    host[sizeof host - 1] = 0;
    snprintf(text, sizeof text, "%ld %s\n", (long)getpid(), host);
    if (io->ftruncate(fd, 0) == 0)
        io_write_all(fd, path, text, strlen(text), NULL);
}

int run_lock_take(const char *run_dir, struct run_lock **out, struct err *e)
{
    *out = NULL;
    int rc = 0;
    struct run_lock *l = mem_alloc(1, sizeof *l);
    char *path = run_text("%s/lock", run_dir);
    if (l == NULL || path == NULL) {
        rc = mem_fail(e, "the run's lock", strlen(run_dir));
        goto done;
    }
    TRY_DONE(io_mkdirs(run_dir, e));
    for (int i = 0; i < 100; i++) {
        rc = try_lock(path, &l->fd, e);
        if (rc <= 0)
            break;
    }
    if (rc > 0)
        rc = err_set(e, ERR_STATE, "%s: replaced again and again by other processes, expected to lock it. Try again", path);
    if (rc == 0) {
        sign(l->fd, path);
        *out = l;
        l = NULL;
    }
done:
    mem_free(path);
    mem_free(l);
    return rc;
}

void run_lock_drop(struct run_lock *l)
{
    if (l == NULL)
        return;
    io->close(l->fd);
    mem_free(l);
}

bool run_is_locked(const char *run_dir)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/lock", run_dir) >= (int)sizeof path)
        return false;
    int fd = io->open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    io->close(fd);
    return held;
}
