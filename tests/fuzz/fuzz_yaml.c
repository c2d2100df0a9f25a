/* The bytes are a job file; one that is accepted is printed, and the print must parse to the same print. */
#include "trainer/config.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct config c, again;
    struct buf first = {0}, second = {0};
    struct err e = {0};
    if (config_parse((const char *)bytes, n, "fuzz.yaml", &c, &e) != 0) {
        fuzz_expect_message(&e);
        return 0;
    }
    config_write(&c, &first);
    if (config_parse(first.data, first.n, "again.yaml", &again, &e) != 0)
        abort();
    config_write(&again, &second);
    if (first.n != second.n || memcmp(first.data, second.data, first.n) != 0)
        abort();
    buf_free(&first);
    buf_free(&second);
    return 0;
}
