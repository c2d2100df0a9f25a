/* train_open.c - from a job file to a run that stands at its first step: cheap refusals first, the large work last. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/preflight.h"
#include "trainer/train_internal.h"
#include "trainer/tuned.h"

enum { SIMULATED_BYTES = 256 << 10 }; /* of the preflight's copies on a simulated card, which has no links to load */

static int check_run_dir(const struct run *r, struct err *e)
{
    if (r->options->resume || r->options->fresh || !io_exists(r->job.run_dir) || tuned_alone(r->job.run_dir))
        return 0;
    FAIL(e, ERR_STATE, "%s: a run of this name exists, expected a new name or a word on what to do with it. Say --resume to continue it or --fresh "
                       "to rename it and start again",
         r->job.run_dir);
}

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

/* What a resumed run must have in common with its checkpoint. */
static int check_resume(struct run *r, const struct run_state *was, const char *job_text, const char *dir, struct err *e)
{
    struct config recorded;
    struct buf said = {0};
    char where[256];
    int rc = 0;
    snprintf(where, sizeof where, "%s/job.yaml", dir);
    TRY(config_parse(job_text, strlen(job_text), where, &recorded, e));
    TRY_DONE(config_compare(&recorded, &r->job.c, &said, e));
    if (said.n > 0)
        log_note("resumed with a changed job:\n%s", said.data);
    if (strcmp(was->dataset, r->state.dataset) != 0)
        rc = err_set(e, ERR_STATE, "%s: another dataset than the one this run was trained on (seal %.12s..., expected %.12s...). Bring that one back, or "
                                   "start again with --fresh",
                     r->job.c.data.train, r->state.dataset, was->dataset);
    else if (strcmp(was->base, r->state.base) != 0)
        rc = err_set(e, ERR_STATE, "%s: another base model than the one this run was trained on (%.12s..., expected %.12s...). Bring that one back, or "
                                   "start again with --fresh",
                     r->job.c.model.path, r->state.base, was->base);
done:
    buf_free(&said);
    return rc;
}

int run_block(struct run *r, struct run_block *out, struct err *e)
{
    struct model *m = &r->job.model;
    size_t bytes = (size_t)r->job.lora.count * sizeof(float);
    *out = r->block;
    if (m->o->unified)
        return m->o->sync(m->o, e);
    TRY(m->o->download(m->o, out->params, m->t.params, bytes, e));
    TRY(m->o->download(m->o, out->m, m->t.m, bytes, e));
    return m->o->download(m->o, out->v, m->t.v, bytes, e);
}

/* The newest checkpoint that verifies, held against this job before anything large is read. */
static int find_checkpoint(struct run *r, struct err *e)
{
    struct run_state was;
    char *job_text = NULL;
    TRY(run_find(r->job.run_dir, &r->found, e));
    if (r->found.dir == NULL && r->found.rejected != NULL)
        FAIL(e, ERR_STATE, "%s: none of its checkpoints verifies, expected at least one. Start again with --fresh, which keeps them under another name\n%.640s",
             r->job.run_dir, r->found.rejected);
    if (r->found.rejected != NULL)
        log_warn("%s: refused, the newest good one is used:\n%s", r->job.run_dir, r->found.rejected);
    if (r->found.dir == NULL)
        return 0;
    int rc = state_read(r->found.dir, &was, &job_text, e);
    if (rc == 0)
        rc = check_resume(r, &was, job_text, r->found.dir, e);
    free(job_text);
    return rc;
}

static int load_checkpoint(struct run *r, struct err *e)
{
    struct run_state was;
    TRY(state_load(r->found.dir, &r->job.lora, &r->block, &was, NULL, e));
    r->state = was;
    r->saved = was.step;
    r->resumed = true;
    log_note("resuming %s at step %lld of %lld", r->job.run_dir, (long long)was.step, (long long)r->total);
    return 0;
}

/* The parameters of step 0: new, or those of another adapter. */
static int begin(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    r->state.best_step = r->state.evaluated = -1;
    lora_init(&r->job.lora, r->block.params);
    if (c->lora.start_from[0] != '\0') {
        TRY(state_load_adapter(c->lora.start_from, &r->job.lora, c, r->block.params, e));
        log_note("adapter: starts from %s", c->lora.start_from);
    }
    return 0;
}

/* What io_write_file_atomic leaves beside summary.json or the adapter when a process is killed inside it: ".<name>.tmp-<pid>". Nobody else
 * writes there while this process holds the run's lock. */
static void remove_leftovers(const char *dir)
{
    char **names, path[512];
    size_t n;
    if (io_list(dir, &names, &n, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const char *tail = strstr(names[i], ".tmp-");
        if (names[i][0] != '.' || tail == NULL || tail[5] == '\0' || tail[5 + strspn(tail + 5, "0123456789")] != '\0')
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) < (int)sizeof path)
            io->unlink(path);
    }
    io_list_free(names, n);
}

/* The old run gets another name; its table of algorithms serves the new one too. */
static int move_aside(struct run *r, struct err *e)
{
    char *moved = NULL, *table = tuned_keep(r->job.run_dir);
    int rc = tuned_alone(r->job.run_dir) ? 0 : run_move_aside(r->job.run_dir, &moved, e);
    if (rc == 0 && moved != NULL)
        log_note("the old run is now %s", moved);
    if (rc == 0 && moved != NULL && table != NULL) {
        rc = io_mkdirs(r->job.run_dir, e);
        if (rc == 0)
            rc = tuned_put_back(r->job.run_dir, table, e);
    }
    free(moved);
    free(table);
    return rc;
}

/* The run's folder is this process's from here on. */
static int enter_run(struct run *r, struct err *e)
{
    char adapter[192];
    if (r->options->fresh)
        TRY(move_aside(r, e));
    TRY(io_mkdirs(r->job.run_dir, e));
    TRY(run_lock_take(r->job.run_dir, &r->lock, e));
    snprintf(adapter, sizeof adapter, "%s/adapter", r->job.run_dir);
    remove_leftovers(r->job.run_dir);
    remove_leftovers(adapter);
    return r->options->resume ? find_checkpoint(r, e) : 0;
}

static int open_state(struct run *r, struct err *e)
{
    struct model *m = &r->job.model;
    int64_t count = r->job.lora.count;
    size_t bytes = (size_t)count * sizeof(float);
    r->block = (struct run_block){m->t.params, m->t.m, m->t.v};
    if (!m->o->unified) {
        r->stage = mem_alloc((size_t)count * 3, sizeof *r->stage);
        if (r->stage == NULL)
            return mem_fail(e, "the host's copy of the adapter", 3 * bytes);
        r->block = (struct run_block){r->stage, r->stage + count, r->stage + 2 * count};
    }
    TRY(r->found.dir != NULL ? load_checkpoint(r, e) : begin(r, e));
    if (!m->o->unified) {
        m->o->upload(m->o, m->t.params, r->block.params, bytes);
        m->o->upload(m->o, m->t.m, r->block.m, bytes);
        m->o->upload(m->o, m->t.v, r->block.v, bytes);
    }
    model_refresh(m);
    return m->o->sync(m->o, e);
}

/* Rank 0 enters the run's folder; the others learn which checkpoint it goes on from. */
static int enter_together(struct run *r, struct err *e)
{
    char dir[512] = "";
    if (r->lead)
        TRY(enter_run(r, e));
    if (r->found.dir != NULL)
        snprintf(dir, sizeof dir, "%s", r->found.dir);
    TRY(r->job.comm.share(&r->job.comm, dir, sizeof dir, e));
    if (r->lead || dir[0] == '\0')
        return 0;
    r->found.dir = mem_strdup(dir);
    return r->found.dir != NULL ? 0 : mem_fail(e, dir, sizeof dir);
}

/* The model's files as this rank has opened them: hashing them on every rank would read a large base several times. */
static int compare_base(struct run *r, struct err *e)
{
    struct comm *c = &r->job.comm;
    struct buf stamp = {0};
    uint8_t digest[HASH_BYTES];
    if (c->ranks == 1)
        return 0;
    int rc = source_stamp(&r->job.source, &stamp, e);
    if (rc == 0)
        hash_bytes(stamp.data, stamp.n, digest);
    buf_free(&stamp);
    return rc == 0 ? c->same(c, "base model", digest, sizeof digest, e) : -1;
}

/* Who trains together must train the same. The ranks are forks of one process, so what can differ is what each of them opens for
 * itself, and what a person does to those files meanwhile. */
static int compare_ranks(struct run *r, struct err *e)
{
    struct comm *c = &r->job.comm;
    char libraries[256] = "";
    device_libraries(r->job.ops, libraries, sizeof libraries);
    TRY(c->same(c, "lorat", LORAT_VERSION, sizeof LORAT_VERSION, e));
    TRY(c->same(c, "set of libraries", libraries, sizeof libraries, e));
    TRY(c->same(c, "job", &r->job.c, sizeof r->job.c, e));
    TRY(c->same(c, "dataset", r->state.dataset, sizeof r->state.dataset, e));
    TRY(c->same(c, "tokenizer", r->state.tokenizer, sizeof r->state.tokenizer, e));
    TRY(compare_base(r, e));
    TRY(c->same(c, "number of steps", &r->total, sizeof r->total, e));
    TRY(c->same(c, "placement", &r->job.plan.shape.place, sizeof r->job.plan.shape.place, e));
    return c->same(c, "plan", &r->job.plan.micro_batch, sizeof r->job.plan.micro_batch, e);
}

static int write_job(const struct run *r, struct err *e)
{
    char path[256];
    struct buf text = {0};
    if (!r->lead)
        return 0;
    snprintf(path, sizeof path, "%s/job.yaml", r->job.run_dir);
    config_write(&r->job.c, &text);
    int rc = text.failed ? mem_fail(e, path, text.n) : io_write_file_atomic(path, text.data, text.n, e);
    buf_free(&text);
    return rc;
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
    char memory[32];
    int64_t tokens = loader_counts(r->train)->tokens;
    log_note("model    %s (%.0f M parameters) on %s", r->job.c.model.path, (double)facts_n_total(&r->job.source.facts) / 1e6, r->job.ops->device);
    log_note("adapter  rank %d on %s: %.2f M parameters", r->job.lora.rank, r->job.lora.n_modules == LORA_KINDS * r->job.lora.layers ? "all linear layers" : "chosen layers",
             (double)p->parameters / 1e6);
    log_note("data     %s: %lld documents, %lld tokens an epoch", r->job.c.data.train, (long long)loader_counts(r->train)->documents,
             (long long)tokens);
    log_note("plan     %lld steps of %d rows (%d x %d), recompute %s, %s, %s planned", (long long)r->total, r->job.c.train.batch, p->accumulation,
             p->micro_batch, plan_recompute_name(p->recompute), p->device.act == DT_BF16 ? "bf16" : "f32",
             num_format_bytes(memory, (uint64_t)p->total_bytes));
}

/* Where the base lies, where that is not plain. */
static void introduce_base(const struct run *r)
{
    const struct plan_device *d = &r->job.plan.device;
    if (d->cards > 1 || r->job.plan.shape.place.kind != FROZEN_RESIDENT)
        log_note("base     %s", r->job.plan.base);
}

/* Cards that are not alike: every step waits for the slower one, and that one should be known. */
static int warn_unequal(struct run *r, struct err *e)
{
    const struct plan_device *d = &r->job.plan.device;
    char slowest[128];
    if (r->job.comm.ranks == 1 || d->unequal[0] == '\0')
        return 0;
    TRY(train_ranks_slowest(r->job.ranks, &r->job.comm, r->job.gemm_rate, slowest, sizeof slowest, e));
    if (r->lead)
        log_warn("%s: not alike; every step takes as long as the slower of them needs%s%s", d->unequal, slowest[0] != '\0' ? ": " : "",
                 slowest);
    return 0;
}

/* Before memory is taken: the arenas may leave no room for it. Ranks of the CPU share memory, which needs no proof. */
static int test_links(struct run *r, struct err *e)
{
    const struct cuda_plugin *plugin;
    if (r->job.comm.ranks < 2 || r->job.ops->unified)
        return 0;
    TRY(plugin_cuda(&plugin, e));
    struct preflight_options o = {.least_gb_s = 2};
    if (plugin->simulated)
        o = (struct preflight_options){.bytes = SIMULATED_BYTES};
    return preflight(&r->job.comm, r->job.ops, &o, NULL, e);
}

static void rank_tick(void *arg)
{
    struct run *r = arg;
    r->job.comm.alive(&r->job.comm, r->state.step, "training");
}

static int join_cards(struct run *r, struct err *e)
{
    bool sharded = r->job.plan.shape.place.kind == FROZEN_SHARDED; /* which would be very slow without NCCL */
    return train_ranks_join(&r->job.comm, r->job.ops, r->job.c.compute.peer_timeout,
                            sharded ? "Gradients and every block of the base" : "Gradients", e);
}

/* tuned: the table of products in use. */
static int open_choices(struct run *r, const char *tuned, struct err *e)
{
    const struct choices_facts f = {.run_dir = r->job.run_dir, .step = r->state.step, .tuned = tuned, .comm = &r->job.comm,
                                    .micro_batch = r->job.plan.micro_batch, .place = r->job.plan.shape.place.kind};
    return choices_open(&r->choices, r->job.ops, &f, e);
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
        TRY(check_run_dir(r, e));
    TRY(io_mkdirs(".cache/lorat", e));
    if (t->resume)
        r->job.before = choices_before(r->job.run_dir);
    if (job_plan(&r->job, NULL, false, e) != 0) {
        struct err also = {0};
        if (!io_exists(c->model.path) && job_need_dataset(c, &also) != 0) { /* both are missing: say both at once */
            size_t n = strlen(e->text);
            snprintf(e->text + n, sizeof e->text - n, "\n%s", also.text);
        }
        return -1;
    }
    TRY(job_need_dataset(c, e));
    TRY(join_cards(r, e));
    TRY(open_data(r, e));
    TRY(source_tokenizer(&r->job.source, &r->job.tokenizer, e));
    if (c->eval.n_prompts > 0) {
        if (r->job.tokenizer == NULL)
            FAIL(e, ERR_MODEL, "eval.prompts: %s has no tokenizer, expected one to read prompts with. Remove eval.prompts", c->model.path);
        TRY(source_template(&r->job.source, c->data.tmpl, &r->job.template, e));
    }
    TRY(check_tokenizer(r, e));
    snprintf(r->state.dataset, sizeof r->state.dataset, "%s", loader_facts(r->train)->seal);
    if (r->lead) /* once: the base may be large */
        TRY(source_identity(&r->job.source, ".cache/lorat", r->state.base, e));
    TRY(compare_ranks(r, e));
    TRY(comm->share(&r->job.comm, r->state.base, sizeof r->state.base, e));
    introduce(r);
    introduce_base(r);
    introduce_left_out(r);
    TRY(enter_together(r, e));
    /* A table is for rank 0's card: a rank whose card is another goes without, on a resume as before. */
    TRY(tuned_use(r->job.ops, r->job.run_dir, r->found.dir != NULL && (r->lead || r->job.plan.device.unequal[0] == '\0'), tuned, e));
    TRY(test_links(r, e));
    TRY(job_load(&r->job, e));
    TRY(open_state(r, e));
    TRY(open_choices(r, tuned, e));
    TRY(write_job(r, e));
    r->job.model.tick = rank_tick;
    r->job.model.tick_arg = r;
    metrics_open(&r->metrics, r->lead ? r->job.run_dir : "");
    if (r->lead && !r->job.plan.device.cuda)
        energy_open(&r->energy, NULL);
    r->spent.split.energy_j = energy_read(&r->energy); /* 0, or NaN */
    job_measure(&r->job);
    TRY(warn_unequal(r, e));
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
