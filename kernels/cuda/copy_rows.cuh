/* copy_rows.cuh - rows copied from and to listed places: copy_2d, gather_rows, scatter_rows and embed_forward are this one kernel.
 *
 * Memory-bound: every byte is read once and written once. A unit is 16 bytes where all addresses allow it, else an element. A
 * thread has COPY_EACH units under way, threads of a block stand side by side on one row, or on several when rows are short. */
#ifndef LORAT_CUDA_COPY_ROWS_CUH
#define LORAT_CUDA_COPY_ROWS_CUH

#include "kernels/cuda/rows.cuh"

enum { COPY_EACH = 4 };

/* Row to[i] (or i) of dst = row from[i] (or i) of src. -1 in `from` gives zeros, in `to` leaves the row out. In units. */
struct row_copy {
    void *dst;
    const void *src;
    const int32_t *to, *from;
    int64_t ld_dst, ld_src, n, width;
};

template <typename U> __global__ static void copy_rows_kernel(struct row_copy c, int shift)
{
    int64_t row = row_of_thread(shift);
    int32_t to = row < c.n ? (c.to ? c.to[row] : 0) : -1, from = row < c.n && c.from ? c.from[row] : 0;
    if (to < 0)
        return;
    U *dst = (U *)c.dst + (c.to ? to : row) * c.ld_dst;
    const U *src = (const U *)c.src + (c.from ? from : row) * c.ld_src;
    int64_t threads = (int64_t)1 << shift, part = threads * COPY_EACH;
#pragma unroll 1 /* or the compiler divides to know how often */
    for (int64_t j = blockIdx.y * part + thread_in_row(shift); j < c.width; j += gridDim.y * part) {
        U units[COPY_EACH] = {};
#pragma unroll
        for (int u = 0; u < COPY_EACH; u++)
            if (j + u * threads < c.width && from >= 0)
                units[u] = src[j + u * threads];
#pragma unroll
        for (int u = 0; u < COPY_EACH; u++)
            if (j + u * threads < c.width)
                dst[j + u * threads] = units[u];
    }
}

/* The lengths of `c` are given in elements of act and become units here. */
static inline void copy_rows(struct cuda *c, const char *where, struct row_copy r)
{
    int64_t size = (int64_t)dtype_size(c->ops.act), per = 16 / size;
    if (!cuda_wide((size_t)size, {r.dst, r.src}, {r.ld_dst, r.ld_src, r.width}))
        per = 1;
    r.ld_dst /= per;
    r.ld_src /= per;
    r.width /= per;
    struct row_layout l = rows_over(r.n, r.width, COPY_EACH);
    cuda_launch(c, where, l.grid, ROW_BLOCK, 0,
                per > 1     ? copy_rows_kernel<struct chunk>
                : size == 2 ? copy_rows_kernel<uint16_t>
                            : copy_rows_kernel<uint32_t>,
                r, l.shift);
}

#endif
