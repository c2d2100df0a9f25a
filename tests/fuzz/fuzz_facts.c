/* The bytes are a model's config.json, and its generation_config.json too. */
#include "trainer/facts.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct facts f = {0};
    struct err e = {0};
    if (facts_from_hf((const char *)bytes, n, NULL, 0, "config.json", &f, &e) != 0)
        fuzz_expect_message(&e);
    else if (facts_n_total(&f) <= 0)
        abort();
    facts_free(&f);
    if (facts_from_hf((const char *)bytes, n, (const char *)bytes, n, "config.json", &f, &e) == 0)
        facts_free(&f);
    return 0;
}
