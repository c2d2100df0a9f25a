/* A real model: every tensor's F32 bytes have the hash that the PyPI package gguf's values have (tests/golden/make_dequant.py).
 */
#include "checkpoints/gguf.h"

#include <time.h>

#include "tests/check.h"
#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

static const char *model = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
static const char *golden = "tests/golden/tensors/SmolLM2-135M-Instruct.Q4_1.sha256.json";

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void metadata(const struct gguf *g)
{
    size_t n;
    int64_t v;
    double f;
    const char *s = gguf_string(g, "general.architecture", &n);
    CHECK(s != NULL && n == 5 && memcmp(s, "llama", 5) == 0);
    CHECK(gguf_i64(g, "llama.block_count", &v) && v == 30);
    CHECK(gguf_i64(g, "llama.embedding_length", &v) && v == 576);
    CHECK(gguf_f64(g, "llama.attention.layer_norm_rms_epsilon", &f) && fabs(f - 1e-5) < 1e-9);
    CHECK_INT(gguf_array_length(g, "tokenizer.ggml.tokens"), 49152);
    s = gguf_array_string(g, "tokenizer.ggml.tokens", 2, &n);
    CHECK(s != NULL && n == 10 && memcmp(s, "<|im_end|>", 10) == 0);
    CHECK(gguf_array_string(g, "tokenizer.ggml.tokens", 49152, &n) == NULL);
    CHECK(gguf_array_i64(g, "tokenizer.ggml.token_type", 2, &v) && v == 3);
}

int main(void)
{
    struct gguf *g;
    struct tensor_list l = {0};
    struct err e = {0};
    char *text;
    size_t n;
    struct json *want;
    if (!io_exists(model))
        CHECK_SKIP("models/SmolLM2-135M-Instruct.Q4_1.gguf is not there");
    CHECK_OK(gguf_open(model, &g, &l, &e), &e);
    CHECK_OK(io_read_file(golden, ERR_DATA, 1 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text, n, golden, ERR_DATA, &want, &e), &e);
    if (check_failures)
        return check_done();
    CHECK_INT(l.n, 272);
    CHECK_INT(json_length(want), 272);
    metadata(g);
    double seconds = 0;
    for (size_t i = 0; i < l.n; i++) {
        const struct tensor *t = &l.tensors[i];
        uint8_t hash[HASH_BYTES];
        char hex[HASH_HEX];
        float *x = mem_alloc((size_t)tensor_count(t), 4);
        CHECK_OK(tensor_read(&l, t, 0, t->shape[0], DT_F32, x, &e), &e);
        hash_bytes(x, (size_t)tensor_count(t) * 4, hash);
        CHECK_STR(hash_hex(hash, hex), json_string(json_get(want, t->name), NULL));
        double begin = now_s();
        CHECK_OK(tensor_read(&l, t, 0, t->shape[0], DT_BF16, x, &e), &e);
        seconds += now_s() - begin;
        mem_free(x);
    }
    printf("272 tensors as BF16 in %.3f s\n", seconds);
    json_free(want);
    free(text);
    gguf_close(g);
    tensor_list_close(&l);
    return check_done();
}
