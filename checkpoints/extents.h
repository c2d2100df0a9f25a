/* extents.h - the byte ranges of a file's tensors against one another. */
#ifndef LORAT_EXTENTS_H
#define LORAT_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"

/* Tensors [first, l->n) of the list, of one file, must not overlap. `packed`: they also cover [0, data_bytes) without holes. */
int extents_check(const struct tensor_list *l, size_t first, uint64_t data_bytes, bool packed, const char *where, struct err *e);

#endif
