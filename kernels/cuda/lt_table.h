/* lt_table.h - the text that keeps cuBLASLt's measured algorithms: which card and library they are for, then a line a product. */
#ifndef LORAT_CUDA_LT_TABLE_H
#define LORAT_CUDA_LT_TABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "trainer/base/bf16.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"

/* What tells one plan of a product from another; used as bytes, so every one of them is set. Row-major, as struct gemm. */
struct lt_shape {
    int32_t m, n, k, lda, ldb, ldc;
    uint8_t trans_a, trans_b, accumulate, bias;    /* 0 or 1 */
    uint8_t type, c_type;                          /* enum dtype: of A, B; of C and the bias */
    uint8_t align_a, align_b, align_c, align_bias; /* bytes that the addresses are multiples of: 2, 4, 8 or 16; bias 0: none */
    uint8_t unused[2];
};

enum { LT_ALGO_BYTES = 64, LT_MAX_ROWS = 1 << 16 };
struct lt_row {
    struct lt_shape shape;
    uint8_t algo[LT_ALGO_BYTES]; /* cublasLtMatmulAlgo_t: may be kept and used again by the same version of the library */
    int64_t ns, heuristic_ns;    /* measured: this algorithm, and the one that the library would have chosen */
};
struct lt_table {
    char gpu[96];        /* the card's name and compute capability */
    int64_t version;     /* cublasLtGetVersion() */
    char attention[96];  /* attention's own choice, in its words; "" when none */
    struct lt_row *rows; /* owned */
    size_t n;
};

void lt_table_free(struct lt_table *t);
/* Anything but a whole text of this form is ERR_STATE, by line. out is to be freed only after success. */
int lt_table_parse(const char *bytes, size_t n, struct lt_table *out, struct err *e);
/* The parts that lt_table_parse reads, in order: one head, rows and comments as they come, one end. */
void lt_table_head(struct buf *out, const char *gpu, int64_t version, const char *attention);
void lt_table_row(struct buf *out, const struct lt_row *row);
void lt_table_comment(struct buf *out, const struct lt_shape *shape, const char *why);
void lt_table_end(struct buf *out, size_t n_rows);
/* "64 x 96 x 48, bf16 into f32, A transposed, +=": for messages. */
const char *lt_shape_text(const struct lt_shape *s, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
