/* merge.h - base + adapter as one model folder: W' = W + s B A, in F32, rounded once to the type that is written. */
#ifndef LORAT_MERGE_H
#define LORAT_MERGE_H

#include "checkpoints/hf_export.h"
#include "trainer/base/err.h"

struct merge_facts {
    int64_t tensors, changed; /* written; those that the adapter changed */
    double max_rounding;      /* largest |written - exact| / max|tensor| */
    enum tensor_type type;
};
/* base: folder or .gguf; adapter: PEFT folder; dir: a new folder that transformers loads. dtype: "auto" (the base's own; BF16 for a quantized
 * base), "bf16", "f16" or "f32". A tokenizer, where the base has one, goes along. */
int merge_export(const char *base, const char *adapter, const char *dir, const char *dtype, struct merge_facts *facts, struct err *e);

#endif
