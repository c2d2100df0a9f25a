#include "trainer/job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/bench.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/stop.h"
#include "trainer/placement.h"
#include "trainer/ranks.h"

int job_need_dataset(const struct config *c, struct err *e)
{
    if (io_exists(c->data.train))
        return 0;
    FAIL(e, ERR_IO,
         "data.train: %s is not there, expected a dataset built by lorat. Build it from JSON lines with:\n"
         "  lorat data build --model %s --input YOUR.jsonl --validation 5%% -o %s",
         c->data.train, c->model.path, c->data.train);
}

struct loader_options job_loader_options(const struct config *c, const struct facts *f, const struct comm *comm, enum dataset_group group,
                                         int32_t micro_batch)
{
    bool train = group == DATASET_TRAIN;
    int32_t ranks = comm != NULL ? comm->ranks : 1;
    return (struct loader_options){.path = c->data.train, .cache_dir = ".cache/lorat", .unsealed = c->data.allow_unsealed, .group = group,
                                   .sequence_length = c->data.sequence_length, .packing = c->data.packing,
                                   .shuffle = train && c->data.shuffle, .too_long = (enum too_long)c->data.too_long,
                                   .seed = (uint64_t)c->seed, .batch = train ? c->train.batch : micro_batch * ranks,
                                   .micro_batch = micro_batch, .rank = comm != NULL ? comm->rank : 0, .ranks = ranks,
                                   .max_tokens = train ? 0 : c->eval.max_tokens, .vocab = f->v};
}

/* Cards that the job will have, of which this process opens one. */
static int count_cards(struct job *j)
{
    const struct train_ranks *r = j->ranks;
    if (r == NULL || !r->cuda)
        return 1;
    placement_unequal(r->cards, r->n, j->device.unequal, sizeof j->device.unequal);
    for (int i = 0; i < r->n && j->c.compute.memory_limit == 0; i++)
        if (r->cards[i].free < j->device.available)
            j->device.available = r->cards[i].free;
    return r->n;
}

/* Every rank plans with the memory of the one that has least and the reserve of the one that needs most (contexts differ, with a
 * display on one card say), and so all come to the same plan. Ranks on the CPU share one memory. */
static int agree_on_memory(struct job *j, struct err *e)
{
    double available[RANKS_MAX] = {0}, reserve[RANKS_MAX] = {0};
    int ranks = j->comm.ranks;
    if (ranks == 1)
        ranks = j->ops->unified ? j->c.compute.ranks : count_cards(j); /* planned for, not started */
    else
        count_cards(j);
    j->device.cards = ranks;
    if (ranks > 1 && j->device.cuda)
        j->device.reserve += JOB_NCCL_BYTES;
    if (j->ops->unified)
        j->device.available /= ranks;
    available[j->comm.rank] = (double)j->device.available;
    reserve[j->comm.rank] = (double)j->device.reserve;
    TRY(j->comm.sum_host(&j->comm, available, j->comm.ranks, e));
    TRY(j->comm.sum_host(&j->comm, reserve, j->comm.ranks, e));
    for (int r = 0; r < j->comm.ranks; r++) {
        if ((int64_t)available[r] < j->device.available)
            j->device.available = (int64_t)available[r];
        if ((int64_t)reserve[r] > j->device.reserve)
            j->device.reserve = (int64_t)reserve[r];
    }
    return 0;
}

/* The ways to and between the job's cards as they stand in this machine, and its cards' rate: rank 0's for all, so that cards
 * that are not alike come to one plan too. One card with the base on it goes no way at all. */
static int agree_on_ways(struct job *j, struct err *e)
{
    struct {
        struct plan_ways ways;
        double rate;
    } has = {plan_card_ways(j->ops->device, j->device.cards), j->device.gemm_rate};
    int cards[DEVICE_MAX_CARDS] = {j->card.index}, n = j->ranks != NULL ? j->ranks->n : 1;
    if (!j->device.cuda || (j->device.cards == 1 && j->c.model.placement != PLACEMENT_HOST))
        return 0;
    for (int i = 0; i < n && j->ranks != NULL; i++)
        cards[i] = j->ranks->cards[i].index;
    if (j->comm.rank == 0 && j->machine != NULL)
        plan_ways_machine(j->machine, cards, n, &has.ways);
    else if (j->comm.rank == 0) {
        struct machine *m = mem_alloc(1, sizeof *m);
        if (m == NULL)
            return mem_fail(e, "the machine's description", sizeof *m);
        machine_read(m);
        plan_ways_machine(m, cards, n, &has.ways);
        mem_free(m);
    }
    TRY(j->comm.share(&j->comm, &has, sizeof has, e));
    j->device.ways = has.ways;
    j->device.gemm_rate = has.rate;
    return 0;
}

/* On a resume what its steps so far were made with comes first; rank 0 says what became of that. */
static int make_plan(struct job *j, int64_t loader, struct err *e)
{
    char said[1600];
    TRY(plan_resume(&j->c, &j->source.facts, &j->lora, j->ops, &j->device, loader, &j->before, &j->plan, said, sizeof said, e));
    if (said[0] == '\0' || j->comm.rank > 0)
        return 0;
    if (j->plan.shape.place.kind != j->before.place)
        log_warn("%s", said);
    else
        log_note("%s", said);
    return 0;
}

int job_plan(struct job *j, const char *on, bool plan_only, struct err *e)
{
    struct config *c = &j->c;
    snprintf(j->run_dir, sizeof j->run_dir, "runs/%s", c->name);
    if (j->comm.ranks == 0)
        comm_solo(&j->comm);
    TRY(source_open(c->model.path, plan_only, &j->source, e));
    if (c->data.sequence_length > j->source.facts.context && j->source.facts.context > 0)
        FAIL(e, ERR_CONFIG, "data.sequence_length: %d, expected at most the %lld positions that %s was made for", c->data.sequence_length,
             (long long)j->source.facts.context, c->model.path);
    TRY(lora_plan(&j->source.facts, c, &j->lora, e));
    struct loader_options train = job_loader_options(c, &j->source.facts, NULL, DATASET_TRAIN, 1);
    train.micro_batch = c->train.micro_batch > 0 ? c->train.micro_batch : 4;
    int64_t loader = 2 * loader_bytes(&train);
    if (on != NULL) {
        TRY(plan_card(on, &j->device, e));
        if (j->device.cards > 1)
            j->device.reserve += JOB_NCCL_BYTES;
        if (c->compute.precision == PRECISION_F32)
            j->device.act = DT_F32;
        if (c->compute.memory_limit > 0 && c->compute.memory_limit < j->device.available)
            j->device.available = c->compute.memory_limit;
    } else {
        struct config mine = *c;
        if (j->ranks != NULL)
            train_ranks_job(c, j->ranks, j->comm.rank, &mine);
        TRY(device_open(&mine, &j->ops, &j->card, e));
        c->compute.precision = j->ops->act == DT_BF16 ? PRECISION_BF16 : PRECISION_F32; /* recorded: a resume elsewhere must not change it */
        TRY(plan_here(j->ops, &j->card, c, &j->source.facts, &j->device, e));
        TRY(agree_on_memory(j, e));
        TRY(agree_on_ways(j, e));
    }
    TRY(make_plan(j, loader, e));
    int64_t in_host = (int64_t)j->plan.arenas[ARENA_HOST].used;
    if (in_host == 0 || j->ops == NULL || j->ops->unified)
        return 0;
    return placement_room(PLACEMENT_OF_JOB, in_host, j->device.cards, j->device.unequal, e);
}

static int tick(void *arg, double done, struct err *e)
{
    struct job *j = arg;
    j->comm.alive(&j->comm, 0, "loading");
    if (stop_requested())
        FAIL(e, ERR_STOPPED, "while the model was loading");
    return 0;
}

int job_load(struct job *j, struct err *e)
{
    j->plan.shape.place.rank = j->comm.rank;
    TRY(model_layout(&j->model, j->ops, &j->source.facts, &j->lora, &j->plan.shape, e));
    j->model.comm = &j->comm;
    TRY(model_allocate(&j->model, e));
    return model_load(&j->model, &j->source, tick, j, e);
}

int job_text(struct job *j, const char *name, struct err *e)
{
    TRY(source_tokenizer(&j->source, &j->tokenizer, e));
    if (j->tokenizer == NULL)
        return 0;
    return source_template(&j->source, name, &j->template, e);
}

void job_measure(struct job *j)
{
    const struct facts *f = &j->source.facts;
    int32_t hq = f->h * f->q, qkv = hq + 2 * f->k * f->q, n = j->plan.shape.n;
    struct {
        int32_t n, out, in;
        double times;
    } shapes[] = {{n, qkv, f->d, f->l}, {n, f->d, hq, f->l}, {n, 2 * f->f, f->d, f->l}, {n, f->d, f->f, f->l}};
    double flop = 0, seconds = 0;
    /* The activations arena is scratch between steps: its gradient buffers are large enough for every shape. */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t need = ((size_t)shapes[i].n * (size_t)(shapes[i].in + shapes[i].out) + (size_t)shapes[i].out * (size_t)shapes[i].in) *
                      dtype_size(j->ops->act);
        if (need > (size_t)((char *)j->model.workspace - (char *)j->model.memory[ARENA_ACTIVATIONS]))
            continue;
        double rate = bench_linear(j->ops, shapes[i].n, shapes[i].out, shapes[i].in, j->model.memory[ARENA_ACTIVATIONS], 0.06);
        double work = 2.0 * shapes[i].n * shapes[i].out * shapes[i].in * shapes[i].times;
        if (rate <= 0)
            continue;
        flop += work;
        seconds += work / rate;
    }
    /* The best seen in this run: another program's work slows a measurement, nothing speeds it up. */
    if (seconds > 0 && flop / seconds > j->gemm_rate)
        j->gemm_rate = flop / seconds;
}

double job_device_bytes(const struct job *j)
{
    int64_t free_bytes, total_bytes;
    if (j->ops == NULL || j->ops->unified || j->ops->memory(j->ops, &free_bytes, &total_bytes, NULL) != 0)
        return NAN;
    return (double)(j->card.free - free_bytes);
}

void job_check_memory(const struct job *j)
{
    char planned[32], reports[32];
    double taken = job_device_bytes(j), plan = (double)j->plan.total_bytes, slack = plan / 100 + JOB_SLACK_BYTES;
    if (taken <= plan + slack && taken >= plan - (double)j->ops->later_bytes - slack)
        return;
    if (!isnan(taken))
        log_note("memory   planned %s, the driver reports %s", num_format_bytes(planned, (uint64_t)plan),
                 num_format_bytes(reports, (uint64_t)(taken > 0 ? taken : 0)));
}

void job_close(struct job *j)
{
    if (j->comm.close != NULL)
        j->comm.close(&j->comm);
    tokenizer_close(j->tokenizer);
    model_close(&j->model);
    if (j->ops != NULL)
        j->ops->close(j->ops);
    lora_free(&j->lora);
    source_close(&j->source);
    *j = (struct job){0};
}
