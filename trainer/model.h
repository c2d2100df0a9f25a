/* model.h - the decoder with its adapters as a flat list of calls of ops.h: forward to the loss, backward into one gradient block.
 *
 * Legend: n tokens of a micro-batch, D model width, F feed-forward width, H query heads, K key/value heads, Q head size,
 *   V vocabulary, L layers, R padded rank, c rows of one head chunk. All activations are of type ops->act.
 *
 * One block:                                              kept for the backward pass under
 *   n1  = rmsnorm(x)                         (n, D)        nothing: element-wise, always made again
 *   hq  = s n1 A_qkv^T                        (n, 3R)       none
 *   qkv = n1 W_qkv^T [+ bias] + lora         (n, (H+2K)Q)  none, selective  (q, k rotated in place)
 *   raw = q, k before their norm             (n, (H+K)Q)   none, selective  (only with q/k norm)
 *   o   = attention(q, k, v), lse            (n, HQ)       none, selective
 *   ho  = s o A_o^T                          (n, R)        none
 *   mid = x + (o W_o^T + lora)               (n, D)        none, selective
 *   n2  = rmsnorm(mid)                       (n, D)        nothing
 *   hg  = s n2 A_gu^T                        (n, 2R)       none
 *   gu  = n2 W_gu^T + lora                   (n, 2F)       none
 *   a   = silu(g) u                          (n, F)        nothing
 *   hd  = s a A_down^T                       (n, R)        none
 *   x'  = mid + (a W_down^T + lora)          (n, D)        every policy keeps x
 *
 * What is not kept is made again by the very same calls, so that every policy gives the same gradient bits. The product with
 * W_down is never repeated: its result is not needed. */
#ifndef LORAT_MODEL_H
#define LORAT_MODEL_H

#include "kernels/ops.h"
#include "trainer/base/batch.h"
#include "trainer/base/mem.h"
#include "trainer/frozen.h"
#include "trainer/lora.h"

enum { MODEL_LEAST_TOKENS = 256 }; /* the workspace is made for calls of at least so many tokens: generation's passes */
struct model_shape {
    int32_t n;               /* most tokens in a micro-batch, a multiple of BATCH_ROUND */
    int32_t sequence_length; /* longest document */
    int32_t positions;       /* rows of the rotary table: at least sequence_length */
    int32_t head_chunk;      /* c, a multiple of BATCH_ROUND */
    enum cfg_recompute recompute; /* not auto */
    bool dropout;            /* needs a scratch */
    struct frozen_place place; /* of the base's blocks; zero: resident */
    size_t least_activations; /* bytes: the third arena is at least this large (generation's cache lies in it); 0 = as it comes */
};

/* The tail behind the gradients: what is summed over ranks with them, and what the guard reads back in one go. */
/* TAIL_SKIP: a rank whose micro-batches could not be computed asks all to skip the step; TAIL_STOP: one was asked to stop. */
enum { TAIL_LOSS, TAIL_WEIGHT, TAIL_SKIP, TAIL_STOP, TAIL_SUMMED, TAIL_SQUARES = TAIL_SUMMED, TAIL_NOT_FINITE, TAIL_USED, TAIL_COUNT = 64 };
struct trainable {
    float *params, *grads, *m, *v; /* (count) F32; grads has TAIL_COUNT more */
    void *work;                    /* (count) act: what the products read; params itself when act is F32 */
};

/* Per-token buffers of one layer; those that the policy does not keep point into one set shared by all layers. */
struct layer_acts {
    void *x, *n1, *h_qkv, *raw, *qkv, *o, *h_o, *mid, *n2, *h_gu, *gu, *a, *h_down;
    float *lse;
};
enum { ARENA_FROZEN, ARENA_TRAINABLE, ARENA_ACTIVATIONS, ARENAS_DEVICE, ARENA_HOST = ARENAS_DEVICE, ARENAS };
struct model {
    struct ops *o;               /* borrowed */
    const struct facts *facts;   /* borrowed */
    const struct lora *lora;     /* borrowed */
    struct model_shape shape;
    struct frozen frozen;
    struct trainable t;
    struct comm *comm;           /* borrowed; set between layout and allocation where the base is sharded, else not used */
    struct arena arenas[ARENAS]; /* frozen weights; trainable state; activations and scratch; frozen weights in host memory */
    void *memory[ARENAS];        /* from ops->alloc, the last from ops->alloc_host; owned; NULL when nothing is in it */
    struct layer_acts *acts;     /* (L), owned */
    struct {                     /* the micro-batch on the device */
        int32_t *tokens, *targets, *positions, *rows;
        uint32_t *keys;
        float *weights;
        struct span *spans;
        int32_t n, n_spans, max_span, n_rows;
    } batch;
    struct { /* host side of the rows that carry loss */
        int32_t *rows, *targets;
        float *weights;
    } host;
    /* scratch: dx residual gradient (n, D); dn (n, D); tmp (n, D); dqkv; d_o (n, HQ); da (n, F); dh (n, 3R); xd; delta (n, H) */
    void *dx, *dn, *tmp, *dqkv, *d_o, *da, *dh, *xd;
    float *delta;
    /* head, one chunk: xg, nf, dnf, dxg (c, D), logits (c, V); eval (TAIL_COUNT) F32 */
    void *xg, *nf, *dnf, *dxg, *logits;
    float *eval;
    void *workspace;
    size_t workspace_bytes;
    void (*tick)(void *arg);     /* called between blocks, so that whoever watches sees progress; may be NULL */
    void *tick_arg;
    double flop;                 /* executed since the caller last set it to 0, products and attention */
};

/* Count only: fills m->arenas; nothing is allocated on the device and no weight is read. o may be a backend that was opened for
 * another purpose: only its act and workspace_bytes are asked. */
int model_layout(struct model *m, struct ops *o, const struct facts *f, const struct lora *l, const struct model_shape *shape,
                 struct err *e);
/* Allocate what model_layout counted (the arenas, once) and place everything. */
int model_allocate(struct model *m, struct err *e);
int model_load(struct model *m, const struct source *s, int (*tick)(void *arg, double done, struct err *e), void *arg, struct err *e);
void model_close(struct model *m); /* zero is closed */

/* params (count F32 on the host) into the block; the working copy follows. */
int model_set_params(struct model *m, const float *params, struct err *e);
/* work = params rounded to act; queued. After every update. */
void model_refresh(struct model *m);
/* Gradients and tail = 0. */
void model_zero_grads(struct model *m);
/* One micro-batch forward and backward: grads += d(sum of w nll)/d params, tail += {loss, weight sum}. step keys the dropout.
 * Queued; failures show at the next ops check. The batch is copied and may be released on return. */
int model_accumulate(struct model *m, const struct batch *b, int64_t step, struct err *e);
/* One micro-batch forward only, dropout off: loss sum and weight sum of the batch. Waits. */
int model_evaluate(struct model *m, const struct batch *b, double *loss, double *weight, struct err *e);
/* logits (n_rows, V) F32 on the host at the given positions of a micro-batch; for tests. Waits. */
int model_logits(struct model *m, const struct batch *b, const int32_t *rows, int32_t n_rows, float *logits, struct err *e);

#endif
