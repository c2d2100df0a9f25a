/* linear.cu - products with a frozen matrix. */
#include "kernels/cuda/lt.h"

/* (rows, in) times W, or its transpose, into (rows, out). */
static struct lt_shape shape_of(const struct ops *o, int32_t rows, int32_t out, int32_t in, const struct weight *w)
{
    struct lt_shape s = {};
    s.m = rows;
    s.n = out;
    s.k = in;
    s.lda = in;
    s.ldb = w->in;
    s.ldc = out;
    s.type = s.c_type = (uint8_t)o->act;
    return s;
}

void cuda_linear_forward(struct ops *o, void *y, const void *x, const struct weight *w, const void *bias, int32_t n)
{
    struct lt_shape s = shape_of(o, n, w->out, w->in, w);
    struct lt_operands operands = {x, w->data, bias, y};
    s.trans_b = 1;
    lt_multiply(cuda_of(o), "linear_forward", s, 1.0f, &operands);
}

void cuda_linear_backward(struct ops *o, void *dx, const void *dy, const struct weight *w, int32_t n, bool accumulate)
{
    struct lt_shape s = shape_of(o, n, w->in, w->out, w);
    struct lt_operands operands = {dy, w->data, NULL, dx};
    s.accumulate = accumulate;
    lt_multiply(cuda_of(o), "linear_backward", s, 1.0f, &operands);
}
