/* adamw_update.c - element by element. */
#include "kernels/cpu/entries.h"

#include <math.h>

enum { PART = 1 << 13 };

void CPU(adamw_update)(struct ops *o, float *p, const float *g, float *m, float *v, int64_t count, const struct adamw *a)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    const struct adamw s = *a;
    const float beta1 = (float)s.beta1, beta2 = (float)s.beta2;
    const float rest1 = (float)(1.0 - s.beta1), rest2 = (float)(1.0 - s.beta2);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count > PART)
    for (int64_t from = 0; from < count; from += PART) {
        int64_t to = count - from < PART ? count : from + PART;
#pragma omp simd
        for (int64_t i = from; i < to; i++) {
            float gi = g[i] * s.grad_scale;
            float mi = beta1 * m[i] + rest1 * gi, vi = beta2 * v[i] + rest2 * gi * gi;
            m[i] = mi;
            v[i] = vi;
            p[i] -= s.lr * (s.weight_decay * p[i] + (mi / s.bias1) / (sqrtf(vi / s.bias2) + s.epsilon));
        }
    }
}
