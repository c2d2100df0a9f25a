/* checks.md I1 and I2 for safetensors, files of the Python library, and our own header. */
#include "checkpoints/safetensors.h"

#include "tests/tensors/cases.h"
#include "trainer/base/mem.h"

/* A file: header length (or the given wrong one), header, data_bytes of data. */
static void make(struct buf *b, uint64_t length, const char *header, size_t data_bytes)
{
    put_u64(b, length ? length : strlen(header));
    buf_puts(b, header);
    put_zeros(b, data_bytes);
}

static int open_bytes(const struct buf *b, struct tensor_list *l, struct err *e)
{
    memory_file_is(b->data, b->n);
    return safetensors_open("m.safetensors", l, e);
}

static void refuse_file(const char *name, struct buf *b, const char *message)
{
    if (!cases_written(name, b)) {
        struct tensor_list l = {0};
        struct err e = {0};
        int rc = open_bytes(b, &l, &e);
        if (rc != -1 || e.code != ERR_MODEL)
            fprintf(stderr, "case %s:\n", name);
        CHECK_INT(rc, -1);
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, message);
        CHECK_HAS(e.text, "m.safetensors");
        tensor_list_close(&l);
    }
    buf_free(b);
}

static void refuse(const char *name, const char *header, size_t data_bytes, const char *message)
{
    struct buf b = {0};
    make(&b, 0, header, data_bytes);
    refuse_file(name, &b, message);
}

static void accept(const char *name, const char *header, size_t data_bytes, size_t n_tensors)
{
    struct buf b = {0};
    struct tensor_list l = {0};
    struct err e = {0};
    make(&b, 0, header, data_bytes);
    if (!cases_written(name, &b)) {
        CHECK_OK(open_bytes(&b, &l, &e), &e);
        CHECK_INT(l.n, n_tensors);
    }
    tensor_list_close(&l);
    buf_free(&b);
}

#define F32(name, shape, begin, end) "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void lengths(void)
{
    struct buf b = {0};
    const char *header = "{" F32("a", "[1]", "0", "4") "}";
    make(&b, UINT64_C(1) << 63, header, 4);
    refuse_file("length-2-63", &b, "header length 9223372036854775808, expected at most 100000000");
    make(&b, 1000, header, 4);
    refuse_file("length-past-end", &b, "header length 1000 goes past the end of the file, expected at most");
    put_u64(&b, 0);
    put_zeros(&b, 8);
    refuse_file("length-zero", &b, "header length 0, expected at least 2");
    buf_add(&b, "abc", 3);
    refuse_file("short", &b, "a file of 3 bytes");
    make(&b, strlen(header) - 5, header, 4);
    refuse_file("length-cuts-json", &b, "JSON");
    make(&b, UINT64_MAX, header, 4);
    refuse_file("length-max", &b, "header length 18446744073709551615");
}

static void offsets(void)
{
    refuse("end-past-file", "{" F32("a", "[2]", "0", "8") "}", 4,
           "ends at 8 past the end of the file, expected at most the 4 bytes");
    refuse("begin-after-end", "{" F32("a", "[1]", "4", "0") "}", 4, "begins at 4 and ends at 0, expected begin <= end");
    refuse("negative-offset", "{" F32("a", "[1]", "-4", "0") "}", 4, "data_offsets holds the negative number -4");
    refuse("huge-offset", "{" F32("a", "[1]", "0", "99999999999999999999") "}", 4, "data_offsets holds");
    refuse("real-offset", "{" F32("a", "[1]", "0", "4.0") "}", 4, "expected a whole number");
    refuse("one-offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}}", 4, "expected a list of 2 numbers");
    refuse("overlap", "{" F32("a", "[2]", "0", "8") "," F32("b", "[2]", "4", "12") "}", 12,
           "\"b\" begins at 4, expected 8 or later: it overlaps \"a\"");
    refuse("same-place", "{" F32("a", "[2]", "0", "8") "," F32("b", "[2]", "0", "8") "}", 8, "overlaps");
    refuse("hole", "{" F32("a", "[1]", "0", "4") "," F32("b", "[1]", "8", "12") "}", 12,
           "\"b\" begins at 8, expected 4: there is a hole");
    refuse("hole-first", "{" F32("a", "[1]", "4", "8") "}", 8, "there is a hole");
    refuse("trailing", "{" F32("a", "[1]", "0", "4") "}", 9, "5 trailing bytes");
    refuse("trailing-no-tensor", "{}", 1, "1 trailing bytes");
    refuse("size-mismatch", "{" F32("a", "[3]", "0", "8") "}", 8, "8 bytes of data, expected 12 for shape (3) of F32");
}

static void shapes(void)
{
    refuse("negative-shape", "{" F32("a", "[-1]", "0", "4") "}", 4, "shape holds the negative number -1");
    refuse("overflow", "{" F32("a", "[4294967296,4294967296,2]", "0", "4") "}", 4, "product of its shape overflows");
    refuse("overflow-int64", "{" F32("a", "[9223372036854775807,2]", "0", "4") "}", 4, "product of its shape overflows");
    refuse("overflow-bits", "{" F32("a", "[4611686018427387904]", "0", "4") "}", 4, "its size overflows");
    refuse("overflow-zero", "{" F32("a", "[9223372036854775807,3,0]", "0", "0") "}", 0, "overflows");
    refuse("zero-overflow", "{" F32("a", "[0,9223372036854775807,3]", "0", "0") "}", 0, "overflows");
    refuse("rank-9", "{" F32("a", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "rank 9, expected at most 8");
    refuse("shape-text", "{" F32("a", "\"x\"", "0", "4") "}", 4, "shape is");
    refuse("shape-null", "{" F32("a", "[null]", "0", "4") "}", 4, "shape holds");
    refuse("no-shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is");
}

static void fields(void)
{
    refuse("unknown-dtype", "{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype \"F99\"");
    refuse("dtype-number", "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is");
    refuse("no-dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is");
    refuse("extra-field", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"scale\":2}}", 4,
           "unknown field \"scale\"");
    refuse("duplicate-name", "{" F32("a", "[1]", "0", "4") "," F32("a", "[1]", "4", "8") "}", 8, "duplicate");
    refuse("empty-name", "{" F32("", "[1]", "0", "4") "}", 4, "empty name");
    refuse("control-name", "{" F32("a\\u001b[2J", "[1]", "0", "4") "}", 4, "tensor \"a?[2J\": a control character (0x1b)");
    refuse("not-object", "[1,2]", 4, "does not begin with '{'");
    refuse("leading-space", " {}", 0, "does not begin with '{'");
    refuse("tensor-not-object", "{\"a\":3}", 4, "tensor \"a\" is");
    refuse("cut-json", "{\"a\":{\"dtype\":\"F32\",\"sha", 4, "JSON");
    refuse("behind-json", "{} x", 4, "JSON");
    refuse("deep", "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 4, "JSON");
    refuse("metadata-list", "{\"__metadata__\":[]}", 0, "__metadata__ is");
    refuse("metadata-number", "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: \"a\" is");
    refuse("f4-odd", "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "1 bytes of data");
}

static void good(void)
{
    accept("empty", "{}", 0, 0);
    accept("padded", "{}        ", 0, 0);
    accept("scalar", "{" F32("a", "[]", "0", "4") "}", 4, 1);
    accept("out-of-order", "{" F32("b", "[1]", "4", "8") "," F32("a", "[1]", "0", "4") "}", 8, 2);
    accept("nothing-in-it", "{" F32("a", "[0]", "0", "0") "," F32("b", "[1]", "0", "4") "}", 4, 2);
    accept("f8", "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, 1);
    accept("f4", "{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, 1);
    accept("utf8-name", "{" F32("gr\xc3\xbc\xc3\x9f", "[1]", "0", "4") "}", 4, 1);
}

static void truncation(void)
{
    struct buf b = {0};
    make(&b, 0, "{" F32("a", "[2,2]", "0", "16") "," F32("b", "[1]", "16", "20") "}", 20);
    for (size_t n = 0; n < b.n; n++) {
        struct tensor_list l = {0};
        struct err e = {0};
        memory_file_is(b.data, n);
        CHECK_INT(safetensors_open("m.safetensors", &l, &e), -1);
        CHECK(e.text[0] != '\0');
        tensor_list_close(&l);
    }
    buf_free(&b);
}

/* tests/golden/make_dequant.py wrote it with the Python library. */
static void from_python(void)
{
    struct tensor_list l = {0};
    struct err e = {0};
    const struct tensor *t;
    float x[12];
    bf16 h[12];
    io = &io_libc;
    CHECK_OK(safetensors_open("tests/golden/tensors/small.safetensors", &l, &e), &e);
    CHECK_INT(l.n, 6);
    CHECK_OK(tensor_require(&l, "a.f32", 2, (int64_t[]){3, 4}, &t, &e), &e);
    CHECK_OK(tensor_read(&l, t, 0, 3, DT_F32, x, &e), &e);
    for (int i = 0; i < 12; i++)
        CHECK_NEAR(x[i], i / 8.0, 0);
    CHECK_OK(tensor_require(&l, "b.f16", 2, (int64_t[]){3, 4}, &t, &e), &e);
    CHECK_OK(tensor_read(&l, t, 1, 2, DT_BF16, h, &e), &e);
    for (int i = 0; i < 8; i++)
        CHECK_NEAR(bf16_to_f32(h[i]), (i + 4) / 8.0, 0);
    CHECK((t = tensor_find(&l, "d.scalar")) != NULL);
    CHECK_OK(tensor_read(&l, t, 0, 1, DT_F32, x, &e), &e);
    CHECK_NEAR(x[0], 7, 0);
    CHECK((t = tensor_find(&l, "c.i64")) != NULL);
    CHECK_INT(t->type, TT_OTHER);
    CHECK_STR(t->type_text, "I64");
    CHECK_INT(t->bytes, 24);
    CHECK_INT(tensor_read(&l, t, 0, 3, DT_F32, x, &e), -1);
    CHECK_HAS(e.text, "tensor \"c.i64\" is stored as I64, expected F32");
    CHECK((t = tensor_find(&l, "e.empty")) != NULL);
    CHECK_OK(tensor_read(&l, t, 0, 0, DT_F32, x, &e), &e);
    CHECK_INT(tensor_require(&l, "a.f32", 2, (int64_t[]){4, 3}, &t, &e), -1);
    CHECK_STR(e.text, "tests/golden/tensors/small.safetensors: tensor \"a.f32\" has shape (3, 4), expected (4, 3)");
    CHECK_INT(tensor_require(&l, "z", 1, (int64_t[]){4}, &t, &e), -1);
    CHECK_HAS(e.text, "tensor \"z\" is missing, expected it with shape (4)");
    CHECK_INT(safetensors_open("tests/golden/tensors/small.safetensors", &l, &e), -1); /* as a second shard */
    CHECK_HAS(e.text, "is also in tests/golden/tensors/small.safetensors");
    tensor_list_close(&l);
    CHECK_INT(safetensors_open("tests/golden/tensors/absent.safetensors", &l, &e), -1);
    CHECK_HAS(e.text, "absent.safetensors: not found");
    tensor_list_close(&l);
}

static void own_header(void)
{
    struct tensor out[] = {
        {.name = "x.weight", .type = TT_F32, .rank = 2, .shape = {2, 3}},
        {.name = "quo\"te", .type = TT_BF16, .rank = 1, .shape = {5}},
        {.name = "scalar", .type = TT_F16},
        {.name = "none", .type = TT_F32, .rank = 2, .shape = {0, 7}},
    };
    struct buf b = {0};
    struct tensor_list l = {0};
    struct err e = {0};
    uint64_t length;
    buf_puts(&b, "before");
    CHECK_OK(safetensors_header(out, 4, &b, &e), &e);
    memcpy(&length, b.data + 6, 8);
    CHECK_INT(length, b.n - 6 - 8);
    CHECK_INT(length % 8, 0);
    CHECK_INT(out[1].offset, 24);
    CHECK_INT(out[2].offset, 34);
    CHECK_OK(safetensors_parse(b.data + 6 + 8, (size_t)length, 36, "own", &l, &e), &e);
    CHECK_INT(l.n, 4);
    for (size_t i = 0; i < l.n && i < 4; i++) {
        CHECK_STR(l.tensors[i].name, out[i].name);
        CHECK_INT(l.tensors[i].type, out[i].type);
        CHECK_INT(l.tensors[i].offset, out[i].offset);
        CHECK_INT(l.tensors[i].bytes, out[i].bytes);
        CHECK(memcmp(l.tensors[i].shape, out[i].shape, sizeof out[i].shape) == 0);
    }
    CHECK_INT(tensor_read(&l, &l.tensors[0], 0, 2, DT_F32, b.data, &e), -1); /* from memory: there is no file to read */
    CHECK_INT(e.code, ERR_INTERNAL);
    tensor_list_close(&l);
    struct tensor wrong = {.name = "q", .type = TT_Q4_0, .rank = 1, .shape = {32}};
    CHECK_INT(safetensors_header(&wrong, 1, &b, &e), -1);
    struct tensor huge = {.name = "h", .type = TT_F32, .rank = 2, .shape = {INT64_MAX, 2}};
    CHECK_INT(safetensors_header(&huge, 1, &b, &e), -1);
    buf_free(&b);
}

/* Fail each allocation in turn: an error, no leak (the sanitizer build sees it), no crash. */
static void allocations(void)
{
    struct err e = {0};
    struct buf b = {0};
    make(&b, 0, "{" F32("a", "[2,2]", "0", "16") "," F32("b", "[1]", "16", "20") "}", 20);
    for (int64_t n = 1;; n++) {
        struct tensor_list l = {0};
        mem_fail_at(n);
        int rc = open_bytes(&b, &l, &e);
        mem_fail_at(0);
        tensor_list_close(&l);
        if (rc == 0) {
            CHECK(n > 5);
            break;
        }
        CHECK(n < 100);
        if (n >= 100)
            break;
    }
    buf_free(&b);
}

int main(int argc, char **argv)
{
    cases_init(argc, argv);
    lengths();
    offsets();
    shapes();
    fields();
    good();
    if (cases_folder == NULL) {
        truncation();
        from_python();
        own_header();
        allocations();
    }
    return check_done();
}
