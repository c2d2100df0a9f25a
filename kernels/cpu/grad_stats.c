/* grad_stats.c - sums of fixed parts of the block, then the parts in order: the bits do not depend on the thread count. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include <math.h>

enum { PART = 1 << 14, LANES = 8 };

void CPU(grad_stats)(struct ops *o, float *out, const float *g, int64_t count)
{
    struct cpu *c = cpu_of(o);
    int64_t parts = (count + PART - 1) / PART, room = c->failed ? 0 : (int64_t)(c->workspace_size / (2 * sizeof(double)));
    if (c->failed)
        return;
    if (room < 1) {
        cpu_scratch(c, "grad_stats", 2 * sizeof(double));
        return;
    }
    double *sums = (double *)(void *)c->workspace, sum = 0, bad = 0;
    for (int64_t first = 0; first < parts; first += room) {
        int64_t n = parts - first < room ? parts - first : room;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (n > 1)
        for (int64_t p = 0; p < n; p++) {
            int64_t from = (first + p) * PART, to = count - from < PART ? count : from + PART, i = from;
            double lanes[LANES] = {0};
            int64_t odd = 0;
            for (; i + LANES <= to; i += LANES)
                for (int l = 0; l < LANES; l++) {
                    lanes[l] += (double)g[i + l] * (double)g[i + l];
                    odd += !(fabsf(g[i + l]) < INFINITY);
                }
            for (; i < to; i++) {
                lanes[0] += (double)g[i] * (double)g[i];
                odd += !(fabsf(g[i]) < INFINITY);
            }
            double s = 0;
            for (int l = 0; l < LANES; l++)
                s += lanes[l];
            sums[2 * p] = s;
            sums[2 * p + 1] = (double)odd;
        }
        for (int64_t p = 0; p < n; p++) {
            sum += sums[2 * p];
            bad += sums[2 * p + 1];
        }
    }
    out[0] = (float)sum;
    out[1] = (float)bad;
}
