/* tokenizer.h - byte-level BPE, from a Hugging Face tokenizer.json or from a vocabulary that came out of a GGUF file.
 * The same tokenizer from either source has the same identity hash. */
#ifndef LORAT_TOKENIZER_H
#define LORAT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

struct tokenizer; /* opaque; read-only after opening, may be shared by threads */

struct ids { /* a growing list of token ids; zero is empty; free with ids_free */
    int32_t *v;
    size_t n, cap;
};
void ids_free(struct ids *l);
int ids_add(struct ids *l, int32_t id, struct err *e);

/* tokenizer.json (n bytes). Refused by name: model types other than BPE, normalizers other than NFC, pre-tokenizers or
 * post-processors that lorat does not know, an unknown split pattern. */
int tokenizer_from_json(const char *json, size_t n, const char *where, struct tokenizer **out, struct err *e);

/* A vocabulary from elsewhere (GGUF): callbacks so that nothing is copied twice. Strings are not NUL-terminated. */
struct vocab_source {
    void *arg;
    const char *model; /* "gpt2" = byte-level BPE; others are refused by name */
    const char *pre;   /* "smollm", "gpt-2", "refact", "llama-bpe", "llama3", "qwen2", ...; unknown is refused by name */
    size_t n_tokens, n_merges;
    const char *(*token)(void *arg, size_t i, size_t *n);
    const char *(*merge)(void *arg, size_t i, size_t *n); /* "left right" */
    int (*type)(void *arg, size_t i); /* llama.cpp's token types: 1 normal, 3 control, 4 user defined, 5 unused, 6 byte */
};
int tokenizer_from_vocab(const struct vocab_source *v, const char *where, struct tokenizer **out, struct err *e);
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

/* Append the ids of text; on failure nothing is appended. With `special`, texts of added/special tokens ("<|im_end|>") become
 * those tokens; without, they are ordinary text (what user-written content needs). Never adds BOS or EOS. Invalid UTF-8 is
 * encoded byte by byte. A byte for which the vocabulary has no token is left out, as the models' own tokenizers do (SmolLM2
 * lacks six control characters): an unk_token is never written, since it may be a special one. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out, struct err *e);
/* The bytes of one token (special tokens: their text); borrowed; NULL for an unknown id. Bytes of one id may be part of a
 * character. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *n_out);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id); /* control tokens; not other added ones such as <think> */
int32_t tokenizer_find(const struct tokenizer *t, const char *text); /* the id of a whole token's text; -1 when there is none */
int32_t tokenizer_size(const struct tokenizer *t);                   /* largest id + 1 */
const uint8_t *tokenizer_hash(const struct tokenizer *t);            /* 32 bytes: decisions in docs/data-format.md */
/* tokenizer.json that the PyPI `tokenizers` and transformers load, for exporting a model that came as GGUF. Appends to a buf. */
struct buf;
int tokenizer_write_json(const struct tokenizer *t, struct buf *out, struct err *e);

#endif
