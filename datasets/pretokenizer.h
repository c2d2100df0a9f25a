/* pretokenizer.h - text cut into the pieces within which tokens may form. PCRE2 is behind it, in pretokenizer.c only. */
#ifndef LORAT_PRETOKENIZER_H
#define LORAT_PRETOKENIZER_H

#include <stddef.h>

#include "trainer/base/err.h"

/* X(enum, canonical name, as tokenizer.json writes the pattern of a Split; NULL when it is not written as one) */
#define PRETOKENIZERS(X)                                                                                                         \
    X(PRETOKENIZER_GPT2, "gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")          \
    X(PRETOKENIZER_DIGITS_GPT2, "smollm", NULL)                                                                                  \
    X(PRETOKENIZER_QWEN2, "qwen2",                                                                                               \
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"                         \
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")                                                                                         \
    X(PRETOKENIZER_LLAMA3, "llama3",                                                                                             \
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"                    \
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
enum pretokenizer_kind {
#define X(id, name, pattern) id,
    PRETOKENIZERS(X)
#undef X
    PRETOKENIZER_COUNT
};
const char *pretokenizer_name(enum pretokenizer_kind k);
const char *pretokenizer_pattern(enum pretokenizer_kind k); /* may be NULL */

struct pretokenizer; /* a compiled pattern; read-only, shared by threads */
int pretokenizer_open(enum pretokenizer_kind k, struct pretokenizer **out, struct err *e);
void pretokenizer_close(struct pretokenizer *p); /* NULL is fine */

struct pretokenizer_scratch; /* one thread's */
int pretokenizer_scratch_new(const struct pretokenizer *p, struct pretokenizer_scratch **out, struct err *e);
void pretokenizer_scratch_free(struct pretokenizer_scratch *s); /* NULL is fine */

/* The end of the piece that begins at `at` < n; text must be valid UTF-8. Pieces cover the text without gaps. Effort is limited:
 * an error (ERR_DATA) rather than a hang. */
int pretokenizer_next(const struct pretokenizer *p, struct pretokenizer_scratch *s, const char *text, size_t n, size_t at,
                      size_t *end_out, struct err *e);

#endif
