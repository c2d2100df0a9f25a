/* tokenizer.json, the file of the `tokenizers` library: https://huggingface.co/docs/tokenizers */
#include <stdio.h>
#include <string.h>

#include "datasets/tokenizer_parts.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

struct reader {
    struct tokenizer *t;
    const char *where;
    struct err *e;
};

static const char *type_of(const struct json *j)
{
    const char *type = json_string(json_get(j, "type"), NULL);
    return type ? type : "";
}

static bool is_null(const struct json *j) { return json_kind(j) == JSON_ABSENT || json_kind(j) == JSON_NULL; }

/* An absent or null flag has its default; anything that is not a boolean is an error. */
static int flag(const struct reader *r, const struct json *object, const char *part, const char *key, bool fallback, bool *out)
{
    const struct json *j = json_get(object, key);
    *out = fallback;
    if (is_null(j) || json_bool(j, out))
        return 0;
    return err_set(r->e, ERR_MODEL, "%s: %s.%s is %s, expected true or false", r->where, part, key, json_kind_name(json_kind(j)));
}

static int refuse_flag(const struct reader *r, const struct json *object, const char *part, const char *key, const char *why)
{
    bool on;
    TRY(flag(r, object, part, key, false, &on));
    if (on)
        return err_set(r->e, ERR_MODEL, "%s: %s has %s = true, expected false: %s", r->where, part, key, why);
    return 0;
}

/* ---- the parts around the vocabulary ---- */

static int read_normalizer(const struct reader *r, const struct json *j, int depth, bool *nfc)
{
    char quoted[96];
    if (is_null(j))
        return 0;
    const char *type = type_of(j);
    if (strcmp(type, "NFC") == 0) {
        *nfc = true;
        return 0;
    }
    const struct json *list = json_get(j, "normalizers");
    if (strcmp(type, "Sequence") == 0 && json_kind(list) == JSON_ARRAY && depth == 0) {
        for (size_t i = 0; i < json_length(list); i++)
            TRY(read_normalizer(r, json_at(list, i), depth + 1, nfc));
        return 0;
    }
    return err_set(r->e, ERR_MODEL, "%s: the normalizer is %s, expected none or 'NFC', the only one that lorat knows", r->where,
                   tokenizer_quote(type, strlen(type), quoted));
}

static int read_split(const struct reader *r, const struct json *j, enum pretokenizer_kind *out)
{
    char quoted[96];
    size_t n = 0;
    const char *pattern = json_string(json_get(json_get(j, "pattern"), "Regex"), &n),
               *behavior = json_string(json_get(j, "behavior"), NULL);
    if (pattern == NULL)
        return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer Split has no pattern.Regex, expected a regular expression",
                       r->where);
    if (behavior == NULL || strcmp(behavior, "Isolated") != 0)
        return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer Split has the behavior %s, expected 'Isolated'", r->where,
                       behavior ? tokenizer_quote(behavior, strlen(behavior), quoted) : "none");
    TRY(refuse_flag(r, j, "the pre-tokenizer Split", "invert", "lorat has no inverted split"));
    for (int k = 0; k < PRETOKENIZER_COUNT; k++) {
        const char *known = pretokenizer_pattern((enum pretokenizer_kind)k);
        if (known != NULL && strlen(known) == n && memcmp(known, pattern, n) == 0) {
            *out = (enum pretokenizer_kind)k;
            return 0;
        }
    }
    return err_set(r->e, ERR_MODEL,
                   "%s: the pre-tokenizer splits by %s, expected the pattern of GPT-2, Qwen2 or Llama 3. Models with "
                   "other patterns are not supported",
                   r->where, tokenizer_quote(pattern, n, quoted));
}

static int read_byte_level(const struct reader *r, const struct json *j, bool *use_regex)
{
    bool prefix; /* true is the library's default */
    TRY(flag(r, j, "the pre-tokenizer ByteLevel", "add_prefix_space", true, &prefix));
    if (prefix)
        return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer ByteLevel has add_prefix_space = true, expected false", r->where);
    return flag(r, j, "the pre-tokenizer ByteLevel", "use_regex", true, use_regex);
}

/* ByteLevel with its regex; Digits before that; or a Split of a known pattern before ByteLevel without its regex. */
static int read_pretokenizer(const struct reader *r, const struct json *j, enum pretokenizer_kind *out)
{
    char quoted[96];
    const struct json *list = json_get(j, "pretokenizers");
    bool sequence = strcmp(type_of(j), "Sequence") == 0 && json_kind(list) == JSON_ARRAY;
    size_t n = sequence ? json_length(list) : 1;
    bool digits = false, split = false, regex = false, bytes = false;
    for (size_t i = 0; i < n; i++) {
        const struct json *part = sequence ? json_at(list, i) : j;
        const char *type = type_of(part);
        if (bytes || n > 2)
            return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer has %zu parts, expected Split or Digits and then ByteLevel",
                           r->where, n);
        if (strcmp(type, "Digits") == 0) {
            TRY(flag(r, part, "the pre-tokenizer Digits", "individual_digits", false, &digits));
            if (!digits)
                return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer Digits has individual_digits = false, expected true",
                               r->where);
        } else if (strcmp(type, "Split") == 0) {
            TRY(read_split(r, part, out));
            split = true;
        } else if (strcmp(type, "ByteLevel") == 0) {
            TRY(read_byte_level(r, part, &regex));
            bytes = true;
        } else {
            return err_set(r->e, ERR_MODEL, "%s: the pre-tokenizer is %s, expected ByteLevel, alone or after Split or Digits",
                           r->where, *type ? tokenizer_quote(type, strlen(type), quoted) : "missing");
        }
    }
    if (!bytes || split == regex)
        return err_set(r->e, ERR_MODEL,
                       "%s: the pre-tokenizer is %s, expected ByteLevel after Split with use_regex = false, or without "
                       "Split with use_regex = true",
                       r->where, bytes ? "ByteLevel with another use_regex" : "without ByteLevel");
    if (!split)
        *out = digits ? PRETOKENIZER_DIGITS_GPT2 : PRETOKENIZER_GPT2;
    return 0;
}

/* lorat never adds what a post-processor would add, and decodes bytes: both parts only have to be of a kind that agrees. */
static int check_kind(const struct reader *r, const struct json *j, const char *part, const char *key, const char *const *known,
                      int depth)
{
    char quoted[96];
    if (is_null(j))
        return 0;
    const char *type = type_of(j);
    const struct json *list = json_get(j, key);
    if (strcmp(type, "Sequence") == 0 && json_kind(list) == JSON_ARRAY && depth == 0) {
        for (size_t i = 0; i < json_length(list); i++)
            TRY(check_kind(r, json_at(list, i), part, key, known, depth + 1));
        return 0;
    }
    for (int i = 0; known[i] != NULL; i++)
        if (strcmp(known[i], type) == 0)
            return 0;
    return err_set(r->e, ERR_MODEL, "%s: the %s is %s, expected %s%s%s", r->where, part,
                   tokenizer_quote(type, strlen(type), quoted), known[0], known[1] ? " or " : "", known[1] ? known[1] : "");
}

/* ---- the vocabulary ---- */

static int check_model(const struct reader *r, const struct json *m, bool *ignore_merges)
{
    char quoted[96];
    if (json_kind(m) != JSON_OBJECT)
        return err_set(r->e, ERR_MODEL, "%s: model is %s, expected an object", r->where, json_kind_name(json_kind(m)));
    const struct json *type = json_get(m, "type"); /* old files leave it out */
    size_t n = 0;
    const char *name = json_string(type, &n);
    if (!is_null(type) && (name == NULL || strcmp(name, "BPE") != 0))
        return err_set(r->e, ERR_MODEL, "%s: model.type is %s, expected 'BPE', the only one that lorat knows", r->where,
                       name ? tokenizer_quote(name, n, quoted) : json_kind_name(json_kind(type)));
    TRY(refuse_flag(r, m, "the model", "byte_fallback", "every byte is a token already in byte-level BPE"));
    TRY(flag(r, m, "model", "ignore_merges", false, ignore_merges));
    double dropout = 0;
    const struct json *j = json_get(m, "dropout");
    if (!is_null(j) && (!json_f64(j, &dropout) || dropout != 0))
        return err_set(r->e, ERR_MODEL, "%s: model.dropout is set, expected null: tokens would differ from call to call",
                       r->where);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        j = json_get(m, affixes[i]);
        n = 0;
        if (!is_null(j) && (json_string(j, &n) == NULL || n > 0))
            return err_set(r->e, ERR_MODEL, "%s: model.%s is set, expected null or an empty text", r->where, affixes[i]);
    }
    /* unk_token is not looked at: only a byte without a token could become it, and such a byte is left out (see encode). */
    if (json_kind(json_get(m, "vocab")) != JSON_OBJECT || json_kind(json_get(m, "merges")) != JSON_ARRAY)
        return err_set(r->e, ERR_MODEL, "%s: model.vocab is %s and model.merges %s, expected an object and a list", r->where,
                       json_kind_name(json_kind(json_get(m, "vocab"))), json_kind_name(json_kind(json_get(m, "merges"))));
    return 0;
}

static int read_added(const struct reader *r, const struct json *list, bool nfc)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    if (!is_null(list) && json_kind(list) != JSON_ARRAY)
        return err_set(r->e, ERR_MODEL, "%s: added_tokens is %s, expected a list", r->where, json_kind_name(json_kind(list)));
    for (size_t i = 0; i < json_length(list); i++) {
        const struct json *j = json_at(list, i);
        size_t n = 0;
        const char *text = json_string(json_get(j, "content"), &n);
        int64_t id;
        bool special, normalized;
        char part[128], quoted[96];
        if (text == NULL || !json_i64(json_get(j, "id"), &id))
            return err_set(r->e, ERR_MODEL, "%s: added_tokens[%zu] lacks a content or an id, expected a text and a whole number",
                           r->where, i);
        snprintf(part, sizeof part, "the added token %s", tokenizer_quote(text, n, quoted));
        for (int k = 0; k < 3; k++)
            TRY(refuse_flag(r, j, part, refused[k], "lorat matches added tokens exactly"));
        TRY(flag(r, j, part, "special", false, &special));
        TRY(flag(r, j, part, "normalized", !special, &normalized));
        TRY(tokenizer_add(r->t, id, text, n, special ? TOKEN_CONTROL : TOKEN_ADDED, normalized && nfc, r->where, r->e));
    }
    return 0;
}

static int read_vocab(const struct reader *r, const struct json *vocab)
{
    for (void *it = json_first(vocab); it != NULL; it = json_next(vocab, it)) {
        const char *text = json_key(it);
        size_t n = strlen(text);
        int64_t id;
        char q1[96], q2[96];
        if (!json_i64(json_value(it), &id))
            return err_set(r->e, ERR_MODEL, "%s: the id of token %s is %s, expected a whole number", r->where,
                           tokenizer_quote(text, n, q1), json_kind_name(json_kind(json_value(it))));
        const struct token *k = id >= 0 && (uint64_t)id < r->t->room ? &r->t->tokens[id] : NULL;
        if (k != NULL && k->kind >= TOKEN_ADDED) { /* files may list added tokens here too */
            if (k->n == n && memcmp(r->t->bytes + k->at, text, n) == 0)
                continue;
            return err_set(r->e, ERR_MODEL, "%s: the id %lld is the token %s and the added token %s, expected one of them",
                           r->where, (long long)id, tokenizer_quote(text, n, q1), tokenizer_quote(r->t->bytes + k->at, k->n, q2));
        }
        TRY(tokenizer_add(r->t, id, text, n, TOKEN_NORMAL, false, r->where, r->e));
    }
    return 0;
}

static int read_merges(const struct reader *r, const struct json *merges)
{
    for (size_t i = 0; i < json_length(merges); i++) {
        const struct json *j = json_at(merges, i);
        size_t n, m;
        const char *text = json_string(j, &n), *right;
        if (text != NULL) {
            TRY(tokenizer_add_merge_text(r->t, text, n, r->where, r->e));
        } else if (json_length(j) == 2 && (text = json_string(json_at(j, 0), &n)) != NULL &&
                   (right = json_string(json_at(j, 1), &m)) != NULL) {
            TRY(tokenizer_add_merge(r->t, text, n, right, m, r->where, r->e));
        } else {
            return err_set(r->e, ERR_MODEL, "%s: merge %zu is %s, expected \"left right\" or a list of two texts", r->where, i,
                           json_kind_name(json_kind(j)));
        }
    }
    return 0;
}

static int read_all(struct reader *r, const struct json *root)
{
    static const char *const processors[] = {"ByteLevel", "TemplateProcessing", NULL}, *const decoders[] = {"ByteLevel", NULL};
    if (json_kind(root) != JSON_OBJECT)
        return err_set(r->e, ERR_MODEL, "%s: it is %s, expected an object", r->where, json_kind_name(json_kind(root)));
    const struct json *m = json_get(root, "model"), *vocab = json_get(m, "vocab"), *merges = json_get(m, "merges"),
                      *added = json_get(root, "added_tokens");
    enum pretokenizer_kind pre = PRETOKENIZER_GPT2;
    bool nfc = false, ignore_merges = false;
    TRY(check_model(r, m, &ignore_merges));
    TRY(read_normalizer(r, json_get(root, "normalizer"), 0, &nfc));
    TRY(read_pretokenizer(r, json_get(root, "pre_tokenizer"), &pre));
    TRY(check_kind(r, json_get(root, "post_processor"), "post-processor", "processors", processors, 0));
    TRY(check_kind(r, json_get(root, "decoder"), "decoder", "decoders", decoders, 0));
    /* Ids are nearly dense in every real file; the margin bounds what one absurd id can make us allocate. */
    r->t = tokenizer_begin((json_length(vocab) + json_length(added)) * 2 + 65536, r->e);
    if (r->t == NULL)
        return -1;
    TRY(read_added(r, added, nfc));
    TRY(read_vocab(r, vocab));
    TRY(tokenizer_index(r->t, json_length(merges), r->where, r->e));
    TRY(read_merges(r, merges));
    return tokenizer_finish(r->t, pre, nfc, ignore_merges, r->where, r->e);
}

int tokenizer_from_json(const char *json, size_t n, const char *where, struct tokenizer **out, struct err *e)
{
    *out = NULL;
    struct json *root = NULL;
    struct reader r = {.where = where, .e = e};
    TRY(json_parse(json, n, where, ERR_MODEL, &root, e));
    int rc = read_all(&r, root);
    json_free(root);
    if (rc == 0)
        *out = r.t;
    else
        tokenizer_close(r.t);
    return rc;
}

/* ---- writing ---- */

static void put_token(const struct tokenizer *t, int32_t id, struct buf *scratch)
{
    const struct token *k = &t->tokens[id];
    buf_clear(scratch);
    if (k->kind != TOKEN_NORMAL) {
        buf_add(scratch, t->bytes + k->at, k->n);
        return;
    }
    for (uint32_t i = 0; i < k->n; i++) {
        char two[2];
        buf_add(scratch, two, alphabet_put((uint8_t)t->bytes[k->at + i], two));
    }
}

static void put_pretokenizer(const struct tokenizer *t, struct buf *out)
{
    static const char bytes[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":";
    if (t->pre == PRETOKENIZER_GPT2) {
        buf_printf(out, "%strue}", bytes);
    } else if (t->pre == PRETOKENIZER_DIGITS_GPT2) {
        buf_printf(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},%strue}]}",
                   bytes);
    } else {
        const char *pattern = pretokenizer_pattern(t->pre);
        buf_puts(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        json_put_string(out, pattern, strlen(pattern));
        buf_printf(out, "},\"behavior\":\"Isolated\",\"invert\":false},%sfalse}]}", bytes);
    }
}

int tokenizer_write_json(const struct tokenizer *t, struct buf *out, struct err *e)
{
    static const char byte_level[] =
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}";
    struct buf text = {0};
    buf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    const char *comma = "\n";
    for (int32_t id = 0; id < t->size; id++) {
        const struct token *k = &t->tokens[id];
        if (k->kind < TOKEN_ADDED)
            continue;
        buf_printf(out, "%s{\"id\":%d,\"content\":", comma, id);
        json_put_string(out, t->bytes + k->at, k->n);
        buf_printf(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":%s,\"special\":%s}",
                   k->normalized ? "true" : "false", k->kind == TOKEN_CONTROL ? "true" : "false");
        comma = ",\n";
    }
    buf_printf(out, "],\n\"normalizer\":%s,\n\"pre_tokenizer\":", t->nfc ? "{\"type\":\"NFC\"}" : "null");
    put_pretokenizer(t, out);
    buf_printf(out, ",\n\"post_processor\":%s,\n\"decoder\":%s,\n", byte_level, byte_level);
    buf_printf(out,
               "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
               "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,\"vocab\":{",
               t->ignore_merges ? "true" : "false");
    comma = "\n";
    for (int32_t id = 0; id < t->size; id++) { /* added tokens too: the library would otherwise number them anew */
        if (t->tokens[id].kind == TOKEN_ABSENT)
            continue;
        put_token(t, id, &text);
        buf_puts(out, comma);
        json_put_string(out, text.data, text.n);
        buf_printf(out, ":%d", id);
        comma = ",\n";
    }
    buf_puts(out, "},\"merges\":[");
    comma = "\n";
    for (size_t i = 0; i < t->n_merges; i++) {
        buf_puts(out, comma);
        put_token(t, t->merges[i].left, &text);
        buf_puts(&text, " ");
        struct buf right = {0};
        put_token(t, t->merges[i].right, &right);
        buf_add(&text, right.data, right.n);
        text.failed = text.failed || right.failed;
        buf_free(&right);
        json_put_string(out, text.data, text.n);
        comma = ",\n";
    }
    buf_puts(out, "]}}\n");
    bool failed = text.failed || out->failed;
    buf_free(&text);
    return failed ? mem_fail(e, "tokenizer.json", out->n) : 0;
}
