/* nccl_load.cu - open NCCL when ranks on cards want it. A machine without it trains on one card as ever. */
#include "kernels/cuda/nccl_load.h"

#include <dlfcn.h>

static struct nccl_api api;

template <typename F> static bool find(void *library, F *out, const char *name)
{
    *out = (F)dlsym(library, name);
    return *out != NULL;
}

const struct nccl_api *nccl_load(struct err *e)
{
    int v = 0;
    if (api.all_gather)
        return &api;
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL); /* stays open: the table points into it */
    if (!library) {
        err_set(e, ERR_DEVICE,
                "NCCL: libnccl.so.2 is not there, expected it for several cards. `sh scripts/setup-cuda.sh` brings it, or choose one card with "
                "compute.gpus");
        return NULL;
    }
    struct nccl_api a = {};
    bool whole = find(library, &a.version, "ncclGetVersion") && find(library, &a.error_string, "ncclGetErrorString") &&
                 find(library, &a.last_error, "ncclGetLastError") && find(library, &a.id, "ncclGetUniqueId") &&
                 find(library, &a.open, "ncclCommInitRank") && find(library, &a.close, "ncclCommDestroy") &&
                 find(library, &a.async_error, "ncclCommGetAsyncError") && find(library, &a.all_reduce, "ncclAllReduce") &&
                 find(library, &a.all_gather, "ncclAllGather") && a.version(&v) == NCCL_OK;
    if (!whole || v < NCCL_OLDEST) { /* before 2.27.5 a ring all-reduce could write out of bounds */
        err_set(e, ERR_DEVICE, "NCCL: found version %d.%d.%d, expected %d.%d.%d or later. `sh scripts/setup-cuda.sh` brings one", v / 10000, v / 100 % 100,
                v % 100, NCCL_OLDEST_MAJOR, NCCL_OLDEST_MINOR, NCCL_OLDEST_PATCH);
        return NULL;
    }
    api = a;
    return &api;
}
