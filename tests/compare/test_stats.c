/* Quantiles, blocks and the bootstrap against numbers that make_bootstrap.py computed with numpy, and where a verdict turns. */
#include "tests/check.h"
#include "tests/compare/bootstrap_golden.h"
#include "trainer/base/mem.h"
#include "trainer/compare.h"

enum { SERIES = sizeof golden_series / sizeof golden_series[0], PAIRS = sizeof golden_pairs / sizeof golden_pairs[0] };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void test_series(void)
{
    for (int i = 0; i < SERIES; i++) {
        size_t n = golden_series[i].n;
        double sorted[200];
        CHECK_INT(compare_block(golden_series[i].x, n), golden_series[i].block);
        memcpy(sorted, golden_series[i].x, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_value);
        CHECK_NEAR(compare_quantile(sorted, n, 0.1), golden_series[i].p10, 1e-9);
        CHECK_NEAR(compare_quantile(sorted, n, 0.5), golden_series[i].median, 1e-9);
        CHECK_NEAR(compare_quantile(sorted, n, 0.9), golden_series[i].p90, 1e-9);
    }
    static const double one[] = {3}, two[] = {1, 2};
    CHECK_NEAR(compare_quantile(one, 1, 0.5), 3, 0);
    CHECK_NEAR(compare_quantile(two, 2, 0), 1, 0);
    CHECK_NEAR(compare_quantile(two, 2, 0.5), 1.5, 0);
    CHECK_NEAR(compare_quantile(two, 2, 1), 2, 0);
}

static void test_pairs(void)
{
    struct err e = {0};
    for (int i = 0; i < PAIRS; i++) {
        struct compare_interval got = {0}, again = {0};
        int a = golden_pairs[i].a, b = golden_pairs[i].b;
        CHECK_OK(compare_bootstrap(golden_series[a].x, golden_series[a].n, golden_series[b].x, golden_series[b].n, &got, &e), &e);
        CHECK_OK(compare_bootstrap(golden_series[a].x, golden_series[a].n, golden_series[b].x, golden_series[b].n, &again, &e),
                 &e);
        printf("%s against %s: %+.3f %% (%+.3f to %+.3f)\n", golden_series[b].name, golden_series[a].name, 100 * got.difference,
               100 * got.low, 100 * got.high);
        CHECK_NEAR(got.difference, golden_pairs[i].difference, 1e-12);
        CHECK_NEAR(got.low, golden_pairs[i].low, 1e-12);
        CHECK_NEAR(got.high, golden_pairs[i].high, 1e-12);
        CHECK(got.low == again.low && got.high == again.high);
    }
}

static void test_verdicts(void)
{
    static const struct {
        struct compare_interval i;
        enum compare_verdict want;
    } cases[] = {
        {{0.10, 0.08, 0.12}, COMPARE_FASTER},
        {{-0.10, -0.12, -0.08}, COMPARE_SLOWER},
        {{0.10, -0.001, 0.2}, COMPARE_NO_DIFFERENCE},
        {{0.10, 0, 0.2}, COMPARE_NO_DIFFERENCE},
        {{0.004, 0.003, 0.0045}, COMPARE_NO_DIFFERENCE},
        {{0.005, 0.004, 0.006}, COMPARE_FASTER},
        {{-0.0049, -0.006, -0.004}, COMPARE_NO_DIFFERENCE},
        {{-0.005, -0.006, -0.004}, COMPARE_SLOWER},
        {{NAN, NAN, NAN}, COMPARE_NO_DIFFERENCE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_STR(compare_verdict_name(compare_judge(&cases[i].i)), compare_verdict_name(cases[i].want));
    static const size_t warm[][2] = {{0, 0}, {1, 0}, {2, 1}, {19, 1}, {20, 2}, {199, 19}, {200, 20}, {100000, 20}};
    for (size_t i = 0; i < sizeof warm / sizeof warm[0]; i++)
        CHECK_INT(compare_warm(warm[i][0]), warm[i][1]);
}

static void test_memory(void)
{
    struct compare_interval got;
    const double *x = golden_series[0].x;
    for (int64_t n = 1; n <= 5; n++) {
        struct err e = {0};
        mem_fail_at(n);
        CHECK(compare_bootstrap(x, golden_series[0].n, x, golden_series[0].n, &got, &e) != 0 && e.text[0] != '\0');
        mem_fail_at(0);
    }
}

int main(void)
{
    test_series();
    test_pairs();
    test_verdicts();
    test_memory();
    return check_done();
}
