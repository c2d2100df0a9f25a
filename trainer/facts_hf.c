#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/json.h"
#include "trainer/facts_internal.h"

static const struct {
    const char *model_type, *architecture;
    bool qkv_bias, qk_norm;
    int32_t head_size; /* when the file names none; 0 = D / H */
} families[] = {
    {"llama", "LlamaForCausalLM", false, false, 0},
    {"mistral", "MistralForCausalLM", false, false, 0},
    {"qwen2", "Qwen2ForCausalLM", true, false, 0},
    {"qwen3", "Qwen3ForCausalLM", false, true, 128},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static const char known_families[] = "llama, mistral, qwen2 or qwen3";

static bool is_set(const struct json *j) { return json_kind(j) != JSON_ABSENT && json_kind(j) != JSON_NULL; }

/* A whole number; `fallback` when the key is absent or null (negative: the key must be there). */
static int read_int(const struct json *o, const char *key, int64_t max, int64_t fallback, const char *where, int64_t *out,
                    struct err *e)
{
    const struct json *j = json_get(o, key);
    *out = fallback;
    if (!is_set(j)) {
        if (fallback < 0)
            FAIL(e, ERR_MODEL, "%s: there is no \"%s\", expected a whole number", where, key);
        return 0;
    }
    if (!json_i64(j, out))
        FAIL(e, ERR_MODEL, "%s: \"%s\" is %s, expected a whole number", where, key, json_kind_name(json_kind(j)));
    if (*out < 1 || *out > max)
        FAIL(e, ERR_MODEL, "%s: \"%s\" is %lld, expected 1 to %lld", where, key, (long long)*out, (long long)max);
    return 0;
}

static int read_number(const struct json *o, const char *key, double fallback, const char *where, double *out, struct err *e)
{
    const struct json *j = json_get(o, key);
    *out = fallback;
    if (!is_set(j)) {
        if (isnan(fallback))
            FAIL(e, ERR_MODEL, "%s: there is no \"%s\", expected a number", where, key);
        return 0;
    }
    if (!json_f64(j, out))
        FAIL(e, ERR_MODEL, "%s: \"%s\" is %s, expected a number", where, key, json_kind_name(json_kind(j)));
    return 0;
}

static int read_bool(const struct json *o, const char *key, const char *where, bool *out, struct err *e)
{
    const struct json *j = json_get(o, key);
    *out = false;
    if (is_set(j) && !json_bool(j, out))
        FAIL(e, ERR_MODEL, "%s: \"%s\" is %s, expected true or false", where, key, json_kind_name(json_kind(j)));
    return 0;
}

static int read_family(const struct json *o, const char *where, int *out, struct err *e)
{
    const char *type = json_string(json_get(o, "model_type"), NULL);
    const struct json *architectures = json_get(o, "architectures");
    if (type == NULL)
        FAIL(e, ERR_MODEL, "%s: there is no \"model_type\", expected the config.json of a %s model", where, known_families);
    int family = -1;
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(type, families[i].model_type) == 0)
            family = i;
    if (family < 0)
        FAIL(e, ERR_MODEL, "%s: the model type is \"%.64s\", expected %s. Other architectures are not supported", where, type,
             known_families);
    if (is_set(architectures)) {
        const char *name = json_string(json_at(architectures, 0), NULL);
        if (json_length(architectures) != 1 || name == NULL || strcmp(name, families[family].architecture) != 0)
            FAIL(e, ERR_MODEL, "%s: the architecture is \"%.64s\", expected \"%s\"", where, name ? name : "(none)",
                 families[family].architecture);
    }
    *out = family;
    return 0;
}

static int read_sizes(const struct json *o, int family, const char *where, struct facts *f, struct err *e)
{
    int64_t l, d, ff, h, k, q, v;
    TRY(read_int(o, "num_hidden_layers", FACTS_MAX_LAYERS, -1, where, &l, e));
    TRY(read_int(o, "hidden_size", FACTS_MAX_WIDTH, -1, where, &d, e));
    TRY(read_int(o, "intermediate_size", FACTS_MAX_WIDTH, -1, where, &ff, e));
    TRY(read_int(o, "num_attention_heads", FACTS_MAX_HEADS, -1, where, &h, e));
    TRY(read_int(o, "num_key_value_heads", FACTS_MAX_HEADS, family == 0 ? h : -1, where, &k, e));
    TRY(read_int(o, "vocab_size", FACTS_MAX_VOCABULARY, -1, where, &v, e));
    TRY(read_int(o, "max_position_embeddings", FACTS_MAX_CONTEXT, -1, where, &f->context, e));
    int64_t usual = families[family].head_size != 0 ? families[family].head_size : d % h == 0 ? d / h : -1;
    TRY(read_int(o, "head_dim", FACTS_MAX_HEAD_SIZE, usual, where, &q, e));
    if (q > FACTS_MAX_HEAD_SIZE)
        FAIL(e, ERR_MODEL, "%s: the head size is %lld, expected at most %d", where, (long long)q, FACTS_MAX_HEAD_SIZE);
    f->l = (int32_t)l, f->d = (int32_t)d, f->f = (int32_t)ff, f->h = (int32_t)h, f->k = (int32_t)k, f->q = (int32_t)q,
    f->v = (int32_t)v;

    double eps;
    TRY(read_number(o, "rms_norm_eps", NAN, where, &eps, e));
    f->norm_eps = (float)eps;
    return read_bool(o, "tie_word_embeddings", where, &f->tied, e);
}

/* Settings that would change the result and that lorat has no operation for. */
static int refuse_unsupported(const struct json *o, int family, const char *where, struct err *e)
{
    static const char *const flags[][2] = {
        {"attention_bias", "biases on the attention's products"},
        {"mlp_bias", "biases in the MLP"},
        {"rope_interleaved", "interleaved rotary pairs"},
        {"alibi", "ALiBi positions"},
    };
    static const char *const experts[] = {"num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        bool on;
        TRY(read_bool(o, flags[i][0], where, &on, e));
        /* Qwen2 has its biases by architecture, whatever this key says. */
        if (on && !(i == 0 && families[family].qkv_bias))
            FAIL(e, ERR_MODEL, "%s: \"%s\" is true, expected false. %s are not supported", where, flags[i][0], flags[i][1]);
    }
    for (size_t i = 0; i < sizeof experts / sizeof experts[0]; i++)
        if (is_set(json_get(o, experts[i])))
            FAIL(e, ERR_MODEL, "%s: \"%s\" is set, expected a dense model. Mixtures of experts are not supported", where,
                 experts[i]);
    const struct json *quantization = json_get(o, "quantization_config");
    if (is_set(quantization)) {
        const char *method = json_string(json_get(quantization, "quant_method"), NULL);
        FAIL(e, ERR_MODEL,
             "%s: the weights are quantized (%.64s), expected BF16, F16 or F32. Take the model's unquantized repository", where,
             method ? method : "quantization_config");
    }
    const char *act = json_string(json_get(o, "hidden_act"), NULL);
    if (act == NULL || (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0))
        FAIL(e, ERR_MODEL, "%s: \"hidden_act\" is \"%.64s\", expected \"silu\". Other activations are not supported", where,
             act ? act : "(none)");
    return 0;
}

/* A window as long as the context never hides anything. */
static int refuse_window(const struct json *o, int family, const struct facts *f, const char *where, struct err *e)
{
    const struct json *window = json_get(o, "sliding_window"), *types = json_get(o, "layer_types");
    int64_t length = 0, first_layer = 0;
    bool used = strcmp(families[family].model_type, "llama") != 0;
    if (used && strcmp(families[family].model_type, "mistral") != 0) {
        TRY(read_bool(o, "use_sliding_window", where, &used, e));
        if (json_i64(json_get(o, "max_window_layers"), &first_layer) && first_layer >= f->l)
            used = false;
    }
    for (size_t i = 0; i < json_length(types); i++) {
        const char *type = json_string(json_at(types, i), NULL);
        bool slides = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!slides && (type == NULL || strcmp(type, "full_attention") != 0))
            FAIL(e, ERR_MODEL, "%s: layer type \"%.64s\" of layer %zu, expected \"full_attention\"", where,
                 type ? type : "(none)", i);
        used = used || slides;
    }
    if (!used || !is_set(window))
        return 0;
    if (!json_i64(window, &length))
        FAIL(e, ERR_MODEL, "%s: \"sliding_window\" is %s, expected a whole number or null", where,
             json_kind_name(json_kind(window)));
    if (length < f->context)
        FAIL(e, ERR_MODEL,
             "%s: a sliding window of %lld tokens under a context of %lld, expected none. Sliding windows are not supported",
             where, (long long)length, (long long)f->context);
    return 0;
}

static int read_rope(const struct json *o, const char *where, struct facts *f, struct err *e)
{
    /* transformers 5 writes rope_parameters; before it there were rope_theta and rope_scaling. */
    const struct json *p = json_get(o, "rope_parameters");
    if (!is_set(p))
        p = json_get(o, "rope_scaling");
    if (is_set(p) && json_kind(p) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: the rotary parameters are %s, expected an object", where, json_kind_name(json_kind(p)));
    double part, outer_part, theta;
    TRY(read_number(o, "rope_theta", 10000.0, where, &theta, e));
    TRY(read_number(p, "rope_theta", theta, where, &f->rope.theta, e));
    TRY(read_number(o, "partial_rotary_factor", 1.0, where, &outer_part, e));
    TRY(read_number(p, "partial_rotary_factor", outer_part, where, &part, e));
    if (part != 1.0)
        FAIL(e, ERR_MODEL, "%s: \"partial_rotary_factor\" is %g, expected 1. Partly rotated heads are not supported", where,
             part);
    if (!is_set(p))
        return 0;

    const char *type = json_string(json_get(p, "rope_type"), NULL);
    if (type == NULL)
        type = json_string(json_get(p, "type"), NULL);
    if (type == NULL)
        FAIL(e, ERR_MODEL, "%s: the rotary parameters name no \"rope_type\", expected \"default\", \"linear\" or \"llama3\"",
             where);
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "linear") == 0) {
        f->rope.kind = ROPE_LINEAR;
        return read_number(p, "factor", NAN, where, &f->rope.factor, e);
    }
    if (strcmp(type, "llama3") != 0)
        FAIL(e, ERR_MODEL,
             "%s: rotary scaling \"%.64s\", expected \"default\", \"linear\" or \"llama3\". Others are not supported", where,
             type);
    f->rope.kind = ROPE_LLAMA3;
    TRY(read_number(p, "factor", NAN, where, &f->rope.factor, e));
    TRY(read_number(p, "low_freq_factor", NAN, where, &f->rope.low_freq_factor, e));
    TRY(read_number(p, "high_freq_factor", NAN, where, &f->rope.high_freq_factor, e));
    return read_int(p, "original_max_position_embeddings", FACTS_MAX_CONTEXT, f->context, where, &f->rope.original_context, e);
}

static int read_eos(const struct json *o, const char *where, struct facts *f, struct err *e)
{
    const struct json *eos = json_get(o, "eos_token_id");
    int64_t id;
    if (!is_set(eos))
        return 0;
    if (json_i64(eos, &id))
        return facts_add_eos(f, id, where, e);
    if (json_kind(eos) != JSON_ARRAY)
        FAIL(e, ERR_MODEL, "%s: \"eos_token_id\" is %s, expected a token id or a list of them", where,
             json_kind_name(json_kind(eos)));
    for (size_t i = 0; i < json_length(eos); i++) {
        if (!json_i64(json_at(eos, i), &id))
            FAIL(e, ERR_MODEL, "%s: \"eos_token_id\" holds %s, expected token ids", where,
                 json_kind_name(json_kind(json_at(eos, i))));
        TRY(facts_add_eos(f, id, where, e));
    }
    return 0;
}

static int read_tokens(const struct json *o, const struct json *generation, const char *where, struct facts *f, struct err *e)
{
    const struct json *bos = json_get(o, "bos_token_id");
    int64_t id = -1;
    if (is_set(bos) && (!json_i64(bos, &id) || id < 0 || id >= f->v))
        FAIL(e, ERR_MODEL, "%s: \"bos_token_id\" is not one of the vocabulary's %d tokens", where, f->v);
    f->bos = (int32_t)id;
    TRY(read_eos(o, where, f, e));
    char beside[1100];
    snprintf(beside, sizeof beside, "%s (generation_config.json)", where);
    return read_eos(generation, beside, f, e);
}

static int read_config(const struct json *o, const struct json *generation, const char *where, struct facts *f, struct err *e)
{
    int family;
    if (json_kind(o) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: %s, expected an object", where, json_kind_name(json_kind(o)));
    TRY(read_family(o, where, &family, e));
    snprintf(f->arch, sizeof f->arch, "%s", families[family].model_type);
    f->qkv_bias = families[family].qkv_bias;
    f->qk_norm = families[family].qk_norm;
    TRY(refuse_unsupported(o, family, where, e));
    TRY(read_sizes(o, family, where, f, e));
    TRY(refuse_window(o, family, f, where, e));
    TRY(read_rope(o, where, f, e));
    TRY(read_tokens(o, generation, where, f, e));
    return facts_check(f, where, e);
}

int facts_from_hf(const char *config, size_t n, const char *generation, size_t n_generation, const char *where, struct facts *out,
                  struct err *e)
{
    struct json *o = NULL, *g = NULL;
    char beside[1100];
    int rc = -1;
    *out = (struct facts){.bos = -1, .rope = {.kind = ROPE_DEFAULT}};
    snprintf(beside, sizeof beside, "%s (generation_config.json)", where);
    if (json_parse(config, n, where, ERR_MODEL, &o, e) == 0 &&
        (generation == NULL || json_parse(generation, n_generation, beside, ERR_MODEL, &g, e) == 0))
        rc = read_config(o, g, where, out, e);
    json_free(o);
    json_free(g);
    return rc;
}
