/* attention.cuh - what the files of attention share: the choice of a path, and the list of work.
 *
 * The list. Spans lie in device memory; the host knows only how many there are and how many tokens. A small kernel therefore
 * writes one item for every tile of queries that exists, and the others take item blockIdx.x / heads, or leave when there is
 * none. An item is (span, rank): rank r exists in every span of more than r tiles. Ranks fall along the list. Forward and dq take
 * tile `rank`, which sees rank + 1 tiles of keys; dk and dv take tile `tiles - 1 - rank`, which is seen by as many tiles of
 * queries. So the longest work starts first, and what is left for the end is short. */
#ifndef LORAT_CUDA_ATTENTION_CUH
#define LORAT_CUDA_ATTENTION_CUH

#include "kernels/cuda/device.cuh"

struct attention_item {
    int32_t span, rank;
};
struct attention_list {
    int32_t count, pad[3];
    struct attention_item items[1]; /* count */
};

/* Most items: a tile holds a query at least, and a span has one tile more than its whole ones at most. */
static inline int32_t attention_items(const struct attention *a, int32_t tile)
{
    int64_t most = (int64_t)a->n / tile + a->n_spans;
    return (int32_t)(most < a->n ? most : a->n);
}
/* attention_list.cu. At the workspace's beginning; NULL after a failure. */
const struct attention_list *attention_list_queue(struct cuda *c, const char *where, const struct attention *a, int32_t tile);

/* attention_delta.cu: delta (n, H) = sum over a head of dout * out. */
void attention_delta_queue(struct cuda *c, const struct attention *a, float *delta, const void *dout, const void *out);

/* attention_plain.cu: every head size (a multiple of 8, at most 256) and type. `list` has tiles of ATTENTION_PLAIN_TILE. */
enum { ATTENTION_PLAIN_TILE = 32, ATTENTION_MMA_TILE = 64 };
void attention_plain_forward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *out, float *lse,
                             const void *q, const void *k, const void *v);
void attention_plain_backward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *dq, void *dk,
                              void *dv, const void *dout, const float *lse, const void *q, const void *k, const void *v,
                              const float *delta);

/* attention_mma_forward.cu, attention_mma_backward.cu: BF16, head size 64 or 128, scale > 0, all rows on 16 bytes. `list` has
 * tiles of ATTENTION_MMA_TILE. */
void attention_mma_forward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *out, float *lse,
                           const void *q, const void *k, const void *v);
void attention_mma_backward(struct cuda *c, const struct attention *a, const struct attention_list *list, void *dq, void *dk,
                            void *dv, const void *dout, const float *lse, const void *q, const void *k, const void *v,
                            const float *delta);

#endif
