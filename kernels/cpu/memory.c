/* memory.c - host memory as the device's; the queue is the caller's own thread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"
#include "trainer/base/host_memory.h"
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

int cpu_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e) { return host_memory(free_bytes, total_bytes, e); }
