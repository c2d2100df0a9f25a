/* train.c - the loop: batches in, gradients summed, guarded and applied; evaluation, checkpoints, stopping. */
#include "trainer/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/stop.h"
#include "trainer/optim.h"
#include "trainer/ranks.h"
#include "trainer/train_internal.h"
#include "trainer/train_ranks.h"

static bool is_due(const struct cfg_every *every, int64_t step, double now, double last)
{
    return (every->steps > 0 && step % every->steps == 0) || (every->seconds > 0 && now - last >= every->seconds);
}

/* Save the state of now. A failure is said and the run goes on: the checkpoint before this one still stands. */
static int save(struct run *r, struct err *e)
{
    struct run_block block;
    const struct config *c = &r->job.c;
    if (r->saved == r->state.step)
        return 0;
    if (!r->lead) {
        r->saved = r->state.step;
        r->last_save_s = metrics_now();
        return 0;
    }
    double start = metrics_now();
    r->job.comm.alive(&r->job.comm, r->state.step, "saving");
    ops_mark(r->job.ops, "save");
    int rc = run_block(r, &block, e);
    if (rc == 0)
        rc = state_save(r->job.run_dir, &r->job.lora, c, &block, &r->state, e);
    ops_mark(r->job.ops, NULL);
    TRY(rc);
    r->saved = r->state.step;
    r->last_save_s = metrics_now();
    log_note("saved %s/checkpoints/step-%08lld", r->job.run_dir, (long long)r->saved);
    struct err pruning = {0};
    if (run_prune(r->job.run_dir, c->checkpoint.keep, c->checkpoint.keep_best ? r->state.best_step : -1, &pruning) != 0)
        log_warn("%s. Old checkpoints were left in place", pruning.text);
    r->save_s += metrics_now() - start;
    r->spent.split.save_s += metrics_now() - start;
    return 0;
}

static void save_or_warn(struct run *r)
{
    struct err e = {0};
    if (save(r, &e) != 0)
        log_warn("step %lld was not saved: %s. The checkpoint before it still stands and the run goes on", (long long)r->state.step, e.text);
}

/* The micro-batches of one step, added up. */
static int accumulate(struct run *r, struct metrics_step *s, struct err *e)
{
    struct model *m = &r->job.model;
    model_zero_grads(m);
    for (int32_t k = 0; k < r->job.plan.accumulation; k++) {
        struct batch *b;
        TRY(loader_next(r->train, &b, &s->split.wait_s, e));
        if (b == NULL)
            FAIL(e, ERR_INTERNAL, "the dataset ended at step %lld, expected %lld steps", (long long)r->state.step, (long long)r->total);
        int rc = model_accumulate(m, b, r->state.step, e);
        s->step_tokens += b->n_real;
        s->targets += (int64_t)llround(b->weight_sum);
        loader_release(r->train, b);
        TRY(rc);
        r->job.comm.alive(&r->job.comm, r->state.step, "training");
    }
    double counted[2] = {(double)s->step_tokens, (double)s->targets};
    TRY(r->job.comm.sum_host(&r->job.comm, counted, 2, e));
    s->step_tokens = (int64_t)counted[0];
    s->targets = (int64_t)counted[1];
    if (stop_requested()) {
        float one = 1;
        m->o->upload(m->o, m->t.grads + r->job.lora.count + TAIL_STOP, &one, sizeof one);
    }
    return 0;
}

/* A step that was not finite changed nothing; too many in a row and the run gives up. */
static int note_skip(struct run *r, const struct optim_result *result, struct err *e)
{
    int32_t limit = r->job.c.train.max_skipped;
    if (result->finite) {
        r->state.skipped_in_row = 0;
        return 0;
    }
    r->state.skipped++;
    r->state.skipped_in_row++;
    log_warn("step %lld: loss or gradient is not finite; the step was skipped and nothing changed (%lld in a row, %d end the run)",
             (long long)r->state.step, (long long)r->state.skipped_in_row, limit);
    if (r->state.skipped_in_row < limit)
        return 0;
    char last[256] = "No checkpoint was saved";
    if (r->saved >= 0)
        snprintf(last, sizeof last, "The last checkpoint is %s/checkpoints/step-%08lld", r->job.run_dir, (long long)r->saved);
    FAIL(e, ERR_DIVERGED,
         "step %lld: %d steps in a row were not finite, expected numbers. %s. Lower train.learning_rate, look at the data (lorat data show), and "
         "start again with --fresh",
         (long long)r->state.step, limit, last);
}

/* Seconds that the device has waited for blocks of the base, since the last call. */
static double waited_for_blocks(struct run *r)
{
    struct ops *o = r->job.ops;
    return o->fetch_waited != NULL ? o->fetch_waited(o) : 0;
}

/* Where the time from start to now went, into the step and the run's sums. */
static void split_time(struct run *r, struct metrics_step *s, const struct optim_result *result, double start, double joules)
{
    struct metrics_split *t = &s->split, *sum = &r->spent.split;
    double now = metrics_now();
    s->seconds = now - start;
    t->comm_s = r->job.comm.cost.wait_s + waited_for_blocks(r); /* the sum has been read: all of the step's waits are over */
    t->comm_bytes = r->job.comm.cost.bytes;
    t->optim_s = now - result->read_at;
    t->compute_s = fmax(s->seconds - t->comm_s - t->wait_s - t->optim_s, 0);
    t->energy_j = energy_read(&r->energy) - joules;
    t->save_s = r->save_s;
    r->save_s = 0;
    sum->compute_s += t->compute_s;
    sum->comm_s += t->comm_s;
    sum->wait_s += t->wait_s;
    sum->optim_s += t->optim_s;
    sum->comm_bytes += t->comm_bytes;
    sum->energy_j += t->energy_j;
}

/* A time is due when rank 0's clock says so. */
static int due(struct run *r, const struct cfg_every *every, double now, double last, bool *out, struct err *e)
{
    *out = is_due(every, r->state.step, now, last);
    return every->seconds > 0 ? r->job.comm.share(&r->job.comm, out, sizeof *out, e) : 0;
}

static int one_step(struct run *r, struct optim_result *result, struct err *e)
{
    struct metrics_step s = {.total = r->total, .rate = optim_rate(&r->job.c, r->state.step, r->total), .gemm_rate = r->job.gemm_rate};
    double start = metrics_now(), joules = energy_read(&r->energy);
    r->job.model.flop = 0;
    r->job.comm.cost = (struct comm_cost){0};
    waited_for_blocks(r); /* an evaluation's are none of the step's */
    TRY(accumulate(r, &s, e));
    TRY(optim_step(&r->job.model, &r->job.comm, &r->job.c, s.rate, r->state.updates, result, e));
    split_time(r, &s, result, start, joules);
    r->state.step++;
    r->state.updates += result->updated;
    r->state.tokens += s.step_tokens;
    r->state.targets += s.targets;
    r->spent.seconds += s.seconds;
    r->spent.flop += r->job.model.flop;
    r->spent.tokens += s.step_tokens;
    s.step = r->state.step;
    s.loss = r->loss = isnan(result->loss) ? NAN : result->loss; /* a NaN without a sign, so that it prints as one */
    s.norm = isnan(result->norm) ? NAN : result->norm;
    s.tokens = r->state.tokens;
    s.targets = r->state.targets;
    s.flop = r->job.model.flop;
    s.finite = result->finite;
    metrics_step(&r->metrics, &s);
    TRY(choices_settle(&r->choices, r->job.ops, &r->job.comm, e));
    return note_skip(r, result, e);
}

static int evaluate(struct run *r, struct err *e)
{
    bool better;
    double start = metrics_now();
    ops_mark(r->job.ops, "evaluation");
    int rc = run_evaluate(r, &better, e);
    ops_mark(r->job.ops, NULL);
    TRY(rc);
    r->spent.eval_s += metrics_now() - start;
    r->state.evaluated = r->state.step;
    if (metrics_now() - r->measured_s > 60) {
        job_measure(&r->job);
        r->measured_s = metrics_now();
    }
    r->last_eval_s = metrics_now();
    if (better && r->job.c.checkpoint.keep_best && r->state.step > 0)
        save_or_warn(r);
    return 0;
}

static int stopped(struct run *r, struct err *e)
{
    TRY(save(r, e));
    FAIL(e, ERR_STOPPED, "at step %lld of %lld, saved. Run the same command with --resume to continue", (long long)r->state.step,
         (long long)r->total);
}

static int loop(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    r->last_eval_s = r->last_save_s = r->measured_s = metrics_now();
    r->ready_s = r->last_eval_s - r->started;
    /* Also when the run was stopped at a step before its evaluation: resumed and uninterrupted runs know the same best loss. */
    if (r->state.step < r->total && r->state.evaluated != r->state.step && (r->state.step == 0 || is_due(&c->eval.every, r->state.step, 0, 0)))
        TRY(evaluate(r, e));
    while (r->state.step < r->total) {
        struct optim_result result;
        bool now_due;
        /* Several ranks stop where a sum has told all of them. */
        if ((r->job.comm.ranks == 1 ? stop_requested() : r->asked) || (r->options->stop_after > 0 && r->state.step >= r->options->stop_after))
            return stopped(r, e);
        TRY(one_step(r, &result, e));
        r->asked = result.stop;
        if (r->state.step == r->total || result.stop)
            continue;
        double now = metrics_now();
        TRY(due(r, &c->eval.every, now, r->last_eval_s, &now_due, e));
        if (now_due)
            TRY(evaluate(r, e));
        bool sound = r->state.skipped_in_row == 0; /* no checkpoint from the middle of trouble: the last one stays from before it */
        TRY(due(r, &c->checkpoint.every, now, r->last_save_s, &now_due, e));
        if (now_due && sound)
            save_or_warn(r);
    }
    TRY(evaluate(r, e));
    r->saved = -1;
    return save(r, e);
}

static int write_adapter(struct run *r, char *path, size_t size, struct err *e)
{
    struct run_block block;
    snprintf(path, size, "%s/adapter", r->job.run_dir);
    TRY(run_block(r, &block, e));
    TRY(io_mkdirs(path, e));
    return state_save_adapter(path, &r->job.lora, &r->job.c, block.params, e);
}

static void summarise(struct run *r, const char *state, const char *adapter)
{
    char libraries[256];
    double s = r->spent.seconds;
    const char *way = interconnect_end(r->link, r->job.comm.ranks, r->spent.split.comm_bytes);
    device_libraries(r->job.ops, libraries, sizeof libraries);
    metrics_summary(r->job.run_dir, &(struct metrics_summary){
        .name = r->job.c.name, .state = state, .step = r->state.step, .steps = r->total, .tokens = r->state.tokens,
        .skipped = r->state.skipped, .loss = r->loss, .eval_first = r->eval_first, .eval_loss = r->eval_last,
        .seconds = metrics_now() - r->started, .ready_s = r->ready_s, .tok_s = s > 0 ? (double)r->spent.tokens / s : NAN,
        .gemm_share = s > 0 && r->job.gemm_rate > 0 ? r->spent.flop / s / r->job.gemm_rate : NAN,
        .wait_share = s > 0 ? r->spent.split.wait_s / s : NAN, .peak_bytes = (double)metrics_peak_rss(),
        .plan_bytes = (double)r->job.plan.total_bytes, .device_bytes = job_device_bytes(&r->job), .adapter = adapter,
        .split = r->spent.split, .step_s = s, .eval_s = r->spent.eval_s, .ranks = r->job.comm.ranks, .device = r->job.ops->device,
        .interconnect = way, .libraries = libraries, .precision = r->job.ops->act == DT_BF16 ? "bf16" : "f32"});
}

/* What is counted from the first step on. */
static void start_counting(struct run *r)
{
    const struct train_ranks *ranks = r->job.ranks;
    const char *pci[DEVICE_MAX_CARDS];
    interconnect_start(r->link);
    if (!r->lead || !ranks->cuda)
        return;
    for (int i = 0; i < ranks->n; i++)
        pci[i] = ranks->cards[i].pci;
    energy_open_cards(&r->energy, pci, ranks->n);
    r->spent.split.energy_j = energy_read(&r->energy); /* 0, or NaN */
}

static int run_all(struct run *r, struct err *e)
{
    char adapter[192] = "";
    start_counting(r);
    int rc = loop(r, e);
    if (rc == 0 && r->lead)
        rc = write_adapter(r, adapter, sizeof adapter, e);
    const char *state = rc == 0 ? "done" : e->code == ERR_STOPPED ? "stopped" : "failed";
    if (rc != 0 && e->code == ERR_STOPPED && !r->job.comm.over && r->saved != r->state.step) { /* stopped inside an evaluation */
        struct err saving = {0};
        rc = stopped(r, &saving);
        *e = saving;
    }
    if (r->lead)
        summarise(r, state, rc == 0 ? adapter : NULL);
    if (rc == 0)
        log_note("done: %lld steps, %.0f s%s. Adapter: %s  Log: %s/metrics.jsonl", (long long)r->state.step, metrics_now() - r->started,
                 r->resumed ? " since it was resumed" : "", adapter, r->job.run_dir);
    return rc;
}

struct start {
    const struct config *c;
    const struct train_options *t;
    struct train_ranks ranks;
};

/* One rank's run from beginning to end. */
static int rank_run(struct comm *comm, void *arg, struct err *e)
{
    const struct start *s = arg;
    struct interconnect link;
    struct run r;
    int rc = interconnect_open(&link, &s->ranks, s->c->compute.interconnect, comm, e); /* before a library of NVIDIA's is loaded */
    if (rc == 0) {
        rc = run_open(&r, s->c, s->t, comm, &s->ranks, &link, e);
        if (rc == 0)
            rc = run_all(&r, e);
        /* With several ranks this process ends in any case. After a failure nothing is given back first: a card that waits for a rank that is
         * gone would hold it up, and nobody would hear what went wrong. */
        if (rc == 0 || (e->code == ERR_STOPPED && !r.job.comm.over) || comm->ranks == 1)
            run_close(&r);
    }
    interconnect_close(&link);
    return rc;
}

/* What a stop before the first checkpoint leaves: another rank may have begun the run already. */
static int say_what_is_left(const struct config *c, bool fresh, int rc, struct err *e)
{
    char job[192], checkpoints[192];
    struct err was = *e;
    snprintf(job, sizeof job, "runs/%s/job.yaml", c->name);
    snprintf(checkpoints, sizeof checkpoints, "runs/%s/checkpoints", c->name);
    if (rc == 0 || e->code != ERR_STOPPED || io_exists(checkpoints))
        return rc;
    if (io_exists(job))
        FAIL(e, was.code, "%.800s; nothing was saved, and the run's folder is there. Go on with --resume", was.text);
    if (fresh) /* the old run has another name, and was said to */
        return rc;
    FAIL(e, was.code, "%.800s; nothing had changed", was.text);
}

int train_run(const struct config *c, const struct train_options *t, struct err *e)
{
    struct start s = {.c = c, .t = t};
    struct comm alone;
    TRY(train_ranks(c, &s.ranks, e));
    if (s.ranks.n > 1)
        return say_what_is_left(
            c, t->fresh,
            ranks_run(&(struct ranks_options){.ranks = s.ranks.n, .timeout_s = c->compute.peer_timeout}, rank_run, &s, e), e);
    comm_solo(&alone);
    return say_what_is_left(c, t->fresh, rank_run(&alone, &s, e), e);
}
