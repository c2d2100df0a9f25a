#include "datasets/tokenizer.h"
#include "trainer/base/mem.h"

void ids_free(struct ids *l)
{
    mem_free(l->v);
    *l = (struct ids){0};
}

int ids_add(struct ids *l, int32_t id, struct err *e)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        int32_t *v = mem_realloc(l->v, cap, sizeof *v);
        if (v == NULL)
            return mem_fail(e, "token ids", cap * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = id;
    return 0;
}
