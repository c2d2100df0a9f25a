/* compare_chart.h - two kinds of inline SVG for compare_html.c. Colours and dashes are classes (.s0 .. .s7 for runs, .p0 .. .p4
 * for parts) that the page's style sheet defines; every text is escaped here. */
#ifndef LORAT_COMPARE_CHART_H
#define LORAT_COMPARE_CHART_H

#include <stddef.h>

#include "trainer/base/buf.h"

struct chart_point {
    double x, y; /* y NaN = a gap */
};
struct chart_series {
    const char *label;
    const struct chart_point *points; /* ascending x */
    size_t n;
};
struct chart {
    const char *id;    /* of the element; plain letters */
    const char *title; /* also what a screen reader says */
    const char *x_name, *y_name;
    bool from_zero; /* the y axis begins at 0 */
};
/* Text as HTML: markup escaped, control characters and bytes that are not UTF-8 replaced by U+FFFD. */
void chart_text(struct buf *out, const char *text);
/* Lines over x, run k in class s<k>, with a legend. */
void chart_lines(struct buf *out, const struct chart *c, const struct chart_series *series, int n);
/* A bar a row, made of parts side by side: values[row * n_parts + part], NaN and 0 = nothing. */
void chart_bars(struct buf *out, const struct chart *c, const char *const *rows, int n_rows, const char *const *parts,
                int n_parts, const double *values);

#endif
