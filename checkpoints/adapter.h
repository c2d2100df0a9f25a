/* adapter.h - LoRA adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors with tensors
 * base_model.model.<module>.lora_A.weight (r, in) and .lora_B.weight (out, r), F32. */
#ifndef LORAT_ADAPTER_H
#define LORAT_ADAPTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"

struct adapter_config {
    char base[1024];          /* base_model_name_or_path */
    int32_t rank;
    double alpha, dropout;
    bool rslora;              /* scale alpha/sqrt(r) instead of alpha/r */
    char targets[16][32];     /* module names: q_proj, ... ; explicit, the last component of what PEFT names */
    int n_targets;            /* 0 after adapter_config_parse of "all-linear" only */
};
double adapter_scale(const struct adapter_config *c);
/* Pure. Unknown features that change the result (DoRA, rank_pattern, alpha_pattern, modules_to_save, bias, layers_to_transform,
 * a task or peft type that is not LoRA, any key lorat does not know that is not off) are refused by name. */
int adapter_config_parse(const char *bytes, size_t n, const char *where, struct adapter_config *out, struct err *e);
/* JSON that PEFT loads (tested with 0.21). */
int adapter_config_write(const struct adapter_config *c, struct buf *b, struct err *e);
/* An adapter folder: config and tensors (open; read with tensor_read; *l is overwritten, and closed on failure). Every tensor is a
 * LoRA matrix of a target in F32, F16 or BF16, every A has its B and their rank is the config's; "all-linear" becomes the modules
 * that are there. Whether each layer has its matrices is the model's to check. */
int adapter_open(const char *dir, struct adapter_config *c, struct tensor_list *l, struct err *e);

/* One matrix on its way out: rows x cols F32 taken from memory with row distance ld (padding is left behind). */
struct adapter_matrix {
    const char *name; /* full PEFT name */
    const float *data;
    int64_t rows, cols, ld;
};
/* Its length bytes and header for these matrices; the rows follow without their padding, matrix by matrix. */
int adapter_tensors_header(const struct adapter_matrix *m, size_t n, struct buf *b, struct err *e);
/* adapter_model.safetensors as bytes: header and data, in this order. */
int adapter_tensors_write(const struct adapter_matrix *m, size_t n, struct buf *b, struct err *e);

#endif
