#include "trainer/base/json.h"

#include "tests/check.h"
#include "trainer/base/mem.h"

static struct err e;

static struct json *parse(const char *text)
{
    struct json *root = NULL;
    e = (struct err){0};
    json_parse(text, strlen(text), "x.json", ERR_MODEL, &root, &e);
    return root;
}

static void test_tree(void)
{
    struct json *root =
        parse("{\"b\": [1, 2.5, -3.0, \"t\\u0000x\", null, true], \"a\": {\"\\u00e4\": 9007199254740993}, \"c\": 1e30}");
    const struct json *list = json_get(root, "b");
    int64_t i = 0;
    double d = 0;
    bool flag = false;
    size_t n = 0;
    CHECK_INT(json_kind(root), JSON_OBJECT);
    CHECK_INT(json_length(root), 3);
    CHECK_INT(json_kind(list), JSON_ARRAY);
    CHECK_INT(json_length(list), 6);
    CHECK(json_i64(json_at(list, 0), &i) && i == 1);
    CHECK(!json_i64(json_at(list, 1), &i));
    CHECK(json_f64(json_at(list, 1), &d) && d == 2.5);
    CHECK(json_f64(json_at(list, 0), &d) && d == 1);
    CHECK(json_i64(json_at(list, 2), &i) && i == -3);
    CHECK(memcmp(json_string(json_at(list, 3), &n), "t\0x", 4) == 0);
    CHECK_INT(n, 3);
    CHECK_INT(json_kind(json_at(list, 4)), JSON_NULL);
    CHECK(json_bool(json_at(list, 5), &flag) && flag);
    CHECK(json_at(list, 6) == NULL);
    CHECK(json_i64(json_get(json_get(root, "a"), "\xc3\xa4"), &i) && i == INT64_C(9007199254740993));
    CHECK(!json_i64(json_get(root, "c"), &i));

    const char *const order[] = {"b", "a", "c"};
    size_t k = 0;
    for (void *it = json_first(root); it != NULL; it = json_next(root, it), k++) {
        CHECK_STR(json_key(it), order[k]);
        CHECK(json_value(it) == json_get(root, order[k]));
    }
    CHECK_INT(k, 3);

    /* Absent is legal everywhere, and the wrong kind is absent. */
    CHECK_INT(json_kind(NULL), JSON_ABSENT);
    CHECK(json_get(NULL, "x") == NULL && json_get(list, "x") == NULL && json_at(root, 0) == NULL && json_at(NULL, 0) == NULL);
    CHECK(json_string(NULL, &n) == NULL && json_string(list, NULL) == NULL);
    CHECK(!json_i64(NULL, &i) && !json_f64(NULL, &d) && !json_bool(NULL, &flag) && !json_bool(json_at(list, 0), &flag));
    CHECK(json_first(NULL) == NULL && json_first(list) == NULL && json_next(NULL, NULL) == NULL);
    CHECK_INT(json_length(NULL), 0);
    json_free(root);
    json_free(NULL);
}

static void test_strict(void)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":2}",
        "[1] 2",
        "{} {}",
        "{'a':1}",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[NaN]",
        "[Infinity]",
        "[1e999]",
        "nul",
        "[\"a\nb\"]",
        "[\"\\x\"]",
        "[\"\\ud800\"]",
        "[\"\xff\"]",
        "[\"\xc0\x80\"]",
        "[\"\xed\xa0\x80\"]",
        "// no\n[1]",
        "\xef\xbb\xbf[1]",
        "[1}",
        "\"open",
        "[\"\\",
        "]",
        "[-]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json *root = parse(bad[i]);
        if (root != NULL)
            fprintf(stderr, "accepted %s\n", bad[i]);
        CHECK(root == NULL);
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, "x.json:");
        json_free(root);
    }
    struct json *root = NULL;
    CHECK_INT(json_parse("[1]\0", 4, "nul.json", ERR_MODEL, &root, &e), -1);
    CHECK(root == NULL);
}

static void test_places(void)
{
    struct json *root = NULL;
    CHECK(parse("{\n  \"a\": 1,\n  \"b\": x\n}") == NULL);
    CHECK_HAS(e.text, "x.json:3:8: ");
    CHECK(json_parse("{\"a\": x}", 8, "t.jsonl:12", ERR_DATA, &root, &e) == -1);
    CHECK_HAS(e.text, "t.jsonl:12:7: ");
    CHECK_INT(e.code, ERR_DATA);
}

static void test_depth(void)
{
    char text[1000];
    for (int depth = 63; depth <= 66; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        struct json *root = parse(text);
        CHECK_INT(root != NULL, depth <= 64);
        if (root == NULL)
            CHECK_HAS(e.text, "x.json:1:65: ");
        json_free(root);
    }
    /* Brackets in a text do not count. */
    struct json *root = parse("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\"]");
    CHECK(root != NULL);
    json_free(root);
    size_t n = 1 << 20;
    char *deep = malloc(n);
    memset(deep, '[', n);
    CHECK_INT(json_parse(deep, n, "deep", ERR_MODEL, &root, &e), -1);
    free(deep);
}

/* tokenizer_config.json of many models: "model_max_length": 1000000000000000019884624838656 */
static void test_wide_integers(void)
{
    struct json *root =
        parse("{\"m\": 1000000000000000019884624838656, \"s\": \"1000000000000000019884624838656\", \"i\": 9223372036854775807,"
              "\"n\": [-9223372036854775809, 0.1000000000000000019884624838656, 1e-0000000000000000000000000005]}");
    double d = 0;
    int64_t i = 0;
    CHECK_OK(root == NULL, &e);
    CHECK(json_f64(json_get(root, "m"), &d) && d == 1000000000000000019884624838656.0);
    CHECK(!json_i64(json_get(root, "m"), &i));
    CHECK_STR(json_string(json_get(root, "s"), NULL), "1000000000000000019884624838656");
    CHECK(json_f64(json_at(json_get(root, "n"), 0), &d) && d == -0x1p63);
    CHECK(json_f64(json_at(json_get(root, "n"), 1), &d) && d == 0.1000000000000000019884624838656);
    CHECK(json_f64(json_at(json_get(root, "n"), 2), &d) && d == 1e-5);
    json_free(root);
}

static void test_writing(void)
{
    struct buf b = {0};
    json_put_string(&b, "a\"\\\n\t\b\f\r\x01\x00z\xc3\xa4\xf0\x9f\x99\x82/\x7f", 19);
    CHECK_STR(b.data, "\"a\\\"\\\\\\n\\t\\b\\f\\r\\u0001\\u0000z\xc3\xa4\xf0\x9f\x99\x82/\x7f\"");
    struct json *root = parse(b.data);
    size_t n = 0;
    CHECK(root != NULL && json_string(root, &n) != NULL);
    CHECK_INT(n, 19);
    json_free(root);

    buf_clear(&b);
    json_put_string(&b, "\xff\xc0\x80\xed\xa0\x80\xe2\x82", 8);
    for (size_t i = 0; i < 8; i++)
        CHECK(memcmp(b.data + 1 + 3 * i, "\xef\xbf\xbd", 3) == 0);
    CHECK_INT(b.n, 26);

    static const double values[] = {0, -0.0, 1, 0.1, 1.0 / 3, 1e300, 5e-324, 1e-4, 123456789012345678.0, -2.5e-7};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        double again = 7;
        buf_clear(&b);
        json_put_f64(&b, values[i]);
        root = parse(b.data);
        CHECK(json_f64(root, &again) && again == values[i]);
        json_free(root);
    }
    buf_clear(&b);
    json_put_f64(&b, 0.1);
    json_put_f64(&b, NAN);
    json_put_f64(&b, -INFINITY);
    CHECK_STR(b.data, "0.1nullnull");
    buf_free(&b);
}

int main(void)
{
    test_tree();
    test_strict();
    test_places();
    test_depth();
    test_wide_integers();
    test_writing();
    for (int k = JSON_ABSENT; k <= JSON_OBJECT; k++)
        CHECK(strcmp(json_kind_name((enum json_kind)k), "unknown") != 0);
    return check_done();
}
