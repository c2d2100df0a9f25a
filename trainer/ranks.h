/* ranks.h - lorat starts its own ranks on one machine: one forked process each, and the parent watches them.
 *
 * What they share is one anonymous mapping that the children inherit. It has no name, so nothing can be stale at the start or left
 * behind at the end. The parent opens no device and starts no thread before it forks: CUDA and OpenMP do not survive a fork.
 *
 * Watching: a child's end is seen by waitpid, a wedged one by its progress counter (comm.alive, and every wait inside a collective
 * call), which must move within the time-out. When one is gone the others are told, get a second to say what they were doing, and
 * are then killed. After one has left on a request to stop the others may still be saving: they are told when they wait for it in vain, and
 * killed only when they stand still. The parent reports the root cause: the first failure that is not just the echo of another rank's. */
#ifndef LORAT_RANKS_H
#define LORAT_RANKS_H

#include "trainer/comm.h"

enum { RANKS_MAX = 16 };

struct ranks_options {
    int ranks;
    double timeout_s; /* a rank whose counter stands still for so long is wedged, ten times that while it is "starting" or
                       * "saving"; 0 = 30 */
};
/* Run body(comm of rank k, arg) in a process of its own for each k and wait for all. body takes the comm over. Output stays one stream: rank 0 speaks, the
 * others' warnings begin with "[rank k]". Returns the ranks' common result: 0 when all gave 0; rank 0's ERR_STOPPED when all
 * stopped on request; else the root cause (ERR_PEER for a rank that died or hung, with rank, step and what it was doing). No child
 * is left when it returns. */
int ranks_run(const struct ranks_options *o, int (*body)(struct comm *c, void *arg, struct err *e), void *arg, struct err *e);

#endif
