/* bench.c - the best of a few repetitions: noise only ever slows a product down. */
#include "kernels/bench.h"

#include <time.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double bench_linear(struct ops *o, int32_t n, int32_t out, int32_t in, void *scratch, double budget_s)
{
    size_t size = dtype_size(o->act);
    char *x = scratch, *y = x + (size_t)n * (size_t)in * size, *w = y + (size_t)n * (size_t)out * size;
    struct weight weight = {w, o->act, out, in};
    struct err e;
    double start = now_s(), best = 0;
    o->zero(o, scratch, ((size_t)n * (size_t)in + (size_t)n * (size_t)out + (size_t)out * (size_t)in) * size);
    o->linear_forward(o, y, x, &weight, NULL, n); /* makes what is made on first use */
    if (o->sync(o, &e) != 0)
        return 0;
    for (int i = 0; i < 3 || (i < 50 && now_s() - start < budget_s); i++) {
        double from = now_s();
        o->linear_forward(o, y, x, &weight, NULL, n);
        if (o->sync(o, &e) != 0)
            return 0;
        double t = now_s() - from, rate = 2.0 * n * out * in / (t > 1e-9 ? t : 1e-9);
        best = rate > best ? rate : best;
    }
    return best;
}
