/* rows.cu - gather_rows and scatter_rows by copy_rows.cuh. */
#include "kernels/cuda/copy_rows.cuh"

void cuda_gather_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols)
{
    copy_rows(cuda_of(o), "gather_rows", {y, x, NULL, index, ld_y, ld_x, n, cols});
}

void cuda_scatter_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols)
{
    copy_rows(cuda_of(o), "scatter_rows", {y, x, index, NULL, ld_y, ld_x, n, cols});
}
