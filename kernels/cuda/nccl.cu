/* nccl.cu - what ranks on cards do together, by NCCL.
 *
 * Order of sums. With two ranks an element has one addition, and a + b = b + a: any algorithm gives the same bits over any link. With
 * more, a ring adds each part of the buffer in a fixed order of ranks and hands the result to all: the same bits on every rank and in
 * every run, though not in the order 0, 1, 2. Trees and NVLink SHARP are left out by NCCL_ALGO, and both settings are the same
 * whatever the link, so that runs over different links can be compared. A user's own settings stand.
 *
 * NCCL does not notice that a peer is gone, and its abort may hang: nothing here waits for a peer, and nothing is aborted. Who waits asks
 * `done` and looks after itself (trainer/comm_nccl.c). */
#include "kernels/cuda/nccl_load.h"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
}

struct cuda_nccl_comm {
    struct cuda *c;
    const struct nccl_api *api;
    void *comm;
    const char *last; /* the operation queued last, for messages */
};

static int failed(const struct nccl_api *api, void *comm, int rc, const char *what, struct err *e)
{
    const char *more = api->last_error(comm);
    FAIL(e, ERR_PEER, "NCCL: %s: %s (%.300s), expected success. NCCL_DEBUG=INFO shows more, `lorat doctor` looks at the links", what,
         api->error_string(rc), more ? more : "");
}

static int make_id(char out[CUDA_NCCL_ID], struct err *e)
{
    struct nccl_id id;
    const struct nccl_api *api = nccl_load(e);
    if (!api)
        return -1;
    int rc = api->id(&id);
    if (rc != NCCL_OK)
        return failed(api, NULL, rc, "an identifier", e);
    memcpy(out, id.bytes, sizeof(id.bytes));
    return 0;
}

static void nccl_close(struct cuda_nccl_comm *n)
{
    if (n && n->comm)
        n->api->close(n->comm);
    mem_free(n);
}

static int nccl_open(struct ops *o, const char id[CUDA_NCCL_ID], int ranks, int rank, struct cuda_nccl_comm **out, struct err *e)
{
    struct nccl_id whole;
    const struct nccl_api *api = nccl_load(e);
    if (!api)
        return -1;
    struct cuda_nccl_comm *n = (struct cuda_nccl_comm *)mem_alloc(1, sizeof(*n));
    if (!n)
        return mem_fail(e, "NCCL's handle", sizeof(*n));
    setenv("NCCL_ALGO", "Ring", 0);
    setenv("NCCL_PROTO", "Simple", 0);
    memcpy(whole.bytes, id, sizeof(whole.bytes));
    n->c = cuda_of(o);
    n->api = api;
    n->last = "joining the ranks";
    int rc = api->open(&n->comm, ranks, whole, rank);
    if (rc != NCCL_OK) {
        n->comm = NULL;
        nccl_close(n);
        return failed(api, NULL, rc, "joining the ranks", e);
    }
    *out = n;
    return 0;
}

static int nccl_sum(struct cuda_nccl_comm *n, float *p, int64_t count, struct err *e)
{
    TRY(cuda_check(&n->c->ops, e));
    n->last = "the sum over ranks";
    int rc = n->api->all_reduce(p, p, (size_t)count, NCCL_FLOAT32, NCCL_SUM, n->comm, n->c->stream);
    return rc == NCCL_OK ? 0 : failed(n->api, n->comm, rc, n->last, e);
}

static int nccl_gather(struct cuda_nccl_comm *n, int slot, void *dst, const void *shard, size_t bytes_each, struct err *e)
{
    n->last = "gathering a block";
    cudaStream_t second = fetch_begin(n->c, n->last);
    if (!second)
        return cuda_check(&n->c->ops, e);
    int rc = n->api->all_gather(shard, dst, bytes_each, NCCL_UINT8, n->comm, second);
    if (rc != NCCL_OK)
        return failed(n->api, n->comm, rc, n->last, e);
    fetch_end(n->c, slot, n->last);
    return cuda_check(&n->c->ops, e);
}

static int nccl_done(struct cuda_nccl_comm *n, bool *done, struct err *e)
{
    int later = NCCL_OK;
    TRY(cuda_check(&n->c->ops, e));
    int rc = n->api->async_error(n->comm, &later);
    if (rc == NCCL_OK && later != NCCL_OK && later != NCCL_IN_PROGRESS)
        rc = later;
    if (rc != NCCL_OK)
        return failed(n->api, n->comm, rc, n->last, e);
    cudaError_t now = cudaStreamQuery(n->c->stream);
    *done = now == cudaSuccess;
    if (now == cudaSuccess || now == cudaErrorNotReady) {
        cudaGetLastError(); /* "not ready" is no error, but would be found as one */
        return 0;
    }
    cuda_ok(n->c, now, n->last);
    return cuda_check(&n->c->ops, e);
}

const struct cuda_nccl cuda_nccl_table = {make_id, nccl_open, nccl_sum, nccl_gather, nccl_done, nccl_close};
