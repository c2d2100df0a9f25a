/* embed_forward.cu - a row of the table per token, by copy_rows.cuh. Tokens are on the device and are not looked at here: the
 * dataset's were checked against the vocabulary when it was opened. */
#include "kernels/cuda/copy_rows.cuh"

void cuda_embed_forward(struct ops *o, void *x, const struct weight *w, const int32_t *tokens, int32_t n)
{
    copy_rows(cuda_of(o), "embed_forward", {x, w->data, NULL, tokens, w->in, w->in, n, w->in});
}
