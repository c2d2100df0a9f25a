/* swiglu.c - silu(g) = g / (1 + exp(-g)). */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

INLINE void forward_row(void *a, int64_t at_a, const void *gu, int64_t at_g, int32_t f, bool half)
{
    for (int32_t j = 0; j < f; j += VW) {
        vf g = load_n(gu, at_g + j, f - j, half), u = load_n(gu, at_g + f + j, f - j, half);
        store_n(a, at_a + j, f - j, g / (vf_exp(-g) + 1.0f) * u, half);
    }
}

void CPU(swiglu_forward)(struct ops *o, void *a, const void *gu, int32_t n, int32_t f)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * f > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        if (half)
            forward_row(a, (int64_t)i * f, gu, (int64_t)i * 2 * f, f, true);
        else
            forward_row(a, (int64_t)i * f, gu, (int64_t)i * 2 * f, f, false);
    }
}

/* With s = sigmoid(g): du = da g s, dg = da u s (1 + g (1 - s)). Each element is read before it is written: dgu may be gu. */
INLINE void backward_row(void *dgu, const void *da, const void *gu, int64_t row, int32_t f, bool half)
{
    int64_t at_g = row * 2 * f, at_a = row * f;
    for (int32_t j = 0; j < f; j += VW) {
        vf g = load_n(gu, at_g + j, f - j, half), u = load_n(gu, at_g + f + j, f - j, half);
        vf d = load_n(da, at_a + j, f - j, half);
        vf s = 1.0f / (vf_exp(-g) + 1.0f);
        store_n(dgu, at_g + j, f - j, d * u * s * (g * (1.0f - s) + 1.0f), half);
        store_n(dgu, at_g + f + j, f - j, d * g * s, half);
    }
}

void CPU(swiglu_backward)(struct ops *o, void *dgu, const void *da, const void *gu, int32_t n, int32_t f)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * f > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        if (half)
            backward_row(dgu, da, gu, i, f, true);
        else
            backward_row(dgu, da, gu, i, f, false);
    }
}
