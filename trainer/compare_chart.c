#include "trainer/compare_chart.h"

#include <math.h>
#include <stdio.h>

/* The drawing's own units; the page scales it. LEFT is room for the numbers of the y axis. */
enum { WIDTH = 480, HEIGHT = 290, LEFT = 62, RIGHT = 12, TOP = 32, BOTTOM = 44, ROW = 46, MAX_TICKS = 12 };

/* Length of the UTF-8 sequence at s, 0 when it is none (also overlong forms, surrogates and beyond U+10FFFF). */
static int sequence(const unsigned char *s)
{
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
            : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
            : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void chart_text(struct buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0';) {
        int n = sequence(p);
        if (n == 0 || *p < 0x20 || *p == 0x7f)
            buf_puts(out, "\xef\xbf\xbd");
        else if (*p == '&' || *p == '<' || *p == '>' || *p == '"' || *p == '\'')
            buf_printf(out, "&#%d;", *p);
        else
            buf_add(out, p, (size_t)n);
        p += n > 0 ? n : 1;
    }
}

/* ---- axes ---- */

struct axis {
    double low, high, step;
};

/* The range widened to round numbers: about four steps of 1, 2 or 5 times a power of ten. */
static struct axis axis_make(double low, double high, bool from_zero)
{
    if (from_zero)
        low = 0;
    if (!(high > low)) {
        high = low + (low != 0 ? fabs(low) * 0.1 : 1);
        low -= from_zero || low == 0 ? 0 : fabs(low) * 0.1;
    }
    double raw = (high - low) / 4, power = pow(10, floor(log10(raw))), step = power;
    if (raw / power > 5)
        step = 10 * power;
    else if (raw / power > 2)
        step = 5 * power;
    else if (raw / power > 1)
        step = 2 * power;
    return (struct axis){floor(low / step) * step, ceil(high / step) * step, step};
}

static double scale(const struct axis *a, double v, double from, double to)
{
    return from + (v - a->low) / (a->high - a->low) * (to - from);
}

static double tick(const struct axis *a, int i)
{
    double v = a->low + i * a->step;
    return fabs(v) < a->step * 1e-9 ? 0 : v; /* no "-1e-17" */
}

static void open_svg(struct buf *out, const struct chart *c, int height)
{
    buf_printf(out, "<svg role=\"img\" aria-labelledby=\"%s-t\" viewBox=\"0 0 %d %d\">\n<title id=\"%s-t\">", c->id, WIDTH,
               height, c->id);
    chart_text(out, c->title);
    buf_puts(out, "</title>\n");
}

static void ticks_y(struct buf *out, const struct axis *y)
{
    for (int i = 0; i < MAX_TICKS && tick(y, i) <= y->high + y->step * 1e-6; i++) {
        double at = scale(y, tick(y, i), HEIGHT - BOTTOM, TOP);
        buf_printf(out,
                   "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" "
                   "text-anchor=\"end\">%.6g</text>\n",
                   LEFT, at, WIDTH - RIGHT, at, LEFT - 7, at + 4.5, tick(y, i));
    }
}

static void ticks_x(struct buf *out, const struct axis *x, int top, int bottom)
{
    for (int i = 0; i < MAX_TICKS && tick(x, i) <= x->high + x->step * 1e-6; i++) {
        double at = scale(x, tick(x, i), LEFT, WIDTH - RIGHT);
        buf_printf(out,
                   "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/><text class=\"tick\" x=\"%.1f\" y=\"%d\" "
                   "text-anchor=\"%s\">%.6g</text>\n",
                   at, top, at, bottom, at, bottom + 17, at > WIDTH - RIGHT - 12 ? "end" : "middle", tick(x, i));
    }
}

static void names(struct buf *out, const struct chart *c, int height)
{
    buf_puts(out, "<text class=\"name\" x=\"2\" y=\"13\">");
    chart_text(out, c->y_name);
    buf_printf(out, "</text><text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, height - 6);
    chart_text(out, c->x_name);
    buf_puts(out, "</text>\n");
}

/* ---- lines ---- */

static void draw_line(struct buf *out, const struct chart_series *s, int number, const struct axis *x, const struct axis *y)
{
    bool pen = false;
    size_t drawn = 0;
    buf_printf(out, "<path class=\"line s%d\" d=\"", number);
    for (size_t i = 0; i < s->n; i++) {
        if (isnan(s->points[i].y)) {
            pen = false;
            continue;
        }
        bool alone = !pen && (i + 1 >= s->n || isnan(s->points[i + 1].y));
        double px = scale(x, s->points[i].x, LEFT, WIDTH - RIGHT), py = scale(y, s->points[i].y, HEIGHT - BOTTOM, TOP);
        buf_printf(out, alone ? "M%.1f %.1fh2" : pen ? "L%.1f %.1f" : "M%.1f %.1f", px, py);
        pen = !alone;
        drawn++;
    }
    buf_puts(out, drawn > 0 ? "\"/>\n" : "M0 0\"/>\n");
}

static void legend(struct buf *out, const struct chart_series *series, int n)
{
    buf_puts(out, "<ul class=\"legend\">");
    for (int k = 0; k < n; k++) {
        buf_printf(
            out,
            "<li><svg aria-hidden=\"true\" viewBox=\"0 0 44 10\" class=\"key\"><path class=\"line s%d\" d=\"M2 5H42\"/></svg> ",
            k);
        chart_text(out, series[k].label);
        buf_puts(out, "</li>");
    }
    buf_puts(out, "</ul>\n");
}

void chart_lines(struct buf *out, const struct chart *c, const struct chart_series *series, int n)
{
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    for (int k = 0; k < n; k++)
        for (size_t i = 0; i < series[k].n; i++) {
            x_low = fmin(x_low, series[k].points[i].x);
            x_high = fmax(x_high, series[k].points[i].x);
            y_low = fmin(y_low, series[k].points[i].y); /* fmin and fmax pass over NaN */
            y_high = fmax(y_high, series[k].points[i].y);
        }
    if (!isfinite(x_low) || !isfinite(y_low)) {
        buf_puts(out, "<p class=\"none\">Not recorded.</p>\n");
        return;
    }
    struct axis x = axis_make(x_low, x_high, false), y = axis_make(y_low, y_high, c->from_zero);
    open_svg(out, c, HEIGHT);
    ticks_y(out, &y);
    ticks_x(out, &x, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4);
    names(out, c, HEIGHT);
    for (int k = 0; k < n; k++)
        draw_line(out, &series[k], k, &x, &y);
    buf_puts(out, "</svg>\n");
    legend(out, series, n);
}

/* ---- bars ---- */

static void draw_row(struct buf *out, const struct chart *c, const char *label, const double *values, int n, int top,
                     const struct axis *x)
{
    double sum = 0;
    buf_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%d\">", LEFT, top + 12);
    chart_text(out, label);
    buf_puts(out, "</text>");
    for (int i = 0; i < n; i++) {
        if (!(values[i] > 0))
            continue;
        double from = scale(x, sum, LEFT, WIDTH - RIGHT), to = scale(x, sum + values[i], LEFT, WIDTH - RIGHT);
        buf_printf(out, "<rect class=\"part p%d\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"18\"/>", i, from, top + 18,
                   to - from);
        sum += values[i];
    }
    buf_puts(out, "\n");
}

void chart_bars(struct buf *out, const struct chart *c, const char *const *rows, int n_rows, const char *const *parts,
                int n_parts, const double *values)
{
    double high = 0;
    for (int r = 0; r < n_rows; r++) {
        double sum = 0;
        for (int i = 0; i < n_parts; i++)
            sum += values[r * n_parts + i] > 0 ? values[r * n_parts + i] : 0;
        high = fmax(high, sum);
    }
    if (!(high > 0)) {
        buf_puts(out, "<p class=\"none\">Not recorded.</p>\n");
        return;
    }
    int height = n_rows * ROW + 48;
    struct axis x = axis_make(0, high, true);
    open_svg(out, c, height);
    ticks_x(out, &x, 4, n_rows * ROW + 8);
    for (int r = 0; r < n_rows; r++)
        draw_row(out, c, rows[r], values + r * n_parts, n_parts, r * ROW + 2, &x);
    names(out, c, height);
    buf_puts(out, "</svg>\n<ul class=\"legend\">");
    for (int i = 0; i < n_parts; i++) {
        buf_printf(out,
                   "<li><svg aria-hidden=\"true\" viewBox=\"0 0 14 14\" class=\"key box\"><rect class=\"part p%d\" width=\"14\" "
                   "height=\"14\"/></svg> ",
                   i);
        chart_text(out, parts[i]);
        buf_puts(out, "</li>");
    }
    buf_puts(out, "</ul>\n");
}
