/* attention_list.cu - which tiles of queries there are, longest work first (attention.cuh). One block: a warp takes every eighth
 * rank and looks through the spans twice, to count and to write. 8 bytes an item; a few microseconds at the usual tens of spans.
 */
#include "kernels/cuda/attention.cuh"

enum { LIST_BLOCK = 256 };

__device__ static inline int32_t bits_set(uint32_t x)
{
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return (int32_t)(((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

/* Which of spans s .. s + 31 have a tile of this rank? */
__device__ static inline uint32_t spans_with(const struct span *spans, int32_t s, int32_t n_spans, int32_t tile, int32_t rank)
{
    return warp_ballot(s + LANE < n_spans && spans[s + LANE].q_len > rank * tile);
}

__global__ void __launch_bounds__(LIST_BLOCK)
    attention_list_kernel(struct attention_list *list, const struct span *spans, int32_t n_spans, int32_t tile, int32_t ranks)
{
    SHARED(int32_t, count); /* (ranks) */
    for (int32_t r = WARP_ID; r < ranks; r += LIST_BLOCK / WARP) {
        int32_t many = 0;
        for (int32_t s = 0; s < n_spans; s += WARP)
            many += bits_set(spans_with(spans, s, n_spans, tile, r));
        if (LANE == 0)
            count[r] = many;
    }
    block_sync();
    for (int32_t r = WARP_ID; r < ranks; r += LIST_BLOCK / WARP) {
        int32_t at = 0;
        for (int32_t higher = r + 1; higher < ranks; higher++)
            at += count[higher];
        for (int32_t s = 0; s < n_spans; s += WARP) {
            uint32_t have = spans_with(spans, s, n_spans, tile, r);
            if (have >> LANE & 1) {
                struct attention_item item = {s + LANE, r};
                list->items[at + bits_set(have & ((1u << LANE) - 1))] = item;
            }
            at += bits_set(have);
        }
        if (r == 0 && LANE == 0)
            list->count = at;
    }
}

const struct attention_list *attention_list_queue(struct cuda *c, const char *where, const struct attention *a, int32_t tile)
{
    size_t bytes = sizeof(struct attention_list) + sizeof(struct attention_item) * (size_t)attention_items(a, tile);
    struct attention_list *list = (struct attention_list *)cuda_scratch(c, where, bytes);
    int32_t ranks = (a->max_span + tile - 1) / tile;
    if (list != NULL)
        cuda_launch(c, where, dim3(1), LIST_BLOCK, sizeof(int32_t) * (size_t)ranks, attention_list_kernel, list, a->spans,
                    a->n_spans, tile, ranks);
    return c->failed ? NULL : list;
}
