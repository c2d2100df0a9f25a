/* model_internal.h - shared by model_block.c (one block), model_head.c (head and loss), model_step.c (the pass) and generate.c. */
#ifndef LORAT_MODEL_INTERNAL_H
#define LORAT_MODEL_INTERNAL_H

#include "trainer/model.h"

/* The stages of a block, in order; a mask says which to run. */
enum {
    STAGE_NORM1 = 1, STAGE_LOW_QKV = 2, STAGE_QKV = 4, STAGE_ATTENTION = 8, STAGE_LOW_O = 16, STAGE_O = 32, STAGE_NORM2 = 64,
    STAGE_LOW_GU = 128, STAGE_GU = 256, STAGE_ACT = 512, STAGE_LOW_DOWN = 1024, STAGE_DOWN = 2048, STAGE_ALL = 4095
};
/* What backward has to run again under a policy. */
int block_again(enum cfg_recompute policy);

/* Run stages of layer `layer` over the n tokens of the micro-batch. STAGE_NORM1 of a full forward makes x of layer l > 0 from the
 * mid-block residual before it and m->tmp; a recompute starts from the kept x (first = true for layer 0 and recomputes). STAGE_DOWN leaves
 * its result in m->tmp, to be added by whoever comes next. */
void block_forward(struct model *m, const struct lora_step *s, int32_t layer, int stages, bool first);
/* m->dx: in d loss / d x', out d loss / d x (for layer 0 nothing flows on, and m->dx is left half-way). */
void block_backward(struct model *m, const struct lora_step *s, int32_t layer);
/* Scores over the micro-batch's spans. */
struct attention block_attention(const struct model *m);
/* Add the FLOP of a product of n rows to m->flop. */
void count_product(struct model *m, double n, double out, double in);

/* After the last block: loss += and, with backward, m->dx = d loss / d x'. loss (1) F32 on the device. */
void head_loss(struct model *m, float *loss, bool backward);
/* logits (n_rows, V) F32 on the host of the rows in m->batch.rows. Waits. */
int head_logits(struct model *m, int32_t n_rows, float *logits, struct err *e);
/* ids (n_rows) I32 on the device = the likeliest next token after each of the rows in m->batch.rows; n_rows <= head_chunk. */
void head_next(struct model *m, int32_t n_rows, int32_t *ids);

#endif
