/* frozen_stream.c - the walk over blocks that come and go.
 *
 * The order of the three calls in frozen_acquire is what lets block l+1 travel while l computes: it is sent for before anything
 * of l is queued, so it waits only for the computation of l-1, the last user of its slot. */
#include "trainer/frozen_stream.h"

#include <string.h>

void frozen_keep(struct frozen_stream *s, int32_t layer, size_t at, const void *bytes, size_t n)
{
    size_t from = s->place.kind == FROZEN_SHARDED ? (size_t)s->place.rank * s->share_bytes : 0, to = from + s->share_bytes;
    size_t begin = at > from ? at : from, end = at + n < to ? at + n : to;
    if (begin >= end)
        return;
    char *dst = s->kept + (size_t)layer * s->share_bytes + (begin - from);
    const char *src = (const char *)bytes + (begin - at);
    if (s->place.kind == FROZEN_SHARDED)
        s->o->upload(s->o, dst, src, end - begin);
    else
        memcpy(dst, src, end - begin);
}

/* The layer is in its slot, or on its way. */
static void bring(struct frozen_stream *s, int32_t layer)
{
    int slot = layer % FETCH_SLOTS;
    const char *kept = s->kept + (size_t)layer * s->share_bytes;
    if (s->held[slot] == layer || s->failed)
        return;
    s->held[slot] = layer;
    s->waited[slot] = false;
    if (s->place.kind == FROZEN_HOST)
        s->o->fetch(s->o, slot, s->slots[slot], kept, s->share_bytes);
    else
        s->failed = s->comm->gather(s->comm, s->o, slot, s->slots[slot], kept, (int64_t)s->share_bytes, &s->error) != 0;
}

static void arrive(struct frozen_stream *s, int32_t layer)
{
    int slot = layer % FETCH_SLOTS;
    if (layer != s->last) {
        int32_t next = layer == s->last - 1 ? layer - 1 : layer + 1;
        bring(s, layer);
        if (next >= 0 && next < s->layers)
            bring(s, next);
        s->last = layer;
    }
    if (!s->waited[slot])
        s->o->fetch_wait(s->o, slot);
    s->waited[slot] = true;
}

const struct frozen_block *frozen_acquire(struct frozen *w, int32_t layer)
{
    if (w->stream != NULL)
        arrive(w->stream, layer);
    return &w->blocks[layer];
}

/* Nothing to do: a slot is filled anew only in its turn on the queue. */
void frozen_release(struct frozen *w, int32_t layer) {}

void frozen_follow(struct frozen *w, bool backward)
{
    if (w->stream == NULL || w->stream->place.kind != FROZEN_SHARDED)
        return;
    for (int32_t l = 0; l < w->stream->layers; l++)
        arrive(w->stream, l);
    for (int32_t l = w->stream->layers - 1; backward && l >= 0; l--)
        arrive(w->stream, l);
}

int frozen_check(const struct frozen *w, struct err *e)
{
    if (w->stream == NULL || !w->stream->failed)
        return 0;
    if (e != NULL)
        *e = w->stream->error;
    return -1;
}
