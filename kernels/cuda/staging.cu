/* staging.cu - bytes between the host and the card.
 *
 * `upload` promises that the host argument may change once it returns and that an operation queued later sees the bytes while one
 * queued earlier does not. Bytes therefore go through pinned memory of ours, which the card reads by itself, in one of two ways:
 *
 *   small (a batch; up to SMALL bytes)   host -> pinned --`uploads`--> ring on the card --`stream`--> destination
 *       The bus works while kernels run. `stream` waits for the bytes' arrival and copies them into place in its turn,
 *       which is what keeps the order.
 *   large (weights)                      host -> pinned --`stream`--> destination
 *       In its turn on `stream` itself: an earlier operation may still use the destination. The host goes on to read the next
 * piece of a file meanwhile.
 *
 * The small ring is cut into parts. One is filled after another; a part is begun again when all that was queued up to its end is
 * done, which covers both its pinned and its card's half. Large pieces take pinned slots in turn, each used again after its copy.
 * So the host waits only when a ring is full.
 *
 * `download` goes through the same pinned slots: a piece is copied out while the next ones are on their way. */
#include "kernels/cuda/cuda.h"

#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

enum { PARTS = 4, SMALL = 1 << 20, SLOTS = 4, SLOT = 8 << 20 };
struct staging {
    char *pinned, *ring;     /* PARTS parts of SMALL bytes, on the host and on the card */
    cudaEvent_t arrived;     /* on `uploads`, after a small upload's first copy */
    cudaEvent_t done[PARTS]; /* on `stream`, after the last use of a part */
    bool waiting[PARTS];     /* done was recorded since the part was begun */
    int part;
    size_t at;                 /* within the part */
    char *slots;               /* SLOTS pinned slots of SLOT bytes */
    cudaEvent_t copied[SLOTS]; /* on `stream`, after a slot's last copy */
    bool copying[SLOTS];
    int slot;
};

int staging_open(struct cuda *c, struct err *e)
{
    struct staging *s = (struct staging *)mem_alloc(1, sizeof(*s));
    if (!s)
        return mem_fail(e, "the staging ring", sizeof(*s));
    c->staging = s;
    const struct {
        char **out;
        size_t bytes;
    } blocks[] = {{&s->pinned, (size_t)PARTS * SMALL}, {&s->slots, (size_t)SLOTS * SLOT}};
    for (const auto &b : blocks)
        if (cudaHostAlloc((void **)b.out, b.bytes, cudaHostAllocDefault) != cudaSuccess) {
            cudaGetLastError();
            FAIL(e, ERR_DEVICE,
                 "cuda: %zu MiB of host memory cannot be pinned, expected it for uploads. Is host memory nearly full?",
                 b.bytes >> 20);
        }
    cudaEvent_t *events[1 + PARTS + SLOTS] = {&s->arrived};
    for (int i = 0; i < PARTS; i++)
        events[1 + i] = &s->done[i];
    for (int i = 0; i < SLOTS; i++)
        events[1 + PARTS + i] = &s->copied[i];
    bool ok = cuda_ok(c, cudaMalloc((void **)&s->ring, (size_t)PARTS * SMALL), "the staging ring");
    for (cudaEvent_t *event : events)
        ok = ok && cuda_ok(c, cudaEventCreateWithFlags(event, cudaEventDisableTiming), "an event");
    return cuda_check(&c->ops, e);
}

void staging_close(struct cuda *c)
{
    struct staging *s = c->staging;
    if (!s)
        return;
    if (s->arrived)
        cudaEventDestroy(s->arrived);
    for (int i = 0; i < PARTS; i++)
        if (s->done[i])
            cudaEventDestroy(s->done[i]);
    for (int i = 0; i < SLOTS; i++)
        if (s->copied[i])
            cudaEventDestroy(s->copied[i]);
    cudaFree(s->ring);
    cudaFreeHost(s->pinned);
    cudaFreeHost(s->slots);
    mem_free(s);
    c->staging = NULL;
}

/* Room for `bytes` in the small ring: *pinned and *ring. False after a failure. */
static bool small_room(struct cuda *c, size_t bytes, char **pinned, char **ring)
{
    struct staging *s = c->staging;
    if (s->at + bytes > SMALL) {
        if (!cuda_ok(c, cudaEventRecord(s->done[s->part], c->stream), "upload"))
            return false;
        s->waiting[s->part] = true;
        s->part = (s->part + 1) % PARTS;
        s->at = 0;
        if (s->waiting[s->part] && !cuda_ok(c, cudaEventSynchronize(s->done[s->part]), "upload"))
            return false;
        s->waiting[s->part] = false;
    }
    *pinned = s->pinned + (size_t)s->part * SMALL + s->at;
    *ring = s->ring + (size_t)s->part * SMALL + s->at;
    s->at += (size_t)num_round_up((int64_t)bytes, 256);
    return true;
}

static void upload_small(struct cuda *c, void *dst, const void *src_host, size_t bytes)
{
    struct staging *s = c->staging;
    char *pinned, *ring;
    if (!small_room(c, bytes, &pinned, &ring))
        return;
    memcpy(pinned, src_host, bytes);
    if (cuda_ok(c, cudaMemcpyAsync(ring, pinned, bytes, cudaMemcpyHostToDevice, c->uploads), "upload") &&
        cuda_ok(c, cudaEventRecord(s->arrived, c->uploads), "upload") &&
        cuda_ok(c, cudaStreamWaitEvent(c->stream, s->arrived, 0), "upload"))
        cuda_ok(c, cudaMemcpyAsync(dst, ring, bytes, cudaMemcpyDeviceToDevice, c->stream), "upload");
}

/* The next pinned slot, once its last copy is done; NULL after a failure. */
static char *next_slot(struct cuda *c, int *which)
{
    struct staging *s = c->staging;
    int slot = s->slot;
    s->slot = (slot + 1) % SLOTS;
    if (s->copying[slot] && !cuda_ok(c, cudaEventSynchronize(s->copied[slot]), "upload"))
        return NULL;
    s->copying[slot] = false;
    *which = slot;
    return s->slots + (size_t)slot * SLOT;
}
static bool slot_taken(struct cuda *c, int slot, const char *where)
{
    c->staging->copying[slot] = true;
    return cuda_ok(c, cudaEventRecord(c->staging->copied[slot], c->stream), where);
}

void cuda_upload(struct ops *o, void *dst, const void *src_host, size_t bytes)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed && bytes > 0 && bytes <= SMALL) {
        upload_small(c, dst, src_host, bytes);
        return;
    }
    for (size_t at = 0, n; at < bytes && !c->failed; at += n) {
        int slot;
        char *pinned = next_slot(c, &slot);
        n = bytes - at < SLOT ? bytes - at : (size_t)SLOT;
        if (!pinned)
            return;
        memcpy(pinned, (const char *)src_host + at, n);
        if (cuda_ok(c, cudaMemcpyAsync((char *)dst + at, pinned, n, cudaMemcpyHostToDevice, c->stream), "upload"))
            slot_taken(c, slot, "upload");
    }
}

int cuda_download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e)
{
    struct cuda *c = cuda_of(o);
    int64_t n = num_div_up((int64_t)bytes, SLOT);
    char *pinned[SLOTS];
    int slot[SLOTS];
    for (int64_t i = 0; i < n + SLOTS - 1 && !c->failed; i++) { /* queue piece i, take piece i - (SLOTS - 1) */
        int64_t take = i - (SLOTS - 1);
        if (i < n) {
            size_t at = (size_t)i * SLOT, length = bytes - at < SLOT ? bytes - at : (size_t)SLOT;
            pinned[i % SLOTS] = next_slot(c, &slot[i % SLOTS]);
            if (pinned[i % SLOTS] &&
                cuda_ok(c, cudaMemcpyAsync(pinned[i % SLOTS], (const char *)src + at, length, cudaMemcpyDeviceToHost, c->stream),
                        "download"))
                slot_taken(c, slot[i % SLOTS], "download");
        }
        if (take >= 0 && !c->failed && cuda_ok(c, cudaEventSynchronize(c->staging->copied[slot[take % SLOTS]]), "download")) {
            size_t at = (size_t)take * SLOT, length = bytes - at < SLOT ? bytes - at : (size_t)SLOT;
            memcpy((char *)dst_host + at, pinned[take % SLOTS], length);
        }
    }
    return bytes > 0 ? cuda_check(o, e) : cuda_sync(o, e);
}
