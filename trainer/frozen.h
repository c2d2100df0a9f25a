/* frozen.h - the base model's weights. The model asks for a block, uses it and releases it; where it lives is this file's business:
 *
 *   resident  every block stays on the device
 *   sharded   each of N ranks holds 1/N of the bytes of every block; block l+1 (l-1 going backward) is gathered while l computes
 *   host      the blocks stay in pinned host memory and are fetched in the same way
 *
 * Sharded and host have room for two blocks on the device, one slot for the even layers and one for the odd: neighbours never meet in
 * one. At the turn from forward to backward both slots already hold what comes next, and so they do when the next micro-batch
 * begins. Embedding, head, norms, biases and the rotary table are resident in every placement: see docs/design-notes.md.
 * All placements give the same bits. */
#ifndef LORAT_FROZEN_H
#define LORAT_FROZEN_H

#include "kernels/ops.h"
#include "trainer/base/mem.h"
#include "trainer/comm.h"
#include "trainer/facts.h"
#include "trainer/source.h"

enum frozen_kind { FROZEN_RESIDENT, FROZEN_SHARDED, FROZEN_HOST };
struct frozen_place { /* zero is resident */
    enum frozen_kind kind;
    int rank, ranks; /* sharded: whose share, of how many */
};

struct frozen_block {
    const void *norm1, *norm2;      /* (D) act */
    const void *qkv_bias;           /* ((H+2K)Q) act or NULL */
    const void *q_norm, *k_norm;    /* (Q) act or NULL */
    struct weight qkv;              /* ((H+2K)Q, D): q, k, v under one another */
    struct weight o;                /* (D, HQ) */
    struct weight gate_up;          /* (2F, D): gate, up under one another */
    struct weight down;             /* (D, F) */
};
struct frozen_stream;               /* frozen_stream.h: blocks that come and go */
struct frozen {
    const struct facts *facts;      /* borrowed */
    struct weight embed, head;      /* (V, D); the same memory when tied */
    const void *final_norm;         /* (D) act */
    float *rope;                    /* (positions, Q/2, 2) F32 */
    int32_t positions;
    struct frozen_block *blocks;    /* (L), owned; unless resident the matrices point into the slots, good only while acquired */
    struct frozen_stream *stream;   /* owned; NULL when resident. Copies of this struct share it */
};

/* Lay the weights out (twice: counting, then placed): a in device memory, host in host memory (stays empty but for FROZEN_HOST).
 * positions: rows of the rotary table. */
int frozen_layout(struct frozen *w, const struct facts *f, enum dtype act, int32_t positions, const struct frozen_place *place,
                  struct arena *a, struct arena *host, struct err *e);
/* What blocks come by; before frozen_load. comm is only used when sharded. Both are borrowed. */
void frozen_attach(struct frozen *w, struct ops *o, struct comm *comm);
/* Read everything from the source into its place; a sharded rank reads everything and keeps its share. tick (may be NULL) is called
 * between pieces with the share done. */
int frozen_load(struct frozen *w, const struct source *s, struct ops *o, int (*tick)(void *arg, double done, struct err *e), void *arg,
                struct err *e);
/* The rotary table alone (a part of frozen_load): cos and sin of position x inverse frequency, in double, rounded once. Waits. */
int frozen_rope(struct frozen *w, struct ops *o, struct err *e);
/* The block's weights, for what is queued from now on. The next block in the direction of travel is sent for at the same time; asking
 * for the same block again costs nothing. Sharded: collective, all ranks ask for the same blocks in the same order. A failure is
 * remembered for frozen_check. */
const struct frozen_block *frozen_acquire(struct frozen *w, int32_t layer);
void frozen_release(struct frozen *w, int32_t layer);
/* Take part in a pass that this rank has nothing to compute in: blocks 0..L-1, and back again with backward. */
void frozen_follow(struct frozen *w, bool backward);
int frozen_check(const struct frozen *w, struct err *e);
void frozen_free(struct frozen *w); /* the table of blocks; the arenas' memory is not its own */

#endif
