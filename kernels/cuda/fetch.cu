/* fetch.cu - the second queue: weights that do not stay on the card come on it while kernels run on the first.
 *
 *   stream    compute(l-1) |queued|  compute(l)          |wait done(l+1)| compute(l+1)
 *   second                 '--> fetch(l+1) |done(l+1)| --'
 *
 * A fetch waits for what was queued before it, the last user of the memory that it overwrites, and what is queued after
 * fetch_wait waits for it. All of that is between queues: the host waits for nothing. */
#include "kernels/cuda/cuda.h"

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

struct fetching {
    cudaStream_t stream;
    cudaEvent_t queued;            /* on the first queue, where a fetch begins */
    cudaEvent_t done[FETCH_SLOTS]; /* on the second, after the slot's last fetch */
    bool recorded[FETCH_SLOTS];
};

int fetch_open(struct cuda *c, struct err *e)
{
    struct fetching *f = (struct fetching *)mem_alloc(1, sizeof(*f));
    if (!f)
        return mem_fail(e, "the second queue", sizeof(*f));
    c->fetching = f;
    bool ok = cuda_ok(c, cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking), "the second queue") &&
              cuda_ok(c, cudaEventCreateWithFlags(&f->queued, cudaEventDisableTiming), "an event");
    for (int i = 0; i < FETCH_SLOTS; i++)
        ok = ok && cuda_ok(c, cudaEventCreateWithFlags(&f->done[i], cudaEventDisableTiming), "an event");
    return cuda_check(&c->ops, e);
}

void fetch_close(struct cuda *c)
{
    struct fetching *f = c->fetching;
    if (!f)
        return;
    if (f->queued)
        cudaEventDestroy(f->queued);
    for (int i = 0; i < FETCH_SLOTS; i++)
        if (f->done[i])
            cudaEventDestroy(f->done[i]);
    if (f->stream)
        cudaStreamDestroy(f->stream);
    mem_free(f);
    c->fetching = NULL;
}

int cuda_alloc_host(struct ops *o, size_t bytes, void **out, struct err *e)
{
    char size[32];
    cudaError_t rc = cudaHostAlloc(out, bytes ? bytes : 1, cudaHostAllocDefault);
    if (rc == cudaSuccess)
        return 0;
    cudaGetLastError();
    FAIL(e, ERR_DEVICE,
         "cuda: %s of host memory cannot be pinned (%s), expected it for weights that are streamed. Free host memory, or set "
         "model.placement: resident",
         num_format_bytes(size, bytes), cudaGetErrorString(rc));
}

void cuda_release_host(struct ops *o, void *p) { cudaFreeHost(p); }

cudaStream_t fetch_begin(struct cuda *c, const char *where)
{
    struct fetching *f = c->fetching;
    if (c->failed || !cuda_ok(c, cudaEventRecord(f->queued, c->stream), where) ||
        !cuda_ok(c, cudaStreamWaitEvent(f->stream, f->queued, 0), where))
        return NULL;
    return f->stream;
}

void fetch_end(struct cuda *c, int slot, const char *where)
{
    if (!c->failed)
        c->fetching->recorded[slot] = cuda_ok(c, cudaEventRecord(c->fetching->done[slot], c->fetching->stream), where);
}

void cuda_fetch(struct ops *o, int slot, void *dst, const void *src_host, size_t bytes)
{
    struct cuda *c = cuda_of(o);
    cudaStream_t second = fetch_begin(c, "fetch");
    if (second && cuda_ok(c, cudaMemcpyAsync(dst, src_host, bytes, cudaMemcpyHostToDevice, second), "fetch"))
        fetch_end(c, slot, "fetch");
}

void cuda_fetch_wait(struct ops *o, int slot)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed && c->fetching->recorded[slot])
        cuda_ok(c, cudaStreamWaitEvent(c->stream, c->fetching->done[slot], 0), "fetch");
}
