/* zero.cu - the driver's own fill; the bytes are written once. */
#include "kernels/cuda/cuda.h"

void cuda_zero(struct ops *o, void *p, size_t bytes)
{
    struct cuda *c = cuda_of(o);
    if (!c->failed && bytes)
        cuda_ok(c, cudaMemsetAsync(p, 0, bytes, c->stream), "zero");
}
