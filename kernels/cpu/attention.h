/* attention.h - what attention's two directions share: blocks of 64 queries by 64 keys, and a core's scratch. */
#ifndef LORAT_CPU_ATTENTION_H
#define LORAT_CPU_ATTENTION_H

#include "kernels/cpu/entries.h"
#include "kernels/cpu/tile.h"

enum { BLOCK = 64 };

/* Sizes of one head: `ld` slots of a row (padded), `cols` F32 or straight slots of a row (padded). */
struct head_shape {
    int32_t q, ld, cols, depth; /* depth: slots along BLOCK */
};
INLINE struct head_shape head_shape(int32_t q, bool pairs)
{
    return (struct head_shape){q, pad_to(slots(q, pairs), TURN), pad_to(q, 16), slots(BLOCK, pairs)};
}
static inline size_t take(size_t *used, size_t count, size_t size)
{
    size_t at = *used;
    *used += (count * size + 63) / 64 * 64;
    return at;
}
/* base is NULL while the sizes are counted. */
static inline void *part(char *base, size_t at) { return base ? base + at : NULL; }

#endif
