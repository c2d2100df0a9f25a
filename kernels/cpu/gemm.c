/* gemm.c - products of activations: the adapters and their gradients. */
#include "kernels/cpu/onednn.h"

void gemm(struct ops *o, const struct gemm *g)
{
    struct cpu *c = cpu_of(o);
    if (g->a_type != o->act || g->b_type != o->act || (g->c_type != o->act && g->c_type != DT_F32)) {
        cpu_fail(c, ERR_INTERNAL, "gemm: %s times %s into %s, expected %s times %s into %s or f32", dtype_name(g->a_type),
                 dtype_name(g->b_type), dtype_name(g->c_type), dtype_name(o->act), dtype_name(o->act), dtype_name(o->act));
        return;
    }
    struct product p = {.m = g->m, .n = g->n, .k = g->k, .lda = g->lda, .ldb = g->ldb, .ldc = g->ldc, .alpha = g->alpha,
                        .trans_a = g->trans_a, .trans_b = g->trans_b, .accumulate = g->accumulate, .type = (uint8_t)o->act,
                        .bias_type = (uint8_t)o->act, .c_type = (uint8_t)g->c_type};
    onednn_multiply(c, "gemm", &p, g->a, g->b, NULL, g->c);
}
