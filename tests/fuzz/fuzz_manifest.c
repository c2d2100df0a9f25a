/* The bytes are a checkpoint's manifest; and then a manifest's body, which is given the checksum that it needs to be looked into.
 */
#include "checkpoints/run.h"

#include "tests/fuzz/fuzz.h"
#include "trainer/base/buf.h"
#include "trainer/base/hash.h"

static int want(void *arg, const char *name, uint64_t size, const uint8_t hash[32], struct err *e)
{
    *(uint64_t *)arg += (uint64_t)name[0] + size + hash[31];
    return 0;
}

static void parse(const char *bytes, size_t n)
{
    uint64_t sum = 0;
    struct err e = {0};
    if (run_manifest_parse(bytes, n, "manifest.json", want, &sum, &e) != 0)
        fuzz_expect_message(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    uint8_t hash[HASH_BYTES];
    char hex[HASH_HEX];
    struct buf b = {0};
    parse((const char *)bytes, n);
    buf_add(&b, bytes, n);
    hash_bytes(bytes, n, hash);
    buf_printf(&b, "  \"sha256\": \"%s\"\n}\n", hash_hex(hash, hex));
    parse(b.data, b.n);
    buf_free(&b);
    return 0;
}
