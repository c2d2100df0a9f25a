/* open.cu - a context on one card, the table of operations, and the workspace's size. */
#include "kernels/cuda/attention_select.h"

#include <stdio.h>

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

static size_t workspace_bytes(const struct ops *o, const struct ops_dims *d)
{
    struct cuda *c = cuda_of(o);
    size_t wants[] = {lt_workspace(c, d), attention_workspace(c, d), cross_entropy_workspace(d), grad_stats_workspace()},
           most = 0;
    for (size_t w : wants)
        most = w > most ? w : most;
    return (size_t)num_round_up((int64_t)most, 256);
}

static void set_workspace(struct ops *o, void *p, size_t bytes)
{
    cuda_of(o)->workspace = (char *)p;
    cuda_of(o)->workspace_size = bytes;
}

static void fill_table(struct ops *o)
{
    o->alloc = cuda_alloc;
    o->release = cuda_release;
    o->memory = cuda_memory;
    o->workspace_bytes = workspace_bytes;
    o->set_workspace = set_workspace;
    o->upload = cuda_upload;
    o->download = cuda_download;
    o->alloc_host = cuda_alloc_host;
    o->release_host = cuda_release_host;
    o->fetch = cuda_fetch;
    o->fetch_wait = cuda_fetch_wait;
    o->fetch_waited = cuda_fetch_waited;
    o->sync = cuda_sync;
    o->check = cuda_check;
    o->close = cuda_close;
    o->zero = cuda_zero;
    o->cast = cuda_cast;
    o->copy_2d = cuda_copy_2d;
    o->gather_rows = cuda_gather_rows;
    o->scatter_rows = cuda_scatter_rows;
    o->add = cuda_add;
    o->linear_forward = cuda_linear_forward;
    o->linear_backward = cuda_linear_backward;
    o->gemm = cuda_gemm;
    o->embed_forward = cuda_embed_forward;
    o->rmsnorm_forward = cuda_rmsnorm_forward;
    o->rmsnorm_backward = cuda_rmsnorm_backward;
    o->head_norm_forward = cuda_head_norm_forward;
    o->head_norm_backward = cuda_head_norm_backward;
    o->rope = cuda_rope;
    o->attention_forward = cuda_attention_forward;
    o->attention_backward = cuda_attention_backward;
    o->swiglu_forward = cuda_swiglu_forward;
    o->swiglu_backward = cuda_swiglu_backward;
    o->dropout_apply = cuda_dropout_apply;
    o->cross_entropy = cuda_cross_entropy;
    o->weight_sum = cuda_weight_sum;
    o->argmax = cuda_argmax;
    o->grad_stats = cuda_grad_stats;
    o->adamw_update = cuda_adamw_update;
    o->tune = cuda_tune;
    o->tuned = cuda_tuned;
    o->set_tuned = cuda_set_tuned;
    o->chosen = attention_select_chosen;
    o->set_chosen = attention_select_set_chosen;
    o->mark = cuda_mark;
}

void cuda_close(struct ops *o)
{
    struct cuda *c = o ? cuda_of(o) : NULL;
    if (!c)
        return;
    attention_select_close(c);
    lt_close(c);
    fetch_close(c);
    staging_close(c);
    if (c->uploads)
        cudaStreamDestroy(c->uploads);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    mem_free(c);
}

/* Why the card cannot be used, as a sentence with what to do. */
static int refused(const struct cuda *c, cudaError_t rc, struct err *e)
{
    const char *card = c->ops.device[0] != '\0' ? c->ops.device : "not yet known";
    char text[96];
    cudaGetLastError();
    switch (rc) {
    case cudaErrorInvalidDevice:
        FAIL(e, ERR_DEVICE, "cuda: there is no card %d, expected one that lorat version lists", c->card);
    case cudaErrorMemoryAllocation:
        FAIL(e, ERR_DEVICE,
             "card %d, %s: no room for a context (%s), expected some 300 MiB. End the program that holds the card's memory "
             "(nvidia-smi)",
             c->card, card, cuda_free_memory(text));
    case cudaErrorNoKernelImageForDevice:
        FAIL(e, ERR_DEVICE,
             "card %d, %s: this build has no code for it, expected some. Build again with -DLORAT_CUDA_ARCHITECTURES naming its "
             "capability, as in 86-real",
             c->card, card);
    case cudaErrorDevicesUnavailable:
        FAIL(e, ERR_DEVICE,
             "card %d, %s: busy, expected it free. Another program has it to itself (exclusive mode), or it is being reset",
             c->card, card);
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemDriverMismatch:
        FAIL(e, ERR_DEVICE,
             "card %d, %s: the driver is too old for this build (%s), expected %s. Update the driver, and restart after it",
             c->card, card, cudaGetErrorString(rc), cuda_driver_wanted());
    default:
        FAIL(e, ERR_DEVICE, "card %d, %s: %s (%s), expected it to open", c->card, card, cudaGetErrorString(rc),
             cudaGetErrorName(rc));
    }
}

__global__ void nothing(void) {}

/* A context and the first kernel: what is wrong with the driver, the card or this build for it shows here and not in the first
 * step. */
static cudaError_t begin_context(struct cuda *c)
{
    cudaError_t rc = cudaSetDevice(c->card);
    if (rc == cudaSuccess)
        rc = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (rc == cudaSuccess)
        rc = cudaStreamCreateWithFlags(&c->uploads, cudaStreamNonBlocking);
    if (rc != cudaSuccess)
        return rc;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(WARP);
    config.stream = c->stream;
    rc = cudaLaunchKernelEx(&config, nothing);
    return rc == cudaSuccess ? cudaStreamSynchronize(c->stream) : rc;
}

/* The card's facts, its context, the libraries. */
static int begin(struct cuda *c, struct err *e)
{
    struct cudaDeviceProp p;
    cudaError_t rc = cudaGetDeviceProperties(&p, c->card);
    if (rc != cudaSuccess)
        return refused(c, rc, e);
    snprintf(c->ops.device, sizeof(c->ops.device), "%.64s, %d.%d", p.name, p.major, p.minor);
    if (p.major < 8)
        FAIL(e, ERR_DEVICE,
             "card %d, %s: compute capability %d.%d, expected 8.0 or later: older cards have no BF16. Set compute.device: cpu",
             c->card, p.name, p.major, p.minor);
    c->sms = p.multiProcessorCount;
    c->shared_max = p.sharedMemPerBlockOptin < SHARED_MOST ? p.sharedMemPerBlockOptin : (size_t)SHARED_MOST;
    if ((rc = begin_context(c)) != cudaSuccess)
        return refused(c, rc, e);
    TRY(attention_path_read(&c->attention, e));
    TRY(attention_select_open(c, p.major, p.minor, e));
    TRY(staging_open(c, e));
    TRY(fetch_open(c, e));
    return lt_open(c, e);
}

int cuda_open(int index, enum dtype act, struct ops **out, struct err *e)
{
    if (act != DT_BF16 && act != DT_F32)
        FAIL(e, ERR_INTERNAL, "cuda: activations of type %s, expected bf16 or f32", dtype_name(act));
    struct cuda *c = (struct cuda *)mem_alloc(1, sizeof(*c));
    if (!c)
        return mem_fail(e, "the CUDA backend", sizeof(*c));
    struct ops *o = &c->ops;
    c->card = index;
    o->name = "cuda";
    o->act = act;
    o->state = c;
    o->later_bytes = (int64_t)256 << 20; /* kernels of ours and of cuBLASLt are loaded at first use */
    fill_table(o);
    if (begin(c, e) != 0) {
        cuda_close(o);
        return -1;
    }
    *out = o;
    return 0;
}
