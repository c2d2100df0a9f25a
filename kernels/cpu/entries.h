/* entries.h - the operations of one instruction set; the same prototypes as the entries of struct ops. */
#ifndef LORAT_CPU_ENTRIES_H
#define LORAT_CPU_ENTRIES_H

#include "kernels/cpu/cpu.h"

void CPU(zero)(struct ops *o, void *p, size_t bytes);
void CPU(cast)(struct ops *o, void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t count);
void CPU(copy_2d)(struct ops *o, void *dst, int32_t ld_dst, const void *src, int32_t ld_src, int32_t rows, int32_t cols);
void CPU(add)(struct ops *o, void *y, const void *x, int64_t count);
void CPU(embed_forward)(struct ops *o, void *x, const struct weight *w, const int32_t *tokens, int32_t n);
void CPU(rmsnorm_forward)(struct ops *o, void *y, void *sum, const void *x, const void *delta, const void *w, int32_t n,
                          int32_t d, float eps);
void CPU(rmsnorm_backward)(struct ops *o, void *dx, const void *dy, const void *x, const void *w, int32_t n, int32_t d,
                           float eps);
void CPU(head_norm_forward)(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const void *w, int32_t n,
                            int32_t heads, int32_t q, float eps);
void CPU(head_norm_backward)(struct ops *o, void *dx, int32_t ld_dx, const void *dy, int32_t ld_dy, const void *x,
                             int32_t ld_x, const void *w, int32_t n, int32_t heads, int32_t q, float eps);
void CPU(rope)(struct ops *o, void *x, int32_t ld_x, const int32_t *positions, const float *table, int32_t n, int32_t heads,
               int32_t q, bool backward);
void CPU(attention_forward)(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                            const void *v);
void CPU(attention_backward)(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta);
void CPU(swiglu_forward)(struct ops *o, void *a, const void *gu, int32_t n, int32_t f);
void CPU(swiglu_backward)(struct ops *o, void *dgu, const void *da, const void *gu, int32_t n, int32_t f);
void CPU(dropout_apply)(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d,
                        const struct dropout *drop, bool accumulate);
void CPU(cross_entropy)(struct ops *o, float *loss, float *nll, void *logits, int32_t ld_v, const int32_t *targets,
                        const float *weights, int32_t n, int32_t v, bool backward);
void CPU(weight_sum)(struct ops *o, float *sum, const float *weights, int32_t n);
void CPU(argmax)(struct ops *o, int32_t *out, const void *logits, int32_t ld_v, int32_t n, int32_t v);
void CPU(grad_stats)(struct ops *o, float *out, const float *g, int64_t count);
void CPU(adamw_update)(struct ops *o, float *p, const float *g, float *m, float *v, int64_t count, const struct adamw *a);

#endif
