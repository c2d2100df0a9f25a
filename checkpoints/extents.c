#include "checkpoints/extents.h"

#include <stdlib.h>

#include "trainer/base/mem.h"

static int by_offset(const void *pa, const void *pb)
{
    const struct tensor *a = *(const struct tensor *const *)pa, *b = *(const struct tensor *const *)pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* empty ones first: they overlap nothing */
}

static int check_sorted(const struct tensor *const *order, size_t n, uint64_t data_bytes, bool packed, const char *where,
                        struct err *e)
{
    uint64_t end = 0; /* no overflow: every tensor was checked to end inside the file */
    const char *before = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = order[i];
        if (before != NULL && t->offset < end)
            FAIL(e, ERR_MODEL, "%s: tensor \"%.200s\" begins at %llu, expected %llu or later: it overlaps \"%.200s\"", where,
                 t->name, (unsigned long long)t->offset, (unsigned long long)end, before);
        if (packed && t->offset > end)
            FAIL(e, ERR_MODEL, "%s: tensor \"%.200s\" begins at %llu, expected %llu: there is a hole before it", where, t->name,
                 (unsigned long long)t->offset, (unsigned long long)end);
        end = t->offset + t->bytes;
        before = t->name;
    }
    if (packed && end != data_bytes)
        FAIL(e, ERR_MODEL, "%s: %llu trailing bytes behind the last tensor, expected none", where,
             (unsigned long long)(data_bytes - end));
    return 0;
}

int extents_check(const struct tensor_list *l, size_t first, uint64_t data_bytes, bool packed, const char *where, struct err *e)
{
    size_t n = l->n - first;
    const struct tensor **order = mem_alloc(n ? n : 1, sizeof *order);
    if (order == NULL)
        return mem_fail(e, "a list of tensors", n * sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = &l->tensors[first + i];
    qsort(order, n, sizeof *order, by_offset);
    int rc = check_sorted(order, n, data_bytes, packed, where, e);
    mem_free(order);
    return rc;
}
