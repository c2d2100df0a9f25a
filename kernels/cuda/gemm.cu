/* gemm.cu - products of activations: the adapters and their gradients. */
#include "kernels/cuda/lt.h"

void cuda_gemm(struct ops *o, const struct gemm *g)
{
    struct cuda *c = cuda_of(o);
    struct lt_shape s = {};
    if (g->a_type != o->act || g->b_type != o->act || (g->c_type != o->act && g->c_type != DT_F32)) {
        cuda_fail(c, ERR_INTERNAL, "gemm: %s times %s into %s, expected %s times %s into %s or f32", dtype_name(g->a_type),
                  dtype_name(g->b_type), dtype_name(g->c_type), dtype_name(o->act), dtype_name(o->act), dtype_name(o->act));
        return;
    }
    s.m = g->m;
    s.n = g->n;
    s.k = g->k;
    s.lda = g->lda;
    s.ldb = g->ldb;
    s.ldc = g->ldc;
    s.trans_a = g->trans_a;
    s.trans_b = g->trans_b;
    s.accumulate = g->accumulate;
    s.type = (uint8_t)o->act;
    s.c_type = (uint8_t)g->c_type;
    struct lt_operands x = {g->a, g->b, NULL, g->c};
    lt_multiply(c, "gemm", s, g->alpha, &x);
}
