/* memory.c - host memory as the device's; the queue is the caller's own thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"
#include "trainer/base/io.h"
#include "trainer/base/num.h"

void cpu_fail(struct cpu *c, enum err_code code, const char *format, ...)
{
    char text[512];
    va_list args;
    if (c->failed)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    c->failed = true;
    err_set(&c->error, code, "%s", text);
}

void *cpu_scratch(struct cpu *c, const char *where, size_t bytes)
{
    if (bytes > c->workspace_size || c->workspace == NULL) {
        cpu_fail(c, ERR_INTERNAL, "%s: a workspace of %zu bytes, expected %zu. The shapes exceed what it was sized for", where,
                 c->workspace_size, bytes);
        return NULL;
    }
    return c->workspace;
}

int cpu_check(struct ops *o, struct err *e)
{
    const struct cpu *c = cpu_of(o);
    if (!c->failed)
        return 0;
    FAIL(e, c->error.code, "%s", c->error.text);
}

int cpu_alloc(struct ops *o, size_t bytes, void **out, struct err *e)
{
    size_t huge = (size_t)2 << 20, align = bytes >= 2 * huge ? huge : 256;
    void *p = NULL;
    if (bytes > SIZE_MAX - huge || posix_memalign(&p, align, bytes ? bytes : 1) != 0)
        FAIL(e, ERR_DEVICE, "cpu: no memory for a block of %zu bytes, expected enough. Lower the batch or the sequence length",
             bytes);
    if (align == huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* a wish: products are faster over large pages */
    *out = p;
    return 0;
}

void cpu_release(struct ops *o, void *p) { free(p); }

void cpu_upload(struct ops *o, void *dst, const void *src_host, size_t bytes)
{
    if (!cpu_of(o)->failed && bytes)
        memcpy(dst, src_host, bytes);
}

int cpu_download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e)
{
    TRY(cpu_check(o, e));
    if (bytes)
        memcpy(dst_host, src, bytes);
    return 0;
}

/* There is one queue, and it is empty: a fetch is done at once. */
void cpu_fetch(struct ops *o, int slot, void *dst, const void *src_host, size_t bytes) { cpu_upload(o, dst, src_host, bytes); }
void cpu_fetch_wait(struct ops *o, int slot) {}

/* The number that a small text file of the kernel begins with, or follows `key` in it; -1 when there is none. */
static int64_t kernel_number(const char *path, const char *key)
{
    char text[8192];
    int fd = io->open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    size_t n = 0;
    ssize_t got;
    while (n < sizeof(text) - 1 && ((got = io->read(fd, text + n, sizeof(text) - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    io->close(fd);
    text[n] = 0;
    const char *at = *key ? strstr(text, key) : text;
    char *end;
    if (!at)
        return -1;
    at += strlen(key);
    long long value = strtoll(at, &end, 10);
    return end == at ? -1 : value; /* "max" has no digits */
}

/* What a control group leaves of its limit; caches of files count as free, since the kernel drops them first. */
static void limit_by_group(const char *limit, const char *usage, const char *stat, const char *cache, int64_t *free_bytes,
                           int64_t *total_bytes)
{
    int64_t max = kernel_number(limit, ""), used = kernel_number(usage, ""), file = kernel_number(stat, cache);
    if (max <= 0 || used < 0 || max >= *total_bytes)
        return;
    *total_bytes = max;
    int64_t left = max - used + (file > 0 ? file : 0);
    left = left < 0 ? 0 : left > max ? max : left;
    *free_bytes = left < *free_bytes ? left : *free_bytes;
}

int cpu_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e)
{
    int64_t total = kernel_number("/proc/meminfo", "MemTotal:"), available = kernel_number("/proc/meminfo", "MemAvailable:");
    if (total <= 0 || available < 0)
        FAIL(e, ERR_DEVICE, "/proc/meminfo: no MemTotal and MemAvailable, expected both");
    *total_bytes = total * 1024;
    *free_bytes = available * 1024;
    limit_by_group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "\ninactive_file ",
                   free_bytes, total_bytes);
    limit_by_group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                   "/sys/fs/cgroup/memory/memory.stat", "\ntotal_inactive_file ", free_bytes, total_bytes);
    return 0;
}
