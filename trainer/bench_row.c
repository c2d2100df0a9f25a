/* bench_row.c - rows of `lorat bench`: columns for a reader, or a line of JSON for a program. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/bench.h"

bool bench_wanted(const struct bench *b, const char *name)
{
    const char *only = options_value(b->options, "only");
    return only == NULL || strstr(name, only) != NULL;
}

void row_begin(struct bench_row *r, const struct bench *b, const char *kind, const char *name, int width)
{
    *r = (struct bench_row){.b = b};
    if (b->json)
        buf_printf(&r->line, "{\"bench\": \"%s\", \"shape\": \"%s\", \"name\": \"%s\"", kind, b->shape, name);
    else
        buf_printf(&r->line, "%-*s", width, name);
}

void row_number(struct bench_row *r, const char *key, const char *format, double v)
{
    char text[64];
    if (r->b->json) {
        if (isfinite(v))
            buf_printf(&r->line, ", \"%s\": %.9g", key, v);
        return;
    }
    int n = snprintf(text, sizeof text, format, isfinite(v) ? v : 0.0); /* the format is this program's own */
    if (isfinite(v))
        buf_puts(&r->line, text);
    else
        buf_printf(&r->line, "%*s", n, "");
}

void row_text(struct bench_row *r, const char *key, const char *format, const char *v)
{
    if (r->b->json)
        buf_printf(&r->line, ", \"%s\": \"%s\"", key, v);
    else
        buf_printf(&r->line, format, v);
}

int row_end(struct bench_row *r, struct err *e)
{
    buf_puts(&r->line, r->b->json ? "}\n" : "\n");
    int rc = r->line.failed ? mem_fail(e, "a row of output", r->line.n) : 0;
    if (rc == 0) {
        fputs(r->line.data, stdout);
        fflush(stdout);
    }
    buf_free(&r->line);
    return rc;
}
