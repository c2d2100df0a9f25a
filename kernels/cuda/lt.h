/* lt.h - products by cuBLASLt: one plan for each shape. */
#ifndef LORAT_CUDA_LT_H
#define LORAT_CUDA_LT_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lt_table.h"

#include <cublasLt.h>

/* The workspace that algorithms may use: what NVIDIA advises for Hopper and Blackwell (older cards want 4 MiB), given to all, as
 * products with few outputs and long sums split the sum. Always this one limit, so that an algorithm does not depend on what else
 * the workspace was sized for. */
enum { LT_WORKSPACE = 32 << 20 };

struct lt_plan {
    struct lt_shape shape;
    bool used;           /* the slot holds a plan */
    bool bias_apart;     /* the library offers no bias for this shape: its rows are laid down first and the product is added */
    bool tuned;          /* algo was measured (here or in a table that was read) */
    const char *untuned; /* static text: why it was not; NULL */
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c; /* as cuBLASLt's (column-major) sees them: its first factor is our B */
    cublasLtMatmulAlgo_t algo;
    size_t workspace; /* bytes that algo needs */
    uint64_t uses;
    int64_t ns, heuristic_ns;
};
struct lt {
    cublasLtHandle_t handle;
    struct lt_plan *slots; /* open addressing; capacity is a power of two, at most half full */
    size_t capacity, n;
    char attention[96]; /* attention's choice, kept in the same table */
};
struct lt_operands {
    const void *a, *b, *bias;
    void *c;
};

/* What follows the shape alone: descriptors and layouts. */
cublasStatus_t lt_describe(struct lt_plan *p, bool bias_apart);
/* The algorithms that the library offers, the one that it thinks fastest first, without those that may not be used; how many. */
int lt_candidates(struct cuda *c, struct lt_plan *p, cublasLtMatmulHeuristicResult_t *out, int max);
/* Is it an algorithm whose bits depend on nothing but the operands, as far as the library says? */
bool lt_allowed(const cublasLtMatmulAlgo_t *algo);
cublasStatus_t lt_run(struct cuda *c, struct lt_plan *p, const cublasLtMatmulAlgo_t *algo, float alpha,
                      const struct lt_operands *x);
/* The slot of this shape, or the free one where it would stand. */
struct lt_plan *lt_find(const struct lt *lt, const struct lt_shape *s);
/* The slot of this shape, made room for; NULL when out of memory. */
struct lt_plan *lt_slot(struct lt *lt, const struct lt_shape *s);
/* Failures are remembered in c under the name `where`. */
void lt_multiply(struct cuda *c, const char *where, struct lt_shape s, float alpha, const struct lt_operands *x);

/* attention's choice in the table of tuned algorithms: "" when none. */
const char *lt_attention(const struct cuda *c);
void lt_set_attention(struct cuda *c, const char *text);

#endif
