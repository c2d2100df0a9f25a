/* train.h - the training run: the loop that knows the dataset, the model, the optimizer and the checkpoints. */
#ifndef LORAT_TRAIN_H
#define LORAT_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/base/err.h"
#include "trainer/config.h"

struct train_options {
    bool resume;        /* continue runs/<name>; one that does not exist is started */
    bool fresh;         /* rename an existing run and start again */
    int64_t stop_after; /* save and leave with ERR_STOPPED once this many steps are done, as a signal would; 0 = never */
};
/* Run the job to its end, or until a signal (ERR_STOPPED, state saved). */
int train_run(const struct config *c, const struct train_options *t, struct err *e);

#endif
