#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/adapter.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

enum {
    MAX_TARGETS = sizeof((struct adapter_config *)0)->targets / sizeof((struct adapter_config *)0)->targets[0],
    TARGET_TEXT = sizeof((struct adapter_config *)0)->targets[0],
    MAX_RANK = 1 << 16
};

double adapter_scale(const struct adapter_config *c)
{
    return c->rslora ? c->alpha / sqrt((double)c->rank) : c->alpha / (double)c->rank;
}

/* A value as it stands in a message. */
static const char *value_text(const struct json *j, char text[96])
{
    double number;
    bool truth;
    if (json_string(j, NULL) != NULL)
        snprintf(text, 96, "\"%.80s\"", json_string(j, NULL));
    else if (json_bool(j, &truth))
        snprintf(text, 96, "%s", truth ? "true" : "false");
    else if (json_f64(j, &number))
        snprintf(text, 96, "%g", number);
    else
        snprintf(text, 96, "%s", json_kind_name(json_kind(j)));
    return text;
}

static bool is_text(const struct json *j, const char *want)
{
    const char *s = json_string(j, NULL);
    return s != NULL && strcmp(s, want) == 0;
}

static int read_bool(const struct json *root, const char *key, const char *where, bool *out, struct err *e)
{
    const struct json *j = json_get(root, key);
    char text[96];
    *out = false;
    if (json_kind(j) == JSON_ABSENT || json_kind(j) == JSON_NULL || json_bool(j, out))
        return 0;
    FAIL(e, ERR_MODEL, "%s: %s: found %s, expected true or false. Correct the file", where, key, value_text(j, text));
}

static int read_number(const struct json *root, const char *key, const char *where, double least, double most, double *out,
                       struct err *e)
{
    const struct json *j = json_get(root, key);
    char text[96];
    if (json_f64(j, out) && *out >= least && *out <= most)
        return 0;
    FAIL(e, ERR_MODEL, "%s: %s: found %s, expected a number from %g to %g. Correct the file", where, key, value_text(j, text),
         least, most);
}

static int add_target(struct adapter_config *c, const char *name, const char *where, struct err *e)
{
    /* PEFT matches an entry as the end of a module's path, so the last component says what kind of module it is; which layers
     * have it is seen from the tensors. */
    const char *dot = strrchr(name, '.');
    const char *last = dot != NULL ? dot + 1 : name;
    if (*last == 0 || strlen(last) >= TARGET_TEXT)
        FAIL(e, ERR_MODEL, "%s: target_modules: found \"%.80s\", expected a module's name such as q_proj. Correct the file",
             where, name);
    for (int i = 0; i < c->n_targets; i++)
        if (strcmp(c->targets[i], last) == 0)
            return 0;
    if (c->n_targets == MAX_TARGETS)
        FAIL(e, ERR_MODEL,
             "%s: target_modules: found more than %d names, expected at most that. Name the modules without their layers", where,
             MAX_TARGETS);
    snprintf(c->targets[c->n_targets++], TARGET_TEXT, "%s", last);
    return 0;
}

static int read_targets(const struct json *j, const char *where, struct adapter_config *c, struct err *e)
{
    char text[96];
    if (is_text(j, "all-linear"))
        return 0;
    if (json_kind(j) == JSON_STRING)
        FAIL(e, ERR_MODEL,
             "%s: target_modules: found the pattern %s, expected a list of names. Replace it by the names it matches, "
             "such as [\"q_proj\", \"v_proj\"]",
             where, value_text(j, text));
    if (json_kind(j) != JSON_ARRAY || json_length(j) == 0)
        FAIL(e, ERR_MODEL,
             "%s: target_modules: found %s, expected a list of names such as [\"q_proj\", \"v_proj\"]. Correct the file", where,
             json_kind(j) == JSON_ARRAY ? "an empty list" : value_text(j, text));
    for (size_t i = 0; i < json_length(j); i++) {
        const char *name = json_string(json_at(j, i), NULL);
        if (name == NULL)
            FAIL(e, ERR_MODEL, "%s: target_modules: found %s in the list, expected names. Correct the file", where,
                 value_text(json_at(j, i), text));
        TRY(add_target(c, name, where, e));
    }
    return 0;
}

/* How A and B were first filled does not matter once they are trained, except where it also changed the base. */
static bool init_is_harmless(const struct json *j)
{
    static const char *const names[] = {"gaussian", "eva", "orthogonal"};
    bool truth;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_text(j, names[i]))
            return true;
    return json_bool(j, &truth) || json_kind(j) == JSON_NULL;
}

/* Says off, not there or nothing. */
static bool is_neutral(const struct json *j)
{
    bool truth;
    size_t n = 1;
    switch (json_kind(j)) {
    case JSON_ABSENT:
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return json_bool(j, &truth) && !truth;
    case JSON_STRING:
        json_string(j, &n);
        return n == 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_length(j) == 0;
    default:
        return false;
    }
}

/* PEFT adds a key with nearly every release. One that is off is fine whatever it means; one that is on may change the result. */
static int check_others(const struct json *root, const char *where, struct err *e)
{
    static const char *const used[] = {"peft_type",    "task_type",  "base_model_name_or_path", "r",    "lora_alpha",
                                       "lora_dropout", "use_rslora", "target_modules",          "bias", "init_lora_weights"};
    static const char *const harmless[] = {"auto_mapping",    "revision",       "inference_mode",    "peft_version",
                                           "megatron_config", "megatron_core",  "loftq_config",      "eva_config",
                                           "corda_config",    "lora_ga_config", "qalora_group_size", "ensure_weight_tying",
                                           "runtime_config",  "layers_pattern"};
    char text[96];
    for (void *it = json_first(root); it != NULL; it = json_next(root, it)) {
        bool fine = is_neutral(json_value(it));
        for (size_t i = 0; i < sizeof used / sizeof *used && !fine; i++)
            fine = strcmp(used[i], json_key(it)) == 0;
        for (size_t i = 0; i < sizeof harmless / sizeof *harmless && !fine; i++)
            fine = strcmp(harmless[i], json_key(it)) == 0;
        if (!fine)
            FAIL(e, ERR_MODEL,
                 "%s: %.64s: found %s, expected it to be off: lorat knows plain LoRA only. Train the adapter without it", where,
                 json_key(it), value_text(json_value(it), text));
    }
    return 0;
}

static int parse_root(const struct json *root, const char *where, struct adapter_config *c, struct err *e)
{
    char text[96];
    if (json_kind(root) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: found %s, expected an object with peft_type. Give an adapter folder as PEFT writes it", where,
             value_text(root, text));
    if (!is_text(json_get(root, "peft_type"), "LORA"))
        FAIL(e, ERR_MODEL, "%s: peft_type: found %s, expected \"LORA\". Use a LoRA adapter", where,
             value_text(json_get(root, "peft_type"), text));
    const struct json *task = json_get(root, "task_type"), *bias = json_get(root, "bias"), *base;
    if (!is_neutral(task) && !is_text(task, "CAUSAL_LM"))
        FAIL(e, ERR_MODEL, "%s: task_type: found %s, expected \"CAUSAL_LM\". Use an adapter for text generation", where,
             value_text(task, text));
    if (!is_neutral(bias) && !is_text(bias, "none"))
        FAIL(e, ERR_MODEL, "%s: bias: found %s, expected \"none\". Train the adapter without biases", where,
             value_text(bias, text));
    if (!init_is_harmless(json_get(root, "init_lora_weights")) && json_kind(json_get(root, "init_lora_weights")) != JSON_ABSENT)
        FAIL(e, ERR_MODEL,
             "%s: init_lora_weights: found %s, which also changed the base model, expected true. Convert the adapter with PEFT's "
             "save_pretrained(..., path_initial_model_for_weight_conversion=...)",
             where, value_text(json_get(root, "init_lora_weights"), text));
    TRY(check_others(root, where, e));

    double rank;
    TRY(read_number(root, "r", where, 1, MAX_RANK, &rank, e));
    if (rank != floor(rank))
        FAIL(e, ERR_MODEL, "%s: r: found %g, expected a whole number. Correct the file", where, rank);
    c->rank = (int32_t)rank;
    TRY(read_number(root, "lora_alpha", where, 0, 1e9, &c->alpha, e));
    if (json_kind(json_get(root, "lora_dropout")) != JSON_ABSENT)
        TRY(read_number(root, "lora_dropout", where, 0, 1, &c->dropout, e));
    TRY(read_bool(root, "use_rslora", where, &c->rslora, e));
    base = json_get(root, "base_model_name_or_path");
    size_t n = 0;
    const char *name = json_string(base, &n);
    if ((name == NULL && !is_neutral(base)) || n >= sizeof c->base || (name != NULL && strlen(name) != n))
        FAIL(e, ERR_MODEL, "%s: base_model_name_or_path: found %s, expected a text of fewer than %zu bytes. Correct the file",
             where, value_text(base, text), sizeof c->base);
    snprintf(c->base, sizeof c->base, "%s", name != NULL ? name : "");
    return read_targets(json_get(root, "target_modules"), where, c, e);
}

int adapter_config_parse(const char *bytes, size_t n, const char *where, struct adapter_config *out, struct err *e)
{
    struct json *root = NULL;
    memset(out, 0, sizeof *out);
    TRY(json_parse(bytes, n, where, ERR_MODEL, &root, e));
    int rc = parse_root(root, where, out, e);
    json_free(root);
    return rc;
}

int adapter_config_write(const struct adapter_config *c, struct buf *b, struct err *e)
{
    if (c->rank < 1 || c->n_targets < 1 || c->n_targets > MAX_TARGETS || !isfinite(c->alpha) || !isfinite(c->dropout))
        FAIL(e, ERR_INTERNAL,
             "adapter_config.json: found rank %" PRId32 ", %d targets, alpha %g, dropout %g, expected an adapter. "
             "Report this",
             c->rank, c->n_targets, c->alpha, c->dropout);
    /* Only keys that PEFT has had for long: its reader stops at one that it does not know. */
    buf_puts(b, "{\n  \"alpha_pattern\": {},\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    if (c->base[0] != 0)
        json_put_string(b, c->base, strlen(c->base));
    else
        buf_puts(b, "null");
    buf_puts(b, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n"
                "  \"init_lora_weights\": true,\n  \"layers_pattern\": null,\n  \"layers_to_transform\": null,\n"
                "  \"loftq_config\": {},\n  \"lora_alpha\": ");
    if (c->alpha == floor(c->alpha) && fabs(c->alpha) < 1e9)
        buf_printf(b, "%" PRId64, (int64_t)c->alpha); /* PEFT's own type for it */
    else
        json_put_f64(b, c->alpha);
    buf_puts(b, ",\n  \"lora_dropout\": ");
    json_put_f64(b, c->dropout);
    buf_printf(b,
               ",\n  \"megatron_config\": null,\n  \"megatron_core\": \"megatron.core\",\n  \"modules_to_save\": null,\n"
               "  \"peft_type\": \"LORA\",\n  \"r\": %" PRId32 ",\n  \"rank_pattern\": {},\n  \"revision\": null,\n"
               "  \"target_modules\": [",
               c->rank);
    for (int i = 0; i < c->n_targets; i++) {
        buf_puts(b, i == 0 ? "\n    " : ",\n    ");
        json_put_string(b, c->targets[i], strlen(c->targets[i]));
    }
    buf_printf(b, "\n  ],\n  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
               c->rslora ? "true" : "false");
    return b->failed ? mem_fail(e, "adapter_config.json", b->n) : 0;
}
