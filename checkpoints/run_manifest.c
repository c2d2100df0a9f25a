#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/run.h"
#include "checkpoints/run_folder.h"
#include "trainer/base/hash.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

/* The manifest ends with these bytes around 64 hex digits: the SHA-256 of everything before them (all lines but the last two). */
static const char tail_head[] = "  \"sha256\": \"", tail_end[] = "\"\n}\n";
enum {
    TAIL_HEAD = sizeof tail_head - 1,
    TAIL_HEX = HASH_HEX - 1,
    TAIL_END = sizeof tail_end - 1,
    TAIL = TAIL_HEAD + TAIL_HEX + TAIL_END
};

int run_manifest_write(int64_t step, const struct run_sum *files, size_t n, struct buf *b, struct err *e)
{
    char hex[HASH_HEX];
    uint8_t own[HASH_BYTES];
    size_t from = b->n;
    buf_printf(b, "{\n  \"format\": \"lorat-checkpoint\",\n  \"version\": %d,\n  \"step\": %" PRId64 ",\n  \"files\": {",
               RUN_MANIFEST_VERSION, step);
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, i == 0 ? "\n    " : ",\n    ");
        json_put_string(b, files[i].name, strlen(files[i].name));
        buf_printf(b, ": {\"bytes\": %" PRIu64 ", \"sha256\": \"%s\"}", files[i].bytes, hash_hex(files[i].hash, hex));
    }
    buf_puts(b, "\n  },\n");
    if (!b->failed) {
        hash_bytes(b->data + from, b->n - from, own);
        buf_printf(b, "%s%s%s", tail_head, hash_hex(own, hex), tail_end);
    }
    if (b->failed)
        return mem_fail(e, RUN_MANIFEST, b->n);
    if (b->n - from > RUN_MANIFEST_MAX)
        FAIL(e, ERR_INTERNAL, "%s: %zu bytes, expected at most %d. Use fewer files", RUN_MANIFEST, b->n - from, RUN_MANIFEST_MAX);
    return 0;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static bool hex_parse(const char *text, size_t n, uint8_t hash[HASH_BYTES])
{
    if (text == NULL || n != TAIL_HEX)
        return false;
    for (int i = 0; i < HASH_BYTES; i++) {
        int hi = hex_digit(text[2 * i]), lo = hex_digit(text[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        hash[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static int check_own_sum(const char *bytes, size_t n, const char *where, struct err *e)
{
    uint8_t said[HASH_BYTES], found[HASH_BYTES];
    const char *tail = bytes + n - TAIL;
    if (n < TAIL || memcmp(tail, tail_head, TAIL_HEAD) != 0 || memcmp(bytes + n - TAIL_END, tail_end, TAIL_END) != 0 ||
        !hex_parse(tail + TAIL_HEAD, TAIL_HEX, said))
        FAIL(e, ERR_STATE,
             "%s: does not end with its own checksum, expected the two last lines that lorat writes. Use another checkpoint",
             where);
    hash_bytes(bytes, n - TAIL, found);
    if (memcmp(said, found, HASH_BYTES) != 0)
        FAIL(e, ERR_STATE, "%s: its own checksum differs, expected an unchanged file. Use another checkpoint", where);
    return 0;
}

static int check_file(const char *where, void *it, run_manifest_want *want, void *arg, struct err *e)
{
    const char *name = json_key(it);
    const struct json *file = json_value(it), *bytes = json_get(file, "bytes");
    size_t n_hex = 0;
    const char *hex = json_string(json_get(file, "sha256"), &n_hex);
    int64_t size;
    uint8_t hash[HASH_BYTES];
    if (!run_name_is_plain(name) || strcmp(name, RUN_MANIFEST) == 0)
        FAIL(e, ERR_STATE, "%s: files: found the name \"%.300s\", expected a plain file name. Use another checkpoint", where,
             name);
    if (json_kind(file) != JSON_OBJECT || json_length(file) != 2)
        FAIL(e, ERR_STATE, "%s: files: %s: expected bytes and sha256 and nothing else. Use another checkpoint", where, name);
    if (json_kind(bytes) != JSON_INT || !json_i64(bytes, &size) || size < 0)
        FAIL(e, ERR_STATE, "%s: files: %s: bytes: expected a whole number from 0 on. Use another checkpoint", where, name);
    if (!hex_parse(hex, n_hex, hash))
        FAIL(e, ERR_STATE, "%s: files: %s: sha256: expected 64 lower-case hex digits. Use another checkpoint", where, name);
    return want == NULL ? 0 : want(arg, name, (uint64_t)size, hash, e);
}

static int check_head(const struct json *root, const char *where, struct err *e)
{
    const char *format = json_string(json_get(root, "format"), NULL);
    int64_t version = 0;
    if (json_kind(root) != JSON_OBJECT || format == NULL || strcmp(format, "lorat-checkpoint") != 0)
        FAIL(e, ERR_STATE, "%s: format: found %.64s, expected lorat-checkpoint. Use another checkpoint", where,
             format != NULL ? format : json_kind_name(json_kind(json_get(root, "format"))));
    if (json_kind(json_get(root, "version")) != JSON_INT || !json_i64(json_get(root, "version"), &version) || version < 1)
        FAIL(e, ERR_STATE, "%s: version: expected a whole number from 1 on. Use another checkpoint", where);
    if (version > RUN_MANIFEST_VERSION)
        FAIL(e, ERR_STATE, "%s: version: found %" PRId64 ", expected at most %d. Use the newer lorat that wrote it", where,
             version, RUN_MANIFEST_VERSION);
    return 0;
}

static int check_root(const struct json *root, const char *bytes, size_t n, const char *where, int64_t *step,
                      run_manifest_want *want, void *arg, struct err *e)
{
    static const char *const known[] = {"format", "version", "step", "files", "sha256"};
    TRY(check_head(root, where, e));
    TRY(check_own_sum(bytes, n, where, e));
    if (json_kind(json_get(root, "step")) != JSON_INT || !json_i64(json_get(root, "step"), step) || *step < 0)
        FAIL(e, ERR_STATE, "%s: step: expected a whole number from 0 on. Use another checkpoint", where);
    for (void *it = json_first(root); it != NULL; it = json_next(root, it)) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(known[k], json_key(it)) != 0)
            k++;
        if (k == sizeof known / sizeof *known)
            FAIL(e, ERR_STATE, "%s: %.64s: unknown in version %d. Use another checkpoint", where, json_key(it),
                 RUN_MANIFEST_VERSION);
    }
    const struct json *files = json_get(root, "files");
    if (json_kind(files) != JSON_OBJECT)
        FAIL(e, ERR_STATE, "%s: files: expected names with bytes and sha256. Use another checkpoint", where);
    for (void *it = json_first(files); it != NULL; it = json_next(files, it))
        TRY(check_file(where, it, want, arg, e));
    return 0;
}

int run_manifest_read(const char *bytes, size_t n, const char *where, int64_t *step, run_manifest_want *want, void *arg,
                      struct err *e)
{
    struct json *root = NULL;
    if (n > RUN_MANIFEST_MAX)
        FAIL(e, ERR_STATE, "%s: %zu bytes, expected at most %d. Use another checkpoint", where, n, RUN_MANIFEST_MAX);
    TRY(json_parse(bytes, n, where, ERR_STATE, &root, e));
    int rc = check_root(root, bytes, n, where, step, want, arg, e);
    json_free(root);
    return rc;
}

int run_manifest_parse(const char *bytes, size_t n, const char *where, run_manifest_want *want, void *arg, struct err *e)
{
    int64_t step;
    return run_manifest_read(bytes, n, where, &step, want, arg, e);
}
