/* rope.c - the cosines and sines of a token are separated once and serve all its heads. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

enum { MAX_HALF = 512 };

INLINE void rotate_head(void *x, int64_t at, const float *cosine, const float *sine, int32_t q2, bool half)
{
    for (int32_t j = 0; j < q2; j += VW) {
        vf cj = load_n(cosine, j, q2 - j, false), sj = load_n(sine, j, q2 - j, false);
        vf a = load_n(x, at + j, q2 - j, half), b = load_n(x, at + q2 + j, q2 - j, half);
        store_n(x, at + j, q2 - j, a * cj - b * sj, half);
        store_n(x, at + q2 + j, q2 - j, b * cj + a * sj, half);
    }
}

void CPU(rope)(struct ops *o, void *x, int32_t ld_x, const int32_t *positions, const float *table, int32_t n, int32_t heads,
               int32_t q, bool backward)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    int32_t q2 = q / 2;
    if (q2 > MAX_HALF || q % 2 != 0) {
        cpu_fail(c, ERR_INTERNAL, "rope: head size %d, expected an even number up to %d", q, 2 * MAX_HALF);
        return;
    }
    bool half = o->act == DT_BF16;
    float sign = backward ? -1.0f : 1.0f;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * heads * q > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        float cosine[MAX_HALF], sine[MAX_HALF];
        const float *angles = table + (int64_t)positions[i] * q;
        for (int32_t j = 0; j < q2; j++) {
            cosine[j] = angles[2 * j];
            sine[j] = sign * angles[2 * j + 1];
        }
        for (int32_t h = 0; h < heads; h++) {
            int64_t at = (int64_t)i * ld_x + h * q;
            if (half)
                rotate_head(x, at, cosine, sine, q2, true);
            else
                rotate_head(x, at, cosine, sine, q2, false);
        }
    }
}
