/* A tokenizer.json that is wrong or not supported: one sentence that names the file and what is wrong with it; and no report of a
 * sanitizer on whatever bytes. */
#include "tests/text/small.h"
#include "tests/text/vocabs.h"
#include "trainer/base/rng.h"

static void refused(struct small s, const char *part)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    CHECK_INT(small_open(s, &t, &e), -1);
    CHECK(t == NULL);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_HAS(e.text, "tokenizer.json");
    CHECK_HAS(e.text, part);
    CHECK(strchr(e.text, '\n') == NULL);
    tokenizer_close(t);
}

static void text_refused(const char *json, const char *part)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    CHECK_INT(tokenizer_from_json(json, strlen(json), "tokenizer.json", &t, &e), -1);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_HAS(e.text, "tokenizer.json");
    CHECK_HAS(e.text, part);
    tokenizer_close(t);
}

static void wholes(void)
{
    text_refused("", "");
    text_refused("{", "");
    text_refused("[]", "it is a list, expected an object");
    text_refused("{}", "model is");
    text_refused("{\"model\":{}}", "model.vocab is");
    text_refused("{\"model\":{\"type\":\"Unigram\"}}", "model.type is 'Unigram', expected 'BPE'");
    text_refused("{\"model\":{\"type\":7}}", "model.type is");
    text_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "model.merges");
    text_refused("{\"model\":{\"vocab\":{},\"merges\":[]}}", "pre-tokenizer is missing");
    text_refused("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"vocab\":{},\"merges\":[]}}",
                 "no tokens");
    text_refused(
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"vocab\":{\"ab\":0},\"merges\":[]}}",
        "not one token is a single byte");
    struct buf deep = {0};
    for (int i = 0; i < 200000; i++)
        buf_puts(&deep, "[");
    text_refused(deep.data, "");
    buf_clear(&deep);
    buf_puts(&deep, "{\"normalizer\":");
    for (int i = 0; i < 60; i++)
        buf_puts(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 60; i++)
        buf_puts(&deep, "]}");
    buf_puts(&deep, ",\"model\":{\"vocab\":{},\"merges\":[]}}");
    text_refused(deep.data, "");
    buf_free(&deep);
}

static void parts(void)
{
#define SMALL(...) (struct small){__VA_ARGS__}
    refused(SMALL(.normalizer = "{\"type\":\"NFKC\"}"), "the normalizer is 'NFKC', expected none or 'NFC'");
    refused(SMALL(.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}"),
            "'Lowercase'");
    refused(SMALL(.normalizer = "5"), "the normalizer is");
    refused(SMALL(.pre = "null"), "pre-tokenizer is missing");
    refused(SMALL(.pre = "{\"type\":\"Metaspace\"}"), "the pre-tokenizer is 'Metaspace'");
    refused(SMALL(.pre = "{\"type\":\"ByteLevel\"}"), "add_prefix_space = true");
    refused(SMALL(.pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":0}"), "add_prefix_space is");
    refused(SMALL(.pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"), "use_regex");
    refused(SMALL(.pre = "{\"type\":\"Digits\",\"individual_digits\":true}"), "without ByteLevel");
    refused(SMALL(.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[]}"), "without ByteLevel");
    refused(SMALL(.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":\"ByteLevel\",\"add_prefix_"
                         "space\":false}]}"),
            "individual_digits = false");
    refused(SMALL(.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                         "{\"type\":\"Digits\",\"individual_digits\":true}]}"),
            "expected Split or Digits and then ByteLevel");
#define SPLIT(members)                                                                                                           \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"," members                                                     \
    "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
    refused(SMALL(.pre = SPLIT("\"pattern\":{\"String\":\" \"}")), "no pattern.Regex");
    refused(SMALL(.pre = SPLIT("\"pattern\":{\"Regex\":\"[a-z]+\"},\"behavior\":\"Isolated\"")), "splits by '[a-z]+'");
    refused(SMALL(.pre = SPLIT("\"pattern\":{\"Regex\":\"[a-z]+\"},\"behavior\":\"Removed\"")),
            "behavior 'Removed', expected 'Isolated'");
    refused(SMALL(.pre = SPLIT("\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Isolated\",\"invert\":true")), "invert = true");
    refused(SMALL(.tail = ",\"post_processor\":{\"type\":\"BertProcessing\"}"), "the post-processor is 'BertProcessing'");
    refused(SMALL(.tail = ",\"decoder\":{\"type\":\"Metaspace\"}"), "the decoder is 'Metaspace'");
    refused(SMALL(.model = ",\"byte_fallback\":true"), "byte_fallback = true");
    refused(SMALL(.model = ",\"byte_fallback\":1"), "byte_fallback is");
    refused(SMALL(.model = ",\"dropout\":0.1"), "model.dropout");
    refused(SMALL(.model = ",\"end_of_word_suffix\":\"</w>\""), "model.end_of_word_suffix");
    refused(SMALL(.model = ",\"continuing_subword_prefix\":\"##\""), "model.continuing_subword_prefix");
    struct err e = {0}; /* and what is fine */
    struct tokenizer *t = NULL;
    CHECK_OK(
        small_open(
            SMALL(.model = ",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
                           "\"fuse_unk\":false,\"byte_fallback\":false",
                  .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}",
                  .tail = ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
                          "\"TemplateProcessing\"}]}"),
            &t, &e),
        &e);
    tokenizer_close(t);
}

static void vocabulary(void)
{
    refused(SMALL(.vocab = ",\"ab\":5"), "two tokens have the id 5");
    refused(SMALL(.vocab = ",\"ab\":-1"), "has the id -1, expected 0 to");
    refused(SMALL(.vocab = ",\"ab\":2147483648"), "has the id 2147483648, expected 0 to");
    refused(SMALL(.vocab = ",\"ab\":2147483647"), "has the id 2147483647, expected 0 to");
    refused(SMALL(.vocab = ",\"ab\":99999999999999999999"), "tokenizer.json");
    refused(SMALL(.vocab = ",\"ab\":1.5"), "the id of token 'ab' is");
    refused(SMALL(.vocab = ",\"ab\":\"7\""), "the id of token 'ab' is");
    refused(SMALL(.vocab = ",\"a\":300"), "tokenizer.json");
    refused(SMALL(.vocab = ",\"\":300"), "has 0 bytes");
    refused(SMALL(.merges = "\"a b\""), "merge 0 joins 'a' and 'b'");
    refused(SMALL(.vocab = ",\"ab\":256", .merges = "\"a b\",\"a b\""), "merges 0 and 1 both join 'a' and 'b'");
    refused(SMALL(.merges = "\"ab\""), "merge 0 is 'ab', expected two tokens");
    refused(SMALL(.merges = "\"a b c\""), "merge 0 is 'a b c'");
    refused(SMALL(.merges = "\" \""), "merge 0 joins '' and ''");
    refused(SMALL(.merges = "[\"a\"]"), "merge 0 is a list");
    refused(SMALL(.merges = "[\"a\",7]"), "merge 0 is a list");
    refused(SMALL(.merges = "7"), "merge 0 is");
    refused(SMALL(.merges = "[\"\\u65e5\",\"a\"]"), "merge 0 joins");
    refused(SMALL(.added = "7"), "added_tokens[0] lacks");
    refused(SMALL(.added = "{\"content\":\"<x>\"}"), "added_tokens[0] lacks");
    refused(SMALL(.added = "{\"id\":300}"), "added_tokens[0] lacks");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"\"}"), "has 0 bytes");
    refused(SMALL(.added = "{\"id\":3000000000,\"content\":\"<x>\"}"), "has the id 3000000000");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\"},{\"id\":300,\"content\":\"<y>\"}"), "two tokens have the id 300");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\"},{\"id\":301,\"content\":\"<x>\"}"), "'<x>' has the ids 300 and 301");
    refused(SMALL(.added = "{\"id\":97,\"content\":\"<x>\"}"), "the id 97 is the token 'a' and the added token '<x>'");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\",\"lstrip\":true}"), "the added token '<x>' has lstrip = true");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\",\"rstrip\":true}"), "rstrip = true");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\",\"single_word\":true}"), "single_word = true");
    refused(SMALL(.added = "{\"id\":300,\"content\":\"<x>\",\"special\":\"yes\"}"), "special is");
    refused(SMALL(.tail = ",\"added_tokens\":[]"), "tokenizer.json"); /* a second time */
}

/* Whatever opens must also encode, decode and be written. */
static void use(const char *json, size_t n)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    struct ids ids = {0};
    struct buf out = {0};
    if (tokenizer_from_json(json, n, "tokenizer.json", &t, &e) != 0) {
        CHECK(t == NULL && e.code == ERR_MODEL && e.text[0] != 0);
        return;
    }
    size_t n_text;
    CHECK_OK(tokenizer_encode(t, "abcd 12 <x>\n\xff e\xcc\x81", 17, true, &ids, &e), &e);
    free(decode(t, &ids, &n_text));
    CHECK_OK(tokenizer_write_json(t, &out, &e), &e);
    ids_free(&ids);
    buf_free(&out);
    tokenizer_close(t);
}

static void cut_and_changed(void)
{
    static const char interesting[] = "{}[]\",:\\0919-ue \xff\x00tnf.";
    struct buf b = {0};
    small_json(&b, SMALL(.normalizer = "{\"type\":\"NFC\"}", .vocab = ",\"ab\":256,\"cd\":257,\"abcd\":258",
                         .merges = "\"a b\",[\"c\",\"d\"],\"ab cd\"",
                         .added = "{\"id\":259,\"content\":\"<x>\",\"special\":true,\"normalized\":true}",
                         .tail = ",\"post_processor\":{\"type\":\"ByteLevel\"},\"decoder\":null",
                         .model = ",\"ignore_merges\":true,\"dropout\":null"));
    for (size_t n = 0; n < b.n; n++) {
        char *copy = malloc(n + 1); /* exactly as long, so that a read past the end is seen */
        memcpy(copy, b.data, n);
        use(copy, n);
        free(copy);
    }
    use(b.data, b.n);
    for (uint32_t i = 0; i < 6000; i++) {
        char *copy = malloc(b.n);
        memcpy(copy, b.data, b.n);
        struct rng4 r = rng_at(11, RNG_SAMPLE, i, 0, 0);
        /* mostly outside the long list of single bytes */
        for (uint32_t k = 0; k <= r.v[0] % 3; k++) {
            size_t at = k == 0 && r.v[1] % 4 ? (r.v[1] % 2 ? r.v[2] % 300 : b.n - 1 - r.v[2] % 260) : (r.v[2] >> k) % b.n;
            copy[at] = interesting[(r.v[3] >> (8 * k)) % (sizeof interesting - 1)];
        }
        use(copy, b.n);
        free(copy);
    }
    buf_free(&b);
}

int main(void)
{
    wholes();
    parts();
    vocabulary();
    cut_and_changed();
    return check_done();
}
