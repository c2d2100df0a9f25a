/* onednn.h - matrix products by oneDNN; primitives are kept per shape. */
#ifndef LORAT_CPU_ONEDNN_H
#define LORAT_CPU_ONEDNN_H

#include "kernels/cpu/cpu.h"

/* C (m, n) = alpha op(A) op(B) [+ bias (n)] or +=; the key of a kept primitive, so every byte is set. */
struct product {
    int32_t m, n, k, lda, ldb, ldc;
    float alpha;
    uint8_t trans_a, trans_b, accumulate, bias;
    uint8_t type, bias_type, c_type, unused; /* enum dtype */
};

int onednn_open(struct cpu *c, struct err *e);
void onednn_close(struct cpu *c);
/* Failures are remembered in c under the name `where`. */
void onednn_multiply(struct cpu *c, const char *where, const struct product *p, const void *a, const void *b, const void *bias,
                     void *out);

#endif
