/* options.h - the command line of one verb: a table of options drives reading, --help and the messages.
 *
 * Understood: --name value, --name=value, a one-letter form where the row names one (-o value), flags, --help and -h, and "--"
 * behind which everything is an argument. Options and arguments may be mixed. An unknown option is refused with the nearest
 * known one; an option given twice is refused unless its row allows it. */
#ifndef LORAT_OPTIONS_H
#define LORAT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

struct option_row {
    const char *name;  /* without dashes */
    const char *value; /* "N", "FILE", ...; NULL = a flag */
    const char *help;
    char letter;       /* 'o' for -o; 0 = none */
    bool repeat;       /* may be given several times */
};
struct option_table {
    const char *verb;    /* "data build" */
    const char *args;    /* "JOB", "IN... OUT"; "" = none */
    const char *about;   /* a paragraph */
    const char *example; /* a command; lines separated by \n */
    const struct option_row *rows; /* may be NULL when n_rows is 0 */
    size_t n_rows;
    int min_args, max_args; /* max_args -1 = any number */
};
struct options {
    const struct option_table *table;
    struct option_given {
        size_t row;
        const char *value; /* NULL for a flag */
    } *given;              /* in the order of the command line; owned */
    size_t n_given;
    const char **args;     /* borrowed strings, owned list */
    int n_args;
};

/* Read argv[1..argc-1] (argv[0] is the verb). Returns 0; -1 with ERR_USAGE; 1 when --help was asked for and printed on stdout.
 * Free with options_free, also after a failure. */
int options_read(const struct option_table *t, int argc, char **argv, struct options *out, struct err *e);
void options_free(struct options *o);
bool options_given(const struct options *o, const char *name);
const char *options_value(const struct options *o, const char *name); /* NULL when not given */
const char *options_or(const struct options *o, const char *name, const char *preset); /* preset when not given */
/* The k-th value of an option that may be repeated, NULL behind the last. */
const char *options_nth(const struct options *o, const char *name, size_t k);
size_t options_count(const struct options *o, const char *name);
/* A whole number in low..high; *out is left alone when the option is not given. */
int options_i64(const struct options *o, const char *name, int64_t low, int64_t high, int64_t *out, struct err *e);
void options_help(const struct option_table *t, struct buf *out);

#endif
