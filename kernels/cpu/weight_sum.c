/* weight_sum.c */
#include "kernels/cpu/entries.h"

void CPU(weight_sum)(struct ops *o, float *sum, const float *weights, int32_t n)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    double s = 0;
    for (int32_t i = 0; i < n; i++)
        s += weights[i];
    *sum = (float)(*sum + s);
}
