/* cuda.h - the CUDA backend's own state, shared by its files, and how they launch kernels.
 *
 * One operation a file, under the names of kernels/cpu. The files compile two ways from the same text: by nvcc for a card, and by
 * the host's C++ compiler against tests/sim/, which supplies <cuda_runtime.h> and <cublasLt.h> of its own. They are therefore CUDA C:
 * templates over the element type, no C++ library, device features only through device.cuh.
 *
 * Order: everything is queued on `stream`. Small uploads travel on `uploads` into a staging ring on the device and are copied into
 * place on `stream`, so that the bus works while kernels run (staging.cu). Weights that do not stay on the card come on a second
 * queue (fetch.cu, nccl.cu). */
#ifndef LORAT_CUDA_H
#define LORAT_CUDA_H

#include <cuda_runtime.h>
#include <initializer_list>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "kernels/cuda/plugin.h"
#include "kernels/ops.h"
}

struct lt;      /* lt.cu: cuBLASLt and the plans of products */
struct fetching; /* fetch.cu: the second queue */
struct staging; /* staging.cu: pinned host memory and its ring on the device */
/* $LORAT_ATTENTION: auto is the fastest that takes the shape; the others are for tests and comparisons (attention.cu). */
enum attention_path { ATTENTION_AUTO, ATTENTION_PLAIN, ATTENTION_MMA, ATTENTION_CUDNN };
struct cuda {
    struct ops ops;
    int card;              /* the driver's number */
    int sms;               /* multiprocessors */
    size_t shared_max;     /* bytes of shared memory that a block may ask for, at most SHARED_MOST */
    cudaStream_t stream, uploads;
    char *workspace;
    size_t workspace_size;
    enum attention_path attention;
    struct attention_select *select; /* attention_select.cu: ours or cuDNN's */
    bool failed;           /* sticky: see `check` in ops.h */
    struct err error;
    struct staging *staging;
    struct fetching *fetching;
    struct lt *lt;
};
static inline struct cuda *cuda_of(const struct ops *o) { return (struct cuda *)o->state; }

/* What every card from 8.0 on gives (an RTX 3090's 8.6 is the narrowest): kernels are tuned and tested within it. */
enum { SHARED_MOST = 99 * 1024, WARP = 32, ROW_BLOCK = 256 };

/* Remember the first failure. */
void cuda_fail(struct cuda *c, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* rc == cudaSuccess; else remembers "<where>: <the driver's words>" (out of memory is said with sizes) and is false. */
bool cuda_ok(struct cuda *c, cudaError_t rc, const char *where);
/* The first `bytes` of the workspace; NULL (and a remembered failure) when it is too small. `where` is the operation. */
void *cuda_scratch(struct cuda *c, const char *where, size_t bytes);

/* Queue kernel<<<grid, block, shared>>>(args...) on c->stream. An empty grid queues nothing; after a failure nothing is queued. */
template <typename... P, typename... A>
static inline void cuda_launch(struct cuda *c, const char *where, dim3 grid, int block, size_t shared, void (*kernel)(P...), A... args)
{
    if (c->failed || grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    if (shared > 48 * 1024 &&
        !cuda_ok(c, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared), where))
        return;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)block, 1, 1);
    config.dynamicSmemBytes = shared;
    config.stream = c->stream;
    cuda_ok(c, cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), where);
}

/* Can a row operation use 16-byte accesses? All pointers on 16 bytes and all widths and row distances (elements of `size` bytes)
 * whole multiples. Variadic use: cuda_wide(size, {p, q}, {d, ld}). */
static inline bool cuda_wide(size_t size, std::initializer_list<const void *> pointers, std::initializer_list<int64_t> widths)
{
    for (const void *p : pointers)
        if ((uintptr_t)p % 16 != 0)
            return false;
    for (int64_t w : widths)
        if ((size_t)w * size % 16 != 0)
            return false;
    return true;
}

#include "kernels/cuda/entries.h"

#endif
