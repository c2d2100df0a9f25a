#include "trainer/options.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/base/nearest.h"
#include "trainer/base/num.h"

enum { MAX_ROWS = 64, HELP_COLUMN = 26, HELP_WIDTH = 100 };

/* text in lines of HELP_WIDTH columns; the first line begins at `column`, the others behind `indent` spaces. */
static void wrap(struct buf *out, int column, int indent, const char *text)
{
    bool begin = true;
    while (*text != '\0') {
        int n = (int)strcspn(text, " ");
        if (!begin && column + 1 + n > HELP_WIDTH) {
            buf_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!begin) {
            buf_puts(out, " ");
            column++;
        }
        buf_add(out, text, (size_t)n);
        column += n;
        begin = false;
        text += n + (text[n] == ' ');
    }
    buf_puts(out, "\n");
}

void options_help(const struct option_table *t, struct buf *out)
{
    buf_printf(out, "usage: lorat %s%s%s%s\n\n", t->verb, t->args[0] != '\0' ? " " : "", t->args,
               t->n_rows > 0 ? " [options]" : "");
    wrap(out, 0, 0, t->about);
    buf_puts(out, "\noptions:\n");
    for (size_t i = 0; i <= t->n_rows; i++) {
        static const struct option_row help = {"help", NULL, "print this", 'h', false};
        const struct option_row *row = i < t->n_rows ? &t->rows[i] : &help;
        char left[80], letter[8] = "";
        if (row->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, row->name, row->value != NULL ? " " : "",
                 row->value != NULL ? row->value : "");
        int n = (int)strlen(left);
        buf_printf(out, "%s%s%*s", left, n + 2 > HELP_COLUMN ? "\n" : "", n + 2 > HELP_COLUMN ? HELP_COLUMN : HELP_COLUMN - n,
                   "");
        wrap(out, HELP_COLUMN, HELP_COLUMN, row->help);
    }
    buf_puts(out, "\nexample:\n");
    for (const char *line = t->example; *line != '\0';) {
        int n = (int)strcspn(line, "\n");
        buf_printf(out, "  %.*s\n", n, line);
        line += n + (line[n] == '\n');
    }
}

static int unknown(const struct option_table *t, const char *text, struct err *e)
{
    const char *names[MAX_ROWS + 1], *near = NULL;
    size_t n = 0, len = strcspn(text, "=");
    char word[64];
    for (; n < t->n_rows && n < MAX_ROWS; n++)
        names[n] = t->rows[n].name;
    names[n++] = "help";
    snprintf(word, sizeof word, "%.*s", (int)(len > 60 ? 60 : len), text);
    if (strncmp(word, "--", 2) == 0)
        near = nearest_word(word + 2, names, n);
    if (near != NULL)
        FAIL(e, ERR_USAGE, "lorat %s: %s: unknown option, did you mean --%s?", t->verb, word, near);
    FAIL(e, ERR_USAGE, "lorat %s: %s: unknown option. `lorat %s --help` lists them", t->verb, word, t->verb);
}

/* The row of "--name", "--name=value" (*value set) or "-o"; NULL when there is none. */
static const struct option_row *find(const struct option_table *t, const char *text, const char **value)
{
    size_t len = strcspn(text, "=");
    *value = NULL;
    for (size_t i = 0; i < t->n_rows; i++) {
        const struct option_row *row = &t->rows[i];
        if (row->letter != 0 && text[1] == row->letter && text[2] == '\0')
            return row;
        if (text[1] == '-' && strlen(row->name) == len - 2 && strncmp(text + 2, row->name, len - 2) == 0) {
            *value = text[len] == '=' ? text + len + 1 : NULL;
            return row;
        }
    }
    return NULL;
}

static int read_option(struct options *o, int argc, char **argv, int *i, struct err *e)
{
    const struct option_table *t = o->table;
    const char *value, *text = argv[*i];
    const struct option_row *row = find(t, text, &value);
    if (row == NULL)
        return unknown(t, text, e);
    if (row->value == NULL && value != NULL)
        FAIL(e, ERR_USAGE, "lorat %s: --%s: found the value \"%.60s\", expected none. It is a flag", t->verb, row->name, value);
    if (row->value != NULL && value == NULL) {
        if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
            FAIL(e, ERR_USAGE, "lorat %s: --%s: found nothing, expected --%s %s", t->verb, row->name, row->name, row->value);
        value = argv[++*i];
    }
    if (!row->repeat && options_given(o, row->name))
        FAIL(e, ERR_USAGE, "lorat %s: --%s: found a second time, expected once. Remove one", t->verb, row->name);
    o->given[o->n_given++] = (struct option_given){.row = (size_t)(row - t->rows), .value = value};
    return 0;
}

static int check_args(const struct options *o, struct err *e)
{
    const struct option_table *t = o->table;
    if (t->max_args >= 0 && o->n_args > t->max_args)
        FAIL(e, ERR_USAGE, "lorat %s: found the argument \"%.200s\", expected %s%s. `lorat %s --help` explains", t->verb,
             o->args[t->max_args], t->args[0] != '\0' ? "only " : "none", t->args, t->verb);
    if (o->n_args < t->min_args)
        FAIL(e, ERR_USAGE, "lorat %s: found %d argument%s, expected `%s`. `lorat %s --help` explains", t->verb, o->n_args,
             o->n_args == 1 ? "" : "s", t->args, t->verb);
    return 0;
}

int options_read(const struct option_table *t, int argc, char **argv, struct options *out, struct err *e)
{
    bool only_args = false;
    memset(out, 0, sizeof *out);
    out->table = t;
    size_t n = argc > 0 ? (size_t)argc : 1;
    out->given = mem_alloc(n, sizeof *out->given);
    out->args = mem_alloc(n, sizeof *out->args);
    if (out->given == NULL || out->args == NULL)
        return mem_fail(e, "the command line", n * sizeof *out->given);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            struct buf text = {0};
            options_help(t, &text);
            fputs(text.n > 0 ? text.data : "", stdout);
            buf_free(&text);
            return 1;
        }
    for (int i = 1; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0)
            only_args = true;
        else if (only_args || argv[i][0] != '-' || argv[i][1] == '\0')
            out->args[out->n_args++] = argv[i];
        else
            TRY(read_option(out, argc, argv, &i, e));
    }
    return check_args(out, e);
}

void options_free(struct options *o)
{
    mem_free(o->given);
    mem_free(o->args);
    memset(o, 0, sizeof *o);
}

const char *options_nth(const struct options *o, const char *name, size_t k)
{
    for (size_t i = 0; i < o->n_given; i++)
        if (strcmp(o->table->rows[o->given[i].row].name, name) == 0 && k-- == 0)
            return o->given[i].value;
    return NULL;
}

size_t options_count(const struct options *o, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < o->n_given; i++)
        n += strcmp(o->table->rows[o->given[i].row].name, name) == 0;
    return n;
}

bool options_given(const struct options *o, const char *name) { return options_count(o, name) > 0; }
const char *options_value(const struct options *o, const char *name) { return options_nth(o, name, 0); }
const char *options_or(const struct options *o, const char *name, const char *preset)
{
    return options_given(o, name) ? options_value(o, name) : preset;
}

int options_i64(const struct options *o, const char *name, int64_t low, int64_t high, int64_t *out, struct err *e)
{
    const char *text = options_value(o, name);
    int64_t v;
    if (text == NULL)
        return 0;
    if (!num_parse_i64(text, &v) || v < low || v > high)
        FAIL(e, ERR_USAGE, "lorat %s: --%s: found \"%.60s\", expected a whole number between %lld and %lld", o->table->verb, name,
             text, (long long)low, (long long)high);
    *out = v;
    return 0;
}
