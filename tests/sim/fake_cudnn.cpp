/* fake_cudnn.cpp - attention_cudnn.h on the simulator, where there is no cuDNN: attention_plain.cu behind it, and faults to
 * order, so that tests see which of them the selection finds. $LORAT_SIM_CUDNN when the backend is opened:
 *
 *   - absent (also when unset) or old: it cannot be opened;
 *   - good: our plain kernels' results;
 *   - bits, bits-backward: another last bit in every second forward, or backward;
 *   - wrong: dv times 1.06; wrong-a-little: times 1.025, less than a row's bound and more than the norm's;
 *   - unwritten: a row of dk is NaN; wrong-lse: the log-sum-exp in base 2;
 *   - no-plan: every call is refused. */
#include "tests/sim/fake_cudnn.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/attention.cuh"

struct attention_cudnn {
    struct cuda *c;
    char mode[24];
    int forwards, backwards;
};
static int calls;
int fake_cudnn_calls(void) { return calls; }

int attention_cudnn_open(struct cuda *c, int major, int minor, struct attention_cudnn **out, struct err *e)
{
    const char *mode = getenv("LORAT_SIM_CUDNN");
    if (!mode || strcmp(mode, "absent") == 0)
        FAIL(e, ERR_DEVICE, "cuDNN: libcudnn.so.9: cannot open shared object file, expected the library");
    if (strcmp(mode, "old") == 0)
        FAIL(e, ERR_DEVICE, "cuDNN: version 9.17.1, expected 9.18.1 or later on compute capability %d.%d", major, minor);
    struct attention_cudnn *x = new attention_cudnn();
    x->c = c;
    strncpy(x->mode, mode, sizeof(x->mode) - 1);
    *out = x;
    return 0;
}
void attention_cudnn_close(struct attention_cudnn *x) { delete x; }
int64_t attention_cudnn_version(const struct attention_cudnn *) { return FAKE_CUDNN_VERSION; }
int attention_cudnn_check(const struct attention *, int, bool, struct err *) { return 0; }

/* The list of work stands at the workspace's beginning; delta (n, H) behind it. */
static size_t list_bytes(int64_t n)
{
    return (sizeof(struct attention_list) + sizeof(struct attention_item) * (size_t)n + 255) / 256 * 256;
}
size_t attention_cudnn_workspace(const struct attention_cudnn *, const struct ops_dims *d)
{
    return list_bytes(d->n) + (size_t)d->n * (size_t)d->h * sizeof(float);
}

__global__ static void flip_bit(uint16_t *p) { p[0] ^= threadIdx.x == 0 && blockIdx.x == 0 ? 1 : 0; }
__global__ static void scale_rows(bf16 *p, int32_t ld, int32_t n, int32_t columns, float by)
{
    for (int32_t i = (int32_t)threadIdx.x; i < n * columns; i += (int32_t)blockDim.x) {
        bf16 *at = p + (size_t)(i / columns) * (size_t)ld + i % columns;
        *at = bf16_round(to_float(*at) * by);
    }
}
__global__ static void scale_floats(float *p, int32_t n, float by)
{
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += (int32_t)blockDim.x)
        p[i] *= by;
}
static bool is(const struct attention_cudnn *x, const char *mode) { return strcmp(x->mode, mode) == 0; }

int attention_cudnn_forward(struct attention_cudnn *x, const struct attention *a, void *out, float *lse, const void *q,
                            const void *k, const void *v, struct err *e)
{
    calls++;
    if (is(x, "no-plan"))
        FAIL(e, ERR_DEVICE, "attention_forward: cuDNN: no plan, expected one");
    const struct attention_list *list = attention_list_queue(x->c, "fake_cudnn", a, ATTENTION_PLAIN_TILE);
    if (list == NULL)
        return cuda_check(&x->c->ops, e);
    attention_plain_forward(x->c, a, list, out, lse, q, k, v);
    if (is(x, "bits") && x->forwards++ % 2 == 1)
        cuda_launch(x->c, "fake_cudnn", dim3(1), 32, 0, flip_bit,
                    (uint16_t *)out + (size_t)(a->n - 1) * (size_t)a->heads * (size_t)a->head_size);
    if (is(x, "wrong-lse"))
        cuda_launch(x->c, "fake_cudnn", dim3(1), 32, 0, scale_floats, lse, a->n * a->heads, 1.4426950f);
    return cuda_check(&x->c->ops, e);
}

int attention_cudnn_backward(struct attention_cudnn *x, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, struct err *e)
{
    calls++;
    float *delta = (float *)(x->c->workspace + list_bytes(a->n));
    if (list_bytes(a->n) + (size_t)a->n * (size_t)a->heads * sizeof(float) > x->c->workspace_size)
        FAIL(e, ERR_DEVICE, "attention_backward: a workspace of %zu bytes, expected more", x->c->workspace_size);
    const struct attention_list *list = attention_list_queue(x->c, "fake_cudnn", a, ATTENTION_PLAIN_TILE);
    if (list == NULL)
        return cuda_check(&x->c->ops, e);
    attention_delta_queue(x->c, a, delta, dout, out);
    attention_plain_backward(x->c, a, list, dq, dk, dv, dout, lse, q, k, v, delta);
    int32_t kq = a->kv_heads * a->head_size;
    if (is(x, "bits-backward") && x->backwards++ % 2 == 1)
        cuda_launch(x->c, "fake_cudnn", dim3(1), 32, 0, flip_bit, (uint16_t *)dk + (size_t)(a->n - 1) * (size_t)a->ld_k);
    if (is(x, "wrong") || is(x, "wrong-a-little"))
        cuda_launch(x->c, "fake_cudnn", dim3(1), 32, 0, scale_rows, (bf16 *)dv, a->ld_v, a->n, kq,
                    is(x, "wrong") ? 1.06f : 1.025f);
    if (is(x, "unwritten"))
        cuda_launch(x->c, "fake_cudnn", dim3(1), 32, 0, scale_rows, (bf16 *)dk, a->ld_k, 1, kq, NAN);
    return cuda_check(&x->c->ops, e);
}
