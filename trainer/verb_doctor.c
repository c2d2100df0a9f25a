/* verb_doctor.c - `lorat doctor`: the machine, what NCCL will do on it, and what stands in a run's way. */
#include <stdio.h>

#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/doctor.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"json", NULL, "one JSON object; its \"machine\" can be kept and given to --machine", 0, false},
    {"machine", "FILE", "examine the machine that a JSON file describes, not this one", 0, false},
};
static const struct option_table table = {
    .verb = "doctor",
    .args = "",
    .about = "Look at driver, libraries, cards, the links between them, host memory, disk and limits, and say what stands in a run's way, each "
             "finding with what to do. Works with one card, with several and with none. Exit code 0 when training can start, 7 when not.",
    .example = "lorat doctor\nlorat doctor --json > doctor.json",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
};

enum { MOST_BYTES = 1 << 20 };

static int get_machine(const struct options *o, struct machine *m, struct err *e)
{
    const char *path = options_value(o, "machine");
    char *text;
    size_t n;
    if (path == NULL) {
        machine_read(m);
        return 0;
    }
    TRY(io_read_file(path, ERR_DATA, MOST_BYTES, &text, &n, e));
    int rc = machine_parse(text, n, path, m, e);
    mem_free(text);
    return rc;
}

static int report(const struct options *o, const struct machine *m, struct doctor *d, struct err *e)
{
    struct buf out = {0};
    int stops = 0;
    doctor_examine(m, d);
    (options_given(o, "json") ? doctor_json : doctor_print)(m, d, &out);
    int rc = out.failed ? mem_fail(e, "the report", out.n) : 0;
    if (rc == 0)
        fputs(out.data, stdout);
    buf_free(&out);
    for (int i = 0; i < d->n; i++)
        stops += finding_severity(d->finding[i].id) == SEVERITY_STOP;
    if (rc == 0 && stops > 0)
        rc = err_set(e, ERR_DEVICE, "doctor: %d finding%s in the way of training, expected none: %s See above", stops, stops == 1 ? "" : "s",
                     d->finding[0].text);
    return rc;
}

int verb_doctor(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    struct machine *m = mem_alloc(1, sizeof *m);
    struct doctor *d = mem_alloc(1, sizeof *d);
    if (rc == 0 && (m == NULL || d == NULL))
        rc = mem_fail(e, "the machine's description", sizeof *m);
    if (rc == 0)
        rc = get_machine(&o, m, e);
    if (rc == 0)
        rc = report(&o, m, d, e);
    mem_free(d);
    mem_free(m);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
