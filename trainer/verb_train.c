/* verb_train.c - `lorat train`: one job after another. */
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/stop.h"
#include "trainer/train.h"
#include "trainer/verb_job.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    SET_ROW,
    {"resume", NULL, "continue runs/<name> from its newest good checkpoint; a run that does not exist is started", 0, false},
    {"fresh", NULL, "rename an existing runs/<name> and start again; nothing is deleted", 0, false},
    {"stop-after", "STEP", "stop once STEP steps are done, saved, as Ctrl-C would (exit code 75)", 0, false},
    {"quiet", NULL, "warnings only", 'q', false},
};
static const struct option_table table = {
    .verb = "train",
    .args = "JOB...",
    .about = "Train the job of each file, one after another. Ctrl-C finishes the step, saves and leaves with exit code 75; a second Ctrl-C leaves at "
             "once, with the last checkpoint intact.",
    .example = "lorat train configs/quickstart.yaml\nlorat train configs/quickstart.yaml --set train.learning_rate=5e-4 --set name=lower --resume",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = -1,
};

/* Every job is read before the first one runs: a typo in the last file shows at once. */
static int train_jobs(const struct options *o, const struct train_options *t, struct err *e)
{
    struct config *jobs = mem_alloc((size_t)o->n_args, sizeof *jobs);
    int rc = 0;
    if (jobs == NULL)
        return mem_fail(e, "the jobs", (size_t)o->n_args * sizeof *jobs);
    for (int i = 0; i < o->n_args; i++)
        TRY_DONE(verb_job(o, o->args[i], &jobs[i], e));
    stop_install();
    for (int i = 0; i < o->n_args; i++) {
        if (o->n_args > 1)
            log_note("job %d of %d: %s", i + 1, o->n_args, o->args[i]);
        TRY_DONE(train_run(&jobs[i], t, e));
    }
done:
    mem_free(jobs);
    return rc;
}

int verb_train(int argc, char **argv, struct err *e)
{
    struct options o;
    struct train_options t = {0};
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0) {
        t.resume = options_given(&o, "resume");
        t.fresh = options_given(&o, "fresh");
        if (options_given(&o, "quiet"))
            log_set_level(LOG_QUIET);
        if (t.resume && t.fresh)
            rc = err_set(e, ERR_USAGE, "lorat train: found --resume and --fresh, expected one of them");
        else
            rc = options_i64(&o, "stop-after", 1, INT64_MAX, &t.stop_after, e);
    }
    if (rc == 0)
        rc = train_jobs(&o, &t, e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
