/* A vocabulary out of a GGUF file. */
#include <stdio.h>
#include <string.h>

#include "datasets/tokenizer_parts.h"
#include "trainer/base/buf.h"

/* llama.cpp's names for pre-tokenizers, as far as their splitting, normalizer and merging are those of the models' own
 * tokenizer.json. Names: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp */
static const struct {
    const char *name;
    enum pretokenizer_kind kind;
    bool nfc, ignore_merges;
} known[] = {
    {"gpt-2", PRETOKENIZER_GPT2, false, false},         {"phi-2", PRETOKENIZER_GPT2, false, false},
    {"smollm", PRETOKENIZER_DIGITS_GPT2, false, false}, {"starcoder", PRETOKENIZER_DIGITS_GPT2, false, false},
    {"refact", PRETOKENIZER_DIGITS_GPT2, false, false}, {"codeshell", PRETOKENIZER_DIGITS_GPT2, false, false},
    {"qwen2", PRETOKENIZER_QWEN2, true, false},         {"deepseek-r1-qwen", PRETOKENIZER_QWEN2, true, false},
    {"llama3", PRETOKENIZER_LLAMA3, false, true},       {"llama-v3", PRETOKENIZER_LLAMA3, false, true},
    {"llama-bpe", PRETOKENIZER_LLAMA3, false, true},
};
enum { N_KNOWN = sizeof known / sizeof *known };

static int find_pre(const char *pre, const char *where, int *out, struct err *e)
{
    char names[512] = "", quoted[96];
    for (int i = 0; i < N_KNOWN; i++) {
        if (pre != NULL && strcmp(known[i].name, pre) == 0) {
            *out = i;
            return 0;
        }
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i == 0 ? "" : i == N_KNOWN - 1 ? " or " : ", ", known[i].name);
    }
    if (pre == NULL || *pre == 0)
        return err_set(e, ERR_MODEL, "%s: the pre-tokenizer is not named, expected %s. Use the model's Hugging Face folder",
                       where, names);
    return err_set(e, ERR_MODEL,
                   "%s: the pre-tokenizer is %s, expected %s. Use the model's Hugging Face folder, if its tokenizer.json is "
                   "of a known kind",
                   where, tokenizer_quote(pre, strlen(pre), quoted), names);
}

/* Converters fill the vocabulary up to the embedding's rows with "[PAD<id>]"; the model's own tokenizer has no such tokens. */
static bool is_padding(size_t id, const char *text, size_t n, int type)
{
    char pad[32];
    int k = snprintf(pad, sizeof pad, "[PAD%zu]", id);
    return (type == 4 || type == 5) && n == (size_t)k && memcmp(text, pad, n) == 0;
}

static int add_tokens(struct tokenizer *t, const struct vocab_source *v, const char *where, struct err *e)
{
    for (size_t i = 0; i < v->n_tokens; i++) {
        size_t n = 0;
        const char *text = v->token(v->arg, i, &n);
        int type = v->type ? v->type(v->arg, i) : 1;
        if (text == NULL)
            return err_set(e, ERR_MODEL, "%s: token %zu has no text, expected one", where, i);
        if (is_padding(i, text, n, type))
            continue;
        enum token_kind kind;
        switch (type) {
        case 1:
            kind = TOKEN_NORMAL;
            break;
        case 2: /* the "unknown" token is written like a control token */
        case 3:
            kind = TOKEN_CONTROL;
            break;
        case 4:
            kind = TOKEN_ADDED;
            break;
        case 5:
            continue; /* unused */
        default:
            return err_set(e, ERR_MODEL, "%s: token %zu has the type %d, expected 1 to 5 (byte-level BPE has no others)", where,
                           i, type);
        }
        TRY(tokenizer_add(t, (int64_t)i, text, n, kind, false, where, e));
    }
    return 0;
}

int tokenizer_from_vocab(const struct vocab_source *v, const char *where, struct tokenizer **out, struct err *e)
{
    *out = NULL;
    char quoted[96];
    if (v->model == NULL || strcmp(v->model, "gpt2") != 0)
        return err_set(e, ERR_MODEL,
                       "%s: the tokenizer's model is %s, expected 'gpt2' (byte-level BPE), the only kind that lorat knows", where,
                       v->model != NULL && *v->model ? tokenizer_quote(v->model, strlen(v->model), quoted) : "not named");
    int pre = 0;
    TRY(find_pre(v->pre, where, &pre, e));
    if (v->n_tokens > INT32_MAX || v->n_merges > INT32_MAX)
        return err_set(e, ERR_MODEL, "%s: %zu tokens and %zu merges, expected less than 2^31 of each", where, v->n_tokens,
                       v->n_merges);
    struct tokenizer *t = tokenizer_begin(v->n_tokens, e);
    if (t == NULL)
        return -1;
    int rc = 0;
    TRY_DONE(add_tokens(t, v, where, e));
    TRY_DONE(tokenizer_index(t, v->n_merges, where, e));
    for (size_t i = 0; i < v->n_merges; i++) {
        size_t n = 0;
        const char *text = v->merge(v->arg, i, &n);
        if (text == NULL) {
            rc = err_set(e, ERR_MODEL, "%s: merge %zu has no text, expected two tokens", where, i);
            goto done;
        }
        TRY_DONE(tokenizer_add_merge_text(t, text, n, where, e));
    }
    TRY_DONE(tokenizer_finish(t, known[pre].kind, known[pre].nfc, known[pre].ignore_merges, where, e));
    *out = t;
    t = NULL;
done:
    tokenizer_close(t);
    return rc;
}
