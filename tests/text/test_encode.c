/* Encoding at its edges: bytes that are not UTF-8, special tokens or not, runs a megabyte long, normalization, failed
 * allocations. */
#include <time.h>

#include "datasets/nfc.h"
#include "tests/text/small.h"
#include "tests/text/vocabs.h"

#define NFC "{\"type\":\"NFC\"}"

static void expect(const struct tokenizer *t, const char *text, size_t n, bool special, const int32_t *want, size_t n_want)
{
    struct ids got = {0};
    struct err e = {0};
    CHECK_OK(tokenizer_encode(t, text, n, special, &got, &e), &e);
    bool same = got.n == n_want && (n_want == 0 || memcmp(got.v, want, n_want * sizeof *want) == 0);
    if (!same) {
        fprintf(stderr, "'%.*s' gave", (int)n, text);
        for (size_t i = 0; i < got.n; i++)
            fprintf(stderr, " %d", got.v[i]);
        fprintf(stderr, "\n");
        check_failures++;
    }
    ids_free(&got);
}
#define EXPECT(t, text, special, ...)                                                                                            \
    expect(t, text, sizeof(text) - 1, special, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static void special_tokens(void)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    /* One token begins another; <N> is matched after normalization, <R> before it. */
    CHECK_OK(
        small_open(
            (struct small){
                .normalizer = NFC,
                .vocab = ",\"ab\":256",
                .merges = "\"a b\"",
                .added =
                    "{\"id\":300,\"content\":\"<ab>\",\"special\":true},{\"id\":301,\"content\":\"<ab>c\",\"special\":true},"
                    "{\"id\":302,\"content\":\"<R>\",\"normalized\":false},{\"id\":303,\"content\":\"<N>\",\"normalized\":true}"},
            &t, &e),
        &e);
    if (t == NULL)
        return;
    EXPECT(t, "<ab>", true, 300);
    EXPECT(t, "<ab>c", true, 301);
    EXPECT(t, "<ab><ab>cc", true, 300, 301, 'c');
    EXPECT(t, "<ab", true, '<', 256);
    EXPECT(t, "<<ab>", true, '<', 300);
    EXPECT(t, "<ab>", false, '<', 256, '>');
    EXPECT(t, "x<N>y<R>", true, 'x', 303, 'y', 302);
    EXPECT(t, "<N>", false, '<', 'N', '>');
    EXPECT(t, "<R>\xcc\xb8", true, 302, 0xcc, 0xb8);            /* the token first, the mark stays alone */
    EXPECT(t, "<N>\xcc\xb8", true, '<', 'N', 0xe2, 0x89, 0xaf); /* '>' and the mark compose, and there is no token any more */
    CHECK(tokenizer_is_special(t, 300) && !tokenizer_is_special(t, 302) && !tokenizer_is_special(t, 'a'));
    CHECK_INT(tokenizer_find(t, "<ab>c"), 301);
    CHECK_INT(tokenizer_find(t, "<N>"), 303);
    CHECK_INT(tokenizer_find(t, "ab"), 256);
    CHECK_INT(tokenizer_find(t, "nope"), -1);
    CHECK_INT(tokenizer_find(t, ""), -1);
    size_t n;
    CHECK(tokenizer_token(t, -1, &n) == NULL && tokenizer_token(t, 304, &n) == NULL && tokenizer_token(t, 299, &n) == NULL);
    tokenizer_close(t);
}

static void not_utf8(void)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    /* "ab" merges; the two bytes of U+00E9 do too. */
    CHECK_OK(small_open((struct small){.vocab = ",\"ab\":256,\"\\u00c3\\u00a9\":257", .merges = "\"a b\",\"\\u00c3 \\u00a9\""},
                        &t, &e),
             &e);
    if (t == NULL)
        return;
    EXPECT(t, "ab\xc3\xa9", false, 256, 257);
    EXPECT(t,
           "ab\xff"
           "ab",
           false, 256, 0xff, 256);
    EXPECT(t, "\xc3", false, 0xc3); /* cut short */
    EXPECT(t, "\xc3(\xa9", false, 0xc3, '(', 0xa9);
    EXPECT(t, "\xed\xa0\x80", false, 0xed, 0xa0, 0x80);           /* a surrogate */
    EXPECT(t, "\xc0\x80", false, 0xc0, 0x80);                     /* overlong */
    EXPECT(t, "\xf4\x90\x80\x80", false, 0xf4, 0x90, 0x80, 0x80); /* past U+10FFFF */
    EXPECT(t, "a\0b", false, 'a', 0, 'b');
    expect(t, "", 0, true, NULL, 0);
    tokenizer_close(t);
    CHECK_INT(utf8_valid("\xf4\x8f\xbf\xbf", 4), 4);
    CHECK_INT(utf8_valid("\xee\x80\x80\xf0\x90\x80\x80", 7), 7);
    CHECK_INT(utf8_valid("\xe0\x9f\xbf", 3), 0);
    CHECK_INT(utf8_valid("ok\xf0\x8f\xbf\xbf", 6), 2);
    CHECK_INT(utf8_valid("ok\xe2\x82", 4), 2);
}

/* Whole pieces before merges, as Llama 3 has it. */
static void ignore_merges(void)
{
    struct err e = {0};
    struct small s = {.vocab = ",\"ab\":256,\"abc\":257,\"bc\":258", .merges = "\"b c\""};
    struct tokenizer *plain = NULL, *whole = NULL;
    CHECK_OK(small_open(s, &plain, &e), &e);
    s.model = ",\"ignore_merges\":true";
    CHECK_OK(small_open(s, &whole, &e), &e);
    if (plain != NULL && whole != NULL) {
        EXPECT(plain, "abc", false, 'a', 258);
        EXPECT(whole, "abc", false, 257);
        EXPECT(whole, "abcb", false, 'a', 258, 'b');
    }
    tokenizer_close(plain);
    tokenizer_close(whole);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One unit repeated up to 1 MB takes less than 100 times what a twentieth of it takes: quadratic would be 400 times. */
static void linear(const struct tokenizer *t, const char *name, const char *head, const char *unit)
{
    double took[2];
    for (int big = 0; big < 2; big++) {
        size_t n = strlen(unit), count = (big ? 1000000 : 50000) / n;
        struct buf b = {0};
        struct ids ids = {0};
        struct err e = {0};
        buf_puts(&b, head);
        for (size_t i = 0; i < count; i++)
            buf_add(&b, unit, n);
        buf_puts(&b, "x");
        double from = seconds();
        CHECK_OK(tokenizer_encode(t, b.data, b.n, true, &ids, &e), &e);
        took[big] = seconds() - from;
        buf_free(&b);
        ids_free(&ids);
    }
    printf("%s: a run of %zu bytes beginning with 0x%02x: %.3f s for 1 MB\n", name, strlen(unit), (unsigned char)*unit, took[1]);
    CHECK(took[1] < 100 * (took[0] + 1e-3));
}

static void long_runs(const struct tokenizer *t, const char *name)
{
    static const char *const units[] = {
        "a", "qzjxv", " ", "\n", " \n", "\t ", "'", "<|im_sta", "\xff", "\xe6\xbc\xa2", "\xcc\x81\xcc\xa3", "0", "!", "\xc2\xa0"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        linear(t, name, i == 10 ? "e" : "", units[i]);
}

static void speed(const struct tokenizer *t, const char *name)
{
    static const char sentence[] =
        "The 3 quick brown foxes weren't jumping over 27 lazy dogs, because nobody had asked them to do so.\n";
    struct buf b = {0};
    struct ids ids = {0};
    struct err e = {0};
    while (b.n < 4000000)
        buf_puts(&b, sentence);
    double from = seconds();
    CHECK_OK(tokenizer_encode(t, b.data, b.n, true, &ids, &e), &e);
    double rate = (double)b.n / 1e6 / (seconds() - from);
    printf("%s: %.1f MB/s of English\n", name, rate);
#ifndef __SANITIZE_ADDRESS__
    CHECK(rate >= 2);
#endif
    buf_free(&b);
    ids_free(&ids);
}

/* Failing each allocation in turn gives an error, leaves the list as it was, and loses nothing (the sanitizer watches). */
static void out_of_memory(void)
{
    struct small s = {.normalizer = NFC,
                      .vocab = ",\"ab\":256",
                      .merges = "\"a b\"",
                      .added = "{\"id\":300,\"content\":\"<x>\",\"special\":true}"};
    struct buf json = {0};
    small_json(&json, s);
    bool clean = false;
    for (int64_t n = 1; !clean && n < 5000; n++) {
        struct err e = {0};
        struct tokenizer *t = NULL;
        mem_fail_at(n);
        int rc = tokenizer_from_json(json.data, json.n, "tokenizer.json", &t, &e);
        mem_fail_at(0);
        CHECK((rc == 0) == (t != NULL) && (rc == 0 || e.code != 0));
        clean = rc == 0;
        tokenizer_close(t);
    }
    CHECK(clean);
    struct tokenizer *t = NULL;
    struct err e = {0};
    CHECK_OK(tokenizer_from_json(json.data, json.n, "tokenizer.json", &t, &e), &e);
    clean = false;
    for (int64_t n = 1; !clean && n < 5000; n++) {
        struct ids ids = {0};
        struct err e2 = {0};
        CHECK_OK(ids_add(&ids, 7, &e2), &e2);
        mem_fail_at(n);
        clean = tokenizer_encode(t, "ab e\xcc\x81<x> \xff ab", 14, true, &ids, &e2) == 0;
        mem_fail_at(0);
        CHECK(clean || (e2.code != 0 && ids.n == 1));
        ids_free(&ids);
    }
    CHECK(clean);
    clean = false;
    for (int64_t n = 1; !clean && n < 5000; n++) {
        struct buf out = {0};
        struct err e2 = {0};
        mem_fail_at(n);
        clean = tokenizer_write_json(t, &out, &e2) == 0;
        mem_fail_at(0);
        CHECK(clean || e2.code != 0);
        buf_free(&out);
    }
    CHECK(clean);
    tokenizer_close(t);
    buf_free(&json);
}

int main(void)
{
    special_tokens();
    not_utf8();
    ignore_merges();
    out_of_memory();
    struct tokenizer *all[] = {open_gpt2(), open_smollm2(), open_qwen3()};
    static const char *const names[] = {"gpt-2", "smollm2", "qwen3"};
    for (int i = 0; i < 3; i++) {
        if (all[i] == NULL)
            continue;
        speed(all[i], names[i]);
        if (i == 2 || (i == 1 && all[2] == NULL))
            long_runs(all[i], names[i]);
        tokenizer_close(all[i]);
    }
    return check_done();
}
