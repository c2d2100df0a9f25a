/* ops.h - the one table of operations that the model is written against. kernels/cpu and kernels/cuda fill the same table.
 *
 * Legend: n tokens of a micro-batch, D model width, F feed-forward width, H query heads, K key/value heads, Q head size,
 *   V vocabulary, R rank (padded), s span. Shapes are row-major; "ld" is the distance between rows in elements.
 * act: an element of type ops->act (BF16 or F32). Inside an operation every sum is F32 (or wider); a result is rounded once.
 * "=" means the output is overwritten, "+=" that it is added to. No output may overlap an input unless the entry says so.
 *
 * Memory: every pointer is device memory of this backend (host memory for the CPU), given by `alloc`. Operations are queued in
 *   order on one stream and may still be running when the call returns; `download` and `sync` wait. Host arguments are copied
 *   before the call returns. (A second queue beside it has `fetch` alone.)
 * Errors: operations return nothing. The first failure is remembered, later operations do nothing, and `sync`, `download` and
 *   `check` report it. A caller therefore checks once a step.
 * Determinism: with the same binary, device, libraries and thread count, every operation gives the same bits for the same
 *   inputs, whatever ran before; sums have a fixed order.
 * Scratch: an operation may use only the workspace that was set; it allocates nothing (primitives and tables that a library
 *   caches per shape are made on first use, which is why the first step of a run may take longer). */
#ifndef LORAT_OPS_H
#define LORAT_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/batch.h"
#include "trainer/base/bf16.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"

/* The geometry a workspace is sized for: upper bounds over all calls. */
struct ops_dims {
    int64_t n;        /* tokens in one call */
    int32_t max_span; /* queries or keys of one span */
    int32_t d, f, h, k, q, v, r; /* D F H K Q V and 3R: the widest product dimensions */
    int32_t head_chunk;          /* tokens in one cross_entropy call */
};

/* A frozen matrix W (out, in), row-major, behind a handle so that another format can come later without changing the model. */
struct weight {
    const void *data;
    enum dtype type; /* == ops->act today */
    int32_t out, in;
};

/* C (m, n) = alpha * op(A) (m, k) * op(B) (k, n), or += . op is a transpose when the flag is set: A is then stored (k, m).
 * Of every product: m or n of 0 does nothing; k of 0 is the sum of nothing (= the bias or zeros, += leaves C as it is), and A and B
 * are not looked at; a size below 0 is a failure. */
struct gemm {
    int32_t m, n, k;
    const void *a, *b;
    void *c;
    int32_t lda, ldb, ldc;
    bool trans_a, trans_b, accumulate;
    enum dtype a_type, b_type, c_type; /* a_type == b_type == act; c_type act or F32 */
    float alpha; /* 1 with accumulate in everything that is on a step's path: libraries have fast products for that */
};

/* Every span has 1 <= q_len <= k_len (batch.h), and each of the n queries is in just one of them: so it sees a key at least, and
 * every row of an output is written.
 * NaN and infinity: a NaN in a query or in a key or value that it sees, a score of +inf, or nothing but scores of -inf make the
 * query's rows of out and dq not finite; other spans know nothing of it. */
struct attention {
    int32_t n;           /* query tokens over all spans */
    int32_t heads, kv_heads, head_size;
    int32_t ld_q, ld_k, ld_v; /* also of dq, dk, dv */
    float scale;         /* usually 1/sqrt(Q) */
    const struct span *spans; /* (n_spans) device memory */
    int32_t n_spans, max_span; /* max_span: most queries or keys in one span */
    bool square;         /* the caller knows that q_len == k_len in every span: a library may be used that wants that; false: unknown */
};

struct adamw {
    double beta1, beta2; /* F64, so that 1 - beta is rounded once */
    float lr, epsilon, weight_decay;
    float grad_scale;     /* 1 / weight sum, times the clip factor */
    float bias1, bias2;   /* 1 - beta^t for this update t */
};

struct dropout {
    uint64_t seed;
    uint32_t step, module; /* which product of which layer */
    float p;               /* 0 < p < 1; survivors are scaled by 1/(1-p) */
};
/* Element j of the row with key `key` survives when rng_unit(word) >= p, where word = rng_at(dropout_key(d), RNG_DROPOUT, key,
 * j / 4, module).v[j % 4] (rng.h): one Philox block serves four neighbours. */
static inline uint64_t dropout_key(const struct dropout *d) { return d->seed ^ (uint64_t)d->step * 0x9E3779B97F4A7C15u; }

enum { FETCH_SLOTS = 2 };
struct ops {
    const char *name;      /* "cpu", "cuda" */
    char device[96];       /* "AMD EPYC, 2 threads, AVX-512 BF16" */
    enum dtype act;
    bool unified;          /* device pointers may be read by the host after `sync` (the CPU) */
    int64_t later_bytes;   /* device memory that libraries may still take at first use, beside what `memory` already counts as taken */
    void *state;           /* the backend's own */

    /* ---- memory and the queue ---- */
    /* bytes of device memory, aligned to 256; for large, once-at-start blocks. Freed with `release`. */
    int (*alloc)(struct ops *o, size_t bytes, void **out, struct err *e);
    void (*release)(struct ops *o, void *p);
    int (*memory)(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e);
    size_t (*workspace_bytes)(const struct ops *o, const struct ops_dims *d);
    void (*set_workspace)(struct ops *o, void *p, size_t bytes);
    void (*upload)(struct ops *o, void *dst, const void *src_host, size_t bytes);
    int (*download)(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e); /* waits */
    int (*sync)(struct ops *o, struct err *e);
    int (*check)(struct ops *o, struct err *e); /* the remembered failure, without waiting */
    void (*close)(struct ops *o);

    /* ---- a second queue, for weights that do not stay on the device ---- */
    /* Host memory that the device reads by itself, at the full speed of the bus. Freed with `release_host`. */
    int (*alloc_host)(struct ops *o, size_t bytes, void **out, struct err *e);
    void (*release_host)(struct ops *o, void *p);
    /* dst (bytes) = src_host (of `alloc_host`, unchanged until `fetch_wait` has been queued and waited for), on the second queue: after
     * everything queued on the first so far, beside what is queued there from now on. slot 0..FETCH_SLOTS-1 names it for fetch_wait. */
    void (*fetch)(struct ops *o, int slot, void *dst, const void *src_host, size_t bytes);
    /* What is queued on the first queue from now on waits for the slot's last fetch. The host waits for nothing. */
    void (*fetch_wait)(struct ops *o, int slot);
    /* Seconds that the first queue has stood still in fetch_wait, as far as it has come, since the last call. Waits for nothing. NULL:
     * a backend whose fetches take their time in the call (the CPU). */
    double (*fetch_waited)(struct ops *o);

    /* ---- simple memory operations ---- */
    void (*zero)(struct ops *o, void *p, size_t bytes);
    /* dst (=) src, converted; count elements; dst == src only when the types are equal. */
    void (*cast)(struct ops *o, void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t count);
    /* dst (rows, cols; ld_dst) = src (rows, cols; ld_src), act. */
    void (*copy_2d)(struct ops *o, void *dst, int32_t ld_dst, const void *src, int32_t ld_src, int32_t rows, int32_t cols);
    /* y (n, cols; ld_y) = x[index[i]] (cols; ld_x), act; an index of -1 gives a row of zeros. */
    void (*gather_rows)(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n,
                        int32_t cols);
    /* y[index[i]] (cols; ld_y) = x (n, cols; ld_x), act; indices are distinct, -1 is left out; other rows of y stay as they are. */
    void (*scatter_rows)(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n,
                         int32_t cols);
    /* y (count) += x (count), act. */
    void (*add)(struct ops *o, void *y, const void *x, int64_t count);

    /* ---- products ---- */
    /* y (n, out) = x (n, in) W^T [+ bias (out) act, may be NULL]. */
    void (*linear_forward)(struct ops *o, void *y, const void *x, const struct weight *w, const void *bias, int32_t n);
    /* dx (n, in) = dy (n, out) W, or += when accumulate. There is no gradient of W: the base is frozen. */
    void (*linear_backward)(struct ops *o, void *dx, const void *dy, const struct weight *w, int32_t n, bool accumulate);
    void (*gemm)(struct ops *o, const struct gemm *g);

    /* ---- the decoder ---- */
    /* x (n, D) = W[tokens[i]]; tokens (n) in 0..out-1. */
    void (*embed_forward)(struct ops *o, void *x, const struct weight *w, const int32_t *tokens, int32_t n);
    /* s = x + delta, rounded to act; sum (n, D) = s; y (n, D) = s * rsqrt(mean(s^2) + eps) * w. delta NULL: s = x. sum may be
     * NULL (s is not kept) or x itself. y is computed from the rounded s, so a recompute from `sum` gives the same bits.
     * RMSNorm: Zhang and Sennrich 2019. */
    void (*rmsnorm_forward)(struct ops *o, void *y, void *sum, const void *x, const void *delta, const void *w, int32_t n,
                            int32_t d, float eps);
    /* dx (n, D) += d rmsnorm(x) / dx applied to dy:  r (w dy - x r^2 mean(w dy x)), r = rsqrt(mean(x^2) + eps). */
    void (*rmsnorm_backward)(struct ops *o, void *dx, const void *dy, const void *x, const void *w, int32_t n, int32_t d,
                             float eps);
    /* RMSNorm of every head by itself (Qwen3's q/k norm): x, y (n, heads * Q) with row distances; w (Q). y may be x. */
    void (*head_norm_forward)(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const void *w, int32_t n,
                              int32_t heads, int32_t q, float eps);
    /* dx = ; dx may be dy. */
    void (*head_norm_backward)(struct ops *o, void *dx, int32_t ld_dx, const void *dy, int32_t ld_dy, const void *x,
                               int32_t ld_x, const void *w, int32_t n, int32_t heads, int32_t q, float eps);
    /* In place, rotary embedding in the half-split order of Hugging Face: for j < Q/2, (x_j, x_{j+Q/2}) is rotated by the angle
     * of table[position][j] = (cos, sin), table (positions, Q/2, 2) F32. backward = rotate by minus the angle. */
    void (*rope)(struct ops *o, void *x, int32_t ld_x, const int32_t *positions, const float *table, int32_t n, int32_t heads,
                 int32_t q, bool backward);
    /* out (n, H*Q) = softmax(scale q k^T, causal within spans) v; head h reads key head h / (H/K). lse (n, H) = log-sum-exp of
     * the scaled scores (natural log), may be NULL. Online softmax; Q any multiple of 8 up to 256. */
    void (*attention_forward)(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                              const void *v);
    /* dq, dk, dv = ; spans have q_len == k_len. delta (n, H) F32 is scratch. Not in place: kernels that
     * give dq and dk apart read q and k twice, and a copy would take as much memory as they have. */
    void (*attention_backward)(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                               const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta);
    /* a (n, F) = silu(g) * u; gu (n, 2F) holds g in its first F columns, u in the others. */
    void (*swiglu_forward)(struct ops *o, void *a, const void *gu, int32_t n, int32_t f);
    /* dgu (n, 2F) = ; dgu may be gu. */
    void (*swiglu_backward)(struct ops *o, void *dgu, const void *da, const void *gu, int32_t n, int32_t f);
    /* y (n, d) = (or +=) mask(key[i], j) * x / (1-p); the mask is a function of (seed, step, module, key, j) alone. y may be x
     * when not accumulating. Forward and backward are the same operation. */
    void (*dropout_apply)(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d,
                          const struct dropout *drop, bool accumulate);
    /* Over each of n rows of logits (n, ld_v) with V real columns: loss += w (lse - logit[target]) (one F32, fixed order);
     * with backward, logits are replaced by w (softmax - onehot), padding columns by 0. weight 0 rows become 0 and their
     * logits are not looked at (but for backward being written). nll (n) F32 = lse - logit[target], may be NULL. */
    void (*cross_entropy)(struct ops *o, float *loss, float *nll, void *logits, int32_t ld_v, const int32_t *targets,
                          const float *weights, int32_t n, int32_t v, bool backward);
    /* sum (1) F32 += the n weights, fixed order. */
    void (*weight_sum)(struct ops *o, float *sum, const float *weights, int32_t n);
    /* out (n) I32 = first index of the largest of V logits in each row. */
    void (*argmax)(struct ops *o, int32_t *out, const void *logits, int32_t ld_v, int32_t n, int32_t v);

    /* ---- the one trainable block ---- */
    /* out[0] = sum of squares of g (count), out[1] = how many of them are not finite; F32, fixed order, accumulated in F64. */
    void (*grad_stats)(struct ops *o, float *out, const float *g, int64_t count);
    /* g' = g * grad_scale; m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2;
     * p = p - lr (wd p + (m/bias1) / (sqrt(v/bias2) + eps)). AdamW: Loshchilov and Hutter 2019; PyTorch's order of eps. */
    void (*adamw_update)(struct ops *o, float *p, const float *g, float *m, float *v, int64_t count, const struct adamw *a);

    /* ---- a library's choices, and profiling: NULL where a backend has none (the CPU) ---- */
    /* Time the algorithms that the library offers for every shape of product used so far, with operands in `scratch` (contents
     * destroyed), and use the fastest of those whose bits don't depend on timing from now on. About budget_s in all. Waits. */
    int (*tune)(struct ops *o, void *scratch, size_t bytes, double budget_s, struct err *e);
    /* The choices as text (GPU, library versions, a line a shape), and back; another GPU's or library's text is ERR_STATE. */
    int (*tuned)(struct ops *o, struct buf *out, struct err *e);
    int (*set_tuned)(struct ops *o, const char *text, size_t n, struct err *e);
    /* What the backend has chosen so far without being asked, where bits hang on it, appended ("32/8/128 cudnn 91801": attention by
     * cuDNN; nothing while nothing was chosen). And back, before the first operation: such a choice is then kept, or the operation that
     * cannot keep it fails (ERR_STATE). A tuned table comes first. */
    void (*chosen)(struct ops *o, struct buf *out);
    void (*set_chosen)(struct ops *o, const char *text);
    /* A named range in a profiler's timeline; name NULL ends the innermost one. */
    void (*mark)(struct ops *o, const char *name);
};

/* A range around what is queued until it is ended; backends without a profiler take no notice. */
static inline void ops_mark(struct ops *o, const char *name)
{
    if (o->mark != NULL)
        o->mark(o, name);
}

/* The CPU backend. act DT_BF16 needs AVX512_BF16 (or AMX) for speed but works anywhere. threads 0 = all cores. */
int ops_cpu_open(enum dtype act, int threads, struct ops **out, struct err *e);
/* "oneDNN 2.6.0" */
void ops_cpu_versions(char *out, size_t size);
/* Does this CPU multiply BF16 natively? (what precision: auto asks) */
bool ops_cpu_has_bf16(void);

#endif
