/* weight_sum.cu - see sums.cuh. */
#include "kernels/cuda/sums.cuh"

void cuda_weight_sum(struct ops *o, float *sum, const float *weights, int32_t n) { add_sum(cuda_of(o), "weight_sum", sum, weights, n); }
