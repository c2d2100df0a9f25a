/* rows.c - rows taken from and put at listed places: whole copies, one task a row. */
#include "kernels/cpu/cpu.h"

#include <string.h>

void gather_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    size_t size = dtype_size(o->act), bytes = (size_t)cols * size;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * cols > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        char *to = (char *)y + (size_t)i * (size_t)ld_y * size;
        if (index[i] < 0)
            memset(to, 0, bytes);
        else
            memcpy(to, (const char *)x + (size_t)index[i] * (size_t)ld_x * size, bytes);
    }
}

void scatter_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    size_t size = dtype_size(o->act), bytes = (size_t)cols * size;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * cols > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++)
        if (index[i] >= 0)
            memcpy((char *)y + (size_t)index[i] * (size_t)ld_y * size, (const char *)x + (size_t)i * (size_t)ld_x * size, bytes);
}
