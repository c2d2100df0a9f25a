/* linear.c - products with a frozen matrix. */
#include "kernels/cpu/onednn.h"

void linear_forward(struct ops *o, void *y, const void *x, const struct weight *w, const void *bias, int32_t n)
{
    struct product p = {.m = n, .n = w->out, .k = w->in, .lda = w->in, .ldb = w->in, .ldc = w->out, .alpha = 1, .trans_b = 1,
                        .bias = bias != NULL, .type = (uint8_t)o->act, .bias_type = (uint8_t)o->act, .c_type = (uint8_t)o->act};
    onednn_multiply(cpu_of(o), "linear_forward", &p, x, w->data, bias, y);
}

void linear_backward(struct ops *o, void *dx, const void *dy, const struct weight *w, int32_t n, bool accumulate)
{
    struct product p = {.m = n, .n = w->in, .k = w->out, .lda = w->out, .ldb = w->in, .ldc = w->in, .alpha = 1,
                        .accumulate = accumulate, .type = (uint8_t)o->act, .bias_type = (uint8_t)o->act, .c_type = (uint8_t)o->act};
    onednn_multiply(cpu_of(o), "linear_backward", &p, dy, w->data, NULL, dx);
}
