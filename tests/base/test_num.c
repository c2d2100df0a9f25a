#include "trainer/base/num.h"

#include "tests/check.h"

static void test_integers(void)
{
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"+7", true, 7},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1x", false, 0},
        {"0x10", false, 0},
        {"1.0", false, 0},
        {"--1", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 12345;
        bool good = num_parse_i64(cases[i].text, &v);
        if (good != cases[i].good)
            fprintf(stderr, "\"%s\": ", cases[i].text);
        CHECK(good == cases[i].good);
        CHECK_INT(v, cases[i].good ? cases[i].value : 12345);
    }
}

static void test_reals(void)
{
    static const char *const bad[] = {"",     ".",     "-",     "e5", "1e", "1e+", "inf",   "nan",
                                      "-inf", "0x1p3", "1e400", " 1", "1 ", "1,5", "1.2.3", "1f"};
    double v = 0;
    CHECK(num_parse_f64("1e-4", &v) && v == 1e-4);
    CHECK(num_parse_f64("-.5", &v) && v == -0.5);
    CHECK(num_parse_f64("5.", &v) && v == 5);
    CHECK(num_parse_f64("+2.5E+3", &v) && v == 2500);
    CHECK(num_parse_f64("1e-400", &v) && v == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (num_parse_f64(bad[i], &v))
            fprintf(stderr, "accepted \"%s\"\n", bad[i]);
        CHECK(!num_parse_f64(bad[i], &v));
    }
}

static void test_bytes(void)
{
    static const char *const bad[] = {"",           "GiB", "-1GiB",   "1 0",  "1XB", "1GiBs", "9223372036854775808",
                                      "8388608TiB", "1e3", "0.5.5GB", "1  GB"};
    char text[32];
    int64_t v = 0;
    CHECK(num_parse_bytes("1024", &v) && v == 1024);
    CHECK(num_parse_bytes("24GiB", &v) && v == INT64_C(24) << 30);
    CHECK(num_parse_bytes("24 GiB", &v) && v == INT64_C(24) << 30);
    CHECK(num_parse_bytes("900MB", &v) && v == 900000000);
    CHECK(num_parse_bytes("1.5gib", &v) && v == INT64_C(3) << 29);
    CHECK(num_parse_bytes("8388607TiB", &v) && v == INT64_C(8388607) << 40);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (num_parse_bytes(bad[i], &v))
            fprintf(stderr, "accepted \"%s\"\n", bad[i]);
        CHECK(!num_parse_bytes(bad[i], &v));
    }
    CHECK_STR(num_format_bytes(text, 0), "0 B");
    CHECK_STR(num_format_bytes(text, 1023), "1023 B");
    CHECK_STR(num_format_bytes(text, 1536), "1.5 KiB");
    CHECK_STR(num_format_bytes(text, (1u << 20) - 1), "1.0 MiB");
    CHECK_STR(num_format_bytes(text, UINT64_MAX), "16.0 EiB");
}

static void test_checked(void)
{
    uint64_t v = 7;
    CHECK(num_mul(UINT32_MAX, UINT32_MAX, &v) && v == (uint64_t)UINT32_MAX * UINT32_MAX);
    CHECK(!num_mul(UINT64_MAX / 2 + 1, 2, &v));
    CHECK(num_add(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    CHECK(!num_add(UINT64_MAX, 1, &v));
    CHECK_INT(num_round_up(0, 64), 0);
    CHECK_INT(num_round_up(1, 64), 64);
    CHECK_INT(num_round_up(64, 64), 64);
    CHECK_INT(num_div_up(65, 64), 2);
}

int main(void)
{
    test_integers();
    test_reals();
    test_bytes();
    test_checked();
    return check_done();
}
