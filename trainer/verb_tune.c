/* verb_tune.c - `lorat tune JOB`: let the product library try its algorithms on the job's own shapes, and keep what is fastest.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/run.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/rng.h"
#include "trainer/job.h"
#include "trainer/metrics.h"
#include "trainer/tuned.h"
#include "trainer/verb_job.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    SET_ROW,
    {"seconds", "N", "how long to measure, about (default 60)", 0, false},
    {"keep", NULL, "write the table also where a micro-batch took longer with it", 0, false},
};
static const struct option_table table = {
    .verb = "tune",
    .args = "JOB",
    .about = "Time the algorithms that cuBLASLt offers for the products of this job and write the fastest to "
             "runs/<name>/tuned.txt, which lorat train uses from then on; a table with which a micro-batch takes longer is not "
             "kept. Do it before the run: a run that has begun keeps its "
             "algorithms. The weights are not read. A job of several cards is tuned on the first of them.",
    .example = "lorat tune configs/qwen3-8b.yaml\nlorat train configs/qwen3-8b.yaml",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

/* A full micro-batch of documents as long as the row, random tokens, every position but the last of a document a target. One
 * block of memory behind it, owned by `block`. */
static int make_batch(const struct job *j, struct batch *b, void **block, struct err *e)
{
    int32_t length = j->c.data.sequence_length, rows_in = j->plan.micro_batch,
            n = (int32_t)num_round_up((int64_t)rows_in * length, BATCH_ROUND);
    size_t each = (size_t)n * sizeof(int32_t), spans = ((size_t)rows_in + 1) * sizeof(struct span);
    char *p = mem_alloc(5 * each + spans, 1);
    *block = p;
    if (p == NULL)
        return mem_fail(e, "a micro-batch", 5 * each + spans);
    *b = (struct batch){.n = n,
                        .n_real = rows_in * length,
                        .n_rows = rows_in,
                        .max_span = length,
                        .tokens = (int32_t *)(void *)p,
                        .targets = (int32_t *)(void *)(p + each),
                        .weights = (float *)(void *)(p + 2 * each),
                        .positions = (int32_t *)(void *)(p + 3 * each),
                        .keys = (uint32_t *)(void *)(p + 4 * each),
                        .spans = (struct span *)(void *)(p + 5 * each)};
    for (int32_t i = 0; i < n; i++) {
        bool dead = i >= b->n_real, last = (i + 1) % length == 0;
        b->tokens[i] =
            dead ? 0 : (int32_t)(rng_at((uint64_t)j->c.seed, RNG_SAMPLE, (uint32_t)i, 0, 0).v[0] % (uint32_t)j->source.facts.v);
        b->positions[i] = dead ? i - b->n_real : i % length;
        b->keys[i] = (uint32_t)i;
        b->weights[i] = dead || last ? 0 : 1;
        b->weight_sum += b->weights[i];
    }
    for (int32_t i = 0; i < b->n_real - 1; i++)
        b->targets[i] = b->tokens[i + 1];
    for (int32_t i = 0; i < rows_in; i++)
        b->spans[b->n_spans++] = (struct span){.q0 = i * length, .q_len = length, .k0 = i * length, .k_len = length};
    if (n > b->n_real) {
        struct span rest = {.q0 = b->n_real, .q_len = n - b->n_real, .k0 = b->n_real, .k_len = n - b->n_real};
        b->spans[b->n_spans++] = rest;
        b->max_span = rest.q_len > b->max_span ? rest.q_len : b->max_span;
    }
    return 0;
}

/* Seconds of a micro-batch forward and backward: of three after one that makes what is made on first use. */
struct timing {
    double best, worst;
};
static int time_batch(struct job *j, const struct batch *b, struct timing *out, struct err *e)
{
    struct model *m = &j->model;
    *out = (struct timing){0};
    for (int i = 0; i < 4; i++) {
        model_zero_grads(m);
        TRY(m->o->sync(m->o, e));
        double start = metrics_now();
        TRY(model_accumulate(m, b, 0, e));
        TRY(m->o->sync(m->o, e));
        double s = metrics_now() - start;
        if (i == 1 || (i > 1 && s < out->best))
            out->best = s;
        if (i > 0 && s > out->worst)
            out->worst = s;
    }
    return 0;
}

/* What two timings may differ by and mean nothing, as a share: how far the runs of each lie apart, from 1 % to 10 %. */
static double noise(const struct timing *a, const struct timing *b)
{
    return fmin(fmax(fmax(a->worst / a->best, b->worst / b->best) - 1, 0.01), 0.1);
}

static int measure(struct job *j, double budget_s, struct timing *before, struct timing *after, struct err *e)
{
    struct model *m = &j->model;
    struct batch b;
    void *block;
    size_t scratch = (size_t)((char *)m->workspace - (char *)m->memory[ARENA_ACTIVATIONS]);
    int rc = make_batch(j, &b, &block, e);
    if (rc == 0)
        rc = time_batch(j, &b, before, e);
    if (rc == 0)
        rc = m->o->tune(m->o, m->memory[ARENA_ACTIVATIONS], scratch, budget_s, e);
    if (rc == 0)
        rc = time_batch(j, &b, after, e);
    mem_free(block);
    return rc;
}

/* A run that has begun keeps its algorithms: a new table would change the bits of what follows. */
static int enter(const struct job *j, struct run_lock **lock, struct err *e)
{
    if (io_exists(j->run_dir) && !tuned_alone(j->run_dir))
        FAIL(
            e, ERR_STATE,
            "%s: the run has begun, expected one that is new: with other algorithms it would go on with other bits. Give the job "
            "another name, or rename the folder",
            j->run_dir);
    TRY(io_mkdirs(j->run_dir, e));
    return run_lock_take(j->run_dir, lock, e);
}

/* A job being tuned: planned as its rank 0 would be, with the other ranks left out. */
struct tuning {
    struct job job;
    struct train_ranks ranks;
    struct comm alone;
};

/* A block that others hold shares of is not fetched: the slot's zeros have its shapes, which is all that products are tuned by.
 */
static int no_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e)
{
    return 0;
}

/* The job's memory with zeros for weights, wherever they lie. */
static int allocate(struct tuning *t, struct err *e)
{
    struct job *j = &t->job;
    struct model *m = &j->model;
    comm_solo(&t->alone);
    t->alone.gather = no_gather;
    TRY(model_layout(m, j->ops, &j->source.facts, &j->lora, &j->plan.shape, e));
    m->comm = &t->alone;
    TRY(model_allocate(m, e));
    j->ops->zero(j->ops, m->memory[ARENA_FROZEN], m->arenas[ARENA_FROZEN].size);
    if (m->memory[ARENA_HOST] != NULL)
        memset(m->memory[ARENA_HOST], 0, m->arenas[ARENA_HOST].size);
    return 0;
}

/* The table into the run's folder, unless it made the micro-batch slower. */
static int keep(struct job *j, const struct timing *before, const struct timing *after, bool always, struct err *e)
{
    double change = after->best / before->best - 1, nothing = noise(before, after);
    bool slower = change > nothing, drop = slower && !always;
    char path[192];
    snprintf(path, sizeof path, "%s/tuned.txt", j->run_dir);
    bool earlier = io_exists(path);
    if (!drop)
        TRY(tuned_save(j->ops, j->run_dir, e));
    printf("%s: a micro-batch of %d tokens took %.1f ms, and takes %.1f ms with it (%+.1f %%)%s\n", path, j->plan.shape.n,
           1e3 * before->best, 1e3 * after->best, 100 * change,
           j->plan.shape.place.kind == FROZEN_SHARDED ? ", without the gathering of blocks" : "");
    if (drop)
        printf("That is slower, so it is not written: %s. --keep writes it all the same\n",
               earlier ? "the table that was there before stays" : "the library's own choices stay");
    else if (slower)
        printf("That is slower, and it is written as --keep asks: remove it to have the library's own choices\n");
    else if (change >= -nothing)
        printf("That is no gain: timings lie %.1f %% apart of themselves. Remove it to have the library's own choices\n",
               100 * nothing);
    return 0;
}

static int tune_job(struct tuning *t, double budget_s, bool always, struct run_lock **lock, struct err *e)
{
    struct job *j = &t->job;
    struct timing before, after;
    TRY(train_ranks(&j->c, &t->ranks, e)); /* before a card is opened here */
    j->ranks = &t->ranks;
    TRY(job_plan(j, NULL, true, e));
    if (j->ops->tune == NULL) {
        printf("%s: nothing to tune, its products have one algorithm for each shape\n", j->ops->device);
        return 0;
    }
    TRY(enter(j, lock, e));
    TRY(allocate(t, e));
    TRY(measure(j, budget_s, &before, &after, e));
    return keep(j, &before, &after, always, e);
}

int verb_tune(int argc, char **argv, struct err *e)
{
    struct options o;
    struct run_lock *lock = NULL;
    int64_t seconds = 60;
    int rc = options_read(&table, argc, argv, &o, e);
    struct tuning *t = mem_alloc(1, sizeof *t);
    if (rc == 0 && t == NULL)
        rc = mem_fail(e, "a job", sizeof *t);
    if (rc == 0)
        rc = options_i64(&o, "seconds", 1, 86400, &seconds, e);
    if (rc == 0)
        rc = verb_job(&o, o.args[0], &t->job.c, e);
    if (rc == 0)
        rc = tune_job(t, (double)seconds, options_given(&o, "keep"), &lock, e);
    if (t != NULL)
        job_close(&t->job);
    run_lock_drop(lock);
    mem_free(t);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
