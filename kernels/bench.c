/* bench.c - see bench.h. */
#include "kernels/bench.h"

#include <stdlib.h>

#include "trainer/base/clock.h"
#include "trainer/base/rng.h"

enum { BURSTS = 25, LEAST_BURSTS = 3, MOST_CALLS = 4096, STRETCH = 8 * 8191 };

/* Seconds of n calls from i on with the wait behind them. */
static int burst(struct ops *o, void (*call)(void *arg, int64_t i), void *arg, int64_t *i, int64_t n, double *seconds,
                 struct err *e)
{
    double from = clock_s();
    for (int64_t k = 0; k < n; k++)
        call(arg, (*i)++);
    TRY(o->sync(o, e));
    *seconds = clock_s() - from;
    if (*seconds < 1e-9)
        *seconds = 1e-9;
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int bench_calls(struct ops *o, void (*call)(void *arg, int64_t i), void *arg, double budget_s, struct bench_time *out,
                struct err *e)
{
    double seconds[BURSTS], once, spent = 0;
    int64_t i = 0, n;
    int bursts = 0;
    TRY(burst(o, call, arg, &i, 1, &once, e));
    TRY(burst(o, call, arg, &i, 1, &once, e));
    n = (int64_t)(budget_s / 10 / once) + 1;
    n = n > MOST_CALLS ? MOST_CALLS : n;
    while (bursts < LEAST_BURSTS || (bursts < BURSTS && spent < budget_s)) {
        TRY(burst(o, call, arg, &i, n, &seconds[bursts], e));
        spent += seconds[bursts];
        seconds[bursts++] /= (double)n;
    }
    qsort(seconds, (size_t)bursts, sizeof seconds[0], ascending);
    *out = (struct bench_time){
        .median_s = (seconds[(bursts - 1) / 2] + seconds[bursts / 2]) / 2, .best_s = seconds[0], .calls = n * bursts};
    return 0;
}

void bench_fill(struct ops *o, void *p, enum dtype type, int64_t count, float low, float high, uint32_t seed)
{
    uint32_t stretch[STRETCH]; /* 256 KiB: F32, or BF16 in its first half */
    int64_t first = count < STRETCH ? count : STRETCH;
    size_t size = dtype_size(type);
    for (int64_t i = 0; i < first; i++) {
        struct rng4 r = rng_at(1, RNG_SAMPLE, seed, (uint32_t)(i / 4), 0);
        float x = low + (high - low) * rng_unit(r.v[i % 4]);
        if (type == DT_BF16)
            ((bf16 *)stretch)[i] = bf16_from_f32(x);
        else
            ((float *)stretch)[i] = x;
    }
    o->upload(o, p, stretch, (size_t)first * size);
    for (int64_t done = first; done < count; done *= 2)
        o->cast(o, (char *)p + (size_t)done * size, type, p, type, done < count - done ? done : count - done);
}

struct linear {
    struct ops *o;
    char *x, *y;
    struct weight w;
    int32_t n;
};

static void forward(void *arg, int64_t i)
{
    struct linear *l = arg;
    l->o->linear_forward(l->o, l->y, l->x, &l->w, NULL, l->n);
}

double bench_linear(struct ops *o, int32_t n, int32_t out, int32_t in, void *scratch, double budget_s)
{
    size_t size = dtype_size(o->act);
    struct linear l = {.o = o, .x = scratch, .n = n};
    struct bench_time t;
    struct err e;
    l.y = l.x + (size_t)n * (size_t)in * size;
    l.w = (struct weight){l.y + (size_t)n * (size_t)out * size, o->act, out, in};
    bench_fill(o, l.x, o->act, (int64_t)n * in, -1, 1, 1);
    bench_fill(o, (void *)(uintptr_t)l.w.data, o->act, (int64_t)out * in, -1, 1, 2);
    if (bench_calls(o, forward, &l, budget_s, &t, &e) != 0)
        return 0;
    return 2.0 * n * out * in / t.best_s; /* noise only ever slows a product down */
}
