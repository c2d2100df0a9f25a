/* verb_compare.c - `lorat compare`: runs against the first of them, for a terminal, a program or a browser. Only reads. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/compare.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"json", NULL, "print JSON (docs/compare.md) instead of tables", 0, false},
    {"html", "FILE", "also write one self-contained page with charts", 0, false},
    {"kwh", "PRICE", "price of a kilowatt-hour: adds the cost where energy was recorded", 0, false},
    {"currency", "WORD", "what the price is in (default: GBP)", 0, false},
};
static const struct option_table table = {
    .verb = "compare",
    .args = "RUN RUN...",
    .about = "Hold runs against the first one: what differs in the jobs, same bits or not, losses, tokens a second, where the "
             "time of a "
             "step goes, communication, energy and memory, with a verdict in words and how sure it is. RUN is a run's folder; up "
             "to 8.",
    .example = "lorat compare runs/a runs/b\nlorat compare runs/a runs/b --html compare.html --kwh 0.25",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 2,
    .max_args = COMPARE_MAX_RUNS,
};

static int read_price(const struct options *o, double *price, char currency[9], struct err *e)
{
    const char *text = options_value(o, "kwh"), *word = options_value(o, "currency");
    *price = NAN;
    if (word != NULL && text == NULL)
        FAIL(e, ERR_USAGE, "--currency: given without --kwh, expected the price of a kilowatt-hour beside it");
    if (text != NULL && !(num_parse_f64(text, price) && *price >= 0 && *price <= 1e6))
        FAIL(e, ERR_USAGE, "--kwh: %.40s, expected a price of a kilowatt-hour from 0 on such as 0.25", text);
    snprintf(currency, 9, "%s", word != NULL ? word : "GBP");
    for (const char *p = word; p != NULL && *p != '\0'; p++)
        if (*p <= 0x20 || *p > 0x7e || p - word >= 8)
            FAIL(e, ERR_USAGE, "--currency: %.20s, expected a word of up to 8 plain characters such as EUR", word);
    return 0;
}

static int write_page(const struct compare *c, const char *path, struct err *e)
{
    struct buf page = {0};
    int rc = compare_html(c, &page, e);
    if (rc == 0)
        rc = io_write_file_atomic(path, page.data, page.n, e);
    buf_free(&page);
    if (rc == 0)
        log_note("wrote %s", path);
    return rc;
}

static int compare(const struct options *o, struct compare *c, struct err *e)
{
    struct buf out = {0};
    double price;
    char currency[9];
    TRY(read_price(o, &price, currency, e));
    TRY(compare_open(o->args, o->n_args, c, e));
    c->price = price;
    memcpy(c->currency, currency, sizeof c->currency);
    int rc = options_given(o, "json") ? compare_json(c, &out, e) : compare_text(c, &out, e);
    if (rc == 0) {
        fputs(out.data, stdout);
        fflush(stdout); /* what follows goes to the other stream */
        if (options_given(o, "html"))
            rc = write_page(c, options_value(o, "html"), e);
    }
    buf_free(&out);
    return rc;
}

int verb_compare(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    struct compare *c = rc == 0 ? mem_alloc(1, sizeof *c) : NULL;
    if (rc == 0 && c == NULL)
        rc = mem_fail(e, "the comparison", sizeof *c);
    if (rc == 0)
        rc = compare(&o, c, e);
    if (c != NULL)
        compare_free(c);
    mem_free(c);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
