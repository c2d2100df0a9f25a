/* verb_config.c - `lorat config`: check a job, print it whole, print the reference. */
#include <stdio.h>

#include "trainer/base/mem.h"
#include "trainer/config.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"set", "KEY=VALUE", "set a key for this call, as in --set train.epochs=1; may be repeated", 0, true},
    {"reference", NULL, "print every key with its type, range, default and meaning instead of checking a job", 0, false},
    {"markdown", NULL, "with --reference: as Markdown", 0, false},
};
static const struct option_table table = {
    .verb = "config",
    .args = "JOB",
    .about = "Check a job file and print it resolved, every key with its value. Nothing is loaded and no file the job names is opened.",
    .example = "lorat config configs/quickstart.yaml --set train.epochs=1\nlorat config --reference",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .max_args = 1,
};

static int print(struct buf *out, struct err *e)
{
    if (out->failed)
        return mem_fail(e, "the text to print", out->n);
    fputs(out->data, stdout);
    return 0;
}

static int check_job(const struct options *o, struct buf *out, struct err *e)
{
    static const char option[] = "set";
    size_t n = options_count(o, option);
    int rc;
    if (o->n_args == 0)
        FAIL(e, ERR_USAGE, "lorat config: found no job, expected JOB or --reference. `lorat config --help` explains");
    struct config *c = mem_alloc(1, sizeof *c);
    const char **sets = mem_alloc(n + 1, sizeof *sets);
    if (c == NULL || sets == NULL) {
        rc = mem_fail(e, "a job", sizeof *c);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        sets[i] = options_nth(o, option, i);
    TRY_DONE(config_load(o->args[0], sets, (int)n, c, e));
    config_write(c, out);
    rc = print(out, e);
done:
    mem_free(sets);
    mem_free(c);
    return rc;
}

int verb_config(int argc, char **argv, struct err *e)
{
    struct options o;
    struct buf out = {0};
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0 && options_given(&o, "reference")) {
        config_reference(&out, options_given(&o, "markdown"));
        rc = print(&out, e);
    } else if (rc == 0) {
        rc = check_job(&o, &out, e);
    }
    buf_free(&out);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
