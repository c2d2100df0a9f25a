/* heads.cuh - which thread has which part of which head: head_norm and rope.
 *
 * Up to 32 lanes stand side by side on one head, several heads beside them, the rest of the block on the next tokens. A thread keeps
 * its place within the head and steps over heads, about four of them, so that what depends on the place alone (weights, angles) is
 * loaded once. There is no division: lanes and heads are powers of two, what is beyond a head's or a token's end idles. */
#ifndef LORAT_CUDA_HEADS_CUH
#define LORAT_CUDA_HEADS_CUH

#include "kernels/cuda/rows.cuh"

enum { HEADS_EACH = 4 };

struct head_layout {
    int lanes, side; /* logarithms: threads on a head, heads side by side */
    unsigned blocks;
};
static inline struct head_layout heads_over(int64_t n, int32_t heads, int64_t units)
{
    struct head_layout l;
    l.lanes = shift_for(units, 5);
    l.side = shift_for(ceil_div(heads, HEADS_EACH), 8 - l.lanes);
    l.blocks = (unsigned)ceil_div(n, ROW_BLOCK >> l.lanes >> l.side);
    return l;
}
struct head_place {
    int64_t token;
    int32_t head, step; /* the first head, and how far it is to the next */
    int lane;
};
__device__ static inline struct head_place head_of_thread(struct head_layout l)
{
    struct head_place p;
    int t = (int)threadIdx.x;
    p.lane = t & ((1 << l.lanes) - 1);
    p.step = 1 << l.side;
    p.head = t >> l.lanes & (p.step - 1);
    p.token = (int64_t)blockIdx.x * (ROW_BLOCK >> l.lanes >> l.side) + (t >> l.lanes >> l.side);
    return p;
}

#endif
