/* train_internal.h - shared by train.c (the loop), train_open.c (the start), train_resume.c (folder and state), train_join.c
 * (ranks before their first step) and train_eval.c (evaluation, answers). */
#ifndef LORAT_TRAIN_INTERNAL_H
#define LORAT_TRAIN_INTERNAL_H

#include "checkpoints/run.h"
#include "datasets/loader.h"
#include "trainer/choices.h"
#include "trainer/energy.h"
#include "trainer/interconnect.h"
#include "trainer/job.h"
#include "trainer/metrics.h"
#include "trainer/state.h"
#include "trainer/train.h"
#include "trainer/train_ranks.h"

struct run {
    struct job job;
    const struct train_options *options;
    bool lead;                /* rank 0: the one that writes */
    bool asked;               /* a stop, decided by all ranks together */
    struct loader *train, *validation; /* validation: NULL when the dataset has no such group */
    struct run_lock *lock;
    struct run_found found;   /* the checkpoint that the run goes on from; dir NULL = it begins anew */
    struct run_state state;
    struct run_block block;   /* the host's view of the trainable state: the block itself where device memory is host memory */
    float *stage;             /* memory behind it where the device's is not the host's; owned */
    struct metrics metrics;
    struct choices choices;   /* what its bits hang on beside the job */
    int64_t total;            /* steps of the whole run */
    int64_t epochs;           /* whole epochs the loader is asked for */
    int64_t saved;            /* step of the newest checkpoint, -1 = none */
    bool resumed;
    double started, last_eval_s, last_save_s, measured_s;
    double ready_s;           /* from the start of the command to the first micro-batch */
    double loss, eval_first, eval_last; /* NaN until known */
    struct {                  /* of this process, for the summary */
        double seconds, flop, eval_s;
        struct metrics_split split;
        int64_t tokens;
    } spent;
    double save_s;            /* saving since the last line of metrics.jsonl */
    struct energy energy;     /* of rank 0: of the CPU, or of all ranks' cards */
    struct interconnect *link; /* borrowed */
};

/* Everything up to the first step: plan, dataset, memory, weights, and the state of step 0 or of the newest checkpoint. Takes comm
 * over; ranks and link, which is open, are borrowed. */
int run_open(struct run *r, const struct config *c, const struct train_options *t, const struct comm *comm, const struct train_ranks *ranks,
             struct interconnect *link, struct err *e);
void run_close(struct run *r);
/* Parts of run_open, in this order. */
int run_check_dir(const struct run *r, struct err *e);
/* Data on cards by NCCL. */
int run_join_cards(struct run *r, struct err *e);
int run_compare_ranks(struct run *r, struct err *e);
/* Rank 0 enters the run's folder, which is this run's from here on; the others learn which checkpoint it goes on from. */
int run_enter(struct run *r, struct err *e);
/* A proof of the links between cards. Before memory is taken: the arenas may leave no room for it. */
int run_test_links(struct run *r, struct err *e);
/* The model has its memory: the trainable state of step 0 or of the checkpoint into it. */
int run_open_state(struct run *r, struct err *e);
int run_write_job(const struct run *r, struct err *e);
int run_warn_unequal(struct run *r, struct err *e);
/* The trainable block as the host sees it, up to date. */
int run_block(struct run *r, struct run_block *out, struct err *e);
/* Evaluate the whole validation group and answer eval.prompts; notes the best loss in the state. *better (may be NULL): a new lowest. */
int run_evaluate(struct run *r, bool *better, struct err *e);

#endif
