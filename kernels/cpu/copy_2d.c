/* copy_2d.c - rows are copied whole. */
#include "kernels/cpu/entries.h"

#include <string.h>

void CPU(copy_2d)(struct ops *o, void *dst, int32_t ld_dst, const void *src, int32_t ld_src, int32_t rows, int32_t cols)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    size_t size = dtype_size(o->act);
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)rows * cols > CPU_PARALLEL)
    for (int32_t i = 0; i < rows; i++)
        memcpy((char *)dst + (size_t)i * (size_t)ld_dst * size, (const char *)src + (size_t)i * (size_t)ld_src * size,
               (size_t)cols * size);
}
