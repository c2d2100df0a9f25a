/* job.h - a job file turned into open things: model, plan, device, memory. The verbs (train, plan, generate, export) share it. */
#ifndef LORAT_JOB_H
#define LORAT_JOB_H

#include "datasets/loader.h"
#include "trainer/comm.h"
#include "trainer/config.h"
#include "trainer/device.h"
#include "trainer/machine.h"
#include "trainer/model.h"
#include "trainer/plan.h"
#include "trainer/source.h"
#include "trainer/train_ranks.h"

struct job {
    struct config c;
    struct source source;
    struct lora lora;
    struct ops *ops;            /* NULL when planning for another machine */
    struct cuda_card card;      /* the card behind ops, as it was before; zero on the CPU */
    struct comm comm;
    const struct train_ranks *ranks; /* borrowed; which card and how many threads are this rank's; NULL: what the job says */
    const struct machine *machine;   /* borrowed; NULL: where the plan needs it, rank 0 reads this machine */
    struct plan_device device;
    struct plan_before before;  /* the steps that a resume goes on from; zero: none, or not known */
    struct plan plan;
    struct model model;
    struct tokenizer *tokenizer;    /* NULL: the model has none */
    enum chat_template template;
    double gemm_rate;           /* FLOP/s of plain products at the job's shapes, measured by job_measure */
    char run_dir[160], cache_dir[16];
};

/* Options of the loader for a group, as this job's rank reads it. comm NULL: all of it, as one rank. */
struct loader_options job_loader_options(const struct config *c, const struct facts *f, const struct comm *comm, enum dataset_group group,
                                         int32_t micro_batch);
/* Source, adapter table, device and plan. comm may be set before, by a rank of several; all ranks come to the same plan. Nothing
 * large is allocated and no weight is read. on: a card's name, or NULL for this machine.
 * plan_only: config.json is enough, the weights need not be there. */
int job_plan(struct job *j, const char *on, bool plan_only, struct err *e);
/* Memory and weights. Needs job_plan. Stops with ERR_STOPPED when the user asks. */
int job_load(struct job *j, struct err *e);
/* Tokenizer and chat template of the model, where it has them. name: "auto" or a built-in. */
int job_text(struct job *j, const char *name, struct err *e);
/* Measure gemm_rate in about a quarter of a second; a later call can only raise it. Overwrites the activations. */
void job_measure(struct job *j);
/* Bytes of the card taken since before it was opened, by the driver; NaN on the CPU or when it does not tell. */
double job_device_bytes(const struct job *j);
/* Say it when that is not what was planned: more than 1 % and JOB_SLACK_BYTES over the plan, or under it by as much, leaving out what
 * libraries take only later. */
void job_check_memory(const struct job *j);
enum { JOB_SLACK_BYTES = 8 << 20 }; /* each of the arenas begins on a page of the driver's: 2 MiB */
enum { JOB_NCCL_BYTES = 256 << 20 }; /* NCCL's buffers and kernels on a card; an allowance, not measured */
void job_close(struct job *j); /* zero is closed */
/* The message for a dataset that is not there: with the command that builds it. */
int job_need_dataset(const struct config *c, struct err *e);

#endif
