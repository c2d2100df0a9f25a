#include "tests/fault/io_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trainer/base/io.h"
#include "trainer/base/num.h"

/* In shared memory, so that forked ranks count together. */
struct counter {
    _Atomic int64_t calls;
    _Atomic int hit;
};

static struct {
    const struct io_table *below;
    enum fault_kind kind;
    int64_t at;
    int errno_value;
    int log_fd;
    bool cuts; /* FAULT_KILL: power goes, too */
    enum fault_cut cut;
    struct counter *counter;
} fault = {.log_fd = -1};

enum call { CALL_OTHER = 0, CALL_SPACE = 1, CALL_INTERRUPTIBLE = 2 };
enum verdict { GO, HALF, FAIL_NOW };

static void die(void)
{
    if (fault.cuts)
        fault_power_cut(fault.cut, NULL);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts the call and says what becomes of it; sets errno for FAIL_NOW. */
static enum verdict judge(int traits)
{
    int64_t n = atomic_fetch_add(&fault.counter->calls, 1) + 1;
    if (fault.log_fd >= 0) {
        char text[32];
        int length = snprintf(text, sizeof text, "%-12lld\n", (long long)n);
        if (pwrite(fault.log_fd, text, (size_t)length, 0) != length)
            abort();
    }
    bool now = n == fault.at, since = fault.at > 0 && n >= fault.at;
    bool hit = false;
    switch (fault.kind) {
    case FAULT_COUNT:
        return GO;
    case FAULT_ERRNO:
        hit = now;
        if (now && fault.errno_value == EINTR && !(traits & CALL_INTERRUPTIBLE)) {
            atomic_store(&fault.counter->hit, 1);
            return GO;
        }
        break;
    case FAULT_FULL:
        hit = since && (traits & CALL_SPACE);
        break;
    case FAULT_SHORT:
        if (now)
            atomic_store(&fault.counter->hit, 1);
        return now ? HALF : GO;
    case FAULT_CRASH:
        hit = since;
        break;
    case FAULT_KILL:
        if (now)
            die();
        break;
    }
    if (!hit)
        return GO;
    atomic_store(&fault.counter->hit, 1);
    errno = fault.errno_value;
    return FAIL_NOW;
}

static size_t half(enum verdict v, size_t n) { return v == HALF && n > 1 ? n / 2 : n; }

static int f_open(const char *path, int flags, mode_t mode)
{
    return judge(CALL_INTERRUPTIBLE | (flags & O_CREAT ? CALL_SPACE : 0)) == FAIL_NOW ? -1 : fault.below->open(path, flags, mode);
}
static ssize_t f_pread(int fd, void *buf, size_t n, off_t at)
{
    enum verdict v = judge(CALL_INTERRUPTIBLE);
    return v == FAIL_NOW ? -1 : fault.below->pread(fd, buf, half(v, n), at);
}
static ssize_t f_read(int fd, void *buf, size_t n)
{
    enum verdict v = judge(CALL_INTERRUPTIBLE);
    return v == FAIL_NOW ? -1 : fault.below->read(fd, buf, half(v, n));
}
static ssize_t f_write(int fd, const void *buf, size_t n)
{
    enum verdict v = judge(CALL_INTERRUPTIBLE | CALL_SPACE);
    return v == FAIL_NOW ? -1 : fault.below->write(fd, buf, half(v, n));
}
static int f_fsync(int fd) { return judge(CALL_INTERRUPTIBLE | CALL_SPACE) == FAIL_NOW ? -1 : fault.below->fsync(fd); }
static int f_close(int fd)
{
    bool fails = judge(CALL_INTERRUPTIBLE) == FAIL_NOW;
    int saved = errno, rc = fault.below->close(fd);
    if (!fails)
        return rc;
    errno = saved;
    return -1;
}
static int f_rename(const char *from, const char *to)
{
    return judge(CALL_SPACE) == FAIL_NOW ? -1 : fault.below->rename(from, to);
}
static int f_mkdir(const char *path, mode_t mode) { return judge(CALL_SPACE) == FAIL_NOW ? -1 : fault.below->mkdir(path, mode); }
static int f_unlink(const char *path) { return judge(CALL_OTHER) == FAIL_NOW ? -1 : fault.below->unlink(path); }
static int f_rmdir(const char *path) { return judge(CALL_OTHER) == FAIL_NOW ? -1 : fault.below->rmdir(path); }
static int f_stat(const char *path, struct stat *st) { return judge(CALL_OTHER) == FAIL_NOW ? -1 : fault.below->stat(path, st); }
static int f_lstat(const char *path, struct stat *st)
{
    return judge(CALL_OTHER) == FAIL_NOW ? -1 : fault.below->lstat(path, st);
}
static int f_fstat(int fd, struct stat *st) { return judge(CALL_OTHER) == FAIL_NOW ? -1 : fault.below->fstat(fd, st); }
static int f_ftruncate(int fd, off_t size)
{
    return judge(CALL_INTERRUPTIBLE | CALL_SPACE) == FAIL_NOW ? -1 : fault.below->ftruncate(fd, size);
}

static const struct io_table table = {
    .open = f_open,
    .pread = f_pread,
    .read = f_read,
    .write = f_write,
    .fsync = f_fsync,
    .close = f_close,
    .rename = f_rename,
    .mkdir = f_mkdir,
    .unlink = f_unlink,
    .rmdir = f_rmdir,
    .stat = f_stat,
    .lstat = f_lstat,
    .fstat = f_fstat,
    .ftruncate = f_ftruncate,
};

void fault_install(enum fault_kind kind, int64_t n, int errno_value)
{
    if (fault.counter == NULL) {
        fault.counter = mmap(NULL, sizeof *fault.counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (fault.counter == MAP_FAILED)
            abort();
    }
    atomic_store(&fault.counter->calls, 0);
    atomic_store(&fault.counter->hit, 0);
    fault.kind = kind;
    fault.at = n;
    fault.errno_value = kind == FAULT_CRASH ? EIO : errno_value;
    if (io != &table)
        fault.below = io;
    io = &table;
}

int64_t fault_remove(void)
{
    if (io == &table)
        io = fault.below;
    return fault.counter == NULL ? 0 : atomic_load(&fault.counter->calls);
}

bool fault_hit(void) { return fault.counter != NULL && atomic_load(&fault.counter->hit) != 0; }

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } known[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
                 {"EACCES", EACCES}, {"EMFILE", EMFILE}, {"EROFS", EROFS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].value;
    return 0;
}

static int cut_of(const char *name, enum fault_cut *out)
{
    static const char *const names[] = {"rollback", "empty", "garbled"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum fault_cut)i;
            return 0;
        }
    return -1;
}

/* One part, "word:a:b:c". The last field may hold colons. */
static int part_from_env(char *part, struct err *e)
{
    char *field[4] = {part, "", "", ""};
    int64_t n = 0;
    for (int i = 1; i < 4 && field[i - 1] != NULL; i++) {
        char *colon = strchr(field[i - 1], ':');
        if (colon == NULL || (i == 2 && strcmp(field[0], "log") == 0))
            break;
        *colon = '\0';
        field[i] = colon + 1;
    }
    if (strcmp(field[0], "log") == 0) {
        fault.log_fd = open(field[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fault.log_fd < 0)
            return err_errno(e, ERR_USAGE, errno, "LORAT_FAULT: %s cannot be written", field[1]);
        if (io != &table)
            fault_install(FAULT_COUNT, 0, 0);
        return 0;
    }
    if (!num_parse_i64(field[1], &n) || n < 1)
        FAIL(e, ERR_USAGE, "LORAT_FAULT: \"%s:%s\", expected the number of a call behind the word", field[0], field[1]);
    if (strcmp(field[0], "kill") == 0)
        fault_install(FAULT_KILL, n, 0);
    else if (strcmp(field[0], "full") == 0)
        fault_install(FAULT_FULL, n, ENOSPC);
    else if (strcmp(field[0], "short") == 0)
        fault_install(FAULT_SHORT, n, 0);
    else if (strcmp(field[0], "fail") == 0 && errno_of(field[2]) != 0)
        fault_install(FAULT_ERRNO, n, errno_of(field[2]));
    else if (strcmp(field[0], "cut") == 0 && cut_of(field[2], &fault.cut) == 0) {
        if (io == &table)
            FAIL(e, ERR_USAGE, "LORAT_FAULT: cut behind another part, expected it first");
        TRY(fault_power_begin(field[3], e));
        fault.cuts = true;
        fault_install(FAULT_KILL, n, 0);
    } else {
        FAIL(e, ERR_USAGE, "LORAT_FAULT: \"%s\", expected kill:N, fail:N:ERRNO, full:N, short:N, cut:N:MODE:DIR or log:FILE",
             field[0]);
    }
    return 0;
}

int fault_install_env(struct err *e)
{
    const char *spec = getenv("LORAT_FAULT");
    char copy[4096], *rest = NULL;
    if (spec == NULL || spec[0] == '\0')
        return 0;
    if (snprintf(copy, sizeof copy, "%s", spec) >= (int)sizeof copy)
        FAIL(e, ERR_USAGE, "LORAT_FAULT: too long");
    for (char *part = strtok_r(copy, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest))
        TRY(part_from_env(part, e));
    return 0;
}
