/* tokenizer_parts.h - the inside of a tokenizer, shared by tokenizer*.c only.
 *
 * Building: tokenizer_begin, tokenizer_add for every token, tokenizer_index, tokenizer_add_merge for every merge in rank
 * order, tokenizer_finish.
 * After that the structure is read-only.
 *
 * Identity (tokenizer_hash) = SHA-256 of, integers little-endian:
 *   "lorat tokenizer 1\n" <name of the pre-tokenizer> "\n" <"nfc" or "none"> "\n" <"ignore_merges" or "merges"> "\n"
 *   for every id in order: u32 id, u8 kind (0 ordinary, 1 added, 2 ordinary but outside the byte alphabet), u32 length, bytes
 *   u32 0xffffffff, u32 number of merges, for every merge in rank order: u32 left id, u32 right id
 * Control and other added tokens count alike, since converters to GGUF do not keep that distinction; ids that only pad the
 * vocabulary are left out. */
#ifndef LORAT_TOKENIZER_PARTS_H
#define LORAT_TOKENIZER_PARTS_H

#include "datasets/pretokenizer.h"
#include "datasets/tokenizer.h"
#include "trainer/base/hash.h"

enum token_kind {
    TOKEN_ABSENT,  /* a hole in the ids, or padding */
    TOKEN_NORMAL,  /* bytes written in the byte alphabet */
    TOKEN_RAW,     /* ordinary, but its text is not in the byte alphabet: decodes to that text, never encoded */
    TOKEN_ADDED,   /* matched in the text as a whole before anything else */
    TOKEN_CONTROL, /* the same, and marks structure rather than content */
};
struct token {
    size_t at; /* in `bytes` */
    uint32_t n;
    uint8_t kind;    /* enum token_kind */
    bool normalized; /* added tokens: matched after normalization */
};
struct merge {
    int32_t left, right, result;
};
struct added { /* ids sorted by their bytes, so that a longest match is a narrowing of the range */
    int32_t *ids;
    size_t n;
};
struct tokenizer {
    int32_t size; /* largest id + 1 */
    size_t room;  /* of tokens */
    struct token *tokens;
    char *bytes;
    size_t n_bytes, cap_bytes;
    struct merge *merges; /* in rank order */
    size_t n_merges, room_merges;
    uint32_t *text_slots, *pair_slots; /* open addressing: id + 1 by bytes, rank + 1 by pair; 0 = empty */
    uint32_t text_mask, pair_mask;
    int32_t byte_id[256];  /* -1: the vocabulary has no token for this byte */
    struct added added[2]; /* [0] matched in the text as given, [1] in the normalized text */
    enum pretokenizer_kind pre;
    struct pretokenizer *split;
    bool nfc, ignore_merges;
    uint8_t hash[HASH_BYTES];
};

/* An empty tokenizer with room for ids below n_ids. NULL when out of memory (e filled). */
struct tokenizer *tokenizer_begin(size_t n_ids, struct err *e);
/* text: in the byte alphabet for TOKEN_NORMAL (becomes TOKEN_RAW when it is not), plain for added and control tokens. */
int tokenizer_add(struct tokenizer *t, int64_t id, const char *text, size_t n, enum token_kind kind, bool normalized,
                  const char *where, struct err *e);
/* Once all tokens are there: the table of texts, the added tokens in order, room for the merges. */
int tokenizer_index(struct tokenizer *t, size_t n_merges, const char *where, struct err *e);
/* The next merge in rank order; both sides in the byte alphabet. The second form takes "left right". */
int tokenizer_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                        const char *where, struct err *e);
int tokenizer_add_merge_text(struct tokenizer *t, const char *text, size_t n, const char *where, struct err *e);
/* Pre-tokenizer and identity. */
int tokenizer_finish(struct tokenizer *t, enum pretokenizer_kind pre, bool nfc, bool ignore_merges, const char *where,
                     struct err *e);

/* The id of an ordinary token with these bytes; -1. */
int32_t tokenizer_lookup(const struct tokenizer *t, const char *bytes, size_t n);
/* The longest added token that begins the text; -1. */
int32_t tokenizer_match_added(const struct tokenizer *t, const struct added *a, const char *text, size_t n);
/* The rank of a pair; -1 when it does not merge. */
int64_t tokenizer_rank(const struct tokenizer *t, int32_t left, int32_t right);

/* GPT-2's byte alphabet: each byte is one printable character. Writes at most 2 bytes of UTF-8, returns how many. */
size_t alphabet_put(uint8_t byte, char out[2]);
/* Text in the alphabet to bytes (out: n bytes of room). -1: a character is not in the alphabet. */
int64_t alphabet_bytes(const char *text, size_t n, char *out);

/* "tokenizer.json: token 5 'abc'": quotes text for messages, cut short, unprintable bytes as \xNN. Returns buf. */
const char *tokenizer_quote(const char *text, size_t n, char buf[96]);

#endif
