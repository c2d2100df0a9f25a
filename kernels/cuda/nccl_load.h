/* nccl_load.h - the functions of NCCL that lorat calls. Declared here, as no header of NCCL's is needed to build: the C functions of
 * libnccl.so.2 keep their shape. nccl_load.cu opens the library; the simulator has functions of its own (tests/sim/nccl.cpp). */
#ifndef LORAT_CUDA_NCCL_LOAD_H
#define LORAT_CUDA_NCCL_LOAD_H

#include "kernels/cuda/cuda.h"

struct nccl_id { /* ncclUniqueId */
    char bytes[CUDA_NCCL_ID];
};
enum { NCCL_OK = 0, NCCL_IN_PROGRESS = 7 };                       /* ncclResult_t */
enum { NCCL_UINT8 = 1, NCCL_FLOAT32 = 7, NCCL_SUM = 0 };          /* ncclDataType_t, ncclRedOp_t */
enum { NCCL_OLDEST = 22705, NCCL_OLDEST_MAJOR = 2, NCCL_OLDEST_MINOR = 27, NCCL_OLDEST_PATCH = 5 };
struct nccl_api {
    int (*version)(int *out);                                     /* ncclGetVersion: major * 10000 + minor * 100 + patch */
    const char *(*error_string)(int rc);                          /* ncclGetErrorString */
    const char *(*last_error)(void *comm);                        /* ncclGetLastError */
    int (*id)(struct nccl_id *out);                               /* ncclGetUniqueId */
    int (*open)(void **comm, int ranks, struct nccl_id id, int rank); /* ncclCommInitRank */
    int (*close)(void *comm);                                     /* ncclCommDestroy */
    int (*async_error)(void *comm, int *rc);                      /* ncclCommGetAsyncError */
    int (*all_reduce)(const void *src, void *dst, size_t count, int type, int op, void *comm, cudaStream_t stream);
    int (*all_gather)(const void *src, void *dst, size_t count_each, int type, void *comm, cudaStream_t stream);
};
/* NULL and a sentence (ERR_DEVICE) when the library is missing or too old. */
const struct nccl_api *nccl_load(struct err *e);

#endif
