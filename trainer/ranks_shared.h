/* ranks_shared.h - the mapping that ranks and their parent share; ranks.c makes it and watches, comm_local.c works through it. */
#ifndef LORAT_RANKS_SHARED_H
#define LORAT_RANKS_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "trainer/ranks.h"

enum { RANKS_CHUNK = 1 << 18 }; /* floats of one rank's part of the board: 1 MiB */

struct rank_slot { /* written by its rank (done by the parent), read by all */
    _Atomic int64_t progress; /* moves while the rank is alive */
    _Atomic int64_t step;
    _Atomic(const char *) doing; /* static text: the same address in every rank, since all are forks of one program */
    _Atomic int64_t arrived;  /* barriers this rank has come to */
    _Atomic int result;       /* RANK_RUNNING, or what body returned */
    struct err error;         /* set before result */
};
enum { RANK_RUNNING = 1, RANK_GOOD = 0, RANK_FAILED = -1 };

struct ranks_shared {
    int ranks;
    _Atomic int leave;        /* a rank is gone: everybody out */
    _Atomic int stop;         /* the signal that asked one of us to stop */
    _Atomic int first_failed; /* rank + 1 of the first failure, 0 = none */
    struct rank_slot slot[RANKS_MAX];
    float board[];            /* (2, ranks, RANKS_CHUNK): two, so that one barrier a chunk is enough */
};
static inline float *ranks_board(struct ranks_shared *s, int which, int rank)
{
    return s->board + ((int64_t)which * s->ranks + rank) * RANKS_CHUNK;
}

/* Fill `out` for a child of the mapping. */
int comm_local(struct ranks_shared *s, int rank, struct comm *out, struct err *e);

#endif
