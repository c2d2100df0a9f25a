/* gguf.h - llama.cpp's model file, versions 2 and 3: metadata, tensor table, data.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#ifndef LORAT_GGUF_H
#define LORAT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"
#include "trainer/base/err.h"

struct gguf; /* metadata and its bytes; opaque */

/* Pure: parse metadata and tensor table from the first n bytes of a file of file_bytes bytes. Every count, string, array and
 * tensor size is checked against what is there before anything is allocated. Tensors are added to `out` with file offsets. */
int gguf_parse(const char *bytes, size_t n, uint64_t file_bytes, const char *where, struct gguf **meta, struct tensor_list *out,
               struct err *e);
/* Open a file; reads as much of its head as the tables need. The file stays open in `out`. */
int gguf_open(const char *path, struct gguf **meta, struct tensor_list *out, struct err *e);
void gguf_close(struct gguf *g); /* NULL is fine */

bool gguf_has(const struct gguf *g, const char *key);
/* Each returns false when the key is absent or of another type (any integer type is an integer, F32 and F64 are floats). */
bool gguf_i64(const struct gguf *g, const char *key, int64_t *out);
bool gguf_f64(const struct gguf *g, const char *key, double *out);
bool gguf_bool(const struct gguf *g, const char *key, bool *out);
const char *gguf_string(const struct gguf *g, const char *key, size_t *n_out); /* not NUL-terminated; borrowed; NULL when absent */
/* Arrays: number of elements (0 when absent), then element i. */
size_t gguf_array_length(const struct gguf *g, const char *key);
const char *gguf_array_string(const struct gguf *g, const char *key, size_t i, size_t *n_out); /* O(1) */
bool gguf_array_i64(const struct gguf *g, const char *key, size_t i, int64_t *out);
bool gguf_array_f64(const struct gguf *g, const char *key, size_t i, double *out);

#endif
