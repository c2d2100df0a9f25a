/* memory.cu - device memory, the way in and out of it, and the remembered failure. */
#include "kernels/cuda/cuda.h"

#include <stdarg.h>
#include <stdio.h>

void cuda_fail(struct cuda *c, enum err_code code, const char *format, ...)
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

bool cuda_ok(struct cuda *c, cudaError_t rc, const char *where)
{
    if (rc != cudaSuccess)
        cuda_fail(c, ERR_DEVICE, "cuda: %s: %s", where, cudaGetErrorString(rc));
    return rc == cudaSuccess;
}

void *cuda_scratch(struct cuda *c, const char *where, size_t bytes)
{
    if (bytes > c->workspace_size || c->workspace == NULL) {
        cuda_fail(c, ERR_INTERNAL, "%s: a workspace of %zu bytes, expected %zu. The shapes exceed what it was sized for", where,
                  c->workspace_size, bytes);
        return NULL;
    }
    return c->workspace;
}

int cuda_check(struct ops *o, struct err *e)
{
    const struct cuda *c = cuda_of(o);
    if (!c->failed)
        return 0;
    FAIL(e, c->error.code, "%s", c->error.text);
}

int cuda_alloc(struct ops *o, size_t bytes, void **out, struct err *e)
{
    if (cudaMalloc(out, bytes ? bytes : 1) != cudaSuccess)
        FAIL(e, ERR_DEVICE, "cuda: no memory for a block of %zu bytes, expected enough. Lower the batch or the sequence length", bytes);
    return 0;
}

void cuda_release(struct ops *o, void *p) { cudaFree(p); }

int cuda_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e)
{
    size_t left, total;
    if (!cuda_ok(cuda_of(o), cudaMemGetInfo(&left, &total), "asking for free memory"))
        return cuda_check(o, e);
    *free_bytes = (int64_t)left;
    *total_bytes = (int64_t)total;
    return 0;
}

void cuda_upload(struct ops *o, void *dst, const void *src_host, size_t bytes)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed && bytes)
        cuda_ok(c, cudaMemcpyAsync(dst, src_host, bytes, cudaMemcpyHostToDevice, c->stream), "upload");
}

int cuda_sync(struct ops *o, struct err *e)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed)
        cuda_ok(c, cudaStreamSynchronize(c->stream), "waiting for the card");
    return cuda_check(o, e);
}

int cuda_download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed && bytes)
        cuda_ok(c, cudaMemcpyAsync(dst_host, src, bytes, cudaMemcpyDeviceToHost, c->stream), "download");
    return cuda_sync(o, e);
}

int staging_open(struct cuda *c, struct err *e) { return 0; }
void staging_close(struct cuda *c) {}
