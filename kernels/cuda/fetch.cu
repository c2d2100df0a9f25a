/* fetch.cu - the second queue: weights that do not stay on the card come on it while kernels run on the first.
 *
 *   stream    compute(l-1) |queued|  compute(l)          |wait done(l+1)| compute(l+1)
 *   second                 '--> fetch(l+1) |done(l+1)| --'
 *
 * A fetch waits for what was queued before it, the last user of the memory that it overwrites, and what is queued after
 * fetch_wait waits for it. All of that is between queues: the host waits for nothing.
 *
 * What a wait costs is the time between an event before it and one behind it, on the first queue. The pairs stand in a ring until
 * somebody asks; those that the queue has passed by then are added up. */
#include "kernels/cuda/cuda.h"

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

enum { WAITS_FIRST = 64, WAITS_MOST = 1 << 14 };
struct wait {
    cudaEvent_t from, to;
};
struct fetching {
    cudaStream_t stream;
    cudaEvent_t queued;            /* on the first queue, where a fetch begins */
    cudaEvent_t done[FETCH_SLOTS]; /* on the second, after the slot's last fetch */
    bool recorded[FETCH_SLOTS];
    struct wait *waits; /* (capacity) a ring */
    size_t capacity, oldest, pending;
    double waited_s;
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
    for (size_t i = 0; i < f->capacity; i++) {
        if (f->waits[i].from)
            cudaEventDestroy(f->waits[i].from);
        if (f->waits[i].to)
            cudaEventDestroy(f->waits[i].to);
    }
    mem_free(f->waits);
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

/* Add up the waits that the first queue has passed. */
static void count_waits(struct cuda *c)
{
    struct fetching *f = c->fetching;
    for (; f->pending > 0 && !c->failed; f->pending--) {
        const struct wait *w = &f->waits[f->oldest];
        float ms = 0;
        cudaError_t rc = cudaEventElapsedTime(&ms, w->from, w->to);
        if (rc == cudaErrorNotReady) {
            cudaGetLastError(); /* no error, but would be found as one */
            return;
        }
        if (!cuda_ok(c, rc, "fetch"))
            return;
        f->waited_s += 1e-3 * (double)ms;
        f->oldest = (f->oldest + 1) % f->capacity;
    }
}

/* A larger ring, with the pending ones at its beginning. */
static bool grow(struct cuda *c)
{
    struct fetching *f = c->fetching;
    size_t more = f->capacity ? 2 * f->capacity : (size_t)WAITS_FIRST;
    struct wait *waits = more <= WAITS_MOST ? (struct wait *)mem_alloc(more, sizeof(*waits)) : NULL;
    if (!waits)
        return false;
    for (size_t i = 0; i < f->capacity; i++)
        waits[i] = f->waits[(f->oldest + i) % f->capacity];
    mem_free(f->waits);
    f->waits = waits;
    f->capacity = more;
    f->oldest = 0;
    for (size_t i = 0; i < more; i++)
        if (!waits[i].to &&
            !(cuda_ok(c, cudaEventCreate(&waits[i].from), "an event") && cuda_ok(c, cudaEventCreate(&waits[i].to), "an event")))
            return false;
    return true;
}

/* The pair of events for one more wait; NULL: this one is not measured, since the ring cannot grow. */
static struct wait *next_wait(struct cuda *c)
{
    struct fetching *f = c->fetching;
    if (f->pending == f->capacity)
        count_waits(c);
    if (c->failed || (f->pending == f->capacity && !grow(c)))
        return NULL;
    return &f->waits[(f->oldest + f->pending++) % f->capacity];
}

void cuda_fetch_wait(struct ops *o, int slot)
{
    struct cuda *c = cuda_of(o);
    if (c->failed || !c->fetching->recorded[slot])
        return;
    struct wait *w = next_wait(c);
    if (w)
        cuda_ok(c, cudaEventRecord(w->from, c->stream), "fetch");
    cuda_ok(c, cudaStreamWaitEvent(c->stream, c->fetching->done[slot], 0), "fetch");
    if (w)
        cuda_ok(c, cudaEventRecord(w->to, c->stream), "fetch");
}

double cuda_fetch_waited(struct ops *o)
{
    struct cuda *c = cuda_of(o);
    struct fetching *f = c->fetching;
    count_waits(c);
    double s = f->waited_s;
    f->waited_s = 0;
    return s;
}
