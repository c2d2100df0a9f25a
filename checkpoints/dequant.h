/* dequant.h - elements of a model file as F32 or BF16, and back to F16. Block formats: block_q8_0, block_q4_0, block_q4_1 of
 * https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h */
#ifndef LORAT_DEQUANT_H
#define LORAT_DEQUANT_H

#include <stdint.h>

#include "checkpoints/tensor.h"

/* Elements in a block and its bytes; TT_OTHER gives 1 and 0. */
int64_t tensor_type_block(enum tensor_type t);
int64_t tensor_type_block_bytes(enum tensor_type t);
/* n elements (a multiple of the block) from src, at any alignment, into dst. Any type but TT_OTHER. One thread. */
void dequant_f32(enum tensor_type t, const void *src, int64_t n, float *dst);
/* The same, the F32 value rounded once to the nearest BF16 (ties to even). */
void dequant_bf16(enum tensor_type t, const void *src, int64_t n, bf16 *dst);

/* Nearest half precision number, ties to even; beyond the largest: infinity; NaN stays NaN. */
uint16_t f16_from_f32(float f);

#endif
