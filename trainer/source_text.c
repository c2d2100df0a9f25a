/* The tokenizer and the chat template that come with a model. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/source_internal.h"

static const char *vocab_token(void *arg, size_t i, size_t *n) { return gguf_array_string(arg, "tokenizer.ggml.tokens", i, n); }

static const char *vocab_merge(void *arg, size_t i, size_t *n) { return gguf_array_string(arg, "tokenizer.ggml.merges", i, n); }

static int vocab_type(void *arg, size_t i)
{
    int64_t type;
    return gguf_array_i64(arg, "tokenizer.ggml.token_type", i, &type) && type > 0 && type < 100 ? (int)type : 1;
}

/* A short text of the metadata, "" when there is none. */
static void copy_text(const struct gguf *g, const char *key, char text[64])
{
    size_t n;
    const char *value = gguf_string(g, key, &n);
    snprintf(text, 64, "%.*s", value == NULL ? 0 : (int)(n < 63 ? n : 63), value == NULL ? "" : value);
}

static int tokenizer_of_gguf(const struct source *s, struct tokenizer **out, struct err *e)
{
    char model[64], pre[64];
    struct vocab_source v = {
        .arg = s->gguf, .model = model, .pre = pre, .token = vocab_token, .merge = vocab_merge, .type = vocab_type};
    copy_text(s->gguf, "tokenizer.ggml.model", model);
    copy_text(s->gguf, "tokenizer.ggml.pre", pre);
    v.n_tokens = gguf_array_length(s->gguf, "tokenizer.ggml.tokens");
    v.n_merges = gguf_array_length(s->gguf, "tokenizer.ggml.merges");
    if (v.n_tokens == 0)
        return 0;
    return tokenizer_from_vocab(&v, s->path, out, e);
}

int source_tokenizer(const struct source *s, struct tokenizer **out, struct err *e)
{
    char path[SOURCE_MAX_PATH], *text = NULL;
    size_t n;
    *out = NULL;
    if (s->is_gguf)
        return tokenizer_of_gguf(s, out, e);
    TRY(source_read_optional(s->path, "tokenizer.json", &text, &n, e));
    int rc = text == NULL ? 0 : tokenizer_from_json(text, n, source_join(s->path, "tokenizer.json", path), out, e);
    mem_free(text);
    return rc;
}

/* "chat_template" of tokenizer_config.json: a text, or a list of {"name", "template"} of which "default" is meant. */
static int config_template(const struct json *root, const char *where, const char **text, size_t *n, struct err *e)
{
    const struct json *j = json_get(root, "chat_template");
    *text = json_string(j, n);
    if (*text != NULL || json_kind(j) == JSON_ABSENT || json_kind(j) == JSON_NULL)
        return 0;
    if (json_kind(j) != JSON_ARRAY)
        FAIL(e, ERR_MODEL, "%s: \"chat_template\" is %s, expected a text or a list of named ones", where,
             json_kind_name(json_kind(j)));
    for (size_t i = 0; i < json_length(j); i++) {
        const char *name = json_string(json_get(json_at(j, i), "name"), NULL);
        if (name != NULL && strcmp(name, "default") == 0)
            *text = json_string(json_get(json_at(j, i), "template"), n);
    }
    if (*text == NULL)
        FAIL(e, ERR_MODEL,
             "%s: none of its %zu chat templates is named \"default\", expected one. Name a built-in in data.template", where,
             json_length(j));
    return 0;
}

static int template_of_folder(const struct source *s, enum chat_template *out, struct err *e)
{
    char path[SOURCE_MAX_PATH], *text = NULL;
    const char *jinja = NULL;
    struct json *root = NULL;
    size_t n = 0, n_jinja = 0;
    int rc = 0;
    /* The file of its own is the newer way; where it is, the other is ignored by transformers too. */
    source_join(s->path, "chat_template.jinja", path);
    TRY_DONE(source_read_optional(s->path, "chat_template.jinja", &text, &n, e));
    jinja = text;
    n_jinja = n;
    if (text == NULL) {
        source_join(s->path, "tokenizer_config.json", path);
        TRY_DONE(source_read_optional(s->path, "tokenizer_config.json", &text, &n, e));
        if (text != NULL) {
            TRY_DONE(json_parse(text, n, path, ERR_MODEL, &root, e));
            TRY_DONE(config_template(root, path, &jinja, &n_jinja, e));
        }
    }
    rc = chat_from_jinja(jinja, n_jinja, out, e);
    if (rc != 0)
        err_prefix(e, "%s", path);
done:
    json_free(root);
    mem_free(text);
    return rc;
}

int source_template(const struct source *s, const char *name, enum chat_template *out, struct err *e)
{
    size_t n = 0;
    *out = CHAT_NONE;
    if (strcmp(name, "auto") != 0)
        return chat_from_name(name, out, e);
    if (!s->is_gguf)
        return template_of_folder(s, out, e);
    const char *jinja = gguf_string(s->gguf, "tokenizer.chat_template", &n);
    if (chat_from_jinja(jinja, n, out, e) != 0)
        return err_prefix(e, "%s", s->path);
    return 0;
}
