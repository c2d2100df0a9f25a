/* attention.cu - which kernel computes attention. The tensor-core kernels (attention_mma_*.cu) take BF16 with a head size of 64
 * or 128 and rows on 16 bytes, which is what models have; the plain ones (attention_plain.cu) take the rest. Where cuDNN's is used
 * instead, attention_select.cu says. $LORAT_ATTENTION, read when the card is opened, forces one, for tests and comparisons. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_select.h"

#include <stdlib.h>
#include <string.h>

int attention_path_read(enum attention_path *out, struct err *e)
{
    static const char *const names[] = {"auto", "plain", "mma", "cudnn"};
    const char *want = getenv("LORAT_ATTENTION");
    *out = ATTENTION_AUTO;
    if (want == NULL || *want == '\0')
        return 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(want, names[i]) == 0) {
            *out = (enum attention_path)i;
            return 0;
        }
    FAIL(e, ERR_CONFIG, "LORAT_ATTENTION: '%s', expected auto, plain, mma or cudnn. Correct it or leave it unset", want);
}

/* The tensor-core kernels? A wish for them that cannot be met is a failure, so that no test takes the other path unseen. */
static bool takes_mma(struct cuda *c, const struct attention *a, std::initializer_list<const void *> pointers)
{
    bool fit = c->ops.act == DT_BF16 && (a->head_size == 64 || a->head_size == 128) && a->scale > 0 &&
               cuda_wide(sizeof(bf16), pointers, {a->ld_q, a->ld_k, a->ld_v});
    if (!fit && c->attention == ATTENTION_MMA)
        cuda_fail(c, ERR_DEVICE,
                  "LORAT_ATTENTION=mma: head size %d in %s, expected 64 or 128 in bf16 on 16 bytes. Set it to auto", a->head_size,
                  dtype_name(c->ops.act));
    return fit && c->attention != ATTENTION_PLAIN;
}

size_t attention_workspace(const struct cuda *c, const struct ops_dims *d)
{
    size_t own = sizeof(struct attention_list) + sizeof(struct attention_item) * (size_t)d->n; /* an item holds a query at least */
    size_t cudnn = attention_select_workspace(c, d);
    return cudnn > own ? cudnn : own;
}

void attention_own_forward(struct cuda *c, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                           const void *v)
{
    bool mma = takes_mma(c, a, {out, q, k, v});
    const struct attention_list *list =
        attention_list_queue(c, "attention_forward", a, mma ? ATTENTION_MMA_TILE : ATTENTION_PLAIN_TILE);
    if (list == NULL)
        return;
    (mma ? attention_mma_forward : attention_plain_forward)(c, a, list, out, lse, q, k, v);
}

void attention_own_backward(struct cuda *c, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                            const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta)
{
    bool mma = takes_mma(c, a, {dq, dk, dv, dout, q, k, v});
    const struct attention_list *list =
        attention_list_queue(c, "attention_backward", a, mma ? ATTENTION_MMA_TILE : ATTENTION_PLAIN_TILE);
    if (list == NULL)
        return;
    attention_delta_queue(c, a, delta, dout, out);
    (mma ? attention_mma_backward : attention_plain_backward)(c, a, list, dq, dk, dv, dout, lse, q, k, v, delta);
}

void cuda_attention_forward(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                            const void *v)
{
    struct cuda *c = cuda_of(o);
    if (lse != NULL && attention_select_cudnn(c, a, {out, q, k, v}))
        attention_select_forward(c, a, out, lse, q, k, v);
    else
        attention_own_forward(c, a, out, lse, q, k, v);
}

void cuda_attention_backward(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta)
{
    struct cuda *c = cuda_of(o);
    if (attention_select_cudnn(c, a, {dq, dk, dv, dout, out, q, k, v}))
        attention_select_backward(c, a, dq, dk, dv, dout, out, lse, q, k, v);
    else
        attention_own_backward(c, a, dq, dk, dv, dout, out, lse, q, k, v, delta);
}
