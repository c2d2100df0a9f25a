/* head_norm.c - RMSNorm over the Q elements of each head; a task is a token. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include <math.h>

INLINE void forward_head(void *y, int64_t at_y, const void *x, int64_t at_x, const void *w, int32_t q, float eps, bool half)
{
    vf squares = {0};
    for (int32_t j = 0; j < q; j += VW) {
        vf s = load_n(x, at_x + j, q - j, half);
        squares += s * s;
    }
    vf r = vf_set(1.0f / sqrtf(vf_sum(squares) / (float)q + eps));
    for (int32_t j = 0; j < q; j += VW)
        store_n(y, at_y + j, q - j, load_n(x, at_x + j, q - j, half) * r * load_n(w, j, q - j, half), half);
}

void CPU(head_norm_forward)(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const void *w, int32_t n,
                            int32_t heads, int32_t q, float eps)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * heads * q > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++)
        for (int32_t h = 0; h < heads; h++) {
            int64_t at_y = (int64_t)i * ld_y + h * q, at_x = (int64_t)i * ld_x + h * q;
            if (half)
                forward_head(y, at_y, x, at_x, w, q, eps, true);
            else
                forward_head(y, at_y, x, at_x, w, q, eps, false);
        }
}

INLINE void backward_head(void *dx, int64_t at_dx, const void *dy, int64_t at_dy, const void *x, int64_t at_x, const void *w,
                          int32_t q, float eps, bool half)
{
    vf squares = {0}, dots = {0};
    for (int32_t j = 0; j < q; j += VW) {
        vf xj = load_n(x, at_x + j, q - j, half);
        squares += xj * xj;
        dots += xj * load_n(w, j, q - j, half) * load_n(dy, at_dy + j, q - j, half);
    }
    float r = 1.0f / sqrtf(vf_sum(squares) / (float)q + eps);
    vf scale = vf_set(r), back = vf_set(r * r * r * (vf_sum(dots) / (float)q));
    for (int32_t j = 0; j < q; j += VW)
        store_n(dx, at_dx + j, q - j,
                load_n(w, j, q - j, half) * load_n(dy, at_dy + j, q - j, half) * scale -
                    load_n(x, at_x + j, q - j, half) * back,
                half);
}

void CPU(head_norm_backward)(struct ops *o, void *dx, int32_t ld_dx, const void *dy, int32_t ld_dy, const void *x,
                             int32_t ld_x, const void *w, int32_t n, int32_t heads, int32_t q, float eps)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * heads * q > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++)
        for (int32_t h = 0; h < heads; h++) {
            int64_t at_dx = (int64_t)i * ld_dx + h * q, at_dy = (int64_t)i * ld_dy + h * q, at_x = (int64_t)i * ld_x + h * q;
            if (half)
                backward_head(dx, at_dx, dy, at_dy, x, at_x, w, q, eps, true);
            else
                backward_head(dx, at_dx, dy, at_dy, x, at_x, w, q, eps, false);
        }
}
