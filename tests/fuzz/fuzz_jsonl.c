/* The bytes are lines of a text input; the record is reused from line to line as the reader does. */
#include "datasets/jsonl.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct jsonl_record r = {0};
    struct jsonl_unknown unknown = {0};
    struct err e = {0};
    for (size_t at = 0; at < n;) {
        const uint8_t *end = memchr(bytes + at, '\n', n - at);
        size_t length = end == NULL ? n - at : (size_t)(end - (bytes + at));
        if (jsonl_parse_line((const char *)bytes + at, length, "fuzz.jsonl:1", &r, &unknown, &e) != 0)
            fuzz_expect_message(&e);
        at += length + 1;
    }
    jsonl_free(&r);
    return 0;
}
