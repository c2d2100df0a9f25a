/* vocabs.h - the real tokenizers that the tests here use, opened; each test program skips what is absent. */
#ifndef LORAT_TEST_VOCABS_H
#define LORAT_TEST_VOCABS_H

#include "checkpoints/gguf.h"
#include "datasets/tokenizer.h"
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

#define SMOLLM2_GGUF "models/SmolLM2-135M-Instruct.Q4_1.gguf"

/* A file below the shared data folder; static buffer. */
static inline const char *shared_path(const char *name)
{
    static char path[1024];
    const char *root = getenv("LORAT_SHARED");
    snprintf(path, sizeof path, "%s/data/%s", root ? root : "../shared", name);
    return path;
}

static inline const char *vocab_token(void *g, size_t i, size_t *n)
{
    return gguf_array_string(g, "tokenizer.ggml.tokens", i, n);
}
static inline const char *vocab_merge(void *g, size_t i, size_t *n)
{
    return gguf_array_string(g, "tokenizer.ggml.merges", i, n);
}
static inline int vocab_type(void *g, size_t i)
{
    int64_t type = 1;
    gguf_array_i64(g, "tokenizer.ggml.token_type", i, &type);
    return (int)type;
}

/* NULL when the file is absent; a failure to read it is a failed check. chat_out (may be NULL): the chat template, to be freed.
 */
static inline struct tokenizer *tokenizer_of_gguf(const char *path, char **chat_out, size_t *n_chat)
{
    struct err e = {0};
    struct gguf *g = NULL;
    struct tensor_list tensors = {0};
    struct tokenizer *t = NULL;
    if (!io_exists(path))
        return NULL;
    CHECK_OK(gguf_open(path, &g, &tensors, &e), &e);
    if (g != NULL) {
        char names[2][64] = {"", ""};
        const char *keys[2] = {"tokenizer.ggml.model", "tokenizer.ggml.pre"};
        for (int i = 0; i < 2; i++) {
            size_t n = 0;
            const char *s = gguf_string(g, keys[i], &n);
            snprintf(names[i], sizeof names[i], "%.*s", (int)n, s ? s : "");
        }
        struct vocab_source v = {.arg = g,
                                 .model = names[0],
                                 .pre = names[1],
                                 .token = vocab_token,
                                 .merge = vocab_merge,
                                 .type = vocab_type,
                                 .n_tokens = gguf_array_length(g, "tokenizer.ggml.tokens"),
                                 .n_merges = gguf_array_length(g, "tokenizer.ggml.merges")};
        CHECK_OK(tokenizer_from_vocab(&v, path, &t, &e), &e);
        const char *chat = gguf_string(g, "tokenizer.chat_template", n_chat ? n_chat : &(size_t){0});
        if (chat_out != NULL && chat != NULL) {
            *chat_out = mem_alloc(*n_chat + 1, 1);
            memcpy(*chat_out, chat, *n_chat);
        }
    }
    gguf_close(g);
    tensor_list_close(&tensors);
    return t;
}

static inline struct tokenizer *tokenizer_of_json(const char *path)
{
    struct err e = {0};
    char *json = NULL;
    size_t n = 0;
    struct tokenizer *t = NULL;
    if (!io_exists(path))
        return NULL;
    CHECK_OK(io_read_file(path, ERR_MODEL, 64 << 20, &json, &n, &e), &e);
    CHECK_OK(tokenizer_from_json(json, n, path, &t, &e), &e);
    mem_free(json);
    return t;
}

static inline struct tokenizer *open_gpt2(void)
{
    return tokenizer_of_gguf(shared_path("tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf"), NULL, NULL);
}
static inline struct tokenizer *open_refact(void)
{
    return tokenizer_of_gguf(shared_path("tokenizers/llama.cpp/ggml-vocab-refact.gguf"), NULL, NULL);
}
static inline struct tokenizer *open_smollm2(void) { return tokenizer_of_gguf(SMOLLM2_GGUF, NULL, NULL); }
static inline struct tokenizer *open_qwen3(void) { return tokenizer_of_json(shared_path("tokenizers/qwen3/tokenizer.json")); }

/* Bytes of a list of ids, one after the other. malloc'ed, NUL-terminated. */
static inline char *decode(const struct tokenizer *t, const struct ids *ids, size_t *n_out)
{
    size_t total = 0, n;
    for (size_t i = 0; i < ids->n; i++)
        total += tokenizer_token(t, ids->v[i], &n) ? n : 0;
    char *text = malloc(total + 1), *at = text;
    for (size_t i = 0; i < ids->n; i++) {
        const char *s = tokenizer_token(t, ids->v[i], &n);
        if (s != NULL)
            at = (char *)memcpy(at, s, n) + n;
    }
    *at = 0;
    *n_out = total;
    return text;
}

#endif
