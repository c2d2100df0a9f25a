/* embed_forward.c - a row of the table per token. */
#include "kernels/cpu/entries.h"

#include <string.h>

void CPU(embed_forward)(struct ops *o, void *x, const struct weight *w, const int32_t *tokens, int32_t n)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= w->out) {
            cpu_fail(c, ERR_DATA, "embed_forward: token %d at position %d, expected 0 .. %d", tokens[i], i, w->out - 1);
            return;
        }
    size_t row = (size_t)w->in * dtype_size(w->type);
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * w->in > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++)
        memcpy((char *)x + (size_t)i * row, (const char *)w->data + (size_t)tokens[i] * row, row);
}
