/* reference.h - every operation of kernels/ops.h as plain loops in double precision: the definition that backends are compared
 * with. Arguments are those of ops.h with all floating-point arrays as double; `act` says what a result is rounded to where the
 * definition has a rounding inside (rmsnorm's s). */
#ifndef LORAT_TESTS_REFERENCE_H
#define LORAT_TESTS_REFERENCE_H

#include "kernels/ops.h"

double ref_round(double x, enum dtype t);

struct ref_gemm {
    int m, n, k, lda, ldb, ldc;
    bool trans_a, trans_b, accumulate;
    double alpha;
};
void ref_gemm(const struct ref_gemm *g, const double *a, const double *b, double *c);
void ref_linear_forward(double *y, const double *x, const double *w, const double *bias, int n, int out, int in);
void ref_linear_backward(double *dx, const double *dy, const double *w, int n, int out, int in, bool accumulate);
void ref_rmsnorm_forward(double *y, double *sum, const double *x, const double *delta, const double *w, int n, int d, double eps,
                         enum dtype act);
void ref_rmsnorm_backward(double *dx, const double *dy, const double *x, const double *w, int n, int d, double eps);
void ref_head_norm_forward(double *y, int ld_y, const double *x, int ld_x, const double *w, int n, int heads, int q, double eps);
void ref_head_norm_backward(double *dx, int ld_dx, const double *dy, int ld_dy, const double *x, int ld_x, const double *w, int n,
                            int heads, int q, double eps);
void ref_rope(double *x, int ld_x, const int32_t *positions, const double *table, int n, int heads, int q, bool backward);
struct ref_attention {
    int n, heads, kv_heads, q, ld_q, ld_k, ld_v, n_spans;
    double scale;
    const struct span *spans; /* host memory */
};
void ref_attention_forward(const struct ref_attention *a, double *out, double *lse, const double *q, const double *k,
                           const double *v);
void ref_attention_backward(const struct ref_attention *a, double *dq, double *dk, double *dv, const double *dout, const double *q,
                            const double *k, const double *v);
void ref_swiglu_forward(double *a, const double *gu, int n, int f);
void ref_swiglu_backward(double *dgu, const double *da, const double *gu, int n, int f);
void ref_dropout(double *y, const double *x, const uint32_t *keys, int n, int d, const struct dropout *drop, bool accumulate);
void ref_cross_entropy(double *loss, double *nll, double *logits, int ld_v, const int32_t *targets, const double *weights, int n,
                       int v, bool backward);
void ref_adamw(double *p, const double *g, double *m, double *v, int64_t count, const struct adamw *a);

#endif
