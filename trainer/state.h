/* state.h - everything that a run needs to go on, bit for bit, as one checkpoint: adapter_model.safetensors and adapter_config.json
 * (F32 masters under PEFT's names, padding stripped: every checkpoint is itself an adapter), optimizer.safetensors (m and v under the same
 * names with .exp_avg and .exp_avg_sq), state.json, job.yaml. Layout: docs/checkpoint-format.md. */
#ifndef LORAT_STATE_H
#define LORAT_STATE_H

#include <stdint.h>

#include "checkpoints/run.h"
#include "trainer/config.h"
#include "trainer/lora.h"

struct run_state {
    int64_t step;             /* optimizer steps done (skipped ones included): the next one has this number, counted from 0 */
    int64_t updates;          /* steps that changed the parameters: AdamW's t */
    int64_t skipped;          /* steps skipped because something was not finite */
    int64_t skipped_in_row;
    int64_t tokens, targets;  /* trained so far */
    double best_loss;         /* lowest evaluation loss; only with best_step >= 0 */
    int64_t best_step;        /* -1 = none yet */
    int64_t evaluated;        /* step of the last evaluation, -1 = none: so that one due at a stop is made up for */
    char dataset[65], base[65], tokenizer[65]; /* identities, hex; "unknown" where there is none */
};
/* The host's view of the trainable block: three arrays of l->count F32 each. Borrowed. */
struct run_block {
    float *params, *m, *v;
};

/* Write a checkpoint of step s->step. With scale and base name from c. */
int state_save(const char *run_dir, const struct lora *l, const struct config *c, const struct run_block *b, const struct run_state *s,
               struct err *e);
/* The small part of a verified checkpoint folder: state.json, and *job (may be NULL) = the job.yaml text, malloc'ed. */
int state_read(const char *checkpoint_dir, struct run_state *s, char **job, struct err *e);
/* Read a verified checkpoint folder back, bit for bit; padding becomes zero. Missing, extra or mis-shaped tensors are refused by name. *job
 * (may be NULL) = the job.yaml text, malloc'ed. */
int state_load(const char *checkpoint_dir, const struct lora *l, struct run_block *b, struct run_state *s, char **job, struct err *e);
/* Adapter folder alone (PEFT's two files) into `dir`, replacing what is there atomically per file; and back (params only; lora.start_from):
 * rank, targets and scale must be those of l, else refused by name. */
int state_save_adapter(const char *dir, const struct lora *l, const struct config *c, const float *params, struct err *e);
int state_load_adapter(const char *dir, const struct lora *l, const struct config *c, float *params, struct err *e);

#endif
