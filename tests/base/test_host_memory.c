/* Memory as /proc and the control groups tell it: files of the test's own stand in for the kernel's. */
#include "trainer/base/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/base/io.h"

#define MIB ((int64_t)1 << 20)
#define V2  "/sys/fs/cgroup/"
#define V1  "/sys/fs/cgroup/memory/"

struct file {
    const char *path, *text;
};
static const struct file *files; /* up to one without a path */

static int open_file(const char *path, int flags, mode_t mode)
{
    for (const struct file *f = files; f->path != NULL; f++)
        if (strcmp(f->path, path) == 0) {
            int fd = memfd_create("file", MFD_CLOEXEC);
            if (fd < 0 || write(fd, f->text, strlen(f->text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return -1;
            return fd;
        }
    errno = ENOENT;
    return -1;
}

static void check_memory(const struct file *these, int64_t free_mib, int64_t total_mib)
{
    int64_t free_bytes = -1, total_bytes = -1;
    struct err e = {0};
    files = these;
    CHECK_OK(host_memory(&free_bytes, &total_bytes, &e), &e);
    CHECK_INT(free_bytes, free_mib * MIB);
    CHECK_INT(total_bytes, total_mib * MIB);
}

#define MEMINFO                                                                                                                  \
    {                                                                                                                            \
        "/proc/meminfo", "MemTotal:  8388608 kB\nMemFree:  1024 kB\nMemAvailable:  4194304 kB\n"                                 \
    }

int main(void)
{
    static const struct file plain[] = {MEMINFO, {NULL, NULL}};
    static const struct file container[] = {MEMINFO,
                                            {"/proc/self/cgroup", "0::/\n"},
                                            {V2 "memory.max", "2147483648\n"},
                                            {V2 "memory.current", "1073741824\n"},
                                            {V2 "memory.stat", "anon 1\ninactive_file 536870912\nactive_file 7\n"},
                                            {NULL, NULL}};
    static const struct file no_limit[] = {MEMINFO, {V2 "memory.max", "max\n"}, {V2 "memory.current", "5\n"}, {NULL, NULL}};
    static const struct file full[] = {MEMINFO, {V2 "memory.max", "1048576\n"}, {V2 "memory.current", "2097152\n"}, {NULL, NULL}};
    /* The group above this process's is the tighter one. */
    static const struct file nested[] = {MEMINFO,
                                         {"/proc/self/cgroup", "1:name=systemd:/x\n0::/user.slice/run.scope\n"},
                                         {V2 "user.slice/run.scope/memory.max", "3221225472\n"},
                                         {V2 "user.slice/run.scope/memory.current", "0\n"},
                                         {V2 "user.slice/memory.max", "1073741824\n"},
                                         {V2 "user.slice/memory.current", "268435456\n"},
                                         {NULL, NULL}};
    /* The group above has the larger limit, and the others in it have taken nearly all of that. */
    static const struct file crowded[] = {MEMINFO,
                                          {"/proc/self/cgroup", "0::/pod/one\n"},
                                          {V2 "pod/one/memory.max", "1073741824\n"},
                                          {V2 "pod/one/memory.current", "104857600\n"},
                                          {V2 "pod/memory.max", "2147483648\n"},
                                          {V2 "pod/memory.current", "2097152000\n"},
                                          {NULL, NULL}};
    static const struct file version_1[] = {MEMINFO,
                                            {"/proc/self/cgroup", "5:cpu:/a\n4:memory:/docker/b\n"},
                                            {V1 "docker/b/memory.limit_in_bytes", "1073741824\n"},
                                            {V1 "docker/b/memory.usage_in_bytes", "524288000\n"},
                                            {V1 "docker/b/memory.stat", "cache 9\ntotal_inactive_file 104857600\n"},
                                            {V1 "memory.limit_in_bytes", "9223372036854771712\n"},
                                            {V1 "memory.usage_in_bytes", "1\n"},
                                            {NULL, NULL}};
    static const struct file none[] = {{NULL, NULL}};
    struct io_table table = io_libc;
    int64_t free_bytes, total_bytes;
    struct err e = {0};
    table.open = open_file;
    io = &table;
    check_memory(plain, 4096, 8192);
    check_memory(container, 1536, 2048);
    check_memory(no_limit, 4096, 8192);
    check_memory(full, 0, 1);
    check_memory(nested, 768, 1024);
    check_memory(crowded, 48, 1024);
    check_memory(version_1, 624, 1024);
    files = none;
    CHECK_INT(host_memory(&free_bytes, &total_bytes, &e), -1);
    CHECK_INT(e.code, ERR_DEVICE);
    CHECK_HAS(e.text, "/proc/meminfo");
    io = &io_libc;
    CHECK_OK(host_memory(&free_bytes, &total_bytes, &e), &e);
    CHECK(free_bytes >= 0 && free_bytes <= total_bytes);
    return check_done();
}
