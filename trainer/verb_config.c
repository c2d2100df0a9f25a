/* verb_config.c - `lorat config`: check a job, print it whole, print the reference. */
#include <stdio.h>

#include "trainer/base/mem.h"
#include "trainer/config.h"
#include "trainer/verb_job.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    SET_ROW,
    {"reference", NULL, "print every key with its type, range, default and meaning instead of checking a job", 0, false},
    {"markdown", NULL, "with --reference: as Markdown", 0, false},
};
static const struct option_table table = {
    .verb = "config",
    .args = "JOB",
    .about = "Check a job file and print it resolved, every key with its value. Nothing is loaded and no file the job names is "
             "opened.",
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
    if (o->n_args == 0)
        FAIL(e, ERR_USAGE, "lorat config: found no job, expected JOB or --reference. `lorat config --help` explains");
    struct config *c = mem_alloc(1, sizeof *c);
    if (c == NULL)
        return mem_fail(e, "a job", sizeof *c);
    int rc = verb_job(o, o->args[0], c, e);
    if (rc == 0) {
        config_write(c, out);
        rc = print(out, e);
    }
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
