/* frozen.h - the base model's weights on the device. Their placement is this file's business: the model asks for a block, uses it
 * and releases it. They are resident; a base that is sharded over ranks or streamed from host memory would stand behind the same two
 * calls. */
#ifndef LORAT_FROZEN_H
#define LORAT_FROZEN_H

#include "kernels/ops.h"
#include "trainer/base/mem.h"
#include "trainer/facts.h"
#include "trainer/source.h"

struct frozen_block {
    const void *norm1, *norm2;      /* (D) act */
    const void *qkv_bias;           /* ((H+2K)Q) act or NULL */
    const void *q_norm, *k_norm;    /* (Q) act or NULL */
    struct weight qkv;              /* ((H+2K)Q, D): q, k, v under one another */
    struct weight o;                /* (D, HQ) */
    struct weight gate_up;          /* (2F, D): gate, up under one another */
    struct weight down;             /* (D, F) */
};
struct frozen {
    const struct facts *facts;      /* borrowed */
    struct weight embed, head;      /* (V, D); the same memory when tied */
    const void *final_norm;         /* (D) act */
    float *rope;                    /* (positions, Q/2, 2) F32 */
    int32_t positions;
    struct frozen_block *blocks;    /* (L), owned */
};

/* Lay the weights out in an arena (twice: counting, then placed). positions: rows of the rotary table. */
int frozen_layout(struct frozen *w, const struct facts *f, enum dtype act, int32_t positions, struct arena *a, struct err *e);
/* Read everything from the source into its place. tick (may be NULL) is called between pieces with the share done. */
int frozen_load(struct frozen *w, const struct source *s, struct ops *o, int (*tick)(void *arg, double done, struct err *e), void *arg,
                struct err *e);
/* The rotary table alone (a part of frozen_load): cos and sin of position x inverse frequency, in double, rounded once. Waits. */
int frozen_rope(struct frozen *w, struct ops *o, struct err *e);
const struct frozen_block *frozen_acquire(struct frozen *w, int32_t layer);
void frozen_release(struct frozen *w, int32_t layer);
void frozen_free(struct frozen *w); /* the table of blocks; the arena's memory is not its own */

#endif
