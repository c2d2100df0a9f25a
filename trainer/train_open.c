/* train_open.c - from a job file to a run that stands at its first step: cheap refusals first, the large work last. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/train_internal.h"
#include "trainer/tuned.h"

/* Steps of the whole run. A fraction of an epoch is rounded up to whole steps. */
static int count_steps(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    double epochs = c->train.epochs;
    r->epochs = epochs > 0 ? (int64_t)ceil(epochs) : INT32_MAX;
    r->total = 0;
    for (int64_t k = 0; k < r->epochs && (c->train.max_steps == 0 || r->total < c->train.max_steps); k++) {
        int64_t steps;
        TRY(loader_epoch_steps(r->train, k, &steps, e));
        double part = epochs > 0 && epochs - (double)k < 1 ? epochs - (double)k : 1;
        r->total += (int64_t)ceil((double)steps * part);
    }
    if (c->train.max_steps > 0 && r->total > c->train.max_steps)
        r->total = c->train.max_steps;
    if (c->train.warmup_steps >= r->total && r->lead)
        log_warn("train.warmup_steps: %lld of %lld steps: the learning rate never reaches its full value", (long long)c->train.warmup_steps,
                 (long long)r->total);
    return 0;
}

static int open_data(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    struct loader_options o = job_loader_options(c, &r->job.source.facts, &r->job.comm, DATASET_TRAIN, r->job.plan.micro_batch);
    TRY(loader_open(&o, &r->train, e));
    const struct loader_counts *n = loader_counts(r->train);
    const struct dataset_facts *facts = loader_facts(r->train);
    if (n->targets == 0)
        FAIL(e, ERR_DATA, "%s: no target token in the train group, expected some text that carries loss. Look at it with: lorat data show %s",
             c->data.train, c->data.train);
    if (n->split + n->dropped + n->truncated + n->no_target > 0)
        log_note("data: of %lld documents %lld split, %lld truncated, %lld dropped, %lld without a target left out", (long long)n->documents,
                 (long long)n->split, (long long)n->truncated, (long long)n->dropped, (long long)n->no_target);
    struct buf warnings = {0};
    dataset_warnings(facts, &warnings);
    while (warnings.n > 0 && warnings.data[warnings.n - 1] == '\n')
        warnings.data[--warnings.n] = '\0';
    if (warnings.n > 0 && r->lead)
        log_warn("%s: %s", c->data.train, warnings.data);
    buf_free(&warnings);
    if (facts->group[DATASET_VALIDATION].present) {
        o = job_loader_options(c, &r->job.source.facts, &r->job.comm, DATASET_VALIDATION, r->job.plan.micro_batch);
        TRY(loader_open(&o, &r->validation, e));
    } else
        log_note("data: no validation group, so nothing is evaluated (lorat data build --validation 5%% makes one)");
    return count_steps(r, e);
}

/* The tokenizer of the dataset against that of the model: other ids would train nonsense without a word. */
static int check_tokenizer(struct run *r, struct err *e)
{
    char hex[65] = "unknown";
    const struct dataset_facts *facts = loader_facts(r->train);
    if (r->job.tokenizer != NULL)
        hash_hex(tokenizer_hash(r->job.tokenizer), hex);
    snprintf(r->state.tokenizer, sizeof r->state.tokenizer, "%s", hex);
    bool unknown = r->job.tokenizer == NULL || strcmp(facts->tokenizer, "unknown") == 0;
    if (unknown && !r->lead)
        return 0; /* rank 0 says it */
    if (r->job.tokenizer == NULL)
        log_warn("%s: has no tokenizer, so whether the dataset's tokens are this model's is unknown; they are below its vocabulary of %d",
                 r->job.c.model.path, r->job.source.facts.v);
    else if (strcmp(facts->tokenizer, "unknown") == 0)
        log_warn("%s: was built from tokens, so whether they are this model's is unknown; they are below its vocabulary of %d",
                 r->job.c.data.train, r->job.source.facts.v);
    else if (strcmp(facts->tokenizer, hex) != 0)
        FAIL(e, ERR_DATA, "%s: made with another tokenizer (%.12s...), expected the one of %s (%.12s...). Build the dataset again with "
                          "lorat data build --model %s",
             r->job.c.data.train, facts->tokenizer, r->job.c.model.path, hex, r->job.c.model.path);
    return 0;
}

/* Where the base lies, where that is not plain. */
static void introduce_base(const struct run *r)
{
    const struct plan_device *d = &r->job.plan.device;
    if (d->cards > 1 || r->job.plan.shape.place.kind != FROZEN_RESIDENT)
        log_note("base     %s", r->job.plan.base);
}

/* A card that could train too, and does not: whoever has it should know. */
static void introduce_left_out(const struct run *r)
{
    const struct train_ranks *ranks = r->job.ranks;
    if (ranks->left_out.total > 0)
        log_note("cards    card %d, %s, is of another kind than card %d and is left out: compute.gpus can name both", ranks->left_out.index,
                 ranks->left_out.name, ranks->cards[0].index);
}

static void introduce(const struct run *r)
{
    const struct plan *p = &r->job.plan;
    char memory[32], ranks[32] = "";
    int64_t tokens = loader_counts(r->train)->tokens;
    log_note("model    %s (%.0f M parameters) on %s", r->job.c.model.path, (double)facts_n_total(&r->job.source.facts) / 1e6, r->job.ops->device);
    log_note("adapter  rank %d on %s: %.2f M parameters", r->job.lora.rank,
             r->job.lora.n_modules == LORA_KINDS * r->job.lora.layers ? "all linear layers" : "chosen layers", (double)p->parameters / 1e6);
    log_note("data     %s: %lld documents, %lld tokens an epoch", r->job.c.data.train, (long long)loader_counts(r->train)->documents,
             (long long)tokens);
    if (r->job.comm.ranks > 1)
        snprintf(ranks, sizeof ranks, "%d ranks x ", r->job.comm.ranks);
    log_note("plan     %lld steps of %d rows (%s%d x %d), recompute %s, %s, %s planned%s", (long long)r->total, r->job.c.train.batch, ranks,
             p->accumulation, p->micro_batch, plan_recompute_name(p->recompute), p->device.act == DT_BF16 ? "bf16" : "f32",
             num_format_bytes(memory, (uint64_t)p->total_bytes), r->job.comm.ranks > 1 ? " for each" : "");
    introduce_base(r);
    introduce_left_out(r);
}

static void rank_tick(void *arg)
{
    struct run *r = arg;
    r->job.comm.alive(&r->job.comm, r->state.step, "training");
}

/* tuned: the table of products in use. */
static int open_choices(struct run *r, const char *tuned, struct err *e)
{
    const struct choices_facts f = {.run_dir = r->job.run_dir, .step = r->state.step, .tuned = tuned, .comm = &r->job.comm,
                                    .micro_batch = r->job.plan.micro_batch, .place = r->job.plan.shape.place.kind};
    return choices_open(&r->choices, r->job.ops, &f, e);
}

/* What each step reports to: the watcher of ranks, the log, the meter of a CPU. */
static void watch_steps(struct run *r)
{
    r->job.model.tick = rank_tick;
    r->job.model.tick_arg = r;
    metrics_open(&r->metrics, r->lead ? r->job.run_dir : "");
    if (r->lead && !r->job.plan.device.cuda)
        energy_open(&r->energy, NULL);
    r->spent.split.energy_j = energy_read(&r->energy); /* 0, or NaN */
}

static int open_plan(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    struct err also = {0};
    if (r->options->resume)
        r->job.before = choices_before(r->job.run_dir);
    if (job_plan(&r->job, NULL, false, e) == 0)
        return job_need_dataset(c, e);
    if (!io_exists(c->model.path) && job_need_dataset(c, &also) != 0) { /* both are missing: say both at once */
        size_t n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, "\n%s", also.text);
    }
    return -1;
}

/* The model's tokenizer, and its chat template where prompts are answered. */
static int open_text(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    TRY(source_tokenizer(&r->job.source, &r->job.tokenizer, e));
    if (c->eval.n_prompts > 0) {
        if (r->job.tokenizer == NULL)
            FAIL(e, ERR_MODEL, "eval.prompts: %s has no tokenizer, expected one to read prompts with. Remove eval.prompts", c->model.path);
        TRY(source_template(&r->job.source, c->data.tmpl, &r->job.template, e));
    }
    return check_tokenizer(r, e);
}

int run_open(struct run *r, const struct config *c, const struct train_options *t, const struct comm *comm, const struct train_ranks *ranks,
             struct interconnect *link, struct err *e)
{
    char tuned[TUNED_NAME];
    *r = (struct run){.options = t, .lead = comm->rank == 0, .saved = -1, .started = metrics_now(), .loss = NAN, .eval_first = NAN,
                      .eval_last = NAN, .link = link};
    r->job.c = *c;
    r->job.comm = *comm;
    r->job.ranks = ranks;
    r->job.machine = link->machine;
    snprintf(r->job.run_dir, sizeof r->job.run_dir, "runs/%s", c->name);
    if (r->lead)
        TRY(run_check_dir(r, e));
    TRY(io_mkdirs(".cache/lorat", e));
    TRY(open_plan(r, e));
    TRY(run_join_cards(r, e));
    TRY(open_data(r, e));
    TRY(open_text(r, e));
    snprintf(r->state.dataset, sizeof r->state.dataset, "%s", loader_facts(r->train)->seal);
    if (r->lead) /* once: the base may be large */
        TRY(source_identity(&r->job.source, ".cache/lorat", r->state.base, e));
    TRY(run_compare_ranks(r, e));
    TRY(comm->share(&r->job.comm, r->state.base, sizeof r->state.base, e));
    introduce(r);
    TRY(run_enter(r, e));
    /* A table is for rank 0's card: a rank whose card is another goes without, on a resume as before. */
    TRY(tuned_use(r->job.ops, r->job.run_dir, r->found.dir != NULL && (r->lead || r->job.plan.device.unequal[0] == '\0'), tuned, e));
    TRY(run_test_links(r, e));
    TRY(job_load(&r->job, e));
    TRY(run_open_state(r, e));
    TRY(open_choices(r, tuned, e));
    TRY(run_write_job(r, e));
    watch_steps(r);
    job_measure(&r->job);
    TRY(run_warn_unequal(r, e));
    job_check_memory(&r->job);
    return loader_start(r->train, r->state.step, r->epochs, e);
}

void run_close(struct run *r)
{
    choices_close(&r->choices);
    loader_close(r->train);
    loader_close(r->validation);
    metrics_close(&r->metrics);
    energy_close(&r->energy);
    run_lock_drop(r->lock);
    run_found_free(&r->found);
    mem_free(r->stage);
    job_close(&r->job);
}
