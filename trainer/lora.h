/* lora.h - low-rank adapters on the linear products of the decoder, and the one trainable block that holds them.
 *
 * y = x W^T + s (x A^T) B^T, A (r, in), B (out, r), s = alpha/r (standard) or alpha/sqrt(r) (rsLoRA).
 * Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA).
 *
 * Products that share an input form a group, and the A's of a group stand under one another: one skinny product x A^T for all of
 * q, k, v. r is padded to R, a multiple of 16, with zeros that stay zero: their gradients are products with zeros.
 *
 *   trainable block, F32:   params | grads, tail | m | v          each of `count` elements (the tail: TAIL_COUNT more)
 *   params, layer by layer: A of group qkv (3R, D) | B_q | B_k | B_v | A of o | B_o | A of gate,up (2R, D) | B_gate | B_up | A, B of down
 */
#ifndef LORAT_LORA_H
#define LORAT_LORA_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "trainer/config.h"
#include "trainer/facts.h"

enum lora_kind { LORA_Q, LORA_K, LORA_V, LORA_O, LORA_GATE, LORA_UP, LORA_DOWN, LORA_KINDS };
enum lora_group { GROUP_QKV, GROUP_O, GROUP_GATE_UP, GROUP_DOWN, LORA_GROUPS };

struct lora_module {
    int32_t layer;
    enum lora_kind kind;
    int32_t in, out;
    int32_t slot;          /* its rows in the group's stack of A's start at slot * R */
    int32_t column;        /* its output starts at this column of the group's output */
    int64_t a, b;          /* offsets in elements into the block */
};
struct lora_stack { /* one group of one layer */
    int32_t n_modules;     /* 0: nothing adapted here */
    int32_t first;         /* index of its first module */
    int32_t in, ld_out;    /* shared input width; width of the group's output */
    int64_t a;             /* offset of the stacked A's (n_modules * R, in) */
};
struct lora {
    int32_t rank, padded;  /* r and R */
    float scale, dropout;
    uint64_t seed;
    int32_t layers, n_modules;
    struct lora_module *modules; /* owned */
    struct lora_stack *stacks;   /* owned, (layers, LORA_GROUPS) */
    int64_t count;               /* elements of params, a multiple of 64 */
    int64_t n_parameters;        /* without padding: what PEFT counts */
};

int lora_plan(const struct facts *f, const struct config *c, struct lora *out, struct err *e);
void lora_free(struct lora *l);
static inline const struct lora_stack *lora_stack(const struct lora *l, int32_t layer, enum lora_group g)
{
    return &l->stacks[layer * LORA_GROUPS + g];
}
/* Initial parameters (count F32 on the host): A uniform in +-1/sqrt(in) as PEFT (Kaiming, a = sqrt 5), B zero, padding zero. A
 * pure function of (seed, module, element). */
void lora_init(const struct lora *l, float *params);
/* PEFT's name: base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight (which: 'A' or 'B'). */
void lora_tensor_name(const struct lora_module *m, char which, char name[128]);

/* What the operations of one micro-batch need beside the activations. */
struct lora_step {
    const void *weights;   /* (count) act: the working copy of params */
    float *grads;          /* (count) F32, added to; NULL when only forward runs */
    const uint32_t *keys;  /* (n) dropout keys on the device */
    uint32_t step;
    bool train;            /* dropout on */
    void *xd;              /* (n, max in) act scratch, only used with dropout */
    void *dh;              /* (n, 3R) act scratch, backward */
};
/* h (n, n_modules * R) = scale x A^T of the stack. The scale is applied here, so that every product that adds to a tensor has factor 1. */
void lora_down(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *h,
               const void *x, int32_t n);
/* y (n, ld_out) += h B^T, each module into its columns. */
void lora_up(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *y,
             const void *h, int32_t n);
/* Gradients of A and B added to s->grads; dx (n, in) += ... unless NULL (the first layer's input needs none). */
void lora_backward(const struct lora *l, struct ops *o, const struct lora_step *s, int32_t layer, enum lora_group g, void *dx,
                   const void *dy, const void *x, const void *h, int32_t n);

#endif
