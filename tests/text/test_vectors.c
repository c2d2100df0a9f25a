/* llama.cpp's own test vectors: 47 texts and their ids for each of three vocabularies. */
#include "tests/text/vocabs.h"

static const char separator[] = "\n__ggml_vocab_test__\n";

static char *read_all(const char *path, size_t *n)
{
    struct err e = {0};
    char *text = NULL;
    CHECK_OK(io_read_file(path, ERR_DATA, 1 << 20, &text, n, &e), &e);
    return text;
}

static bool same(const struct tokenizer *t, const char *text, size_t n, const char *line)
{
    struct ids got = {0};
    struct err e = {0};
    bool equal = tokenizer_encode(t, text, n, true, &got, &e) == 0;
    size_t i = 0;
    for (char *end; equal; i++, line = end) {
        while (*line == ' ')
            line++;
        if (*line == '\n' || *line == 0)
            break;
        long want = strtol(line, &end, 10);
        equal = end != line && i < got.n && got.v[i] == want;
    }
    equal = equal && i == got.n;
    if (equal) {
        size_t n_back;
        char *back = decode(t, &got, &n_back);
        equal = n_back == n && memcmp(back, text, n) == 0; /* none of these texts changes under NFC */
        free(back);
    }
    ids_free(&got);
    return equal;
}

static int vectors(struct tokenizer *t, const char *name)
{
    char path[256];
    size_t n_in, n_out;
    if (t == NULL)
        return 0;
    snprintf(path, sizeof path, "tokenizers/llama.cpp/ggml-vocab-%s.gguf.inp", name);
    char *in = read_all(shared_path(path), &n_in);
    snprintf(path, sizeof path, "tokenizers/llama.cpp/ggml-vocab-%s.gguf.out", name);
    char *out = read_all(shared_path(path), &n_out);
    int count = 0, good = 0;
    const char *line = out;
    for (char *text = in, *next = in; text != NULL && line != NULL; text = next, count++) {
        char *end = strstr(text, separator);
        size_t n = end ? (size_t)(end - text) : (size_t)(in + n_in - text);
        bool equal = same(t, text, n, line);
        if (!equal)
            fprintf(stderr, "%s: text %d '%.*s' differs\n", name, count, (int)n, text);
        good += equal;
        next = end ? end + strlen(separator) : NULL;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    printf("%s: %d of %d\n", name, good, count);
    CHECK_INT(count, 47);
    CHECK_INT(good, 47);
    mem_free(in);
    mem_free(out);
    tokenizer_close(t);
    return 1;
}

int main(void)
{
    int n = vectors(open_gpt2(), "gpt-2") + vectors(open_refact(), "refact") + vectors(open_qwen3(), "qwen2");
    if (n == 0)
        CHECK_SKIP("the shared tokenizers are absent");
    CHECK_INT(n, 3);
    return check_done();
}
