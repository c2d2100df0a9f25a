/* Ids, pieces and round trips against the PyPI package `tokenizers` (tests/golden/make_tokens.py, make_split.py). */
#include "datasets/nfc.h"
#include "datasets/pretokenizer.h"
#include "tests/text/vocabs.h"
#include "trainer/base/json.h"

static struct json *golden(const char *path)
{
    struct err e = {0};
    struct json *root = NULL;
    char *text = NULL;
    size_t n;
    CHECK_OK(io_read_file(path, ERR_DATA, 16 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text, n, path, ERR_DATA, &root, &e), &e);
    mem_free(text);
    return root;
}

/* The bytes of all ids are the text, as given or the same under normalization. */
static void round_trip(const struct tokenizer *t, const struct ids *ids, const char *text, size_t n, bool nfc)
{
    struct err e = {0};
    struct buf want = {0}, got = {0};
    size_t n_back;
    char *back = decode(t, ids, &n_back);
    if (nfc) { /* a special token parts what is normalized, so that the result is not always NFC itself */
        CHECK_OK(nfc_append(text, n, &want, &e), &e);
        CHECK_OK(nfc_append(back, n_back, &got, &e), &e);
    } else {
        buf_add(&want, text, n);
        buf_add(&got, back, n_back);
    }
    CHECK(got.n == want.n && (got.n == 0 || memcmp(got.data, want.data, got.n) == 0));
    free(back);
    buf_free(&want);
    buf_free(&got);
}

static bool all_bytes_known(const struct tokenizer *t, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != 0 && tokenizer_find(t, (char[2]){text[i], 0}) < 0)
            return false;
    return true;
}

static int tokens(const struct json *root, const char *name, struct tokenizer *t, bool nfc)
{
    if (t == NULL)
        return 0;
    const struct json *texts = json_get(root, "texts"), *all = json_get(root, name);
    size_t good = 0;
    CHECK(json_length(texts) > 50);
    CHECK_INT(json_length(all), json_length(texts));
    for (size_t i = 0; i < json_length(texts); i++) {
        size_t n;
        const char *text = json_string(json_at(texts, i), &n);
        const struct json *want = json_at(all, i);
        struct ids got = {0};
        struct err e = {0};
        CHECK_OK(tokenizer_encode(t, text, n, true, &got, &e), &e);
        bool same = got.n == json_length(want);
        size_t at = 0;
        for (; same && at < got.n; at++) {
            int64_t id = -1;
            json_i64(json_at(want, at), &id);
            same = id == got.v[at];
        }
        if (!same)
            fprintf(stderr, "%s: text %zu differs at token %zu of %zu: %.60s\n", name, i, at, json_length(want), text);
        good += same;
        if (all_bytes_known(t, text, n))
            round_trip(t, &got, text, n, nfc);
        else
            CHECK_STR(name, "smollm2"); /* has no token for some control characters */
        ids_free(&got);
    }
    printf("%s: %zu of %zu\n", name, good, json_length(texts));
    CHECK_INT(good, json_length(texts));
    tokenizer_close(t);
    return 1;
}

static void split_one(const struct pretokenizer *p, struct pretokenizer_scratch *s, const char *text, size_t n,
                      const struct json *want)
{
    struct err e = {0};
    size_t at = 0, end = 0;
    for (size_t k = 0; k < json_length(want) && at < n; k++, at = end) {
        int64_t length = 0;
        json_i64(json_at(want, k), &length);
        CHECK_OK(pretokenizer_next(p, s, text, n, at, &end, &e), &e);
        if ((int64_t)(end - at) != length) {
            fprintf(stderr, "llama3 split: '%.60s' piece %zu at byte %zu has %zu bytes, expected %lld\n", text, k, at, end - at,
                    (long long)length);
            check_failures++;
            return;
        }
    }
    CHECK(at == n);
}

static void split(const struct json *root)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct err e = {0};
    struct pretokenizer *p = NULL;
    struct pretokenizer_scratch *s = NULL;
    const struct json *texts = json_get(root, "texts"), *own = json_get(root, "llama3"), *vectors = json_get(root, "vectors");
    CHECK_OK(pretokenizer_open(PRETOKENIZER_LLAMA3, &p, &e), &e);
    CHECK_OK(pretokenizer_scratch_new(p, &s, &e), &e);
    CHECK(json_length(texts) > 50);
    for (size_t i = 0; i < json_length(texts); i++) {
        size_t n;
        const char *text = json_string(json_at(texts, i), &n);
        split_one(p, s, text, n, json_at(own, i));
    }
    const char *path = shared_path("tokenizers/llama.cpp/ggml-vocab-llama-bpe.gguf.inp");
    if (io_exists(path)) {
        char *all = NULL;
        size_t n, count = 0;
        CHECK_OK(io_read_file(path, ERR_DATA, 1 << 20, &all, &n, &e), &e);
        for (char *text = all, *next; text != NULL; text = next, count++) {
            char *end = strstr(text, separator);
            next = end ? end + strlen(separator) : NULL;
            split_one(p, s, text, end ? (size_t)(end - text) : strlen(text), json_at(vectors, count));
        }
        CHECK_INT(count, 47);
        CHECK_INT(json_length(vectors), 47);
        mem_free(all);
    }
    pretokenizer_scratch_free(s);
    pretokenizer_close(p);
}

int main(void)
{
    struct json *pieces = golden("tests/golden/text/split_llama3.json"), *ids = golden("tests/golden/text/tokens.json");
    split(pieces);
    int n = tokens(ids, "gpt-2", open_gpt2(), false) + tokens(ids, "smollm2", open_smollm2(), false) +
            tokens(ids, "qwen3", open_qwen3(), true);
    printf("%d of 3 vocabularies present\n", n);
    json_free(pieces);
    json_free(ids);
    return check_done();
}
