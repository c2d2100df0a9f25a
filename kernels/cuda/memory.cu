/* memory.cu - device memory and the remembered failure. */
#include "kernels/cuda/cuda.h"

#include <stdarg.h>
#include <stdio.h>

extern "C" {
#include "trainer/base/num.h"
}

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

const char *cuda_free_memory(char out[96])
{
    size_t left = 0, total = 0;
    char l[32], t[32];
    cudaGetLastError();
    if (cudaMemGetInfo(&left, &total) != cudaSuccess) {
        cudaGetLastError();
        snprintf(out, 96, "how much is free the driver does not tell");
    } else
        snprintf(out, 96, "%s of %s are free", num_format_bytes(l, left), num_format_bytes(t, total));
    return out;
}

bool cuda_ok(struct cuda *c, cudaError_t rc, const char *where)
{
    char text[96];
    if (rc == cudaErrorMemoryAllocation)
        cuda_fail(c, ERR_DEVICE,
                  "cuda: %s: the card's memory is full (%s), expected room. Lower train.micro_batch or data.sequence_length, or "
                  "end other programs on the card",
                  where, cuda_free_memory(text));
    else if (rc != cudaSuccess)
        cuda_fail(c, ERR_DEVICE, "cuda: %s: %s (%s), expected success", where, cudaGetErrorString(rc), cudaGetErrorName(rc));
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
    char text[96], size[32];
    cudaError_t rc = cudaMalloc(out, bytes ? bytes : 1);
    if (rc == cudaSuccess)
        return 0;
    if (rc != cudaErrorMemoryAllocation)
        FAIL(e, ERR_DEVICE, "cuda: a block of %zu bytes: %s (%s), expected memory", bytes, cudaGetErrorString(rc),
             cudaGetErrorName(rc));
    FAIL(e, ERR_DEVICE,
         "cuda: no memory for a block of %zu bytes (%s): %s, expected enough. Lower train.micro_batch or data.sequence_length",
         bytes, num_format_bytes(size, bytes), cuda_free_memory(text));
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

int cuda_sync(struct ops *o, struct err *e)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed)
        cuda_ok(c, cudaStreamSynchronize(c->stream), "waiting for the card");
    return cuda_check(o, e);
}
