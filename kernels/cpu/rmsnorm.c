/* rmsnorm.c - one row at a time: two passes forward (sum of squares, scale), two backward (both sums, update). */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include <math.h>

INLINE void forward_row(void *y, void *sum, const void *x, const void *delta, const void *w, int64_t at, int32_t d, float eps,
                        bool half)
{
    vf squares = {0};
    void *kept = sum ? sum : y; /* y holds s between the passes when s is not asked for */
    for (int32_t j = 0; j < d; j += VW) {
        vf s = load_n(x, at + j, d - j, half);
        if (delta)
            s = round_to(s + load_n(delta, at + j, d - j, half), half);
        squares += s * s;
        if (delta || kept != x)
            store_n(kept, at + j, d - j, s, half);
    }
    vf r = vf_set(1.0f / sqrtf(vf_sum(squares) / (float)d + eps));
    for (int32_t j = 0; j < d; j += VW)
        store_n(y, at + j, d - j, load_n(kept, at + j, d - j, half) * r * load_n(w, j, d - j, half), half);
}

void CPU(rmsnorm_forward)(struct ops *o, void *y, void *sum, const void *x, const void *delta, const void *w, int32_t n,
                          int32_t d, float eps)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * d > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        int64_t at = (int64_t)i * d;
        if (half)
            forward_row(y, sum, x, delta, w, at, d, eps, true);
        else
            forward_row(y, sum, x, delta, w, at, d, eps, false);
    }
}

INLINE void backward_row(void *dx, const void *dy, const void *x, const void *w, int64_t at, int32_t d, float eps, bool half)
{
    vf squares = {0}, dots = {0};
    for (int32_t j = 0; j < d; j += VW) {
        vf xj = load_n(x, at + j, d - j, half);
        squares += xj * xj;
        dots += xj * load_n(w, j, d - j, half) * load_n(dy, at + j, d - j, half);
    }
    float r = 1.0f / sqrtf(vf_sum(squares) / (float)d + eps);
    vf scale = vf_set(r), back = vf_set(r * r * r * (vf_sum(dots) / (float)d));
    for (int32_t j = 0; j < d; j += VW) {
        vf g = load_n(w, j, d - j, half) * load_n(dy, at + j, d - j, half) * scale - load_n(x, at + j, d - j, half) * back;
        store_n(dx, at + j, d - j, load_n(dx, at + j, d - j, half) + g, half);
    }
}

void CPU(rmsnorm_backward)(struct ops *o, void *dx, const void *dy, const void *x, const void *w, int32_t n, int32_t d,
                           float eps)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * d > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        if (half)
            backward_row(dx, dy, x, w, (int64_t)i * d, d, eps, true);
        else
            backward_row(dx, dy, x, w, (int64_t)i * d, d, eps, false);
    }
}
