/* cross_entropy.c - a task is a row: its maximum, its sum of exponentials, then (backward) the gradient over the logits. The
 * rows' losses go through the workspace and are added in order in F64. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include <math.h>

/* log(sum(exp(x))) over v columns. A NaN that the maximum passes over makes the sum NaN. */
INLINE float row_lse(const void *x, int64_t at, int32_t v, bool half)
{
    vf top0 = vf_set(-INFINITY), top1 = top0, sum0 = {0}, sum1 = {0};
    int32_t j = 0, whole = v - v % (2 * VW);
    for (; j < whole; j += 2 * VW) {
        top0 = vf_max(load(x, at + j, half), top0);
        top1 = vf_max(load(x, at + j + VW, half), top1);
    }
    float top = vf_top(vf_max(top0, top1));
    for (int32_t t = whole; t < v; t++) {
        float e = half ? bf16_to_f32(((const bf16 *)x)[at + t]) : ((const float *)x)[at + t];
        top = e > top ? e : top;
    }
    for (j = 0; j < whole; j += 2 * VW) {
        sum0 += vf_exp(load(x, at + j, half) - top);
        sum1 += vf_exp(load(x, at + j + VW, half) - top);
    }
    double sum = vf_sum(sum0 + sum1);
    for (; j < v; j += VW) {
        vf e = vf_exp(load_n(x, at + j, v - j, half) - top);
        for (int l = 0; l < VW && j + l < v; l++)
            sum += e[l];
    }
    return (float)(log(sum) + top);
}

INLINE void row_gradient(void *x, int64_t at, int32_t ld, int32_t v, int32_t target, float weight, float lse, bool half)
{
    vf w = vf_set(weight), shift = vf_set(lse);
    float picked = half ? bf16_to_f32(((bf16 *)x)[at + target]) : ((float *)x)[at + target];
    int32_t j = 0;
    for (; j + VW <= v; j += VW)
        store(x, at + j, vf_exp(load(x, at + j, half) - shift) * w, half);
    if (j < v)
        store_n(x, at + j, v - j, vf_exp(load_n(x, at + j, v - j, half) - shift) * w, half);
    for (j = v; j < ld; j++)
        store_n(x, at + j, 1, (vf){0}, half);
    vf one = vf_exp(vf_set(picked) - shift);
    store_n(x, at + target, 1, (one - 1.0f) * w, half);
}

INLINE float row_loss(void *x, int64_t at, int32_t ld, int32_t v, int32_t target, float weight, bool backward, float *nll,
                      bool half)
{
    float lse = row_lse(x, at, v, half);
    float loss = lse - (half ? bf16_to_f32(((bf16 *)x)[at + target]) : ((float *)x)[at + target]);
    if (backward)
        row_gradient(x, at, ld, v, target, weight, lse, half);
    if (nll)
        *nll = loss;
    return loss * weight;
}

void CPU(cross_entropy)(struct ops *o, float *loss, float *nll, void *logits, int32_t ld_v, const int32_t *targets,
                        const float *weights, int32_t n, int32_t v, bool backward)
{
    struct cpu *c = cpu_of(o);
    float *rows = c->failed ? NULL : cpu_scratch(c, "cross_entropy", (size_t)n * sizeof(float));
    if (!rows)
        return;
    for (int32_t i = 0; i < n; i++)
        if (weights[i] != 0.0f && (targets[i] < 0 || targets[i] >= v)) {
            cpu_fail(c, ERR_DATA, "cross_entropy: target %d at row %d, expected 0 .. %d", targets[i], i, v - 1);
            return;
        }
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 1) if ((int64_t)n * v > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        int64_t at = (int64_t)i * ld_v;
        if (weights[i] == 0.0f) {
            rows[i] = 0.0f;
            if (nll)
                nll[i] = 0.0f;
            if (backward)
                memset((char *)logits + (size_t)at * dtype_size(o->act), 0, (size_t)ld_v * dtype_size(o->act));
        } else if (half) {
            rows[i] = row_loss(logits, at, ld_v, v, targets[i], weights[i], backward, nll ? nll + i : NULL, true);
        } else {
            rows[i] = row_loss(logits, at, ld_v, v, targets[i], weights[i], backward, nll ? nll + i : NULL, false);
        }
    }
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += rows[i];
    *loss = (float)(*loss + sum);
}
