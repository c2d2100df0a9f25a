#include "datasets/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>

#include "trainer/base/mem.h"

struct pretokenizer {
    pcre2_general_context *memory;
    pcre2_code *code;
    bool jit;
};
struct pretokenizer_scratch {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

/* White space as Unicode's White_Space property, which is what the Rust and Oniguruma engines behind tokenizer.json mean by \s.
 * PCRE2's own \s would add U+180E. */
#define SPACE    "\\t-\\r\\x{85}\\p{Z}"
#define SUFFIXES "'s|'t|'re|'ve|'m|'ll|'d"
/* Patterns for matching at the start of a piece. Those of tokenizer.json, with three changes that do not change the result:
 * classes for \s and \S, digits taken singly inside the pattern (a digit ends a run of white space like the end of the text
 * does), and no alternative left out, so that something matches everywhere. */
static const char *const patterns[PRETOKENIZER_COUNT] = {
    [PRETOKENIZER_GPT2] = SUFFIXES "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+",
    [PRETOKENIZER_DIGITS_GPT2] = SUFFIXES "| ?\\p{L}+|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "\\p{N}])"
                                          "|[" SPACE "]+",
#define TIKTOKEN(digits)                                                                                                         \
    "(?i:" SUFFIXES ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*"                            \
    "|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
    [PRETOKENIZER_QWEN2] = TIKTOKEN("\\p{N}"),
    [PRETOKENIZER_LLAMA3] = TIKTOKEN("\\p{N}{1,3}"),
};

const char *pretokenizer_name(enum pretokenizer_kind k)
{
    static const char *const names[] = {
#define X(id, name, pattern) name,
        PRETOKENIZERS(X)
#undef X
    };
    return names[k];
}

const char *pretokenizer_pattern(enum pretokenizer_kind k)
{
    static const char *const texts[] = {
#define X(id, name, pattern) pattern,
        PRETOKENIZERS(X)
#undef X
    };
    return texts[k];
}

static void *pcre_alloc(size_t n, void *arg) { return mem_alloc(n, 1); }
static void pcre_free(void *p, void *arg) { mem_free(p); }

int pretokenizer_open(enum pretokenizer_kind k, struct pretokenizer **out, struct err *e)
{
    *out = NULL;
    struct pretokenizer *p = mem_alloc(1, sizeof *p);
    if (p == NULL)
        return mem_fail(e, "the pre-tokenizer", sizeof *p);
    p->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = p->memory ? pcre2_compile_context_create(p->memory) : NULL;
    if (context == NULL) {
        pretokenizer_close(p);
        return mem_fail(e, "the pre-tokenizer", 4096);
    }
    int code;
    size_t at;
    p->code = pcre2_compile((PCRE2_SPTR)patterns[k], PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at,
                            context);
    pcre2_compile_context_free(context);
    if (p->code == NULL) {
        pretokenizer_close(p);
        PCRE2_UCHAR text[120] = "";
        pcre2_get_error_message(code, text, sizeof text);
        return err_set(e, ERR_INTERNAL, "pre-tokenizer %s: the pattern does not compile: %s", pretokenizer_name(k), (char *)text);
    }
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0; /* else interpreted: slower, the same result */
    *out = p;
    return 0;
}

void pretokenizer_close(struct pretokenizer *p)
{
    if (p == NULL)
        return;
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    mem_free(p);
}

int pretokenizer_scratch_new(const struct pretokenizer *p, struct pretokenizer_scratch **out, struct err *e)
{
    struct pretokenizer_scratch *s = mem_alloc(1, sizeof *s);
    if (s == NULL)
        return mem_fail(e, "matching", sizeof *s);
    s->match = pcre2_match_data_create(1, p->memory);
    s->limits = pcre2_match_context_create(p->memory);
    if (s->match == NULL || s->limits == NULL) {
        pretokenizer_scratch_free(s);
        return mem_fail(e, "matching", 4096);
    }
    *out = s;
    return 0;
}

void pretokenizer_scratch_free(struct pretokenizer_scratch *s)
{
    if (s == NULL)
        return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->limits);
    mem_free(s);
}

int pretokenizer_next(const struct pretokenizer *p, struct pretokenizer_scratch *s, const char *text, size_t n, size_t at,
                      size_t *end_out, struct err *e)
{
    /* A run of white space is given back character by character in search of a line end: a few steps a character. */
    size_t left = n - at;
    uint32_t limit = left < (1u << 28) ? (uint32_t)left * 8 + 10000 : UINT32_MAX;
    pcre2_set_match_limit(s->limits, limit);
    int rc = p->jit ? pcre2_jit_match(p->code, (PCRE2_SPTR)text, n, at, 0, s->match, s->limits)
                    : pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, s->match, s->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, s->limits);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return mem_fail(e, "matching", 20 << 20);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return err_set(e, ERR_DATA,
                       "text: cutting it into words takes too much effort at byte %zu of %zu. Shorten the run of "
                       "characters there",
                       at, n);
    size_t end = rc < 0 ? at : pcre2_get_ovector_pointer(s->match)[1];
    if (end <= at) { /* no pattern leaves a character out; if one did, it would be a piece of its own */
        end = at + 1;
        while (end < n && ((unsigned char)text[end] & 0xc0) == 0x80)
            end++;
    }
    *end_out = end;
    return 0;
}
