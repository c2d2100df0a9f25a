/* verb_plan.c - `lorat plan`: the tables that a run would allocate by, from config.json and the job alone. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/bench.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/interconnect.h"
#include "trainer/job.h"
#include "trainer/verb_job.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    SET_ROW,
    {"on", "CARD",
     "plan for a card that is not here: 3090, 4090, 5080, 5090, 4500-ada, pro-4000, gb10, l40, h100, h200, or several of them, "
     "as in 2x3090",
     0, false},
    {"json", NULL, "one JSON object instead of tables, in bytes and seconds", 0, false},
};
static const struct option_table table = {
    .verb = "plan",
    .args = "JOB",
    .about = "Show what the job takes: each arena and its parts, the micro-batch and recomputation chosen, what is left, and an estimate of "
             "the time; with two cards or a base in host memory also what each way costs that bytes can take. config.json is enough: no "
             "weights and no card are needed. A job that does not fit is refused with the numbers and what to change.",
    .example = "lorat plan configs/qwen3-8b.yaml --on 3090",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

/* Steps and tokens of the run, when the dataset is already there. */
static int count_run(const struct job *j, int64_t *steps, int64_t *tokens, struct err *e)
{
    const struct config *c = &j->c;
    struct loader *l = NULL;
    struct loader_options o = job_loader_options(c, &j->source.facts, NULL, DATASET_TRAIN, j->plan.micro_batch);
    int64_t epoch_steps = 0;
    *steps = *tokens = 0;
    if (!io_exists(c->data.train))
        return 0;
    TRY(loader_open(&o, &l, e));
    int rc = loader_epoch_steps(l, 0, &epoch_steps, e);
    if (rc == 0) {
        double epoch_tokens = (double)loader_counts(l)->tokens;
        double all = c->train.epochs > 0 ? c->train.epochs * (double)epoch_steps : (double)c->train.max_steps;
        if (c->train.max_steps > 0 && all > (double)c->train.max_steps)
            all = (double)c->train.max_steps;
        *steps = (int64_t)(all + 0.999);
        *tokens = epoch_steps > 0 ? (int64_t)(epoch_tokens * (double)*steps / (double)epoch_steps) : 0;
    }
    loader_close(l);
    return rc;
}

/* FLOP/s of products of n rows with square matrices, measured in a tenth of a second; 0 where there is no room for them. */
static double measure_products(struct ops *o, int32_t n, int32_t wide)
{
    size_t elements = 2 * (size_t)n * (size_t)wide + (size_t)wide * (size_t)wide;
    struct ops_dims d = {.n = n, .max_span = 64, .d = wide, .f = wide, .h = 1, .k = 1, .q = 64, .v = wide, .r = 16, .head_chunk = 64};
    size_t bytes = o->workspace_bytes(o, &d);
    void *scratch, *workspace;
    double rate = 0;
    if (o->alloc(o, elements * dtype_size(o->act), &scratch, NULL) != 0)
        return 0;
    if (o->alloc(o, bytes, &workspace, NULL) == 0) {
        o->set_workspace(o, workspace, bytes);
        rate = bench_linear(o, n, wide, wide, scratch, 0.1);
        o->set_workspace(o, NULL, 0);
        o->release(o, workspace);
    }
    o->release(o, scratch);
    return rate;
}

/* Large products are those that keep the device busy: a card that makes light of small ones is measured with larger ones. */
static void measure_here(struct job *j)
{
    if (j->ops == NULL)
        return;
    j->device.gemm_rate = measure_products(j->ops, 512, 1024);
    if (j->device.gemm_rate > 4e12)
        j->device.gemm_rate = fmax(j->device.gemm_rate, measure_products(j->ops, 4096, 4096));
}

/* What the job says of its devices against the cards of --on: refused as train would refuse it there, or said. */
static int check_cards(const struct config *c, const char *on, struct err *e)
{
    struct plan_device d;
    int named = __builtin_popcount(c->compute.gpus);
    TRY(plan_card(on, &d, e));
    if (c->compute.device == DEVICE_CPU) {
        log_warn("compute.device: cpu, and --on %s plans for what auto or cuda would take: as it stands the job runs on the CPU",
                 on);
        return 0;
    }
    TRY(train_ranks_cuda(c, e));
    if (named > d.cards)
        FAIL(e, ERR_DEVICE,
             "compute.gpus: found %d cards, expected at most the %d of --on %s. Plan for as many, or set compute.gpus", named,
             d.cards, on);
    if (named > 0 && named < d.cards)
        log_warn("compute.gpus: names %d of the %d cards of --on %s, and the plan is for all: as it stands the job runs on %d",
                 named, d.cards, on, named);
    if (c->compute.interconnect == INTERCONNECT_NVLINK && d.cards > 1 && d.ways.nvlink == 0)
        FAIL(e, ERR_DEVICE,
             "compute.interconnect: nvlink, but no NVLink joins %s, expected cards that have one. Set compute.interconnect: pcie",
             d.name);
    return d.cards > 1 ? 0 : interconnect_check(NULL, NULL, 1, c->compute.interconnect, e); /* one card: no machine is asked */
}

static int plan_job(const struct options *o, struct job *j, struct err *e)
{
    int64_t steps, tokens;
    struct buf out = {0};
    struct train_ranks ranks;
    TRY(verb_job(o, o->args[0], &j->c, e));
    if (options_value(o, "on") != NULL)
        TRY(check_cards(&j->c, options_value(o, "on"), e));
    else {
        TRY(train_ranks(&j->c, &ranks, e));
        j->ranks = &ranks;
    }
    TRY(job_plan(j, options_value(o, "on"), true, e));
    measure_here(j);
    if (j->ops != NULL) {
        j->plan.work.flop_s = 0.6 * j->device.gemm_rate; /* the share of the products' rate that whole steps reach */
        j->plan.work.tokens_half = 0;
        plan_estimate(&j->plan);
    }
    TRY(count_run(j, &steps, &tokens, e));
    (options_given(o, "json") ? plan_json : plan_print)(&j->plan, &j->c, &j->source.facts, steps, tokens, &out);
    if (out.failed)
        return mem_fail(e, "the plan's text", out.n);
    fputs(out.data, stdout);
    buf_free(&out);
    j->ranks = NULL;
    return 0;
}

int verb_plan(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    struct job *j = mem_alloc(1, sizeof *j);
    if (rc == 0)
        rc = j == NULL ? mem_fail(e, "a job", sizeof *j) : plan_job(&o, j, e);
    if (j != NULL)
        job_close(j);
    mem_free(j);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
