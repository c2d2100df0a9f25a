/* The bytes are a file: opened, its usual keys asked for in every way, every tensor read; then only half of it is at hand. */
#include "checkpoints/gguf.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/read_all.h"

static uint64_t sum; /* what is returned is used, so that a sanitizer sees it read */

static void ask(const struct gguf *g, const char *key)
{
    int64_t i = 0;
    double f = 0;
    bool b = false;
    size_t n, length = gguf_array_length(g, key);
    const char *s = gguf_string(g, key, &n);
    if (gguf_i64(g, key, &i) || gguf_f64(g, key, &f) || gguf_bool(g, key, &b))
        sum += (uint64_t)i + (f > 0) + b;
    for (size_t k = 0; s != NULL && k < n; k++)
        sum += (uint8_t)s[k];
    for (size_t at = 0; at <= length && at < 4096; at++) {
        s = gguf_array_string(g, key, at, &n);
        for (size_t k = 0; s != NULL && k < n; k++)
            sum += (uint8_t)s[k];
        if (gguf_array_i64(g, key, at, &i) || gguf_array_f64(g, key, at, &f))
            sum += (uint64_t)i + (f > 0);
    }
}

static void ask_all(const struct gguf *g)
{
    static const char *const keys[] = {"a",         "i8",          "bool",      "f32",       "text",
                                       "strings",   "i16s",        "f64s",      "u64.large", "test.strings",
                                       "test.ints", "test.floats", "test.bool", "test.u32",  "test.string"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
        ask(g, keys[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct tensor_list l = {0}, head = {0};
    struct gguf *g = NULL;
    struct err e = {0};
    memory_file_is(bytes, n);
    if (gguf_open("fuzz.gguf", &g, &l, &e) == 0) {
        ask_all(g);
        read_all_tensors(&l);
    } else {
        fuzz_expect_message(&e);
    }
    gguf_close(g);
    tensor_list_close(&l);
    if (gguf_parse((const char *)bytes, n / 2, n, "fuzz.gguf", &g, &head, &e) == 0)
        ask_all(g);
    gguf_close(g);
    tensor_list_close(&head);
    return 0;
}
