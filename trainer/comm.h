/* comm.h - what ranks do together. One table, filled by comm_solo for a single rank and by comm_local for ranks of one machine (see
 * ranks.h); comm_nccl puts NCCL in for data on cards. An mpirun or srun that is joined would be a further way to fill it.
 *
 * Every call but `alive` and `waiting` is collective: all ranks make the same calls in the same order. A call fails (ERR_PEER,
 * or ERR_STOPPED as `waiting` says) when another rank is gone; the caller then leaves as soon as it can. */
#ifndef LORAT_COMM_H
#define LORAT_COMM_H

#include <stdint.h>

#include "kernels/ops.h"
#include "trainer/base/err.h"

/* What sums have cost since the loop last set it to zero; filled by the implementation at the latest when the sum's result is read. */
struct comm_cost {
    double wait_s; /* the step could do nothing else meanwhile (exposed communication); what is queued as a fetch: see fetch_waited of ops.h */
    int64_t bytes; /* of the buffers that were summed; one that is gathered counts half, as half as much of it travels */
};
struct comm {
    int rank, ranks;
    void *state, *device; /* the implementation's; that of comm_nccl above it */
    struct comm_cost cost;
    bool over; /* another rank is gone: what is queued on a card may never end, and nothing waits for it any more */
    /* p (count) F32 device memory: sum over ranks, the same bits on every rank. In rank order; by NCCL and more than two ranks in the
     * order of its ring. Queued on the ops stream where the
     * backend can, else waits. */
    int (*sum)(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e);
    /* dst (ranks x bytes_each, device) = the shards (bytes_each, device) of all ranks in rank order. As a fetch of that slot (ops.h): on
     * the second queue where the backend can, else it waits. */
    int (*gather)(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e);
    /* v (n) on the host: sum over ranks in rank order, the same bits on every rank. */
    int (*sum_host)(struct comm *c, double *v, int n, struct err *e);
    /* bytes of rank 0 to all. */
    int (*share)(struct comm *c, void *data, size_t bytes, struct err *e);
    /* Have all ranks the same bytes? No: ERR_PEER on every rank, naming `what` and the first rank that differs from rank 0. */
    int (*same)(struct comm *c, const char *what, const void *data, size_t bytes, struct err *e);
    /* Progress counter for the watcher: call while loading, training, evaluating and saving. doing: static text. Also passes on a
     * request to stop that another rank received (stop.h). Never waits. */
    void (*alive)(struct comm *c, int64_t step, const char *doing);
    /* While this rank waits for something that others have a part in: it is alive, and -1 once one of them is gone (ERR_PEER, or
     * ERR_STOPPED where that one left on a request to stop). */
    int (*waiting)(struct comm *c, struct err *e);
    void (*close)(struct comm *c);
};
void comm_solo(struct comm *out); /* one rank: nothing to do */

struct cuda_nccl;
/* Data on cards by NCCL from here on; o is this rank's card. Collective. timeout_s: how long a sum may take once all have come to it.
 * *there false: not every rank has a usable NCCL; *c is as it was and e says why. -1 (ERR_PEER): NCCL failed. */
int comm_nccl(struct comm *c, struct ops *o, const struct cuda_nccl *table, double timeout_s, bool *there, struct err *e);

#endif
