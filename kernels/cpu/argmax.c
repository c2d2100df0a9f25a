/* argmax.c - the largest value of a row by vectors, then its first place. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include <math.h>

INLINE int32_t row_argmax(const void *x, int64_t at, int32_t v, bool half)
{
    vf tops = vf_set(-INFINITY);
    int32_t j = 0;
    for (; j + VW <= v; j += VW)
        tops = vf_max(load(x, at + j, half), tops);
    float top = vf_top(tops);
    for (; j < v; j++) {
        float e = half ? bf16_to_f32(((const bf16 *)x)[at + j]) : ((const float *)x)[at + j];
        top = e > top ? e : top;
    }
    for (j = 0; j < v; j++)
        if ((half ? bf16_to_f32(((const bf16 *)x)[at + j]) : ((const float *)x)[at + j]) == top)
            return j;
    return 0; /* every logit is NaN */
}

void CPU(argmax)(struct ops *o, int32_t *out, const void *logits, int32_t ld_v, int32_t n, int32_t v)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * v > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++)
        out[i] = half ? row_argmax(logits, (int64_t)i * ld_v, v, true) : row_argmax(logits, (int64_t)i * ld_v, v, false);
}
