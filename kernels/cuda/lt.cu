/* lt.cu - products by cuBLASLt. The library is asked once for each shape which algorithm it would take; the answer and all
 * descriptors are kept, so that a product costs one call and nothing is allocated after a shape's first use.
 *
 * Rows and columns: cuBLASLt is column-major, where our row-major C (m, n) is the matrix C' (n, m). C' = op(B)' op(A)', and what
 * is stored for B is, read by columns, B' already: our B is its first factor, our A its second, and the transposes stay as they
 * are. C's columns are its rows, which is what its bias epilogue wants: one number for each row of C'.
 *
 * Sums are F32 for both types: CUBLAS_COMPUTE_32F takes no TF32, and the type of a bias is by default that of C.
 *
 * Which algorithms may be used: without a split of the sum, or with one whose parts are kept in F32 in the workspace and added
 * in a step of its own. Parts added in place take turns by counters, in the output's type; parts kept in BF16 would be rounded
 * before they are added. Whether an algorithm uses atomics in some other way the library does not tell: `lorat tune` compares
 * bits. */
#include "kernels/cuda/lt.h"

#include <stdio.h>
#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
}
#include "kernels/cuda/device.cuh"

size_t lt_workspace(const struct cuda *c, const struct ops_dims *d) { return LT_WORKSPACE; }

int lt_open(struct cuda *c, struct err *e)
{
    struct lt *lt = (struct lt *)mem_alloc(1, sizeof(*lt));
    if (!lt)
        return mem_fail(e, "the table of products", sizeof(*lt));
    c->lt = lt;
    lt->capacity = 256;
    lt->slots = (struct lt_plan *)mem_alloc(lt->capacity, sizeof(*lt->slots));
    if (!lt->slots)
        return mem_fail(e, "the table of products", lt->capacity * sizeof(*lt->slots));
    cublasStatus_t s = cublasLtCreate(&lt->handle);
    if (s != CUBLAS_STATUS_SUCCESS)
        FAIL(e, ERR_DEVICE, "cuda: cuBLASLt %zu does not start: %s, expected success. Is there memory left on the card?",
             cublasLtGetVersion(), cublasLtGetStatusName(s));
    return 0;
}

void lt_close(struct cuda *c)
{
    struct lt *lt = c->lt;
    if (!lt)
        return;
    if (lt->handle)
        cublasLtDestroy(lt->handle);
    mem_free(lt->slots);
    mem_free(lt);
    c->lt = NULL;
}

struct lt_plan *lt_find(const struct lt *lt, const struct lt_shape *s)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    const unsigned char *bytes = (const unsigned char *)s;
    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    size_t at = (size_t)(h ^ h >> 32) & (lt->capacity - 1);
    while (lt->slots[at].used && memcmp(&lt->slots[at].shape, s, sizeof(*s)) != 0)
        at = (at + 1) & (lt->capacity - 1);
    return &lt->slots[at];
}

struct lt_plan *lt_slot(struct lt *lt, const struct lt_shape *s)
{
    struct lt_plan *p = lt_find(lt, s);
    if (p->used || 2 * (lt->n + 1) <= lt->capacity)
        return p;
    struct lt old = *lt;
    lt->slots = (struct lt_plan *)mem_alloc(old.capacity * 2, sizeof(*lt->slots));
    if (!lt->slots) {
        lt->slots = old.slots;
        return NULL;
    }
    lt->capacity = old.capacity * 2;
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].used)
            *lt_find(lt, &old.slots[i].shape) = old.slots[i];
    mem_free(old.slots);
    return lt_find(lt, s);
}

static cudaDataType type_of(uint8_t t) { return t == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

cublasStatus_t lt_describe(struct lt_plan *p, bool bias_apart)
{
    const struct lt_shape *s = &p->shape;
    int32_t op_first = s->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, op_second = s->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t epilogue = s->bias && !bias_apart ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const void *aligned = (const void *)(uintptr_t)(4096 + s->align_bias); /* never read: the heuristic looks at its last bits */
    uint64_t m = (uint64_t)s->m, n = (uint64_t)s->n, k = (uint64_t)s->k;
    cublasStatus_t done[] = {
        cublasLtMatmulDescInit(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_first, sizeof(op_first)),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_second, sizeof(op_second)),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)),
        epilogue == CUBLASLT_EPILOGUE_BIAS
            ? cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned, sizeof(aligned))
            : CUBLAS_STATUS_SUCCESS,
        cublasLtMatrixLayoutInit(&p->a, type_of(s->type), s->trans_b ? k : n, s->trans_b ? n : k, s->ldb),
        cublasLtMatrixLayoutInit(&p->b, type_of(s->type), s->trans_a ? m : k, s->trans_a ? k : m, s->lda),
        cublasLtMatrixLayoutInit(&p->c, type_of(s->c_type), n, m, s->ldc),
    };
    p->bias_apart = s->bias && bias_apart;
    for (cublasStatus_t one : done)
        if (one != CUBLAS_STATUS_SUCCESS)
            return one;
    return CUBLAS_STATUS_SUCCESS;
}

bool lt_allowed(const cublasLtMatmulAlgo_t *algo)
{
    int32_t splits = 0;
    uint32_t scheme = 0;
    size_t written;
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof(splits), &written) !=
            CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme), &written) !=
            CUBLAS_STATUS_SUCCESS)
        return false;
    return scheme == CUBLASLT_REDUCTION_SCHEME_NONE || scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

int lt_candidates(struct cuda *c, struct lt_plan *p, cublasLtMatmulHeuristicResult_t *out, int max)
{
    const struct lt_shape *s = &p->shape;
    cublasLtMatmulPreferenceOpaque_t preference;
    uint64_t limit = c->workspace_size < (size_t)LT_WORKSPACE ? c->workspace_size : (size_t)LT_WORKSPACE;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t align_a = s->align_b, align_b = s->align_a, align_c = s->align_c;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t size;
    } set[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof(limit)},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_a, sizeof(align_a)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_b, sizeof(align_b)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c, sizeof(align_c)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_c, sizeof(align_c)},
    };
    int offered = 0, kept = 0;
    if (cublasLtMatmulPreferenceInit(&preference) != CUBLAS_STATUS_SUCCESS)
        return 0;
    for (const auto &one : set)
        if (cublasLtMatmulPreferenceSetAttribute(&preference, one.what, one.value, one.size) != CUBLAS_STATUS_SUCCESS)
            return 0;
    if (cublasLtMatmulAlgoGetHeuristic(c->lt->handle, &p->desc, &p->a, &p->b, &p->c, &p->c, &preference, max, out, &offered) !=
        CUBLAS_STATUS_SUCCESS)
        return 0;
    for (int i = 0; i < offered; i++)
        if (out[i].state == CUBLAS_STATUS_SUCCESS && out[i].workspaceSize <= limit && lt_allowed(&out[i].algo))
            out[kept++] = out[i];
    return kept;
}

cublasStatus_t lt_run(struct cuda *c, struct lt_plan *p, const cublasLtMatmulAlgo_t *algo, float alpha,
                      const struct lt_operands *x)
{
    float beta = p->shape.accumulate || p->bias_apart ? 1.0f : 0.0f;
    if (p->shape.bias && !p->bias_apart) {
        cublasStatus_t s = cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x->bias, sizeof(x->bias));
        if (s != CUBLAS_STATUS_SUCCESS)
            return s;
    }
    return cublasLtMatmul(c->lt->handle, &p->desc, &alpha, x->b, &p->a, x->a, &p->b, &beta, x->c, &p->c, x->c, &p->c, algo,
                          c->workspace, c->workspace_size, c->stream);
}

/* c (m, n; ld) = the bias in every row, or zeros: the sum of nothing, and where the library has no bias of its own. The product
 * is then added to it in F32 and rounded once, as with the library's. */
template <typename T> __global__ void fill_rows(T *c, const T *bias, int32_t m, int32_t n, int32_t ld)
{
    int64_t all = (int64_t)m * n, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += step)
        c[i / n * ld + i % n] = bias ? bias[i % n] : (T)0;
}

static void lay_bias(struct cuda *c, const char *where, const struct lt_shape *s, const struct lt_operands *x)
{
    int64_t blocks = ((int64_t)s->m * s->n + ROW_BLOCK - 1) / ROW_BLOCK;
    dim3 grid((unsigned)(blocks < 4096 ? blocks : 4096));
    if (s->c_type == DT_BF16)
        cuda_launch(c, where, grid, ROW_BLOCK, 0, fill_rows<bf16>, (bf16 *)x->c, (const bf16 *)x->bias, s->m, s->n, s->ldc);
    else
        cuda_launch(c, where, grid, ROW_BLOCK, 0, fill_rows<float>, (float *)x->c, (const float *)x->bias, s->m, s->n, s->ldc);
}

static void fail(struct cuda *c, const char *where, const struct lt_shape *s, const char *what)
{
    char shape[128];
    size_t v = cublasLtGetVersion();
    cuda_fail(c, ERR_DEVICE, "%s: cuBLASLt %zu.%zu.%zu, a product of %s: %s, expected a result", where, v / 10000, v / 100 % 100,
              v % 100, lt_shape_text(s, shape, sizeof(shape)), what);
}

static struct lt_plan *plan_of(struct cuda *c, const char *where, const struct lt_shape *s)
{
    struct lt_plan *p = lt_find(c->lt, s);
    cublasLtMatmulHeuristicResult_t offered[8];
    if (p->used)
        return p;
    struct lt_plan fresh = {};
    fresh.shape = *s;
    cublasStatus_t told = lt_describe(&fresh, false);
    int n = told == CUBLAS_STATUS_SUCCESS ? lt_candidates(c, &fresh, offered, 8) : 0;
    if (n == 0 && s->bias && (told = lt_describe(&fresh, true)) == CUBLAS_STATUS_SUCCESS)
        n = lt_candidates(c, &fresh, offered, 8);
    if (n == 0) {
        fail(c, where, s, told == CUBLAS_STATUS_SUCCESS ? "no algorithm is offered" : cublasLtGetStatusName(told));
        return NULL;
    }
    fresh.used = true;
    fresh.algo = offered[0].algo;
    fresh.workspace = offered[0].workspaceSize;
    p = lt_slot(c->lt, s);
    if (!p) {
        fail(c, where, s, "out of memory for the table of products");
        return NULL;
    }
    *p = fresh;
    c->lt->n++;
    return p;
}

/* 16 at most: more does no kernel for BF16 or F32 ask for, and the algorithm then does not depend on where in an arena a row
 * stands. */
static uint8_t alignment_of(const void *p)
{
    uintptr_t at = (uintptr_t)p | 16;
    return (uint8_t)(at & -at);
}

void lt_multiply(struct cuda *c, const char *where, struct lt_shape s, float alpha, const struct lt_operands *x)
{
    if (c->failed)
        return;
    if (s.m < 0 || s.n < 0 || s.k < 0) {
        cuda_fail(c, ERR_INTERNAL, "%s: a product of %d x %d x %d, expected sizes of 0 or more", where, s.m, s.n, s.k);
        return;
    }
    if (s.m == 0 || s.n == 0)
        return;
    s.bias = x->bias != NULL;
    s.align_a = alignment_of(x->a);
    s.align_b = alignment_of(x->b);
    s.align_c = alignment_of(x->c);
    s.align_bias = s.bias ? alignment_of(x->bias) : 0;
    if (s.k == 0) { /* the sum of nothing */
        if (!s.accumulate)
            lay_bias(c, where, &s, x);
        return;
    }
    struct lt_plan *p = plan_of(c, where, &s);
    if (!p || (p->workspace > c->workspace_size && !cuda_scratch(c, where, p->workspace)))
        return;
    if (p->bias_apart)
        lay_bias(c, where, &s, x);
    p->uses++;
    if (c->failed)
        return;
    cublasStatus_t done = lt_run(c, p, &p->algo, alpha, x);
    if (done != CUBLAS_STATUS_SUCCESS)
        fail(c, where, &s, cublasLtGetStatusName(done));
}

const char *lt_attention(const struct cuda *c) { return c->lt->attention; }
void lt_set_attention(struct cuda *c, const char *text) { snprintf(c->lt->attention, sizeof(c->lt->attention), "%s", text); }
