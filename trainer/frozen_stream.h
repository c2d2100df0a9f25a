/* frozen_stream.h - blocks that come and go: shared by frozen.c (layout, loading) and frozen_stream.c (the walk over the blocks).
 *
 *   a block      | W_qkv | W_o | W_gate, W_up | W_down | padding |      one run of bytes
 *   sharded      | share of rank 0 | share of rank 1 | ...             equal shares, multiples of 256 bytes
 *   device       | slot 0 | slot 1 |                                   layer l lies in slot l % 2 */
#ifndef LORAT_FROZEN_STREAM_H
#define LORAT_FROZEN_STREAM_H

#include "trainer/frozen.h"

struct frozen_stream {
    struct frozen_place place;
    struct ops *o;
    struct comm *comm;
    int32_t layers;
    size_t share_bytes;        /* of one rank; host: the whole block */
    size_t slot_bytes;         /* share_bytes x ranks */
    char *slots[FETCH_SLOTS];  /* device */
    char *kept;                /* (L, share_bytes): sharded: device memory, host: host memory */
    int32_t held[FETCH_SLOTS]; /* the layer in a slot, or on its way there; -1 none */
    bool waited[FETCH_SLOTS];  /* the first queue was told to wait for it */
    int32_t last;              /* the layer acquired last, -1 none */
    bool failed;
    struct err error;
};

/* n bytes of layer `layer` into what is kept of it, `at` bytes from the block's beginning. */
void frozen_keep(struct frozen_stream *s, int32_t layer, size_t at, const void *bytes, size_t n);

#endif
