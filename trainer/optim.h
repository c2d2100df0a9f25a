/* optim.h - what happens once a step: sum over ranks, guard, clip, AdamW. */
#ifndef LORAT_OPTIM_H
#define LORAT_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/comm.h"
#include "trainer/config.h"
#include "trainer/model.h"

/* The learning rate of step `step` (0-based) of `total`: linear warm-up over warmup_steps ((step + 1) / warmup), then cosine or linear to 0
 * at `total`, or constant. A pure function, so that nothing has to be saved. */
double optim_rate(const struct config *c, int64_t step, int64_t total);

struct optim_result {
    double loss;   /* mean over target tokens of the global step */
    double weight; /* their weight sum, the normaliser */
    double norm;   /* of the mean gradient, before clipping */
    bool updated;  /* false: skipped (not finite) or nothing to learn (weight 0) */
    bool finite;
    bool stop;     /* some rank was asked to stop */
    double read_at; /* metrics_now() when the sum was read back: every product of the step is done */
};
/* After the last micro-batch of a step: one sum over ranks, one read-back, then the update or nothing. updates: how many went before
 * (AdamW's t - 1). When the step is skipped, params, m and v are untouched. The norm and the clip are PyTorch's clip_grad_norm_. */
int optim_step(struct model *m, struct comm *comm, const struct config *c, double rate, int64_t updates, struct optim_result *out,
               struct err *e);

#endif
