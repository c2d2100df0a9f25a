/* tensor.h - named tensors of a model file, wherever they lie, and reading them as F32 or BF16. */
#ifndef LORAT_TENSOR_H
#define LORAT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/bf16.h"
#include "trainer/base/err.h"

/* X(name, text, elements per block, bytes per block) */
#define TENSOR_TYPES(X)                                                                                          \
    X(TT_F32, "F32", 1, 4) X(TT_F16, "F16", 1, 2) X(TT_BF16, "BF16", 1, 2) X(TT_Q8_0, "Q8_0", 32, 34)               \
    X(TT_Q4_0, "Q4_0", 32, 18) X(TT_Q4_1, "Q4_1", 32, 20) X(TT_OTHER, "other", 1, 0)
enum tensor_type {
#define X(name, text, block, bytes) name,
    TENSOR_TYPES(X)
#undef X
};
const char *tensor_type_name(enum tensor_type t);

enum { TENSOR_MAX_RANK = 8 };
struct tensor {
    char *name;               /* owned by the list */
    enum tensor_type type;    /* TT_OTHER: known to the format, not read by lorat; type_text says which */
    char type_text[16];
    int rank;
    int64_t shape[TENSOR_MAX_RANK]; /* outermost first, as Hugging Face and PyTorch write it (GGUF's order is reversed on reading) */
    uint64_t offset, bytes;   /* in file `file` of the list */
    int file;
};
struct tensor_file {
    char *path; /* owned */
    int fd;     /* owned; -1 when the list was parsed from memory */
};
struct tensor_list {
    struct tensor *tensors;
    size_t n, cap;
    struct tensor_file *files;
    size_t n_files;
    void *index; /* name -> tensor; struct names */
};
void tensor_list_close(struct tensor_list *l); /* zero is a closed list */
/* Add a file (path is copied, fd becomes the list's on success, -1 = none); the new file's number is l->n_files - 1. */
int tensor_list_add_file(struct tensor_list *l, const char *path, int fd, struct err *e);
/* Add a tensor (name is copied). Duplicate names are refused, and names that are empty or hold control characters. */
int tensor_list_add(struct tensor_list *l, const struct tensor *t, const char *where, struct err *e);
const struct tensor *tensor_find(const struct tensor_list *l, const char *name); /* NULL when absent */
int64_t tensor_count(const struct tensor *t); /* elements */
/* "(576, 1536)"; returns text. */
const char *tensor_shape_text(const struct tensor *t, char text[128]);
/* Find by name and check rank and shape; the message names the file, the tensor, found and expected. */
int tensor_require(const struct tensor_list *l, const char *name, int rank, const int64_t *shape, const struct tensor **out,
                   struct err *e);
/* Read rows [row0, row0 + rows) of a tensor seen as (shape[0], rest) into dst as type `to` (DT_F32 or DT_BF16): reads the file in
 * pieces, dequantizes (GGUF block formats, see ggml's block_q8_0, block_q4_0, block_q4_1), converts with one rounding.
 * Parallel over rows. dst holds rows * rest elements. */
int tensor_read(const struct tensor_list *l, const struct tensor *t, int64_t row0, int64_t rows, enum dtype to, void *dst,
                struct err *e);

#endif
