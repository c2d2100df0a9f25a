/* compare_stats.c - quantiles, and how sure a difference of medians is. Steps of a run are not independent (a slow moment of the
 * machine lasts several), so whole blocks of neighbours are drawn, not single steps. tests/compare/make_bootstrap.py computes the
 * same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/base/rng.h"
#include "trainer/compare.h"

enum { MAX_BLOCK = 1000 }; /* so that a run of a million steps takes seconds, not minutes */

size_t compare_warm(size_t n)
{
    size_t tenth = n / 10;
    if (n < 2)
        return 0;
    return tenth < 1 ? 1 : tenth > 20 ? 20 : tenth;
}

double compare_quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

/* Of `lag` steps; the usual estimate, divided by n. */
static double covariance(const double *values, size_t n, double mean, size_t lag)
{
    double sum = 0;
    for (size_t i = 0; i + lag < n; i++)
        sum += (values[i] - mean) * (values[i + lag] - mean);
    return sum / (double)n;
}

size_t compare_block(const double *values, size_t n)
{
    size_t least = 1, most = n / 4 > 1 ? n / 4 : 1, lag = 1;
    double mean = 0;
    while (least * least * least < n)
        least++;
    most = most > MAX_BLOCK ? MAX_BLOCK : most;
    for (size_t i = 0; i < n; i++)
        mean += values[i] / (double)n;
    double limit = covariance(values, n, mean, 0) * 2 / sqrt((double)n);
    while (2 * lag < most && covariance(values, n, mean, lag) >= limit)
        lag++;
    size_t length = 2 * lag > least ? 2 * lag : least;
    return length < most ? length : most;
}

/* One series, prepared so that the median of a replicate takes one walk and no sort. */
struct series {
    const double *values;
    size_t n, block; /* block: steps in one */
    size_t *order;   /* indices by ascending value; owned */
    int32_t *counts; /* how often the replicate holds each value; owned */
    uint32_t number; /* which series, for the random numbers */
};

static int ascending(const void *a, const void *b, void *arg)
{
    const double *values = arg;
    double x = values[*(const size_t *)a], y = values[*(const size_t *)b];
    return x < y ? -1 : x > y;
}

static int series_open(struct series *s, const double *values, size_t n, uint32_t number, struct err *e)
{
    *s = (struct series){.values = values, .n = n, .number = number, .block = compare_block(values, n)};
    s->order = mem_alloc(n, sizeof *s->order);
    s->counts = mem_alloc(n + 1, sizeof *s->counts);
    if (s->order == NULL || s->counts == NULL)
        return mem_fail(e, "the bootstrap", n * (sizeof *s->order + sizeof *s->counts));
    for (size_t i = 0; i < n; i++)
        s->order[i] = i;
    qsort_r(s->order, n, sizeof *s->order, ascending, (void *)values);
    return 0;
}

static void series_close(struct series *s)
{
    mem_free(s->order);
    mem_free(s->counts);
}

/* Draw blocks until n values are there (the last block is cut); counts by differences first, then summed up. */
static void draw(struct series *s, uint32_t replicate)
{
    size_t length = s->block, starts = s->n - length + 1;
    memset(s->counts, 0, (s->n + 1) * sizeof *s->counts);
    for (size_t drawn = 0, block = 0; drawn < s->n; drawn += length, block++) {
        uint32_t word = rng_at(COMPARE_SEED, RNG_SAMPLE, replicate, s->number, (uint32_t)(block / 4)).v[block % 4];
        size_t start = (size_t)(((uint64_t)word * starts) >> 32);
        size_t taken = s->n - drawn < length ? s->n - drawn : length;
        s->counts[start]++;
        s->counts[start + taken]--;
    }
    for (size_t i = 1; i < s->n; i++)
        s->counts[i] += s->counts[i - 1];
}

/* Median of what was drawn: the mean of the two middle values where n is even. */
static double drawn_median(const struct series *s)
{
    size_t low = (s->n - 1) / 2, high = s->n / 2, seen = 0;
    double first = 0;
    bool found = false;
    for (size_t i = 0; i < s->n; i++) {
        seen += (size_t)s->counts[s->order[i]];
        if (!found && seen > low) {
            first = s->values[s->order[i]];
            found = true;
        }
        if (seen > high)
            return 0.5 * (first + s->values[s->order[i]]);
    }
    return NAN; /* not reached: n values were drawn */
}

static double plain_median(const struct series *s)
{
    return 0.5 * (s->values[s->order[(s->n - 1) / 2]] + s->values[s->order[s->n / 2]]);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int compare_bootstrap(const double *a, size_t n_a, const double *b, size_t n_b, struct compare_interval *out, struct err *e)
{
    struct series s = {0}, t = {0};
    double *differences = mem_alloc(COMPARE_REPLICATES, sizeof *differences);
    int rc = 0;
    if (differences == NULL)
        return mem_fail(e, "the bootstrap", COMPARE_REPLICATES * sizeof *differences);
    TRY_DONE(series_open(&s, a, n_a, 0, e));
    TRY_DONE(series_open(&t, b, n_b, 1, e));
    for (uint32_t i = 0; i < COMPARE_REPLICATES; i++) {
        draw(&s, i);
        draw(&t, i);
        differences[i] = drawn_median(&t) / drawn_median(&s) - 1;
    }
    qsort(differences, COMPARE_REPLICATES, sizeof *differences, by_value);
    out->difference = plain_median(&t) / plain_median(&s) - 1;
    out->low = compare_quantile(differences, COMPARE_REPLICATES, 0.025);
    out->high = compare_quantile(differences, COMPARE_REPLICATES, 0.975);
done:
    series_close(&s);
    series_close(&t);
    mem_free(differences);
    return rc;
}

enum compare_verdict compare_judge(const struct compare_interval *i)
{
    bool beyond = (i->low > 0 || i->high < 0) && fabs(i->difference) >= 0.005;
    return !beyond ? COMPARE_NO_DIFFERENCE : i->difference > 0 ? COMPARE_FASTER : COMPARE_SLOWER;
}

const char *compare_verdict_name(enum compare_verdict v)
{
    static const char *const names[] = {"faster",         "slower",        "no difference beyond noise",
                                        "same job again", "too few steps", "not comparable"};
    return names[v];
}
