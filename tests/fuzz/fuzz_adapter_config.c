/* The bytes are an adapter_config.json; one that is accepted is written, and what is written must mean the same. */
#include "checkpoints/adapter.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct adapter_config c, again;
    struct buf b = {0};
    struct err e = {0};
    if (adapter_config_parse((const char *)bytes, n, "adapter_config.json", &c, &e) != 0) {
        fuzz_expect_message(&e);
        return 0;
    }
    if (c.n_targets > 0) {
        if (adapter_config_write(&c, &b, &e) != 0 || adapter_config_parse(b.data, b.n, "again", &again, &e) != 0)
            abort();
        if (again.rank != c.rank || adapter_scale(&again) != adapter_scale(&c) || again.n_targets != c.n_targets ||
            strcmp(again.base, c.base) != 0)
            abort();
    }
    buf_free(&b);
    return 0;
}
