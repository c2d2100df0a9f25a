/* add.c */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

enum { PART = 1 << 13 };

INLINE void add_part(void *y, const void *x, int64_t from, int64_t to, bool half)
{
    for (int64_t i = from; i < to; i += VW)
        store_n(y, i, to - i, load_n(y, i, to - i, half) + load_n(x, i, to - i, half), half);
}

void CPU(add)(struct ops *o, void *y, const void *x, int64_t count)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count > PART)
    for (int64_t i = 0; i < count; i += PART) {
        int64_t to = count - i < PART ? count : i + PART;
        if (o->act == DT_BF16)
            add_part(y, x, i, to, true);
        else
            add_part(y, x, i, to, false);
    }
}
