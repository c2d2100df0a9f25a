/* zero.c - large blocks are cleared by all threads, in equal parts. */
#include "kernels/cpu/entries.h"

#include <string.h>

void CPU(zero)(struct ops *o, void *p, size_t bytes)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    const size_t part = 1 << 18;
    int64_t parts = (int64_t)((bytes + part - 1) / part);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (parts > 1)
    for (int64_t i = 0; i < parts; i++) {
        size_t from = (size_t)i * part;
        memset((char *)p + from, 0, bytes - from < part ? bytes - from : part);
    }
}
