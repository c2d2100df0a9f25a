/* The manifest: what is written is read back; every refusal by name; every truncation and every flipped bit. */
#include <inttypes.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "tests/check.h"
#include "trainer/base/hash.h"

static int seen;
static int want(void *arg, const char *name, uint64_t size, const uint8_t hash[32], struct err *e)
{
    seen++;
    if (strcmp(name, "b.bin") == 0 && size == 77 && hash[0] == 0xab && hash[31] == 7)
        *(int *)arg += 1;
    return 0;
}

/* A manifest with this text before its checksum; the checksum fits. */
static void seal(struct buf *b, const char *body)
{
    uint8_t own[HASH_BYTES];
    char hex[HASH_HEX];
    buf_clear(b);
    buf_puts(b, body);
    hash_bytes(body, strlen(body), own);
    buf_printf(b, "  \"sha256\": \"%s\"\n}\n", hash_hex(own, hex));
}

#define HASH64      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD        "{\n\"format\": \"lorat-checkpoint\", \"version\": 1, \"step\": 3,\n"
#define FILES(text) HEAD "\"files\": {" text "},\n"

static void test_refusals(void)
{
    static const struct {
        const char *body, *part;
    } bad[] = {
        {FILES("\"\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"), "plain file name"},
        {FILES("\"a/b\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"), "\"a/b\""},
        {FILES("\"..\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"), "\"..\""},
        {FILES("\".x\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"), "\".x\""},
        {FILES("\"manifest.json\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"), "plain file name"},
        {FILES("\"a\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}, \"a\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\"}"),
         "manifest"},
        {FILES("\"a\": {\"bytes\": -1, \"sha256\": \"" HASH64 "\"}"), "a: bytes"},
        {FILES("\"a\": {\"bytes\": 1.5, \"sha256\": \"" HASH64 "\"}"), "a: bytes"},
        {FILES("\"a\": {\"bytes\": 99999999999999999999, \"sha256\": \"" HASH64 "\"}"), "manifest"},
        {FILES("\"a\": {\"bytes\": \"1\", \"sha256\": \"" HASH64 "\"}"), "a: bytes"},
        {FILES("\"a\": {\"bytes\": 1, \"sha256\": \"" HASH64 "0\"}"), "a: sha256"},
        {FILES("\"a\": {\"bytes\": 1, \"sha256\": \"X123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}"),
         "a: sha256"},
        {FILES("\"a\": {\"bytes\": 1, \"sha256\": 5}"), "a: sha256"},
        {FILES("\"a\": {\"bytes\": 1}"), "a: expected bytes and sha256"},
        {FILES("\"a\": {\"bytes\": 1, \"sha256\": \"" HASH64 "\", \"mode\": 1}"), "a: expected bytes and sha256"},
        {FILES("\"a\": 1"), "a: expected bytes and sha256"},
        {HEAD "\"files\": [],\n", "files"},
        {HEAD, "files"},
        {HEAD "\"files\": {}, \"more\": 1,\n", "more: unknown"},
        {"{\"format\": \"lorat-checkpoint\", \"version\": 2, \"what\": [],\n", "version: found 2"},
        {"{\"format\": \"lorat-checkpoint\", \"version\": 0, \"step\": 3, \"files\": {},\n", "version"},
        {"{\"format\": \"lorat-checkpoint\", \"version\": 1, \"step\": -3, \"files\": {},\n", "step"},
        {"{\"format\": \"lorat-checkpoint\", \"version\": 1, \"files\": {},\n", "step"},
        {"{\"format\": \"other\", \"version\": 1, \"step\": 3, \"files\": {},\n", "found other"},
        {"{\"version\": 1, \"step\": 3, \"files\": {},\n", "format"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        seal(&b, bad[i].body);
        if (run_manifest_parse(b.data, b.n, "manifest.json", NULL, NULL, &e) == 0) {
            fprintf(stderr, "accepted: %s\n", bad[i].body);
            check_failures++;
        }
        CHECK_INT(e.code, ERR_STATE);
        CHECK_HAS(e.text, bad[i].part);
        CHECK_HAS(e.text, "manifest.json");
    }
    /* The same shape, all fine. */
    struct err e = {0};
    seal(&b, FILES("\"a\": {\"bytes\": 0, \"sha256\": \"" HASH64 "\"}"));
    CHECK_OK(run_manifest_parse(b.data, b.n, "manifest.json", NULL, NULL, &e), &e);
    buf_free(&b);
    CHECK(run_manifest_parse("[]", 2, "manifest.json", NULL, NULL, &e) != 0);
    CHECK(run_manifest_parse("", 0, "manifest.json", NULL, NULL, &e) != 0);
}

static void test_names(void)
{
    int64_t step = -5;
    CHECK_INT(run_name_parse("step-00000012", &step), RUN_NAME_STEP);
    CHECK_INT(step, 12);
    CHECK_INT(run_name_parse("step-123456789012", &step), RUN_NAME_STEP);
    CHECK_INT(step, 123456789012);
    CHECK_INT(run_name_parse("step-00000012.old", &step), RUN_NAME_OLD);
    CHECK_INT(run_name_parse(".tmp-step-00000012-77", NULL), RUN_NAME_TEMPORARY);
    CHECK_INT(run_name_parse(".tmp-drop-00000012-77", NULL), RUN_NAME_TEMPORARY);
    static const char *const foreign[] = {"",
                                          "step-",
                                          "step-1",
                                          "step-0000001",
                                          "step-000000012",
                                          "step-00000012-notes",
                                          "step-00000012.older",
                                          "step-00000012 ",
                                          "step--0000012",
                                          "Step-00000012",
                                          ".tmp-",
                                          ".tmp-mine",
                                          ".tmp-step-00000012",
                                          ".tmp-step-00000012-",
                                          ".tmp-step-00000012-7x",
                                          ".tmp-drop-12-7",
                                          "step-99999999999999999999",
                                          "step-999999999999999999999999999999",
                                          "notes.txt"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        CHECK_INT(run_name_parse(foreign[i], NULL), RUN_NAME_FOREIGN);
}

int main(void)
{
    struct err e = {0};
    struct buf b = {0};
    int64_t step = -1;
    int good = 0;
    struct run_sum sums[] = {{"a \"quoted\" name", 0, {0}}, {"b.bin", 77, {[0] = 0xab, [31] = 7}}};
    CHECK_OK(run_manifest_write(12345678901, sums, 2, &b, &e), &e);
    CHECK_OK(run_manifest_read(b.data, b.n, "m", &step, want, &good, &e), &e);
    CHECK_INT(step, 12345678901);
    CHECK_INT(seen, 2);
    CHECK_INT(good, 1);

    char *copy = malloc(b.n);
    if (copy == NULL)
        return 1;
    for (size_t n = 0; n < b.n; n++) {
        memcpy(copy, b.data, n);
        char *exact = realloc(copy, n > 0 ? n : 1); /* a read past the end is then seen by the sanitizer */
        copy = exact != NULL ? exact : copy;
        CHECK(run_manifest_parse(copy, n, "m", NULL, NULL, &e) != 0);
        copy = realloc(copy, b.n);
        if (copy == NULL)
            return 1;
    }
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        memcpy(copy, b.data, b.n);
        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
        CHECK(run_manifest_parse(copy, b.n, "m", NULL, NULL, &e) != 0);
        CHECK_INT(e.code, ERR_STATE);
    }
    free(copy);
    buf_add(&b, "\n", 1);
    CHECK(run_manifest_parse(b.data, b.n, "m", NULL, NULL, &e) != 0);
    buf_free(&b);
    test_refusals();
    test_names();
    return check_done();
}
