/* attention_cudnn.cpp - attention_cudnn.h through cudnn-frontend: loading the library, the plans made so far, and their
 * execution. C++ with the standard library and exceptions, neither of which leaves this file. Taking the front end in is a
 * minute's compiling, so nothing else does.
 *
 * A plan is the first that the library's heuristic offers and that builds: nothing is timed, so the same card and version choose
 * the same one. Compiling one takes the library two to six seconds of a processor, at the first use of a rounded geometry: so
 * there are few. */
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "kernels/cuda/attention_cudnn.h"

extern "C" {
#include "trainer/base/num.h"
}

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

/* cudnn-frontend's dynamic loading takes its functions from here. Opened once and kept: it remembers what it found. */
void *fe::cudnn_dlhandle = nullptr;

namespace
{
/* What a plan depends on; compared as bytes, so every one of them is set. */
struct cudnn_key {
    int32_t heads, kv_heads, head_size, ld_q, ld_k, ld_v;
    struct attention_cudnn_plan plan;
    float scale;
    int32_t sm;       /* compute capability * 10: 90 */
    int32_t backward; /* 0 or 1 */
};
/* The graph's tensors, as keys of what cudnn-frontend calls a variant pack. */
enum cudnn_tensor {
    CUDNN_Q = 1,
    CUDNN_K,
    CUDNN_V,
    CUDNN_OUT,
    CUDNN_LSE,
    CUDNN_DOUT,
    CUDNN_DQ,
    CUDNN_DK,
    CUDNN_DV,
    CUDNN_QUERIES,
    CUDNN_KEYS,
    CUDNN_RAGGED /* + enum ragged_part */
};

/* Attention as cudnn-frontend's composite graph: SDPA and its backward, packed documents ("THD": tokens, heads, head size) by
 * ragged offsets, top-left causal within each document, log-sum-exp (n, H) as the statistics between the two. dk and dv are
 * packed matrices of their own: cuDNN's memory for a group's sums has the row distance of dk times the group, which inside a
 * fused matrix would be (H + 2K) / K times as much. */
struct builder {
    const cudnn_key &k;
    std::shared_ptr<fe::graph::Graph> graph;

    /* Indices in device memory, one a document or one more. */
    Tensor indices(int64_t uid, int64_t count)
    {
        return graph->tensor(fe::graph::Tensor_attributes()
                                 .set_uid(uid)
                                 .set_dim({count, 1, 1, 1})
                                 .set_stride({1, 1, 1, 1})
                                 .set_data_type(fe::DataType_t::INT32));
    }
    Tensor starts(ragged_part part) { return indices(CUDNN_RAGGED + part, k.plan.documents + 1); }

    /* (documents, heads, longest, size) over rows `ld` apart, of which document d begins at starts[d]. */
    void shape(const Tensor &t, int64_t uid, int64_t heads, int64_t size, int64_t ld, const Tensor &ragged)
    {
        t->set_uid(uid).set_dim({k.plan.documents, heads, k.plan.longest, size});
        t->set_stride({k.plan.longest * ld, size, ld, 1}).set_ragged_offset(ragged);
    }
    Tensor input(int64_t uid, int64_t heads, int64_t ld, const Tensor &ragged)
    {
        Tensor t = graph->tensor(fe::graph::Tensor_attributes().set_data_type(fe::DataType_t::BFLOAT16));
        shape(t, uid, heads, k.head_size, ld, ragged);
        return t;
    }
    void output(const Tensor &t, int64_t uid, int64_t heads, int64_t ld, const Tensor &ragged)
    {
        shape(t, uid, heads, k.head_size, ld, ragged);
        t->set_output(true).set_data_type(fe::DataType_t::BFLOAT16);
    }
    /* The log-sum-exp: one F32 a query and head. */
    void statistics(const Tensor &t)
    {
        t->set_data_type(fe::DataType_t::FLOAT);
        shape(t, CUDNN_LSE, k.heads, 1, k.heads, starts(RAGGED_LSE));
    }
    template <typename Options> Options options(const char *name)
    {
        Options o;
        o.set_name(name).set_causal_mask(true).set_attn_scale(k.scale).set_padding_mask(true);
        o.set_seq_len_q(indices(CUDNN_QUERIES, k.plan.documents)).set_seq_len_kv(indices(CUDNN_KEYS, k.plan.documents));
        o.set_max_total_seq_len_q(k.plan.tokens).set_max_total_seq_len_kv(k.plan.tokens);
        return o;
    }

    void forward()
    {
        Tensor q = input(CUDNN_Q, k.heads, k.ld_q, starts(RAGGED_Q)), key = input(CUDNN_K, k.kv_heads, k.ld_k, starts(RAGGED_K)),
               v = input(CUDNN_V, k.kv_heads, k.ld_v, starts(RAGGED_V));
        auto o = options<fe::graph::SDPA_attributes>("attention_forward");
        o.set_generate_stats(true).set_implementation(fe::AttentionImplementation_t::COMPOSITE);
        auto results = graph->sdpa(q, key, v, o);
        output(results[0], CUDNN_OUT, k.heads, (int64_t)k.heads * k.head_size, starts(RAGGED_OUT));
        statistics(results[1]);
        results[1]->set_output(true);
    }
    void backward()
    {
        Tensor of_q = starts(RAGGED_Q), of_out = starts(RAGGED_OUT), of_dkv = starts(RAGGED_DKV);
        int64_t hq = (int64_t)k.heads * k.head_size, kq = (int64_t)k.kv_heads * k.head_size;
        Tensor q = input(CUDNN_Q, k.heads, k.ld_q, of_q), key = input(CUDNN_K, k.kv_heads, k.ld_k, starts(RAGGED_K)),
               v = input(CUDNN_V, k.kv_heads, k.ld_v, starts(RAGGED_V)), out = input(CUDNN_OUT, k.heads, hq, of_out),
               dout = input(CUDNN_DOUT, k.heads, hq, of_out);
        Tensor lse = graph->tensor(fe::graph::Tensor_attributes());
        statistics(lse);
        auto o = options<fe::graph::SDPA_backward_attributes>("attention_backward");
        o.set_deterministic_algorithm(true);
        auto results = graph->sdpa_backward(q, key, v, out, dout, lse, o);
        output(results[0], CUDNN_DQ, k.heads, k.ld_q, of_q);
        output(results[1], CUDNN_DK, k.kv_heads, kq, of_dkv);
        output(results[2], CUDNN_DV, k.kv_heads, kq, of_dkv);
    }
};

std::shared_ptr<fe::graph::Graph> cudnn_graph(const struct cudnn_key &k)
{
    auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(fe::DataType_t::BFLOAT16).set_intermediate_data_type(fe::DataType_t::FLOAT);
    graph->set_compute_data_type(fe::DataType_t::FLOAT).set_sm_version(k.sm);
    builder b = {k, graph};
    if (k.backward)
        b.backward();
    else
        b.forward();
    return graph;
}

struct plan {
    cudnn_key key;
    std::shared_ptr<fe::graph::Graph> graph;
    int64_t workspace;
};
} // namespace

struct attention_cudnn {
    struct cuda *c;
    cudnnHandle_t handle;
    int64_t version;
    int32_t sm;
    std::vector<plan> plans;
};

/* Which versions give a deterministic backward over packed documents: see attention_cudnn.h. */
static int check_card(int64_t version, int major, int minor, struct err *e)
{
    const int64_t hopper = 92500, blackwell = 91801;
    if (major != 9 && major != 10)
        FAIL(e, ERR_DEVICE,
             "cuDNN: compute capability %d.%d, expected 9.0 or 10.x: elsewhere it has no deterministic backward over packed "
             "documents",
             major, minor);
    int64_t least = major == 9 ? hopper : blackwell;
    if (version < least)
        FAIL(
            e, ERR_DEVICE,
            "cuDNN: version %d.%d.%d, expected %d.%d.%d or later on compute capability %d.%d. sh scripts/setup-cuda.sh brings it",
            (int)(version / 10000), (int)(version / 100 % 100), (int)(version % 100), (int)(least / 10000),
            (int)(least / 100 % 100), (int)(least % 100), major, minor);
    return 0;
}

static int load(struct err *e)
{
    if (!fe::cudnn_dlhandle)
        fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!fe::cudnn_dlhandle)
        FAIL(e, ERR_DEVICE, "cuDNN: %s, expected the library. sh scripts/setup-cuda.sh brings it", dlerror());
    /* The front end's only switch to the backward whose memory does not grow with the square of the longest document. */
    setenv("CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT", "0", 1);
    return 0;
}

static int open_library(struct attention_cudnn *x, int major, int minor, struct err *e)
{
    TRY(load(e));
    x->version = (int64_t)fe::detail::get_backend_version();
    TRY(check_card(x->version, major, minor, e));
    if (fe::detail::create_handle(&x->handle) != CUDNN_STATUS_SUCCESS)
        FAIL(e, ERR_DEVICE, "cuDNN: no handle on this card, expected one. Is its memory full, or a part of cuDNN missing?");
    if (fe::detail::set_stream(x->handle, x->c->stream) != CUDNN_STATUS_SUCCESS)
        FAIL(e, ERR_DEVICE, "cuDNN: takes no stream, expected ours");
    return 0;
}

int attention_cudnn_open(struct cuda *c, int major, int minor, struct attention_cudnn **out, struct err *e)
{
    struct attention_cudnn *x = nullptr;
    try {
        x = new attention_cudnn();
        x->c = c;
        x->sm = major * 10 + minor;
        if (open_library(x, major, minor, e) == 0) {
            *out = x;
            return 0;
        }
    } catch (const std::exception &failure) {
        err_set(e, ERR_DEVICE, "cuDNN: %s, expected the library to open", failure.what());
    }
    attention_cudnn_close(x);
    return -1;
}

void attention_cudnn_close(struct attention_cudnn *x)
{
    if (!x)
        return;
    try {
        x->plans.clear();
        if (x->handle)
            fe::detail::destroy_handle(x->handle);
    } catch (const std::exception &) { /* nothing is left to be done about it */
    }
    delete x;
}

int64_t attention_cudnn_version(const struct attention_cudnn *x) { return x->version; }

/* The workspace from its beginning: offsets and lengths, dk and dv, then cuDNN's own. */
struct layout {
    size_t dkv, library; /* where they begin */
};
static struct layout layout_of(int32_t documents, int64_t n, int64_t kq)
{
    struct layout l;
    l.dkv = (size_t)num_round_up((int64_t)ragged_bytes(documents), 256);
    l.library = l.dkv + (size_t)num_round_up(n * kq * 2 * (int64_t)sizeof(bf16), 256);
    return l;
}

/* cuDNN's own: sums of dq (rows as far apart as q's), dk and dv of every query head, a float a query and head; and for its engine
 * what no document says: 64 MiB. */
size_t attention_cudnn_workspace(const struct attention_cudnn *x, const struct ops_dims *d)
{
    (void)x;
    int64_t n = num_round_up(d->n, 1024), hq = (int64_t)d->h * d->q, kq = (int64_t)d->k * d->q;
    int64_t sums = n * (hq + 2 * kq) + 2 * n * hq + n * d->h;
    return layout_of(attention_cudnn_power(8, 4, d->n), d->n, kq).library + (size_t)sums * sizeof(float) + ((size_t)64 << 20);
}

static cudnn_key key_of(const struct attention *a, int32_t sm, bool backward)
{
    return {a->heads, a->kv_heads, a->head_size, a->ld_q, a->ld_k, a->ld_v, attention_cudnn_plan_of(a), a->scale, sm, backward};
}

int attention_cudnn_check(const struct attention *a, int sm, bool backward, struct err *e)
{
    try {
        TRY(load(e));
        auto status = cudnn_graph(key_of(a, sm, backward))->validate();
        if (status.is_bad())
            FAIL(e, ERR_DEVICE, "cuDNN: %s", status.get_message().c_str());
        return 0;
    } catch (const std::exception &failure) {
        FAIL(e, ERR_DEVICE, "cuDNN: %s, expected an answer", failure.what());
    }
}

static const plan &plan_of(struct attention_cudnn *x, const struct attention *a, bool backward)
{
    cudnn_key key = key_of(a, x->sm, backward);
    for (const plan &p : x->plans)
        if (memcmp(&p.key, &key, sizeof(key)) == 0)
            return p;
    plan made = {key, cudnn_graph(key), 0};
    auto status = made.graph->build(x->handle, {fe::HeurMode_t::A});
    if (status.is_bad())
        throw std::runtime_error("no plan (" + status.get_message() + ")");
    status = made.graph->get_workspace_size(made.workspace);
    if (status.is_bad())
        throw std::runtime_error("no workspace size (" + status.get_message() + ")");
    x->plans.push_back(made);
    return x->plans.back();
}

using pack = std::unordered_map<int64_t, void *>;

/* Queues the plan; `tensors` holds everything but the indices. dkv (n, 2 K Q) is handed to `tensors` by the caller. */
static int run(struct attention_cudnn *x, const struct attention *a, const char *where, bool backward, pack tensors,
               struct err *e)
{
    try {
        const plan &p = plan_of(x, a, backward);
        int32_t documents = p.key.plan.documents;
        struct layout l = layout_of(documents, a->n, (int64_t)a->kv_heads * a->head_size);
        if (l.library + (size_t)p.workspace > x->c->workspace_size)
            FAIL(e, ERR_DEVICE,
                 "%s: cuDNN wants a workspace of %lld bytes for %d documents of up to %d tokens, expected at most %lld", where,
                 (long long)p.workspace, documents, p.key.plan.longest, (long long)x->c->workspace_size - (long long)l.library);
        int32_t *indices = (int32_t *)x->c->workspace;
        attention_ragged_queue(x->c, where, a, documents, indices);
        tensors[CUDNN_QUERIES] = tensors[CUDNN_KEYS] = indices;
        for (int part = RAGGED_Q; part < RAGGED_PARTS; part++)
            if (backward || part != RAGGED_DKV)
                tensors[CUDNN_RAGGED + part] = indices + part * ragged_stride(documents);
        auto status = p.graph->execute(x->handle, tensors, x->c->workspace + l.library);
        if (status.is_bad())
            FAIL(e, ERR_DEVICE, "%s: cuDNN: %s, expected it to run", where, status.get_message().c_str());
        return 0;
    } catch (const std::exception &failure) {
        FAIL(e, ERR_DEVICE, "%s: cuDNN: %s, expected one for %d tokens in %d documents of up to %d", where, failure.what(), a->n,
             a->n_spans, a->max_span);
    }
}

/* The front end takes everything as void *; it writes to outputs only. */
static void *plain(const void *p) { return const_cast<void *>(p); }

int attention_cudnn_forward(struct attention_cudnn *x, const struct attention *a, void *out, float *lse, const void *q,
                            const void *k, const void *v, struct err *e)
{
    return run(x, a, "attention_forward", false,
               {{CUDNN_Q, plain(q)}, {CUDNN_K, plain(k)}, {CUDNN_V, plain(v)}, {CUDNN_OUT, out}, {CUDNN_LSE, lse}}, e);
}

int attention_cudnn_backward(struct attention_cudnn *x, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                             const void *out, const float *lse, const void *q, const void *k, const void *v, struct err *e)
{
    int32_t kq = a->kv_heads * a->head_size;
    struct layout l = layout_of(attention_cudnn_plan_of(a).documents, a->n, kq);
    if (l.library > x->c->workspace_size)
        FAIL(e, ERR_DEVICE, "attention_backward: a workspace of %zu bytes, expected %zu for cuDNN", x->c->workspace_size,
             l.library);
    bf16 *dkv = (bf16 *)(x->c->workspace + l.dkv), *own_dv = dkv + (size_t)a->n * (size_t)kq;
    pack tensors = {{CUDNN_Q, plain(q)},     {CUDNN_K, plain(k)},     {CUDNN_V, plain(v)},
                    {CUDNN_OUT, plain(out)}, {CUDNN_LSE, plain(lse)}, {CUDNN_DOUT, plain(dout)},
                    {CUDNN_DQ, dq},          {CUDNN_DK, dkv},         {CUDNN_DV, own_dv}};
    TRY(run(x, a, "attention_backward", true, tensors, e));
    cuda_copy_2d(&x->c->ops, dk, a->ld_k, dkv, kq, a->n, kq);
    cuda_copy_2d(&x->c->ops, dv, a->ld_v, own_dv, kq, a->n, kq);
    return 0;
}
