/* compare_html.c - the comparison as one page that needs nothing from elsewhere: no script, no font, no link. Beside each chart
 * stands a table with numbers from it. Everything that comes from a file goes through chart_text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/compare.h"
#include "trainer/compare_chart.h"
#include "trainer/compare_style.h"

enum { MAX_POINTS = 240, SAMPLES = 8 };

/* ---- tables ---- */

/* shown: a caption that a heading says already is for screen readers alone. */
static void open_table(struct buf *out, const struct compare *c, const char *caption, bool shown, const char *corner)
{
    buf_printf(out, "<div class=\"scroll\" tabindex=\"0\"><table><caption%s>", shown ? "" : " class=\"hidden\"");
    chart_text(out, caption);
    buf_printf(out, "</caption><thead><tr><th scope=\"col\">%s</th>", corner);
    for (int k = 0; k < c->n; k++) {
        buf_puts(out, "<th scope=\"col\">");
        chart_text(out, c->run[k].label);
        buf_puts(out, "</th>");
    }
    buf_puts(out, "</tr></thead><tbody>\n");
}

static void close_table(struct buf *out) { buf_puts(out, "</tbody></table></div>\n"); }

/* ---- a value over steps ---- */

enum what { TRAIN_LOSS, EVAL_LOSS, RATE };

static size_t count_of(const struct compare_run *r, enum what w) { return w == EVAL_LOSS ? r->n_evals : r->n_steps; }

static struct chart_point point(const struct compare_run *r, enum what w, size_t i)
{
    if (w == EVAL_LOSS)
        return (struct chart_point){(double)r->evals[i].step, r->evals[i].loss};
    return (struct chart_point){(double)r->steps[i].step, w == RATE ? r->steps[i].tok_s : r->steps[i].loss};
}

/* At most MAX_POINTS points, each the mean of `group` neighbours (those that are numbers). */
static size_t reduce(const struct compare_run *r, enum what w, size_t group, struct chart_point *out)
{
    size_t n = count_of(r, w), made = 0;
    for (size_t i = 0; i < n; i += group) {
        double x = 0, y = 0, numbers = 0;
        size_t k = 0;
        for (; k < group && i + k < n; k++) {
            struct chart_point p = point(r, w, i + k);
            x += p.x;
            y += isnan(p.y) ? 0 : p.y;
            numbers += !isnan(p.y);
        }
        out[made++] = (struct chart_point){x / (double)k, numbers > 0 ? y / numbers : NAN};
    }
    return made;
}

static double value_at(const struct compare_run *r, enum what w, double step)
{
    for (size_t i = 0; i < count_of(r, w); i++)
        if (point(r, w, i).x == step)
            return point(r, w, i).y;
    return NAN;
}

/* Into an ascending list, where it is not there yet. */
static void insert(double *steps, size_t *n, double step)
{
    size_t i = *n;
    while (i > 0 && steps[i - 1] > step)
        i--;
    if (i > 0 && steps[i - 1] == step)
        return;
    memmove(steps + i + 1, steps + i, (*n - i) * sizeof *steps);
    steps[i] = step;
    ++*n;
}

/* Some steps of the longest run, its first and last among them, and the last step of every other one. */
static size_t sample_steps(const struct compare *c, enum what w, double steps[SAMPLES + COMPARE_MAX_RUNS])
{
    const struct compare_run *longest = &c->run[0];
    size_t made = 0;
    for (int k = 1; k < c->n; k++)
        if (count_of(&c->run[k], w) > count_of(longest, w))
            longest = &c->run[k];
    size_t n = count_of(longest, w), rows = n < SAMPLES ? n : SAMPLES;
    for (size_t i = 0; i < rows; i++)
        insert(steps, &made, point(longest, w, rows > 1 ? i * (n - 1) / (rows - 1) : 0).x);
    for (int k = 0; k < c->n; k++)
        if (count_of(&c->run[k], w) > 0)
            insert(steps, &made, point(&c->run[k], w, count_of(&c->run[k], w) - 1).x);
    return made;
}

static void sample_table(struct buf *out, const struct compare *c, enum what w, const char *caption)
{
    double steps[SAMPLES + COMPARE_MAX_RUNS];
    size_t rows = sample_steps(c, w, steps);
    open_table(out, c, caption, true, "step");
    for (size_t i = 0; i < rows; i++) {
        double step = steps[i];
        buf_printf(out, "<tr><th scope=\"row\">%.0f</th>", step);
        for (int k = 0; k < c->n; k++) {
            double v = value_at(&c->run[k], w, step);
            buf_printf(out, isnan(v) ? "<td>-</td>" : w == RATE ? "<td>%.1f</td>" : "<td>%.4f</td>", v);
        }
        buf_puts(out, "</tr>\n");
    }
    close_table(out);
}

static int line_chart(struct buf *out, const struct compare *c, enum what w, const struct chart *chart, struct err *e)
{
    struct chart_series series[COMPARE_MAX_RUNS];
    struct chart_point *points = mem_alloc((size_t)c->n * MAX_POINTS, sizeof *points);
    size_t group = 1;
    if (points == NULL)
        return mem_fail(e, "a chart", (size_t)c->n * MAX_POINTS * sizeof *points);
    for (int k = 0; k < c->n; k++)
        while (count_of(&c->run[k], w) > group * MAX_POINTS)
            group++;
    for (int k = 0; k < c->n; k++)
        series[k] = (struct chart_series){c->run[k].label, points + k * MAX_POINTS,
                                          reduce(&c->run[k], w, group, points + k * MAX_POINTS)};
    buf_printf(out, "<h3>%s</h3>\n<div class=\"pair\"><figure>\n", chart->title);
    chart_lines(out, chart, series, c->n);
    buf_puts(out, "<figcaption>Equal runs lie on one another. ");
    if (group > 1)
        buf_printf(out, "Each point is the mean of %zu steps. ", group);
    if (w == RATE)
        buf_printf(out, "Steps of the warm-up are drawn, but not counted. ");
    buf_puts(out, "</figcaption></figure>\n");
    sample_table(out, c, w, "At some steps");
    buf_puts(out, "</div>\n");
    mem_free(points);
    return 0;
}

/* ---- bars ---- */

static void split_chart(struct buf *out, const struct compare *c)
{
    static const char *const parts[] = {"compute", "exposed communication", "data wait", "optimizer", "save"};
    static const struct chart chart = {
        .id = "split", .title = "Where the time of a step goes", .x_name = "seconds a step (mean)", .y_name = ""};
    double values[COMPARE_MAX_RUNS * 5];
    const char *labels[COMPARE_MAX_RUNS];
    for (int k = 0; k < c->n; k++) {
        const struct compare_measures *m = &c->of[k];
        const double of[5] = {m->compute_s, m->comm_s, m->wait_s, m->optim_s, m->save_s};
        memcpy(values + 5 * k, of, sizeof of);
        labels[k] = c->run[k].label;
    }
    chart_bars(out, &chart, labels, c->n, parts, 5, values);
}

static void memory_chart(struct buf *out, const struct compare *c)
{
    static const char *const parts[] = {"planned", "peak of the process", "taken on the device"};
    static const struct chart chart = {.id = "memory", .title = "Memory, planned and taken", .x_name = "GiB", .y_name = ""};
    double values[COMPARE_MAX_RUNS * 9];
    const char *labels[COMPARE_MAX_RUNS * 3];
    int n = 0;
    for (int k = 0; k < c->n; k++) {
        const double of[3] = {c->run[k].plan_bytes, c->run[k].peak_bytes, c->run[k].device_bytes};
        bool first = true;
        for (int i = 0; i < 3; i++) {
            if (!(of[i] > 0))
                continue;
            for (int j = 0; j < 3; j++)
                values[3 * n + j] = i == j ? of[i] / (double)(1 << 30) : 0;
            labels[n++] = first ? c->run[k].label : "";
            first = false;
        }
    }
    chart_bars(out, &chart, labels, n, parts, 3, values);
}

/* ---- sections ---- */

struct page {
    const struct compare *c;
    struct buf *out;
    struct err *e;
    const char *section;
    bool in_pair, failed;
};

static void close_section(struct page *p)
{
    if (p->section == NULL)
        return;
    close_table(p->out);
    buf_puts(p->out, p->in_pair ? "</div>\n</section>\n" : "</section>\n");
    p->in_pair = false;
}

static bool is_section(const char *section, const char *begin) { return strncmp(section, begin, strlen(begin)) == 0; }

static int draw_lines(struct page *p, const char *section)
{
    static const struct chart train = {.id = "train", .title = "Training loss", .x_name = "step", .y_name = "loss"};
    static const struct chart eval = {.id = "eval", .title = "Evaluation loss", .x_name = "step", .y_name = "loss"};
    static const struct chart rate = {
        .id = "rate", .title = "Tokens a second over steps", .x_name = "step", .y_name = "tokens a second", .from_zero = true};
    if (is_section(section, "Loss")) {
        TRY(line_chart(p->out, p->c, TRAIN_LOSS, &train, p->e));
        return line_chart(p->out, p->c, EVAL_LOSS, &eval, p->e);
    }
    return is_section(section, "Tokens") ? line_chart(p->out, p->c, RATE, &rate, p->e) : 0;
}

static void open_section(struct page *p, const char *section)
{
    close_section(p);
    p->section = section;
    buf_printf(p->out, "<section>\n<h2>%s</h2>\n", section);
    p->failed |= draw_lines(p, section) != 0;
    if (is_section(section, "Time") || is_section(section, "Memory")) {
        p->in_pair = true;
        buf_puts(p->out, "<div class=\"pair\"><figure>\n");
        if (is_section(section, "Time"))
            split_chart(p->out, p->c);
        else
            memory_chart(p->out, p->c);
        buf_puts(p->out, "</figure>\n");
    }
    open_table(p->out, p->c, section, false, "");
}

static void table_row(void *arg, const char *section, const char *label, const char *const *values)
{
    struct page *p = arg;
    if (p->section == NULL || strcmp(p->section, section) != 0)
        open_section(p, section);
    buf_puts(p->out, "<tr><th scope=\"row\">");
    chart_text(p->out, label);
    buf_puts(p->out, "</th>");
    for (int k = 0; k < p->c->n; k++) {
        buf_puts(p->out, "<td>");
        chart_text(p->out, strcmp(values[k], "-") == 0 ? "not recorded" : values[k]);
        buf_puts(p->out, "</td>");
    }
    buf_puts(p->out, "</tr>\n");
}

/* ---- the top ---- */

static void put_words(struct buf *out, const struct compare *c, int k)
{
    void (*const words[])(const struct compare *, int, struct buf *) = {compare_words_bits, compare_words_loss,
                                                                        compare_words_speed};
    for (int i = 0; i < 3; i++) {
        struct buf text = {0};
        words[i](c, k, &text);
        buf_puts(out, "<li>");
        chart_text(out, text.n > 0 ? text.data : "");
        buf_puts(out, "</li>\n");
        out->failed |= text.failed;
        buf_free(&text);
    }
}

static void put_notes(struct buf *out, const struct compare *c)
{
    struct buf notes = {0};
    for (int k = 0; k < c->n; k++)
        compare_words_notes(c, k, &notes);
    out->failed |= notes.failed;
    if (notes.n > 0) {
        buf_puts(out, "<ul class=\"dim\">\n");
        for (char *line = notes.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            buf_puts(out, "<li>");
            chart_text(out, line);
            buf_puts(out, "</li>\n");
        }
        buf_puts(out, "</ul>\n");
    }
    buf_free(&notes);
}

static void put_top(struct buf *out, const struct compare *c)
{
    buf_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>lorat compare: ");
    for (int k = 0; k < c->n; k++) {
        buf_puts(out, k > 0 ? ", " : "");
        chart_text(out, c->run[k].label);
    }
    buf_printf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>%d runs, held against ", style_sheet, c->n);
    chart_text(out, c->run[0].label);
    buf_puts(out, "</h1>\n");
    for (int k = 1; k < c->n; k++) {
        buf_puts(out, "<div class=\"verdict\">\n<h3>");
        chart_text(out, c->run[k].label);
        buf_puts(out, " against ");
        chart_text(out, c->run[0].label);
        buf_puts(out, "</h3>\n<ul>\n");
        put_words(out, c, k);
        buf_puts(out, "</ul>\n</div>\n");
    }
    put_notes(out, c);
    buf_puts(out, "<p class=\"dim\">");
    chart_text(out, compare_method);
    buf_puts(out, "</p>\n");
}

int compare_html(const struct compare *c, struct buf *out, struct err *e)
{
    struct page p = {.c = c, .out = out, .e = e};
    put_top(out, c);
    TRY(compare_rows(c, table_row, &p, e));
    close_section(&p);
    buf_puts(out, "<p class=\"dim\">Written by lorat " LORAT_VERSION ".</p>\n</main>\n</body>\n</html>\n");
    if (p.failed)
        return -1;
    return out->failed ? mem_fail(e, "the page", out->n) : 0;
}
