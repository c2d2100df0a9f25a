/* One tokenizer, one hash: from GGUF, from the tokenizer.json written from it, and from the ways in which files differ.
 * With a folder as argument the written files stay there (check_tokenizer.py reads them). */
#include "tests/text/small.h"
#include "tests/text/vocabs.h"
#include "trainer/base/hash.h"

static bool same_hash(const struct tokenizer *a, const struct tokenizer *b)
{
    return memcmp(tokenizer_hash(a), tokenizer_hash(b), HASH_BYTES) == 0;
}

static int written(struct tokenizer *t, const char *name, const char *folder)
{
    if (t == NULL)
        return 0;
    struct err e = {0};
    struct buf json = {0}, again = {0};
    struct tokenizer *back = NULL;
    char hex[HASH_HEX], path[1024];
    CHECK_OK(tokenizer_write_json(t, &json, &e), &e);
    CHECK_OK(tokenizer_from_json(json.data, json.n, name, &back, &e), &e);
    printf("%s: %s\n", name, hash_hex(tokenizer_hash(t), hex));
    if (back != NULL) {
        CHECK(same_hash(t, back));
        CHECK_INT(tokenizer_size(back), tokenizer_size(t));
        for (int32_t id = -1; id <= tokenizer_size(t); id++)
            CHECK_INT(tokenizer_is_special(back, id), tokenizer_is_special(t, id));
        CHECK_OK(tokenizer_write_json(back, &again, &e), &e);
        CHECK(again.n == json.n && memcmp(again.data, json.data, json.n) == 0);
        const char *text = "It's 12345 degrees,\n\n  na\xc3\xafve <|endoftext|> \xf0\x9f\x98\x80 e\xcc\x81";
        struct ids a = {0}, b = {0};
        CHECK_OK(tokenizer_encode(t, text, strlen(text), true, &a, &e), &e);
        CHECK_OK(tokenizer_encode(back, text, strlen(text), true, &b, &e), &e);
        CHECK(a.n == b.n && memcmp(a.v, b.v, a.n * sizeof *a.v) == 0);
        ids_free(&a);
        ids_free(&b);
    }
    if (folder != NULL) {
        snprintf(path, sizeof path, "%s/%s.json", folder, name);
        CHECK_OK(io_write_file_atomic(path, json.data, json.n, &e), &e);
    }
    buf_free(&json);
    buf_free(&again);
    tokenizer_close(back);
    tokenizer_close(t);
    return 1;
}

static void compare(struct small a, struct small b, bool same)
{
    struct err e = {0};
    struct tokenizer *t = NULL, *u = NULL;
    CHECK_OK(small_open(a, &t, &e), &e);
    CHECK_OK(small_open(b, &u, &e), &e);
    if (t != NULL && u != NULL)
        CHECK_INT(same_hash(t, u), same);
    tokenizer_close(t);
    tokenizer_close(u);
}

#define SPLIT(pattern)                                                                                                           \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern                            \
    "\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define DIGITS                                                                                                                   \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_"  \
    "prefix_space\":false}]}"

static void what_counts(void)
{
    struct small base = {.vocab = ",\"ab\":256,\"cd\":257,\"abcd\":258",
                         .merges = "\"a b\",\"c d\",\"ab cd\"",
                         .added = "{\"id\":259,\"content\":\"<x>\",\"special\":true}"},
                 other;
    compare(base, base, true);
    other = base; /* ways of writing the same */
    other.merges = "[\"a\",\"b\"],[\"c\",\"d\"],[\"ab\",\"cd\"]";
    compare(base, other, true);
    other = base;
    other.vocab = ",\"abcd\":258,\"<x>\":259,\"cd\":257,\"ab\":256";
    compare(base, other, true);
    other = base;
    other.added = "{\"id\":259,\"content\":\"<x>\",\"special\":false,\"normalized\":true,\"lstrip\":false}";
    compare(base, other, true);
    other = base;
    other.pre = SPLIT(GPT2_PATTERN);
    compare(base, other, true);
    other = base;
    other.tail = ",\"post_processor\":{\"type\":\"TemplateProcessing\"},\"decoder\":{\"type\":\"ByteLevel\"},\"truncation\":null";
    compare(base, other, true);
    other = base; /* and what is another tokenizer */
    other.merges = "\"c d\",\"a b\",\"ab cd\"";
    compare(base, other, false);
    other = base;
    other.merges = "\"a b\",\"c d\"";
    compare(base, other, false);
    other = base;
    other.vocab = ",\"ab\":257,\"cd\":256,\"abcd\":258";
    compare(base, other, false);
    other = base;
    other.added = "{\"id\":259,\"content\":\"<y>\",\"special\":true}";
    compare(base, other, false);
    other = base;
    other.added = "{\"id\":260,\"content\":\"<x>\",\"special\":true}";
    compare(base, other, false);
    other = base;
    other.added = NULL;
    other.vocab = ",\"ab\":256,\"cd\":257,\"abcd\":258,\"<x>\":259";
    compare(base, other, false);
    other = base;
    other.normalizer = "{\"type\":\"NFC\"}";
    compare(base, other, false);
    other = base;
    other.model = ",\"ignore_merges\":true";
    compare(base, other, false);
    other = base;
    other.pre = DIGITS;
    compare(base, other, false);
}

/* A vocabulary as converters write it: padded up to the embedding's rows, with or without the type "unused". */
struct list {
    const char *const *tokens, *const *merges;
    const int *types;
};
static const char *list_token(void *arg, size_t i, size_t *n)
{
    const char *s = ((const struct list *)arg)->tokens[i];
    *n = strlen(s);
    return s;
}
static const char *list_merge(void *arg, size_t i, size_t *n)
{
    const char *s = ((const struct list *)arg)->merges[i];
    *n = strlen(s);
    return s;
}
static int list_type(void *arg, size_t i) { return ((const struct list *)arg)->types[i]; }

static void padding(void)
{
    static const char *const tokens[] = {"a", "b", "ab", "<x>", "[PAD4]", "[PAD5]", "unused", "<y>"}, *const merges[] = {"a b"};
    static const int types[] = {1, 1, 1, 3, 5, 4, 5, 4};
    struct err e = {0};
    struct list l = {tokens, merges, types};
    struct vocab_source v = {.arg = &l,
                             .model = "gpt2",
                             .pre = "qwen2",
                             .n_tokens = 4,
                             .n_merges = 1,
                             .token = list_token,
                             .merge = list_merge,
                             .type = list_type};
    struct tokenizer *bare = NULL, *padded = NULL, *more = NULL;
    CHECK_OK(tokenizer_from_vocab(&v, "bare", &bare, &e), &e);
    v.n_tokens = 7;
    CHECK_OK(tokenizer_from_vocab(&v, "padded", &padded, &e), &e);
    v.n_tokens = 8;
    CHECK_OK(tokenizer_from_vocab(&v, "more", &more, &e), &e);
    CHECK(same_hash(bare, padded));
    CHECK(!same_hash(bare, more));
    CHECK_INT(tokenizer_size(padded), 4);
    CHECK_INT(tokenizer_size(more), 8);
    size_t n;
    CHECK(tokenizer_token(more, 5, &n) == NULL);
    CHECK(tokenizer_is_special(more, 3));
    CHECK(!tokenizer_is_special(more, 7));
    CHECK_INT(tokenizer_find(more, "<y>"), 7);
    CHECK_INT(tokenizer_find(more, "ab"), 2);
    CHECK_INT(tokenizer_find(more, "[PAD5]"), -1);
    struct ids ids = {0};
    CHECK_OK(tokenizer_encode(more, "ab<y>ba", 7, true, &ids, &e), &e);
    CHECK(ids.n == 4 && ids.v[0] == 2 && ids.v[1] == 7 && ids.v[2] == 1 && ids.v[3] == 0);
    ids_free(&ids);
    /* What is refused, by name. */
    struct tokenizer *t = NULL;
    v.pre = "exotic";
    CHECK_INT(tokenizer_from_vocab(&v, "m.gguf", &t, &e), -1);
    CHECK_HAS(e.text, "m.gguf: the pre-tokenizer is 'exotic', expected gpt-2, phi-2, smollm");
    CHECK_INT(e.code, ERR_MODEL);
    v.pre = NULL;
    CHECK_INT(tokenizer_from_vocab(&v, "m.gguf", &t, &e), -1);
    CHECK_HAS(e.text, "the pre-tokenizer is not named");
    v.pre = "qwen2";
    v.model = "llama";
    CHECK_INT(tokenizer_from_vocab(&v, "m.gguf", &t, &e), -1);
    CHECK_HAS(e.text, "the tokenizer's model is 'llama', expected 'gpt2'");
    v.model = "gpt2";
    static const int bad_types[] = {1, 1, 6, 3, 5, 4, 5, 4};
    l.types = bad_types;
    CHECK_INT(tokenizer_from_vocab(&v, "m.gguf", &t, &e), -1);
    CHECK_HAS(e.text, "token 2 has the type 6");
    l.types = types;
    static const char *const bad_merges[] = {"a c"};
    l.merges = bad_merges;
    CHECK_INT(tokenizer_from_vocab(&v, "m.gguf", &t, &e), -1);
    CHECK_HAS(e.text, "merge 0 joins 'a' and 'c'");
    CHECK(t == NULL);
    tokenizer_close(bare);
    tokenizer_close(padded);
    tokenizer_close(more);
}

/* Each kind of tokenizer, named as GGUF names it and written out as tokenizer.json has it. */
static void both_sources(const char *pre, const char *pre_json, const char *normalizer, const char *ignore_merges)
{
    static const char *const tokens[] = {"a", "b", "ab", "<x>"}, *const merges[] = {"a b"};
    static const int types[] = {1, 1, 1, 3};
    struct err e = {0};
    struct list l = {tokens, merges, types};
    struct vocab_source v = {.arg = &l,
                             .model = "gpt2",
                             .pre = pre,
                             .n_tokens = 4,
                             .n_merges = 1,
                             .token = list_token,
                             .merge = list_merge,
                             .type = list_type};
    struct buf json = {0};
    struct tokenizer *t = NULL, *u = NULL;
    buf_printf(&json,
               "{\"added_tokens\":[{\"id\":3,\"content\":\"<x>\",\"special\":true,\"normalized\":false}],\"normalizer\":%s,"
               "\"pre_tokenizer\":%s,\"model\":{\"type\":\"BPE\",\"ignore_merges\":%s,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
               "\"merges\":[\"a b\"]}}",
               normalizer, pre_json, ignore_merges);
    CHECK_OK(tokenizer_from_vocab(&v, pre, &t, &e), &e);
    CHECK_OK(tokenizer_from_json(json.data, json.n, pre, &u, &e), &e);
    if (t != NULL && u != NULL)
        CHECK(same_hash(t, u));
    buf_free(&json);
    tokenizer_close(t);
    tokenizer_close(u);
}

#define TIKTOKEN(digits)                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                                               \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : NULL;
    what_counts();
    padding();
    both_sources("gpt-2", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "null", "false");
    both_sources("smollm", DIGITS, "null", "false");
    both_sources("refact", DIGITS, "null", "false");
    both_sources("qwen2", SPLIT(TIKTOKEN("\\\\p{N}")), "{\"type\":\"NFC\"}", "false");
    both_sources("llama-bpe", SPLIT(TIKTOKEN("\\\\p{N}{1,3}")), "null", "true");
    both_sources("llama3", SPLIT(TIKTOKEN("\\\\p{N}{1,3}")), "null", "true");
    int n = written(open_gpt2(), "gpt-2", folder) + written(open_refact(), "refact", folder) +
            written(open_smollm2(), "smollm2", folder) + written(open_qwen3(), "qwen3", folder);
    printf("%d of 4 real vocabularies present\n", n);
    return check_done();
}
