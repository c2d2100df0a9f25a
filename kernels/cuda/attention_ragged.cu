/* attention_ragged.cu - the spans of a batch as cuDNN's ragged tensors want them: where each document begins, in elements of
 * every tensor, and how long it is. Spans lie in device memory, so a kernel writes them; a few hundred integers. */
#include "kernels/cuda/attention_cudnn.h"
#include "kernels/cuda/device.cuh"

enum { RAGGED_BLOCK = 128 };

__global__ static void ragged(struct attention a, int32_t documents, int32_t stride, int32_t *out)
{
    int32_t i = (int32_t)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i > documents)
        return;
    bool real = i < a.n_spans;
    int32_t first = real ? a.spans[i].q0 : a.n; /* spans cover all tokens in order: the next one's beginning is this one's end */
    int32_t hq = a.heads * a.head_size, kq = a.kv_heads * a.head_size;
    int32_t rows[RAGGED_PARTS] = {0, a.ld_q, a.ld_k, a.ld_v, hq, a.heads, kq};
    for (int32_t part = RAGGED_Q; part < RAGGED_PARTS; part++)
        out[part * stride + i] = first * rows[part];
    if (i < documents)
        out[RAGGED_LENGTHS * stride + i] = real ? a.spans[i].q_len : 0;
}

void attention_ragged_queue(struct cuda *c, const char *where, const struct attention *a, int32_t documents, int32_t *out)
{
    unsigned blocks = (unsigned)(documents + 1 + RAGGED_BLOCK - 1) / RAGGED_BLOCK;
    cuda_launch(c, where, dim3(blocks), RAGGED_BLOCK, 0, ragged, *a, documents, ragged_stride(documents), out);
}
