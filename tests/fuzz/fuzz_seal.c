/* The bytes are the start of a dataset file; and then a seal's fields, which are given magic and checksum so that they are looked
 * into. A seal that is accepted is written back as the same bytes. */
#include "datasets/seal.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void parse(const uint8_t *bytes, size_t n)
{
    struct seal s;
    struct err e = {0};
    uint8_t again[SEAL_BYTES];
    if (seal_parse(bytes, n, "fuzz.h5", &s, &e) != 0) {
        fuzz_expect_message(&e);
        return;
    }
    seal_format(&s, again);
    if (!seal_present(bytes, n) || n < SEAL_BYTES || memcmp(again, bytes, SEAL_BYTES) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct seal any = {0};
    uint8_t front[SEAL_BYTES], hash[HASH_BYTES];
    parse(bytes, n);
    seal_format(&any, front);
    memcpy(front + 8, bytes, n < sizeof front - 8 ? n : sizeof front - 8);
    hash_bytes(front, 56, hash); /* the check covers the fields before it */
    memcpy(front + 56, hash, 8);
    parse(front, sizeof front);
    return 0;
}
