/* The bytes are a tokenizer.json; one that is accepted encodes its own bytes, and every id it gives has a text. */
#include "datasets/tokenizer.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (tokenizer_from_json((const char *)bytes, n, "tokenizer.json", &t, &e) != 0) {
        fuzz_expect_message(&e);
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        struct ids ids = {0};
        size_t length;
        if (tokenizer_encode(t, (const char *)bytes, n < 300 ? n : 300, special, &ids, &e) == 0)
            for (size_t i = 0; i < ids.n; i++)
                if (tokenizer_token(t, ids.v[i], &length) == NULL)
                    abort();
        ids_free(&ids);
    }
    tokenizer_close(t);
    return 0;
}
