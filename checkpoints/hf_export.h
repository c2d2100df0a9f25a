/* hf_export.h - a merged model folder that transformers loads: safetensors shards, their index, and the small files. */
#ifndef LORAT_HF_EXPORT_H
#define LORAT_HF_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"
#include "trainer/base/err.h"

/* One tensor of the merged model: its Hugging Face name and shape, written as `type` (TT_BF16, TT_F16 or TT_F32). */
struct hf_tensor {
    const char *name;
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    enum tensor_type type;
    void *arg; /* for fill */
};
/* fill: rows [row0, row0+rows) of tensor i as F32 into dst; called in order, a bounded piece at a time. */
typedef int hf_fill(void *user, size_t i, const struct hf_tensor *t, int64_t row0, int64_t rows, float *dst, struct err *e);
/* A small file copied from memory, such as config.json. */
struct hf_file {
    const char *name;
    const void *bytes;
    size_t n;
};
/* Write the folder `dir` (refused when it exists and is not empty; missing parents are made): built as a temporary beside it and renamed. Shards of at most
 * shard_bytes; one shard is called model.safetensors, several get model.safetensors.index.json. Memory: a few MB.
 * *max_rounding (may be NULL) = largest |written - exact| / max|tensor| over all tensors, what the rounding to `type` cost.
 * Refused: a value that is not finite, as it is or as `type`. On failure neither the folder nor its temporary is left. */
int hf_export(const char *dir, const struct hf_tensor *tensors, size_t n, const struct hf_file *files, size_t n_files,
              uint64_t shard_bytes, hf_fill *fill, void *user, double *max_rounding, struct err *e);

#endif
