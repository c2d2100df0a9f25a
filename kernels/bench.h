/* bench.h - timing queued operations, operands to time them with, and the yardstick of "share of GEMM": how fast the plain
 * products of a job run, measured on this device now. Through ops.h alone, so that every backend is timed alike. */
#ifndef LORAT_BENCH_H
#define LORAT_BENCH_H

#include "kernels/ops.h"

struct bench_time {
    double median_s, best_s; /* of one call */
    int64_t calls;           /* timed ones */
};
/* Time call(arg, i): bursts of queued calls with one wait behind each, as long as a burst needs to make the wait small, for about
 * budget_s in all and at least three bursts. The first call is not timed: it makes what is made on first use. i counts the calls,
 * so that a caller can move through several sets of operands. */
int bench_calls(struct ops *o, void (*call)(void *arg, int64_t i), void *arg, double budget_s, struct bench_time *out,
                struct err *e);

/* p (count) of `type` (F32 or BF16) = seeded numbers, uniform in low..high. A stretch made on the host is repeated on the device;
 * its length divides no usual width, so that rows of a matrix differ. Real numbers, since products of zeros take less power and
 * run faster than a job ever sees. */
void bench_fill(struct ops *o, void *p, enum dtype type, int64_t count, float low, float high, uint32_t seed);

/* FLOP per second of y = x W^T at (n, out, in), the best of a few repetitions within about `budget_s` seconds, using `scratch`
 * (at least (n*in + n*out + out*in) * dtype_size bytes of device memory; contents destroyed). 0 on failure. */
double bench_linear(struct ops *o, int32_t n, int32_t out, int32_t in, void *scratch, double budget_s);

#endif
