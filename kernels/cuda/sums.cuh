/* sums.cuh - a few numbers added to one: weight_sum and the rows' losses of cross_entropy. One block; its threads take every
 * ROW_BLOCK-th number in F64, then a fixed tree. A few thousand numbers at most: the time is the launch's. */
#ifndef LORAT_CUDA_SUMS_CUH
#define LORAT_CUDA_SUMS_CUH

#include "kernels/cuda/device.cuh"

__global__ static void add_sum_kernel(float *sum, const float *x, int32_t n)
{
    SHARED(double, shared);
    double mine = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += ROW_BLOCK)
        mine += (double)x[i];
    mine = block_sum(mine, shared);
    if (threadIdx.x == 0)
        *sum = (float)((double)*sum + mine);
}

/* *sum += x[0] + ... + x[n-1], all on the device. */
static inline void add_sum(struct cuda *c, const char *where, float *sum, const float *x, int32_t n)
{
    cuda_launch(c, where, dim3(1), ROW_BLOCK, ROW_BLOCK / WARP * sizeof(double), add_sum_kernel, sum, x, n);
}

#endif
