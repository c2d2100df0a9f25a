/* Vocabulary-only files of llama.cpp: metadata of real size, no tensors. */
#include "checkpoints/gguf.h"

#include "tests/check.h"
#include "trainer/base/io.h"

static int check_file(const char *folder, const char *name, size_t tokens)
{
    char path[2048];
    struct gguf *g;
    struct tensor_list l = {0};
    struct err e = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/data/tokenizers/llama.cpp/%s", folder, name);
    if (!io_exists(path))
        return 0;
    CHECK_OK(gguf_open(path, &g, &l, &e), &e);
    if (g == NULL)
        return 1;
    CHECK_INT(l.n, 0);
    CHECK_INT(gguf_array_length(g, "tokenizer.ggml.tokens"), tokens);
    for (size_t i = 0; i < tokens; i++)
        CHECK(gguf_array_string(g, "tokenizer.ggml.tokens", i, &n) != NULL && n < 1000);
    gguf_close(g);
    tensor_list_close(&l);
    return 1;
}

int main(void)
{
    const char *folder = getenv("LORAT_SHARED");
    if (folder == NULL)
        folder = "../shared";
    int n = check_file(folder, "ggml-vocab-gpt-2.gguf", 50257) + check_file(folder, "ggml-vocab-refact.gguf", 49216) +
            check_file(folder, "ggml-vocab-llama-spm.gguf", 32000) + check_file(folder, "ggml-vocab-llama-bpe.gguf", 128256) +
            check_file(folder, "ggml-vocab-qwen2.gguf", 151936);
    if (n == 0)
        CHECK_SKIP("no ggml-vocab-*.gguf in $LORAT_SHARED/data/tokenizers/llama.cpp nor ../shared");
    return check_done();
}
