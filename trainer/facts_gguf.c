#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/facts_internal.h"

struct keys {
    const struct gguf *g;
    const char *where;
    char arch[32];
};

/* "llama.block_count" for "block_count". */
static const char *full_key(const struct keys *k, const char *key, char text[128])
{
    snprintf(text, 128, "%s.%s", k->arch, key);
    return text;
}

/* A whole number of the architecture; `fallback` when absent (negative: the key must be there). */
static int read_int(const struct keys *k, const char *key, int64_t max, int64_t fallback, int64_t *out, struct err *e)
{
    char name[128];
    full_key(k, key, name);
    *out = fallback;
    if (!gguf_has(k->g, name)) {
        if (fallback < 0)
            FAIL(e, ERR_MODEL, "%s: there is no \"%s\", expected a whole number", k->where, name);
        return 0;
    }
    if (!gguf_i64(k->g, name, out))
        FAIL(e, ERR_MODEL, "%s: \"%s\" is not a whole number. Models whose layers differ are not supported", k->where, name);
    if (*out < 1 || *out > max)
        FAIL(e, ERR_MODEL, "%s: \"%s\" is %lld, expected 1 to %lld", k->where, name, (long long)*out, (long long)max);
    return 0;
}

static int read_number(const struct keys *k, const char *key, double fallback, double *out, struct err *e)
{
    char name[128];
    full_key(k, key, name);
    *out = fallback;
    if (gguf_has(k->g, name) && !gguf_f64(k->g, name, out))
        FAIL(e, ERR_MODEL, "%s: \"%s\" is not a number", k->where, name);
    return 0;
}

static int read_arch(struct keys *k, struct facts *f, struct err *e)
{
    size_t n;
    const char *arch = gguf_string(k->g, "general.architecture", &n);
    if (arch == NULL)
        FAIL(e, ERR_MODEL, "%s: there is no \"general.architecture\", expected llama, qwen2 or qwen3", k->where);
    snprintf(k->arch, sizeof k->arch, "%.*s", (int)(n < 31 ? n : 31), arch);
    for (char *p = k->arch; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
            *p = '?';
    f->qkv_bias = strcmp(k->arch, "qwen2") == 0;
    f->qk_norm = strcmp(k->arch, "qwen3") == 0;
    if (strcmp(k->arch, "llama") != 0 && !f->qkv_bias && !f->qk_norm)
        FAIL(e, ERR_MODEL, "%s: the architecture is \"%s\", expected llama, qwen2 or qwen3. Others are not supported", k->where,
             k->arch);
    snprintf(f->arch, sizeof f->arch, "%s", k->arch);
    return 0;
}

static int refuse_unsupported(const struct keys *k, struct err *e)
{
    static const char *const experts[] = {"expert_count", "expert_used_count"};
    char name[128];
    int64_t n;
    for (size_t i = 0; i < sizeof experts / sizeof experts[0]; i++)
        if (gguf_i64(k->g, full_key(k, experts[i], name), &n) && n > 0)
            FAIL(e, ERR_MODEL, "%s: \"%s\" is %lld, expected a dense model. Mixtures of experts are not supported", k->where,
                 name, (long long)n);
    int64_t window, context;
    if (gguf_i64(k->g, full_key(k, "context_length", name), &context) &&
        gguf_i64(k->g, full_key(k, "attention.sliding_window", name), &window) && window > 0 && window < context)
        FAIL(e, ERR_MODEL,
             "%s: a sliding window of %lld tokens under a context of %lld, expected none. Sliding windows are not supported",
             k->where, (long long)window, (long long)context);
    return 0;
}

static int read_sizes(const struct keys *k, const struct tensor_list *tensors, struct facts *f, struct err *e)
{
    int64_t l, d, ff, h, kv, q, v, other;
    double eps;
    const struct tensor *embed = tensor_find(tensors, "token_embd.weight");
    if (embed == NULL || embed->rank != 2)
        FAIL(e, ERR_MODEL, "%s: tensor \"token_embd.weight\" is %s, expected (V, D). A file with only a vocabulary is no model",
             k->where, embed == NULL ? "missing" : "not a matrix");
    TRY(read_int(k, "block_count", FACTS_MAX_LAYERS, -1, &l, e));
    TRY(read_int(k, "embedding_length", FACTS_MAX_WIDTH, -1, &d, e));
    TRY(read_int(k, "feed_forward_length", FACTS_MAX_WIDTH, -1, &ff, e));
    TRY(read_int(k, "attention.head_count", FACTS_MAX_HEADS, -1, &h, e));
    TRY(read_int(k, "attention.head_count_kv", FACTS_MAX_HEADS, h, &kv, e));
    TRY(read_int(k, "context_length", FACTS_MAX_CONTEXT, -1, &f->context, e));
    TRY(read_int(k, "attention.key_length", FACTS_MAX_HEAD_SIZE, d % h == 0 ? d / h : -1, &q, e));
    if (q > FACTS_MAX_HEAD_SIZE)
        FAIL(e, ERR_MODEL, "%s: the head size is %lld, expected at most %d", k->where, (long long)q, FACTS_MAX_HEAD_SIZE);
    TRY(read_int(k, "attention.value_length", FACTS_MAX_HEAD_SIZE, q, &other, e));
    if (other != q)
        FAIL(e, ERR_MODEL, "%s: keys of %lld and values of %lld elements a head, expected the same", k->where, (long long)q,
             (long long)other);
    TRY(read_int(k, "rope.dimension_count", FACTS_MAX_HEAD_SIZE, q, &other, e));
    if (other != q)
        FAIL(e, ERR_MODEL, "%s: %lld of a head's %lld elements are rotated, expected all. Partly rotated heads are not supported",
             k->where, (long long)other, (long long)q);
    v = embed->shape[0];
    if (v < 1 || v > FACTS_MAX_VOCABULARY)
        FAIL(e, ERR_MODEL, "%s: a vocabulary of %lld tokens, expected 1 to %d", k->where, (long long)v, FACTS_MAX_VOCABULARY);
    TRY(read_int(k, "vocab_size", FACTS_MAX_VOCABULARY, v, &other, e));
    if (other != v)
        FAIL(e, ERR_MODEL, "%s: a vocabulary of %lld tokens but %lld rows in \"token_embd.weight\", expected the same", k->where,
             (long long)other, (long long)v);
    f->l = (int32_t)l, f->d = (int32_t)d, f->f = (int32_t)ff, f->h = (int32_t)h, f->k = (int32_t)kv, f->q = (int32_t)q,
    f->v = (int32_t)v;
    f->tied = tensor_find(tensors, "output.weight") == NULL;
    TRY(read_number(k, "attention.layer_norm_rms_epsilon", 0, &eps, e));
    f->norm_eps = (float)eps;
    return 0;
}

static int read_factors(const struct keys *k, const struct tensor_list *tensors, struct facts *f, struct err *e)
{
    int64_t shape[1] = {f->q / 2};
    const struct tensor *t = tensor_find(tensors, "rope_freqs.weight");
    if (t == NULL)
        return 0;
    if (f->rope.kind != ROPE_DEFAULT)
        FAIL(e, ERR_MODEL, "%s: both \"rope_freqs.weight\" and a rotary scaling, expected one of them", k->where);
    TRY(tensor_require(tensors, t->name, 1, shape, &t, e));
    f->rope.factors = mem_alloc((size_t)shape[0], sizeof(float));
    if (f->rope.factors == NULL)
        return mem_fail(e, "rotary factors", (size_t)shape[0] * sizeof(float));
    f->rope.kind = ROPE_FACTORS;
    return tensor_read(tensors, t, 0, shape[0], DT_F32, f->rope.factors, e);
}

static int read_rope(const struct keys *k, const struct tensor_list *tensors, struct facts *f, struct err *e)
{
    char name[128];
    size_t n;
    double old;
    TRY(read_number(k, "rope.freq_base", 10000.0, &f->rope.theta, e));
    TRY(read_number(k, "rope.scale_linear", 1.0, &old, e));
    TRY(read_number(k, "rope.scaling.factor", old, &f->rope.factor, e));
    const char *type = gguf_string(k->g, full_key(k, "rope.scaling.type", name), &n);
    if (type != NULL && !(n == 4 && memcmp(type, "none", 4) == 0) && !(n == 6 && memcmp(type, "linear", 6) == 0))
        FAIL(e, ERR_MODEL, "%s: rotary scaling \"%.*s\", expected \"none\" or \"linear\". Others are not supported", k->where,
             (int)(n < 32 ? n : 32), type);
    if ((type == NULL || n == 6) && f->rope.factor != 1.0 && f->rope.factor != 0.0)
        f->rope.kind = ROPE_LINEAR;
    return read_factors(k, tensors, f, e);
}

static int read_tokens(const struct keys *k, struct facts *f, struct err *e)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id;
    if (gguf_i64(k->g, "tokenizer.ggml.bos_token_id", &id)) {
        if (id < 0 || id >= f->v)
            FAIL(e, ERR_MODEL, "%s: begin token %lld, expected one of the vocabulary's %d tokens", k->where, (long long)id, f->v);
        f->bos = (int32_t)id;
    }
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (gguf_i64(k->g, ends[i], &id))
            TRY(facts_add_eos(f, id, k->where, e));
    return 0;
}

int facts_from_gguf(const struct gguf *g, const struct tensor_list *tensors, const char *where, struct facts *out, struct err *e)
{
    struct keys k = {.g = g, .where = where};
    *out = (struct facts){.bos = -1, .rope = {.kind = ROPE_DEFAULT}};
    if (read_arch(&k, out, e) == 0 && refuse_unsupported(&k, e) == 0 && read_sizes(&k, tensors, out, e) == 0 &&
        read_rope(&k, tensors, out, e) == 0 && read_tokens(&k, out, e) == 0 && facts_check(out, where, e) == 0)
        return 0;
    facts_free(out);
    return -1;
}
