/* read_all.h - read every tensor of a list, small ones whole, so that offsets and sizes are used as well as checked. */
#ifndef LORAT_TESTS_READ_ALL_H
#define LORAT_TESTS_READ_ALL_H

#include "checkpoints/tensor.h"

static inline void read_all_tensors(const struct tensor_list *l)
{
    enum { ROOM = 4096 };
    float room[ROOM];
    struct err e = {0};
    for (size_t i = 0; i < l->n && i < 64; i++) {
        const struct tensor *t = &l->tensors[i];
        int64_t rows = t->rank > 0 ? t->shape[0] : 1;
        char text[128];
        tensor_shape_text(t, text);
        if (tensor_count(t) > ROOM)
            continue;
        if (tensor_read(l, t, 0, rows, DT_F32, room, &e) != 0 && t->type != TT_OTHER)
            abort(); /* what was accepted can be read */
        if (tensor_read(l, t, 0, rows, DT_BF16, room, &e) != 0 && t->type != TT_OTHER)
            abort();
    }
}

#endif
