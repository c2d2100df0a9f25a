/* bench.h - the yardstick of "share of GEMM": how fast the plain products of a job run, measured on this device now. */
#ifndef LORAT_BENCH_H
#define LORAT_BENCH_H

#include "kernels/ops.h"

/* FLOP per second of y = x W^T at (n, out, in), the best of a few repetitions within about `budget_s` seconds, using `scratch`
 * (at least (n*in + n*out + out*in) * dtype_size bytes of device memory; contents destroyed). 0 on failure. */
double bench_linear(struct ops *o, int32_t n, int32_t out, int32_t in, void *scratch, double budget_s);

#endif
