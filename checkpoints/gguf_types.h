/* gguf_types.h - ggml's tensor types: number, name, elements and bytes per block.
 * Source: enum ggml_type and the block structs of https://github.com/ggml-org/ggml (ggml.h, ggml-common.h). */
#ifndef LORAT_GGUF_TYPES_H
#define LORAT_GGUF_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"

struct gguf_type {
    const char *name; /* NULL: a number that is not, or no longer, a type */
    uint16_t block, bytes;
    enum tensor_type type; /* TT_OTHER: its size is known, its content is not read */
};
static const struct gguf_type gguf_types[] = {
    [0] = {"F32", 1, 4, TT_F32},           [1] = {"F16", 1, 2, TT_F16},           [2] = {"Q4_0", 32, 18, TT_Q4_0},
    [3] = {"Q4_1", 32, 20, TT_Q4_1},       [6] = {"Q5_0", 32, 22, TT_OTHER},      [7] = {"Q5_1", 32, 24, TT_OTHER},
    [8] = {"Q8_0", 32, 34, TT_Q8_0},       [9] = {"Q8_1", 32, 36, TT_OTHER},      [10] = {"Q2_K", 256, 84, TT_OTHER},
    [11] = {"Q3_K", 256, 110, TT_OTHER},   [12] = {"Q4_K", 256, 144, TT_OTHER},   [13] = {"Q5_K", 256, 176, TT_OTHER},
    [14] = {"Q6_K", 256, 210, TT_OTHER},   [15] = {"Q8_K", 256, 292, TT_OTHER},   [16] = {"IQ2_XXS", 256, 66, TT_OTHER},
    [17] = {"IQ2_XS", 256, 74, TT_OTHER},  [18] = {"IQ3_XXS", 256, 98, TT_OTHER}, [19] = {"IQ1_S", 256, 50, TT_OTHER},
    [20] = {"IQ4_NL", 32, 18, TT_OTHER},   [21] = {"IQ3_S", 256, 110, TT_OTHER},  [22] = {"IQ2_S", 256, 82, TT_OTHER},
    [23] = {"IQ4_XS", 256, 136, TT_OTHER}, [24] = {"I8", 1, 1, TT_OTHER},         [25] = {"I16", 1, 2, TT_OTHER},
    [26] = {"I32", 1, 4, TT_OTHER},        [27] = {"I64", 1, 8, TT_OTHER},        [28] = {"F64", 1, 8, TT_OTHER},
    [29] = {"IQ1_M", 256, 56, TT_OTHER},   [30] = {"BF16", 1, 2, TT_BF16},        [34] = {"TQ1_0", 256, 54, TT_OTHER},
    [35] = {"TQ2_0", 256, 66, TT_OTHER},   [39] = {"MXFP4", 32, 17, TT_OTHER},    [40] = {"NVFP4", 64, 36, TT_OTHER},
    [41] = {"Q1_0", 128, 18, TT_OTHER},
};
enum { GGUF_TYPE_COUNT = sizeof gguf_types / sizeof gguf_types[0] };

#endif
