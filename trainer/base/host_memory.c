#include "trainer/base/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/io.h"

enum { TEXT_BYTES = 8192, PATH_BYTES = 1024 };

/* What a small file of the kernel's holds; "" when it cannot be read. */
static void read_text(const char *path, char text[TEXT_BYTES])
{
    size_t n = 0;
    ssize_t got;
    int fd = io->open(path, O_RDONLY | O_CLOEXEC, 0);
    while (fd >= 0 && n < TEXT_BYTES - 1 &&
           ((got = io->read(fd, text + n, TEXT_BYTES - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    if (fd >= 0)
        io->close(fd);
    text[n] = '\0';
}

/* The number that follows `key` in a file, or that it begins with; -1 when there is none. */
static int64_t number(const char *path, const char *key)
{
    char text[TEXT_BYTES], *end;
    read_text(path, text);
    const char *at = *key != '\0' ? strstr(text, key) : text;
    if (at == NULL)
        return -1;
    at += strlen(key);
    long long value = strtoll(at, &end, 10);
    return end == at ? -1 : value; /* "max" has no digits */
}

/* Names of version 2 and 1 of the kernel's interface (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst). */
static const struct version {
    const char *mount, *mine; /* the line of /proc/self/cgroup that names this process's group begins or goes on so */
    const char *limit, *usage, *cache;
} versions[] = {
    {"/sys/fs/cgroup", "0::", "memory.max", "memory.current", "\ninactive_file "},
    {"/sys/fs/cgroup/memory", ":memory:", "memory.limit_in_bytes", "memory.usage_in_bytes", "\ntotal_inactive_file "}};

/* What one group leaves of its limit. A group's limit may be above that of a group inside it and still leave less, since others
 * use it too; one that the machine does not have (version 1's "none" is near 2^63) is no limit. */
static void limit_by_group(const struct version *v, const char *group, int64_t machine_bytes, int64_t *free_bytes,
                           int64_t *total_bytes)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", group, v->limit);
    int64_t max = number(path, "");
    if (max <= 0 || max >= machine_bytes)
        return;
    snprintf(path, sizeof path, "%s/%s", group, v->usage);
    int64_t used = number(path, "");
    if (used < 0)
        return;
    snprintf(path, sizeof path, "%s/memory.stat", group);
    int64_t cache = number(path, v->cache), left = max - used + (cache > 0 ? cache : 0);
    *total_bytes = max < *total_bytes ? max : *total_bytes;
    left = left < 0 ? 0 : left > max ? max : left;
    *free_bytes = left < *free_bytes ? left : *free_bytes;
}

/* This process's group and those above it. In a container its own may be shown as the root, or under a name that is not there. */
static void limit_by_groups(const struct version *v, int64_t *free_bytes, int64_t *total_bytes)
{
    char text[TEXT_BYTES], group[PATH_BYTES];
    size_t root = strlen(v->mount);
    int64_t machine_bytes = *total_bytes;
    read_text("/proc/self/cgroup", text);
    const char *line = strstr(text, v->mine), *name = line != NULL ? line + strlen(v->mine) : "/";
    snprintf(group, sizeof group, "%s%.*s", v->mount, (int)strcspn(name, "\n"), name);
    while (strlen(group) > root + 1) {
        limit_by_group(v, group, machine_bytes, free_bytes, total_bytes);
        *strrchr(group, '/') = '\0';
    }
    limit_by_group(v, v->mount, machine_bytes, free_bytes, total_bytes);
}

int host_memory(int64_t *free_bytes, int64_t *total_bytes, struct err *e)
{
    int64_t total = number("/proc/meminfo", "MemTotal:"), available = number("/proc/meminfo", "MemAvailable:");
    if (total <= 0 || available < 0)
        FAIL(e, ERR_DEVICE, "/proc/meminfo: no MemTotal and MemAvailable, expected both");
    *total_bytes = total * 1024;
    *free_bytes = available * 1024;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        limit_by_groups(&versions[i], free_bytes, total_bytes);
    return 0;
}
