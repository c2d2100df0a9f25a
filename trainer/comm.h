/* comm.h - sums over ranks. One table, filled by comm_solo for a single rank; ranks of one machine, NCCL, or an mpirun or
 * srun that is joined are further ways to fill it. */
#ifndef LORAT_COMM_H
#define LORAT_COMM_H

#include <stdint.h>

#include "kernels/ops.h"
#include "trainer/base/err.h"

/* What sums have cost since the loop last set it to zero; filled by the implementation at the latest when the sum's result is read. */
struct comm_cost {
    double wait_s; /* the step could do nothing else meanwhile (exposed communication) */
    int64_t bytes; /* of the buffers that were summed */
};
struct comm {
    int rank, ranks;
    void *state;
    struct comm_cost cost;
    /* p (count) F32 device memory: sum over ranks in rank order, the same bits on every rank. Queued on the ops stream. */
    int (*sum)(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e);
    /* Progress counter for the watcher: call while loading, evaluating, saving too. */
    void (*alive)(struct comm *c, int64_t step, const char *doing);
    void (*close)(struct comm *c);
};
void comm_solo(struct comm *out); /* one rank: nothing to do */

#endif
