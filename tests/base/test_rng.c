#include "trainer/base/rng.h"

#include "tests/check.h"

/* Known answers of Random123 1.14, kat_vectors, "philox4x32 10": counter, key, result. */
static void test_philox(void)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rng4 got = rng_philox(cases[i].key[0] | (uint64_t)cases[i].key[1] << 32, cases[i].counter);
        for (int k = 0; k < 4; k++)
            CHECK_INT(got.v[k], cases[i].want[k]);
    }
    struct rng4 a = rng_at(9, RNG_INIT, 1, 2, 3), b = rng_at(9, RNG_ORDER, 1, 2, 3);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    CHECK(rng_unit(0) == 0);
    CHECK(rng_unit(UINT32_MAX) < 1);
    CHECK(rng_unit(UINT32_MAX) == 1 - 0x1p-24f);
}

/* From permute_golden.py. */
static void test_golden(void)
{
    static const struct {
        uint64_t seed, stream, n, i, want;
    } cases[] = {
        {0u, 0u, 10u, 0u, 9u},
        {0u, 0u, 10u, 9u, 4u},
        {1u, 0u, 10u, 0u, 7u},
        {0u, 1u, 10u, 0u, 7u},
        {42u, 7u, 1000003u, 5u, 273353u},
        {42u, 30064771072u, 1000003u, 5u, 631628u},
        {18446744073709551615u, 18446744073709551615u, 1099511627777u, 1099511627776u, 1045625092900u},
        {3u, 5u, 18446744073709551615u, 12345u, 11526478536751114045u},
        {3u, 5u, 9223372036854775809u, 9223372036854775808u, 7877294347811086093u},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(rng_permute(cases[i].seed, cases[i].stream, cases[i].n, cases[i].i) == cases[i].want);
}

static void check_permutation(uint64_t seed, uint64_t n)
{
    char *seen = calloc(n, 1);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t to = rng_permute(seed, 3, n, i);
        if (!(to < n) || seen[to]) {
            fprintf(stderr, "n = %llu, i = %llu: ", (unsigned long long)n, (unsigned long long)i);
            CHECK(!"a permutation");
            break;
        }
        seen[to] = 1;
    }
    free(seen);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Too large to enumerate: no two of a sample may meet. */
static void check_sample(uint64_t n)
{
    enum { SAMPLE = 2000 };
    static uint64_t to[SAMPLE];
    for (uint64_t i = 0; i < SAMPLE; i++) {
        to[i] = rng_permute(11, 0, n, i % 2 ? i : n - 1 - i);
        CHECK(to[i] < n);
    }
    qsort(to, SAMPLE, sizeof *to, by_value);
    for (int i = 1; i < SAMPLE; i++)
        CHECK(to[i] != to[i - 1]);
}

/* Each of n values at each place about equally often over seeds: within 5 standard deviations. */
static void test_uniform(void)
{
    enum { N = 12, SEEDS = 12000 };
    int count[N][N] = {{0}};
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        for (uint64_t i = 0; i < N; i++)
            count[i][rng_permute(seed, 0, N, i)]++;
    double mean = (double)SEEDS / N, tolerance = 5 * sqrt(mean * (1 - 1.0 / N));
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            CHECK_NEAR(count[i][k], mean, tolerance);
}

int main(void)
{
    test_philox();
    test_golden();
    for (uint64_t n = 1; n <= 300; n++)
        check_permutation(n, n);
    check_permutation(5, 65536);
    check_permutation(5, 65537);
    check_sample(1000003);
    check_sample((UINT64_C(1) << 32) + 1);
    check_sample(UINT64_MAX);
    test_uniform();
    return check_done();
}
