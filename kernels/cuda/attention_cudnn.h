/* attention_cudnn.h - attention by NVIDIA's cuDNN, behind plain functions: attention_cudnn.cpp implements them through the
 * header-only cudnn-frontend, attention_cudnn_none.cpp where that header is not there at build time, tests/sim/fake_cudnn.cpp on
 * the simulator. attention_select.cu decides whether they are used.
 *
 * What is asked of cuDNN: BF16, causal, grouped heads, head size 64 or 128; q, k, v as columns of one fused matrix; packed
 * documents as ragged offsets and lengths; a deterministic backward. That last one decides which cards it can be:
 *   - 9.0: since cuDNN 9.25, the first with a deterministic backward whose memory grows with tokens and not with the square of
 *     documents (cudnn-frontend, scaled_dot_product_flash_attention.h: "ordered dQ");
 *   - 10.x: since cuDNN 9.18.1;
 *   - 8.x and 12.x: never. The front end says "Deterministic algorithm is not supported for bprop thd on SM8X and SM12X GPUs".
 *
 * cuDNN itself (libcudnn.so.9) is loaded at run time: without it only this feature is missing. */
#ifndef LORAT_CUDA_ATTENTION_CUDNN_H
#define LORAT_CUDA_ATTENTION_CUDNN_H

#include "kernels/cuda/cuda.h"

/* cuDNN compiles a plan for a number of documents and a longest one. Both are rounded up, so that few plans are made; a plan is a
 * function of the call alone, so that bits do not depend on what ran before. Documents that are not there have length 0. */
struct attention_cudnn_plan {
    int32_t documents; /* 8 times a power of four */
    int32_t longest;   /* a power of two, 512 or more */
    int32_t tokens;    /* a multiple of 1,024: sizes cuDNN's own memory */
};
static inline int32_t attention_cudnn_power(int32_t least, int32_t base, int64_t x)
{
    while (least < x && least < 1 << 28)
        least *= base;
    return least;
}
static inline struct attention_cudnn_plan attention_cudnn_plan_of(const struct attention *a)
{
    struct attention_cudnn_plan p = {attention_cudnn_power(8, 4, a->n_spans), attention_cudnn_power(512, 2, a->max_span),
                                     (a->n + 1023) / 1024 * 1024};
    return p;
}

struct attention_cudnn; /* the library's handle and the plans made so far */
/* -1 in one sentence (ERR_DEVICE): no cuDNN, one too old for this card, or a card that it has no deterministic backward for. */
int attention_cudnn_open(struct cuda *c, int major, int minor, struct attention_cudnn **out, struct err *e);
void attention_cudnn_close(struct attention_cudnn *x);            /* NULL is fine */
int64_t attention_cudnn_version(const struct attention_cudnn *x); /* 92801 is 9.28.1 */
/* Workspace of any call within these bounds; a plan that wants more is refused when it is made. */
size_t attention_cudnn_workspace(const struct attention_cudnn *x, const struct ops_dims *d);
/* As the entries of ops.h, queued on c->stream; lse is not NULL, spans have q_len == k_len. Makes
 * the plan at its first use. -1 in one sentence (ERR_DEVICE): no plan, or too small a workspace; nothing is queued then. */
int attention_cudnn_forward(struct attention_cudnn *x, const struct attention *a, void *out, float *lse, const void *q,
                            const void *k, const void *v, struct err *e);
int attention_cudnn_backward(struct attention_cudnn *x, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, struct err *e);
/* What the front end says of this call on a card of compute capability sm / 10: its own checks, for which no card is needed. */
int attention_cudnn_check(const struct attention *a, int sm, bool backward, struct err *e);

/* attention_ragged.cu: spans as cuDNN wants them. Written to `out` in device memory, each part RAGGED_ALIGN integers apart from a
 * whole multiple: lengths (documents), then the first element of every document and the end, (documents + 1) each, in the order
 * of enum ragged_part. */
enum ragged_part { RAGGED_LENGTHS, RAGGED_Q, RAGGED_K, RAGGED_V, RAGGED_OUT, RAGGED_LSE, RAGGED_DKV, RAGGED_PARTS };
enum { RAGGED_ALIGN = 64 };
static inline int32_t ragged_stride(int32_t documents)
{
    return (documents + 1 + RAGGED_ALIGN - 1) / RAGGED_ALIGN * RAGGED_ALIGN;
}
static inline size_t ragged_bytes(int32_t documents)
{
    return (size_t)RAGGED_PARTS * (size_t)ragged_stride(documents) * sizeof(int32_t);
}
void attention_ragged_queue(struct cuda *c, const char *where, const struct attention *a, int32_t documents, int32_t *out);

#endif
