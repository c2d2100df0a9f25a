/* checks.md I1 and I2 for GGUF, and the typed getters. */
#include "checkpoints/gguf.h"

#include "tests/tensors/cases.h"
#include "trainer/base/mem.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static struct buf b; /* the file being made; each case leaves it empty */

static void put_string(const char *s)
{
    put_u64(&b, strlen(s));
    buf_puts(&b, s);
}
static void head(uint64_t n_tensors, uint64_t n_pairs)
{
    buf_puts(&b, "GGUF");
    put_u32(&b, 3);
    put_u64(&b, n_tensors);
    put_u64(&b, n_pairs);
}
static void key(const char *name, uint32_t type)
{
    put_string(name);
    put_u32(&b, type);
}
static void key_u32(const char *name, uint32_t v)
{
    key(name, U32);
    put_u32(&b, v);
}
static void array(const char *name, uint32_t element, uint64_t n)
{
    key(name, ARRAY);
    put_u32(&b, element);
    put_u64(&b, n);
}
/* A one-dimensional tensor's entry. */
static void tensor(const char *name, uint64_t n, uint32_t type, uint64_t offset)
{
    put_string(name);
    put_u32(&b, 1);
    put_u64(&b, n);
    put_u32(&b, type);
    put_u64(&b, offset);
}
static void data(size_t n) /* from the next multiple of 32 on */ { put_zeros(&b, (32 - b.n % 32) % 32 + n); }

static void refuse(const char *name, const char *message)
{
    if (!cases_written(name, &b)) {
        struct tensor_list l = {0};
        struct gguf *g = NULL;
        struct err e = {0};
        memory_file_is(b.data, b.n);
        int rc = gguf_open("m.gguf", &g, &l, &e);
        if (rc != -1 || e.code != ERR_MODEL || strstr(e.text, message) == NULL)
            fprintf(stderr, "case %s:\n", name);
        CHECK_INT(rc, -1);
        CHECK(g == NULL);
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, message);
        CHECK_HAS(e.text, "m.gguf: ");
        gguf_close(g);
        tensor_list_close(&l);
    }
    buf_free(&b);
}

static void accept(const char *name, size_t n_tensors)
{
    if (!cases_written(name, &b)) {
        struct tensor_list l = {0};
        struct gguf *g = NULL;
        struct err e = {0};
        memory_file_is(b.data, b.n);
        CHECK_OK(gguf_open("m.gguf", &g, &l, &e), &e);
        CHECK_INT(l.n, n_tensors);
        gguf_close(g);
        tensor_list_close(&l);
    }
    buf_free(&b);
}

static void heads(void)
{
    buf_puts(&b, "GGUF");
    refuse("short", "a file of 4 bytes, expected a GGUF file of at least 24");
    buf_puts(&b, "PK\3\4");
    put_zeros(&b, 40);
    refuse("magic", "begins with \"PK??\", expected \"GGUF\"");
    for (uint32_t version = 0; version <= 4; version++) {
        if (version == 2 || version == 3)
            continue;
        char name[32], message[64];
        snprintf(name, sizeof name, "version-%u", version);
        snprintf(message, sizeof message, "GGUF version %u, expected 2 or 3", version);
        buf_puts(&b, "GGUF");
        put_u32(&b, version);
        put_zeros(&b, 16);
        refuse(name, message);
    }
    buf_puts(&b, "GGUF");
    put_u32(&b, 0x03000000);
    put_zeros(&b, 16);
    refuse("big-endian", "a big-endian GGUF file");
    head(UINT64_C(1) << 63, 0);
    refuse("tensor-count", "tensor count 9223372036854775808, expected at most 0 in a file of 24 bytes");
    head(0, UINT64_MAX);
    put_zeros(&b, 130);
    refuse("metadata-count", "metadata count 18446744073709551615, expected at most 10 in a file of 154 bytes");
    head(0, 2);
    key_u32("a", 1);
    refuse("metadata-missing", "metadata");
}

static void pairs(void)
{
    head(0, 1);
    put_u64(&b, UINT64_MAX - 3);
    put_zeros(&b, 20);
    refuse("key-length", "a metadata key at offset 32 takes 18446744073709551612 bytes, expected at most the 20 left");
    head(0, 1);
    key("a", STRING);
    put_u64(&b, 1000);
    put_zeros(&b, 20);
    refuse("string-length", "a metadata string at offset 45 takes 1000 bytes, expected at most the 20 left");
    head(0, 1);
    key("a", 13);
    put_zeros(&b, 20);
    refuse("value-type", "metadata key \"a\": unknown value type 13, expected 0 to 12");
    head(0, 1);
    key("", U32);
    put_u32(&b, 1);
    put_u32(&b, 1);
    refuse("empty-key", "an empty metadata key");
    head(0, 1);
    array("a", F64, UINT64_C(1) << 61);
    put_zeros(&b, 16);
    refuse("array-length", "metadata key \"a\": array length 2305843009213693952, expected at most 2 in the 16 bytes left");
    head(0, 1);
    array("a", STRING, 3);
    put_zeros(&b, 16);
    refuse("array-strings", "array length 3, expected at most 2");
    head(0, 1);
    array("a", STRING, 2);
    put_u64(&b, 9);
    put_zeros(&b, 16);
    refuse("array-string-length", "a string of an array");
    head(0, 1);
    array("a", ARRAY, 1);
    put_u32(&b, U8);
    put_u64(&b, 0);
    refuse("nested-array", "an array of arrays (nested)");
    head(0, 1);
    array("a", 99, 1);
    put_zeros(&b, 16);
    refuse("array-type", "metadata key \"a\": array of unknown value type 99");
    head(0, 1);
    key("a", BOOL);
    buf_add(&b, "\2", 1);
    refuse("bool", "metadata key \"a\": truth value 2, expected 0 or 1");
    head(0, 1);
    array("a", BOOL, 3);
    buf_add(&b, "\0\1\377", 3);
    refuse("bool-array", "truth value 255");
    head(0, 2);
    key_u32("twice", 1);
    key_u32("twice", 1);
    refuse("duplicate-key", "metadata key \"twice\" is there twice");
    head(0, 1);
    key("a\033[2J", 77);
    put_zeros(&b, 8);
    refuse("key-control", "metadata key \"a?[2J\"");
}

static void special_keys(void)
{
    static const uint32_t bad[] = {0, 1, 4, 48, 3000000000u};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "alignment-%u", bad[i]);
        head(0, 1);
        key_u32("general.alignment", bad[i]);
        refuse(name, "general.alignment is");
    }
    head(0, 1);
    key("general.alignment", STRING);
    put_string("32");
    refuse("alignment-text", "general.alignment is not an integer");
    head(0, 1);
    key("split.count", U16);
    buf_add(&b, "\3\0", 2);
    refuse("split", "one of 3 parts of a split GGUF model (split.count)");
    head(0, 1);
    key("split.count", U16);
    buf_add(&b, "\1\0", 2);
    accept("split-of-one", 0);
    head(1, 1);
    key_u32("general.alignment", 64);
    tensor("t", 4, 0, 0);
    put_zeros(&b, (64 - b.n % 64) % 64 + 16);
    accept("alignment-64", 1);
}

static void tensors(void)
{
    head(1, 0);
    tensor("t", 5, 0, 0);
    data(19);
    refuse("past-end", "tensor \"t\": 20 bytes at 64 end past the file, expected them within its 83 bytes");
    head(1, 0);
    tensor("t", 4, 0, UINT64_MAX - 31);
    data(16);
    refuse("offset-overflow", "end past the file");
    head(1, 0);
    tensor("t", 4, 0, 8);
    data(64);
    refuse("unaligned", "tensor \"t\": offset 8, expected a multiple of the alignment 32");
    head(2, 0);
    tensor("t", 16, 0, 0);
    tensor("u", 4, 0, 32);
    data(128);
    refuse("overlap", "tensor \"u\" begins at 128, expected 160 or later: it overlaps \"t\"");
    head(2, 0);
    tensor("t", 8, 0, 0);
    tensor("t", 4, 0, 32);
    data(128);
    refuse("duplicate-tensor", "tensor \"t\" is there twice");
    head(1, 0);
    tensor("t", 4, 4, 0);
    data(16);
    refuse("removed-type", "unknown tensor type 4");
    head(1, 0);
    tensor("t", 4, 4000000000u, 0);
    data(16);
    refuse("tensor-type", "unknown tensor type 4000000000");
    head(1, 0);
    tensor("t", 31, 3, 0);
    data(64);
    refuse("part-block", "31 elements a row, expected a multiple of 32 for Q4_1");
    head(1, 0);
    tensor("t", UINT64_C(1) << 63, 0, 0);
    data(16);
    refuse("negative-size", "overflows, expected fewer than 2^63 elements");
    head(1, 0);
    tensor("t", UINT64_C(1) << 62, 0, 0);
    data(16);
    refuse("size-overflow", "its size overflows");
    head(1, 0);
    tensor("", 4, 0, 0);
    data(16);
    refuse("empty-name", "a tensor with an empty name");
    head(1, 0);
    put_u64(&b, 2);
    buf_add(&b, "a\0", 2);
    put_u32(&b, 0);
    put_u32(&b, 0);
    put_u64(&b, 0);
    data(16);
    refuse("nul-in-name", "a control character (0x00)");
    head(1, 0);
    put_u64(&b, 1 << 20);
    put_zeros(&b, 32);
    refuse("name-length", "a tensor's name at offset 32 takes 1048576 bytes");
}

static void ranks(void)
{
    head(1, 0);
    put_string("t");
    put_u32(&b, 5);
    for (int i = 0; i < 5; i++)
        put_u64(&b, 1);
    put_u32(&b, 0);
    put_u64(&b, 0);
    data(16);
    refuse("rank-5", "tensor \"t\": rank 5, expected at most 4");
    head(1, 0);
    put_string("t");
    put_u32(&b, 4000000000u);
    put_zeros(&b, 64);
    refuse("rank-huge", "rank 4000000000");
    head(1, 0);
    put_string("t");
    put_u32(&b, 3);
    put_u64(&b, UINT64_C(1) << 32);
    put_u64(&b, UINT64_C(1) << 32);
    put_u64(&b, 2);
    put_u32(&b, 0);
    put_u64(&b, 0);
    data(16);
    refuse("product-overflow", "in dimension 1 overflows");
    head(1, 0);
    put_string("t");
    put_u32(&b, 3);
    put_u64(&b, 0); /* nothing in it, but the other two overflow when they are multiplied first */
    put_u64(&b, UINT64_C(1) << 40);
    put_u64(&b, UINT64_C(1) << 40);
    put_u32(&b, 0);
    put_u64(&b, 0);
    data(16);
    refuse("zero-overflow", "in dimension 2 overflows");
    head(1, 0);
    put_string("t");
    put_u32(&b, 0);
    put_u32(&b, 0);
    put_u64(&b, 0);
    data(4);
    accept("scalar", 1);
    head(0, 0);
    accept("nothing", 0);
}

/* Known types that are not read: their size still guards against overlap. */
static void other_types(void)
{
    head(2, 0);
    tensor("k", 256, 12, 0);
    tensor("f", 8, 0, 128); /* Q4_K: 144 bytes for 256 elements */
    data(256);
    refuse("overlap-q4-k", "overlaps \"k\"");
    head(2, 0);
    tensor("k", 256, 12, 0);
    tensor("f", 8, 0, 160);
    data(192);
    accept("q4-k", 2);
}

static size_t make_good(void) /* returns where the tables end */
{
    head(2, 8);
    key("u64.large", U64);
    put_u64(&b, UINT64_MAX);
    key("i8", I8);
    buf_add(&b, "\376", 1);
    key("bool", BOOL);
    buf_add(&b, "\1", 1);
    key("f32", F32);
    put_u32(&b, 0x3e800000);
    key("text", STRING);
    put_string("abc");
    array("strings", STRING, 3);
    put_string("x");
    put_string("");
    put_string("zz");
    array("i16s", I16, 2);
    buf_add(&b, "\1\0\377\377", 4);
    array("f64s", F64, 1);
    put_u64(&b, 0x3fb999999999999a);
    put_string("w");
    put_u32(&b, 2);
    put_u64(&b, 32); /* innermost first: shape (2, 32) */
    put_u64(&b, 2);
    put_u32(&b, 3);
    put_u64(&b, 0);
    tensor("n", 3, 0, 64);
    size_t tables = b.n;
    data(76);
    return tables;
}

static void check_getters(const struct gguf *g)
{
    int64_t i = 7;
    double f = 7;
    bool yes = false;
    size_t n = 7;
    CHECK(gguf_has(g, "i8") && !gguf_has(g, "i") && !gguf_has(g, "i88") && !gguf_has(g, ""));
    CHECK(!gguf_i64(g, "u64.large", &i));
    CHECK(gguf_i64(g, "i8", &i) && i == -2);
    CHECK(!gguf_i64(g, "f32", &i) && !gguf_i64(g, "bool", &i) && !gguf_i64(g, "text", &i) && !gguf_i64(g, "i16s", &i));
    CHECK(gguf_f64(g, "f32", &f) && f == 0.25);
    CHECK(!gguf_f64(g, "i8", &f));
    CHECK(gguf_bool(g, "bool", &yes) && yes);
    CHECK(!gguf_bool(g, "i8", &yes));
    const char *s = gguf_string(g, "text", &n);
    CHECK(s != NULL && n == 3 && memcmp(s, "abc", 3) == 0);
    CHECK(gguf_string(g, "strings", &n) == NULL && gguf_string(g, "none", &n) == NULL);
    CHECK_INT(gguf_array_length(g, "strings"), 3);
    CHECK_INT(gguf_array_length(g, "text"), 0);
    s = gguf_array_string(g, "strings", 2, &n);
    CHECK(s != NULL && n == 2 && memcmp(s, "zz", 2) == 0);
    CHECK(gguf_array_string(g, "strings", 1, &n) != NULL && n == 0);
    CHECK(gguf_array_string(g, "strings", 3, &n) == NULL && gguf_array_string(g, "i16s", 0, &n) == NULL);
    CHECK(gguf_array_i64(g, "i16s", 1, &i) && i == -1);
    CHECK(!gguf_array_i64(g, "i16s", 2, &i) && !gguf_array_i64(g, "strings", 0, &i) && !gguf_array_i64(g, "f64s", 0, &i));
    CHECK(gguf_array_f64(g, "f64s", 0, &f) && f == 0.1);
    CHECK(!gguf_array_f64(g, "i16s", 0, &f));
}

static void good(void)
{
    struct gguf *g = NULL;
    struct tensor_list l = {0};
    struct err e = {0};
    make_good();
    if (!cases_written("good", &b)) {
        CHECK_OK(gguf_parse(b.data, b.n, b.n, "good", &g, &l, &e), &e);
        check_getters(g);
        CHECK_INT(l.n, 2);
        const struct tensor *t = tensor_find(&l, "w");
        CHECK(t != NULL && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 32 && t->type == TT_Q4_1 && t->bytes == 40);
        CHECK(t != NULL && t->offset == b.n - 76);
        gguf_close(g);
        tensor_list_close(&l);
    }
    buf_free(&b);
}

/* A file cut anywhere is refused; of a whole file, the bytes up to the end of the tables are enough, and no fewer. */
static void truncation(void)
{
    size_t tables = make_good();
    for (size_t n = 0; n < b.n; n++) {
        struct gguf *g = NULL;
        struct tensor_list l = {0};
        struct err e = {0};
        memory_file_is(b.data, n);
        CHECK_INT(gguf_open("m.gguf", &g, &l, &e), -1);
        CHECK(e.text[0] != '\0');
        tensor_list_close(&l);
        CHECK_INT(gguf_parse(b.data, n, b.n, "m.gguf", &g, &l, &e), n < tables ? -1 : 0);
        gguf_close(g);
        tensor_list_close(&l);
    }
    buf_free(&b);
}

/* Metadata larger than the first read: more is read, once, and the table behind it is found. */
static void large(void)
{
    enum { N = 700000 };
    struct gguf *g = NULL;
    struct tensor_list l = {0};
    struct err e = {0};
    size_t n = 0;
    head(1, 2);
    array("tokens", STRING, N);
    for (int i = 0; i < N; i++)
        put_string(i % 2 ? "odd" : "even token");
    array("scores", F32, N);
    put_zeros(&b, (size_t)N * 4);
    tensor("t", 4, 0, 0);
    data(16);
    memory_file_is(b.data, b.n);
    CHECK_OK(gguf_open("m.gguf", &g, &l, &e), &e);
    CHECK_INT(l.n, 1);
    CHECK_INT(l.n_files, 1);
    if (g != NULL) {
        CHECK_INT(gguf_array_length(g, "tokens"), N);
        CHECK(gguf_array_string(g, "tokens", N - 1, &n) != NULL && n == 3);
    }
    gguf_close(g);
    tensor_list_close(&l);
    buf_free(&b);
}

/* Many keys: the check for duplicates does not become quadratic (this would take minutes). */
static void many(void)
{
    enum { N = 200000 };
    char name[32];
    struct gguf *g = NULL;
    struct tensor_list l = {0};
    struct err e = {0};
    head(N, N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        key_u32(name, (uint32_t)i);
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d", i);
        tensor(name, 0, 0, 0);
    }
    data(0);
    CHECK_OK(gguf_parse(b.data, b.n, b.n, "many", &g, &l, &e), &e);
    int64_t v;
    CHECK(g != NULL && gguf_i64(g, "key.199999", &v) && v == 199999);
    CHECK(tensor_find(&l, "blk.123456") != NULL && tensor_find(&l, "blk.200000") == NULL);
    gguf_close(g);
    tensor_list_close(&l);
    buf_free(&b);
}

static void allocations(void)
{
    make_good();
    for (int64_t n = 1; n < 200; n++) {
        struct gguf *g = NULL;
        struct tensor_list l = {0};
        struct err e = {0};
        memory_file_is(b.data, b.n);
        mem_fail_at(n);
        int rc = gguf_open("m.gguf", &g, &l, &e);
        mem_fail_at(0);
        gguf_close(g);
        tensor_list_close(&l);
        CHECK(rc != 0 || n > 10);
        if (rc == 0)
            break;
        CHECK(n < 199);
    }
    buf_free(&b);
}

int main(int argc, char **argv)
{
    cases_init(argc, argv);
    heads();
    pairs();
    special_keys();
    tensors();
    ranks();
    other_types();
    good();
    if (cases_folder == NULL) {
        truncation();
        large();
        many();
        allocations();
    }
    return check_done();
}
