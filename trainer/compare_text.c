/* compare_text.c - the comparison for a terminal: verdicts first, then a column a run. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/compare.h"

enum { LABEL = 24, MIN_COLUMN = 12, MAX_COLUMN = 40, MANY_COLUMN = 26 };
struct table {
    const struct compare *c;
    struct buf *out; /* NULL while widths are measured */
    int width[COMPARE_MAX_RUNS];
    const char *section;
};

/* Text from a file on a terminal: printable ASCII and whole UTF-8 pass, what a terminal would obey becomes '?'. Longer than
 * `width` bytes is cut. */
static void cell(struct buf *out, const char *text, int width, bool last)
{
    int n = (int)strlen(text), shown = n > width ? width : n;
    char plain[MAX_COLUMN + 1];
    for (int i = 0; i < shown; i++)
        plain[i] = (unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e ? '?' : text[i];
    plain[shown] = '\0';
    if (n > width && width >= 6)
        memcpy(plain + width - 3, "...", 3);
    buf_printf(out, "  %-*s", last ? 0 : width, plain);
}

static bool is_empty(const struct compare *c, const char *const *values)
{
    for (int k = 0; k < c->n; k++)
        if (strcmp(values[k], "-") != 0)
            return false;
    return true;
}

static void measure_row(void *arg, const char *section, const char *label, const char *const *values)
{
    struct table *t = arg;
    int most = t->c->n > 2 ? MANY_COLUMN : MAX_COLUMN;
    for (int k = 0; k < t->c->n; k++) {
        int n = (int)strlen(values[k]);
        if (n > t->width[k])
            t->width[k] = n < most ? n : most;
    }
}

static void print_row(void *arg, const char *section, const char *label, const char *const *values)
{
    struct table *t = arg;
    if (t->section == NULL || strcmp(t->section, section) != 0)
        buf_printf(t->out, "\n%s\n", section);
    t->section = section;
    buf_printf(t->out, "  %-*s", LABEL, label);
    if (is_empty(t->c, values))
        buf_puts(t->out, "  not recorded");
    else
        for (int k = 0; k < t->c->n; k++)
            cell(t->out, values[k], t->width[k], k == t->c->n - 1);
    buf_puts(t->out, "\n");
}

static void verdicts(const struct compare *c, struct buf *out)
{
    for (int k = 1; k < c->n; k++) {
        buf_printf(out, "%s against %s\n  ", c->run[k].label, c->run[0].label);
        compare_words_bits(c, k, out);
        buf_puts(out, "\n  ");
        compare_words_loss(c, k, out);
        buf_puts(out, "\n  ");
        compare_words_speed(c, k, out);
        buf_puts(out, "\n");
    }
}

int compare_text(const struct compare *c, struct buf *out, struct err *e)
{
    struct table t = {.c = c, .out = out};
    verdicts(c, out);
    for (int k = 0; k < c->n; k++)
        compare_words_notes(c, k, out);
    for (int k = 0; k < c->n; k++) {
        int n = (int)strlen(c->run[k].label);
        t.width[k] = n < MIN_COLUMN ? MIN_COLUMN : n < MAX_COLUMN ? n : MAX_COLUMN;
    }
    TRY(compare_rows(c, measure_row, &t, e));
    buf_printf(out, "\n  %-*s", LABEL, "");
    for (int k = 0; k < c->n; k++)
        cell(out, c->run[k].label, t.width[k], k == c->n - 1);
    buf_puts(out, "\n");
    TRY(compare_rows(c, print_row, &t, e));
    buf_printf(out, "\n%s\n", compare_method);
    return out->failed ? mem_fail(e, "the comparison", out->n) : 0;
}
