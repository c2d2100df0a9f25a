/* cublaslt.cpp - the slice of cuBLASLt that kernels/cuda uses, on the host. It refuses what the real one refuses (types, leading
 * distances, attribute sizes, alignment that was promised, a workspace too small) and offers several algorithms, which give
 * slightly different bits; so that tests see a choice that ignores what the library said:
 *   - one that the heuristic itself calls unusable, first in the list;
 *   - one that reduces in place, fastest when the caller's mask allows it, whose bits change from run to run;
 *   - the plain one; a slow one; one that splits k in two, in the workspace, and is the fastest of the sound ones;
 *     (of a short k it gains less than 2 %);
 *   - one that the library offers and then refuses to run, and one whose bits change although nothing says so.
 * A bias that is not on 16 bytes is not offered at all.
 * Their times are advances of the simulated clock, so that a test of tuning does not depend on the machine.
 * Products are oneDNN's plain sgemm, the same entry in 2.x and 3.x; BF16 is widened first and the result rounded once. */
#include <cublasLt.h>

#include <dnnl.h>
#include <omp.h>
#include <string.h>
#include <vector>

extern "C" {
#include "trainer/base/bf16.h"
}
#include "tests/sim/sim.h"

namespace
{
enum { HANDLE = 0x1b1a5, ALL_SCHEMES = CUBLASLT_REDUCTION_SCHEME_MASK, LT_SIM_VERSION = 130100 };

struct Layout {
    uint64_t rows, cols;
    int64_t ld;
    cudaDataType type;
};
struct Desc {
    cublasOperation_t op_a, op_b;
    uint32_t epilogue;
    const void *bias;
};
struct Preference {
    uint64_t workspace;
    uint32_t schemes, align_a, align_b, align_c, align_d;
};
enum Kind { UNUSABLE = 1, IN_PLACE, PLAIN, SLOW, SPLIT, REFUSES, UNSTABLE };
/* What an algorithm was configured for; it is refused for another product. */
struct Algo {
    uint32_t kind, check;
    uint64_t workspace;
    uint32_t align_a, align_b, align_c, align_d, align_bias, unused;
};
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) && sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t),
              "opaque");
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t) && sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t),
              "opaque");

/* cost: what the clock of events advances by, in microseconds for each million of multiplications, and for the launch */
const struct {
    Kind kind;
    double cost;
    uint32_t scheme;
    int splits;
} algorithms[] = {
    {UNUSABLE, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},      {IN_PLACE, 2, CUBLASLT_REDUCTION_SCHEME_INPLACE, 2},
    {PLAIN, 10, CUBLASLT_REDUCTION_SCHEME_NONE, 1},        {SLOW, 90, CUBLASLT_REDUCTION_SCHEME_NONE, 1},
    {SPLIT, 6, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2}, {REFUSES, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},
    {UNSTABLE, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},
};

/* A short sum gains hardly anything by being split: less than timings differ by. */
const uint64_t SHORT_K = 32;
const double SHORT_COST = 9.9;

template <typename T, typename O> T read(const O *opaque)
{
    T t;
    memcpy(&t, opaque, sizeof t);
    return t;
}
template <typename T, typename O> void write(O *opaque, const T &t)
{
    memset(opaque, 0, sizeof *opaque);
    memcpy(opaque, &t, sizeof t);
}
size_t size_of(cudaDataType t) { return t == CUDA_R_16BF ? 2 : 4; }
uint32_t alignment_of(const void *p)
{
    uintptr_t at = (uintptr_t)p | 256;
    return (uint32_t)(at & -at);
}

struct Product {
    Desc desc;
    Layout a, b, c, d;
    uint64_t m, n, k;
};
cublasStatus_t describe(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d, Product *out)
{
    if (!desc || !a || !b || !c || !d)
        return CUBLAS_STATUS_INVALID_VALUE;
    Product p = {read<Desc>(desc), read<Layout>(a), read<Layout>(b), read<Layout>(c), read<Layout>(d), 0, 0, 0};
    bool ta = p.desc.op_a == CUBLAS_OP_T, tb = p.desc.op_b == CUBLAS_OP_T;
    p.m = ta ? p.a.cols : p.a.rows;
    p.k = ta ? p.a.rows : p.a.cols;
    p.n = tb ? p.b.rows : p.b.cols;
    if (p.k != (tb ? p.b.cols : p.b.rows) || p.d.rows != p.m || p.d.cols != p.n || p.c.rows != p.m || p.c.cols != p.n ||
        p.c.type != p.d.type)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const Layout *l : {&p.a, &p.b, &p.c, &p.d})
        if (l->rows == 0 || l->cols == 0 || l->ld < (int64_t)l->rows)
            return CUBLAS_STATUS_INVALID_VALUE;
    if (p.a.type != p.b.type || (p.a.type == CUDA_R_32F && p.d.type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = p;
    return CUBLAS_STATUS_SUCCESS;
}
uint32_t check_of(const Product &p)
{
    uint32_t h = 2166136261u;
    for (uint64_t v : {p.m, p.n, p.k, (uint64_t)p.a.ld, (uint64_t)p.b.ld, (uint64_t)p.d.ld, (uint64_t)p.a.type,
                       (uint64_t)p.d.type, (uint64_t)p.desc.op_a, (uint64_t)p.desc.op_b, (uint64_t)p.desc.epilogue})
        for (int i = 0; i < 64; i += 8)
            h = (h ^ (uint32_t)(v >> i & 255)) * 16777619u;
    return h;
}
uint64_t workspace_of(Kind kind, const Product &p) { return kind == SPLIT ? 2 * p.m * p.n * sizeof(float) : 0; }

std::vector<float> widen(const void *p, const Layout &l)
{
    std::vector<float> out((size_t)l.ld * (l.cols - 1) + l.rows);
    for (uint64_t c = 0; c < l.cols; c++)
        for (uint64_t r = 0; r < l.rows; r++) {
            size_t at = (size_t)l.ld * c + r;
            out[at] = l.type == CUDA_R_16BF ? bf16_to_f32(((const bf16 *)p)[at]) : ((const float *)p)[at];
        }
    return out;
}
float get(const void *p, cudaDataType t, size_t at)
{
    return t == CUDA_R_16BF ? bf16_to_f32(((const bf16 *)p)[at]) : ((const float *)p)[at];
}
void put(void *p, cudaDataType t, size_t at, float v)
{
    if (t == CUDA_R_16BF)
        ((bf16 *)p)[at] = bf16_from_f32(v);
    else
        ((float *)p)[at] = v;
}

struct Call {
    Product p;
    Algo algo;
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
};
/* sum (m, n) column-major = alpha op(A)[, from..to) op(B)[from..to, ). sgemm is row-major, where a column-major matrix is its
 * transpose: the factors change places. */
void part(const Call &x, const std::vector<float> &a, const std::vector<float> &b, uint64_t from, uint64_t to, float *sum)
{
    bool ta = x.p.desc.op_a == CUBLAS_OP_T, tb = x.p.desc.op_b == CUBLAS_OP_T;
    const float *at = a.data() + (ta ? from : from * (uint64_t)x.p.a.ld),
                *bt = b.data() + (tb ? from * (uint64_t)x.p.b.ld : from);
    dnnl_sgemm(tb ? 'T' : 'N', ta ? 'T' : 'N', (dnnl_dim_t)x.p.n, (dnnl_dim_t)x.p.m, (dnnl_dim_t)(to - from), x.alpha, bt,
               x.p.b.ld, at, x.p.a.ld, 0.0f, sum, (dnnl_dim_t)x.p.m);
}
size_t extent(const Layout &l) { return ((size_t)l.ld * (l.cols - 1) + l.rows) * size_of(l.type); }
void check_memory(const Call &x)
{
    int card = sim_running_device();
    sim_check_range("cublasLtMatmul, A", x.a, extent(x.p.a), card);
    sim_check_range("cublasLtMatmul, B", x.b, extent(x.p.b), card);
    sim_check_range("cublasLtMatmul, D", x.d, extent(x.p.d), card);
    if (x.algo.workspace > 0)
        sim_check_range("cublasLtMatmul, the workspace", x.workspace, x.algo.workspace, card);
    if (x.p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
        sim_check_range("cublasLtMatmul, the bias", x.p.desc.bias, x.p.d.rows * size_of(x.p.d.type), card);
}
void run(const Call &x)
{
    static unsigned runs; /* what only timing decides on a card */
    omp_set_num_threads(1); /* the bits don't depend on the machine, and small products don't wait for threads */
    check_memory(x);
    const Product &p = x.p;
    uint64_t cut = p.k / 2, size = p.m * p.n;
    std::vector<float> a = widen(x.a, p.a), b = widen(x.b, p.b), one(size), two(size);
    bool odd = runs++ % 2 != 0, in_two = p.k > 1, changing = x.algo.kind == IN_PLACE || x.algo.kind == UNSTABLE;
    switch ((Kind)x.algo.kind) {
    case SPLIT: { /* through the workspace, as on a card: somebody else's use of it would show */
        float *w = (float *)x.workspace;
        part(x, a, b, 0, cut, w);
        part(x, a, b, cut, p.k, w + size);
        for (uint64_t i = 0; i < size; i++)
            one[i] = w[i] + w[size + i];
        in_two = false;
        break;
    }
    case SLOW:
        cut = p.k - p.k / 3;
        break;
    default:
        in_two = false;
    }
    if (in_two) {
        part(x, a, b, 0, cut, one.data());
        part(x, a, b, cut, p.k, two.data());
        for (uint64_t i = 0; i < size; i++)
            one[i] += two[i];
    } else if (x.algo.kind != SPLIT)
        part(x, a, b, 0, p.k, one.data());
    for (uint64_t c = 0; c < p.n; c++)
        for (uint64_t r = 0; r < p.m; r++) {
            size_t at = (size_t)p.d.ld * c + r;
            float v = one[c * p.m + r];
            if (x.beta != 0)
                v += x.beta * get(x.c, p.c.type, at);
            if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                v += get(p.desc.bias, p.d.type, r);
            if (changing && odd)
                v += v * 0x1p-7f; /* a unit of BF16, so that it shows in both types */
            put(x.d, p.d.type, at, v);
        }
    for (const auto &one_of : algorithms)
        if (one_of.kind == (Kind)x.algo.kind) {
            double cost = one_of.kind == SPLIT && p.k <= SHORT_K ? SHORT_COST : one_of.cost;
            sim_spend(cost * 1e-12 * (double)p.m * (double)p.n * (double)p.k + 1e-6 * cost);
        }
}
bool known(cublasLtHandle_t h) { return h && *(int *)h == HANDLE; }
} // namespace

size_t cublasLtGetVersion(void) { return LT_SIM_VERSION; }
const char *cublasLtGetStatusName(cublasStatus_t s)
{
    switch (s) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = (cublasLtHandle_t) new int(HANDLE);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (!known(handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *(int *)handle = 0;
    delete (int *)handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type, uint64_t rows, uint64_t cols,
                                        int64_t ld)
{
    write(layout, Layout{rows, cols, ld, type});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) /* lorat asks for nothing else: no TF32 */
        return CUBLAS_STATUS_NOT_SUPPORTED;
    write(desc, Desc{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what, const void *buf,
                                              size_t size)
{
    Desc d = read<Desc>(desc);
    bool pointer = what == CUBLASLT_MATMUL_DESC_BIAS_POINTER;
    if (!buf || size != (pointer ? sizeof(void *) : 4))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (pointer)
        memcpy(&d.bias, buf, size);
    else if (what == CUBLASLT_MATMUL_DESC_EPILOGUE)
        memcpy(&d.epilogue, buf, size);
    else
        memcpy(what == CUBLASLT_MATMUL_DESC_TRANSA ? &d.op_a : &d.op_b, buf, size);
    write(desc, d);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference)
{
    write(preference, Preference{0, ALL_SCHEMES, 256, 256, 256, 256});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *buf, size_t size)
{
    Preference p = read<Preference>(preference);
    uint32_t *of[] = {&p.align_a, &p.align_b, &p.align_c, &p.align_d};
    if (!buf || size != (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8u : 4u))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        memcpy(&p.workspace, buf, size);
    else if (what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        memcpy(&p.schemes, buf, size);
    else
        memcpy(of[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], buf, size);
    write(preference, p);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *n)
{
    Product p;
    cublasStatus_t s = describe(desc, a, b, c, d, &p);
    *n = 0;
    if (!known(handle) || wanted <= 0 || !preference)
        return known(handle) ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_NOT_INITIALIZED;
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    Preference want = read<Preference>(preference);
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS && alignment_of(p.desc.bias) < 16)
        return CUBLAS_STATUS_NOT_SUPPORTED; /* so that a caller's own bias is tested */
    for (const auto &one : algorithms) {
        bool allowed = one.splits == 1 || (want.schemes & one.scheme) != 0;
        if (*n == wanted || !allowed || workspace_of(one.kind, p) > want.workspace)
            continue;
        cublasLtMatmulHeuristicResult_t *r = &out[(*n)++];
        memset(r, 0, sizeof *r);
        write(&r->algo, Algo{(uint32_t)one.kind, check_of(p), workspace_of(one.kind, p), want.align_a, want.align_b, want.align_c,
                             want.align_d, alignment_of(p.desc.bias), 0});
        r->workspaceSize = workspace_of(one.kind, p);
        r->state = one.kind == UNUSABLE ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *out)
{
    Product p;
    cublasStatus_t s = describe(desc, a, b, c, d, &p);
    if (!known(handle) || s != CUBLAS_STATUS_SUCCESS)
        return known(handle) ? s : CUBLAS_STATUS_NOT_INITIALIZED;
    Algo x = read<Algo>(algo);
    if (x.kind <= UNUSABLE || x.kind > UNSTABLE || x.check != check_of(p) || x.workspace != workspace_of((Kind)x.kind, p))
        return CUBLAS_STATUS_INVALID_VALUE;
    out->workspaceSize = x.workspace;
    out->wavesCount = 1;
    out->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t what,
                                                    void *buf, size_t size, size_t *written)
{
    Algo x = read<Algo>(algo);
    if (!buf || size != 4)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const auto &one : algorithms)
        if ((uint32_t)one.kind == x.kind) {
            int32_t v = what == CUBLASLT_ALGO_CONFIG_ID           ? (int32_t)one.kind
                        : what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? one.splits
                                                                  : (int32_t)one.scheme;
            memcpy(buf, &v, 4);
            if (written)
                *written = 4;
            return CUBLAS_STATUS_SUCCESS;
        }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    Call x;
    cublasLtMatmulHeuristicResult_t r;
    if (sim_fault("cublasLtMatmul") != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    cublasStatus_t s = describe(desc, la, lb, lc, ld, &x.p);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    if (!algo || (s = cublasLtMatmulAlgoCheck(handle, desc, la, lb, lc, ld, algo, &r)) != CUBLAS_STATUS_SUCCESS)
        return algo ? s : CUBLAS_STATUS_INVALID_VALUE; /* the real one would ask its heuristic: never wanted here */
    x.algo = read<Algo>(algo);
    if (!alpha || !beta || !a || !b || !d || alignment_of(a) < x.algo.align_a || alignment_of(b) < x.algo.align_b ||
        alignment_of(c) < x.algo.align_c || alignment_of(d) < x.algo.align_d || alignment_of(a) < size_of(x.p.a.type) ||
        alignment_of(b) < size_of(x.p.b.type) || alignment_of(d) < size_of(x.p.d.type))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (x.p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS && (!x.p.desc.bias || alignment_of(x.p.desc.bias) < x.algo.align_bias))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (x.algo.workspace > workspace_bytes || (x.algo.workspace > 0 && (!workspace || alignment_of(workspace) < 16)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (c == d && (x.p.c.ld != x.p.d.ld || x.p.c.type != x.p.d.type))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (x.algo.kind == REFUSES)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memcpy(&x.alpha, alpha, sizeof x.alpha); /* host pointers, read now */
    memcpy(&x.beta, beta, sizeof x.beta);
    x.a = a;
    x.b = b;
    x.c = c;
    x.d = d;
    x.workspace = workspace;
    sim_enqueue(stream, [x] { run(x); });
    return CUBLAS_STATUS_SUCCESS;
}
