/* copy_2d.cu - rows by copy_rows.cuh; a block without gaps is one long run, which the driver copies. */
#include "kernels/cuda/copy_rows.cuh"

void cuda_copy_2d(struct ops *o, void *dst, int32_t ld_dst, const void *src, int32_t ld_src, int32_t rows, int32_t cols)
{
    struct cuda *c = cuda_of(o);
    if (c->failed || rows == 0 || cols == 0)
        return;
    if (ld_dst == cols && ld_src == cols) {
        size_t bytes = (size_t)rows * (size_t)cols * dtype_size(o->act);
        cuda_ok(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, c->stream), "copy_2d");
        return;
    }
    copy_rows(c, "copy_2d", {dst, src, NULL, NULL, ld_dst, ld_src, rows, cols});
}
