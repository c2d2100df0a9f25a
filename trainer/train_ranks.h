/* train_ranks.h - how many ranks a job has, and what each of them runs on. */
#ifndef LORAT_TRAIN_RANKS_H
#define LORAT_TRAIN_RANKS_H

#include "trainer/comm.h"
#include "trainer/device.h"

struct train_ranks {
    int n;
    bool cuda;
    struct cuda_card cards[DEVICE_MAX_CARDS]; /* (n) with cuda: the card of each rank */
    struct cuda_card left_out; /* with cuda and gpus: auto, the first usable card of another kind; all zero: none */
};
/* On the CPU compute.ranks; on CUDA one for each card of compute.gpus (auto: the cards that are alike, as many as divide
 * train.batch). Asks the driver in a process of its own, so that the caller may still fork. */
int train_ranks(const struct config *c, struct train_ranks *out, struct err *e);
/* Of what the job says, all that cannot be on any machine's cards. */
int train_ranks_cuda(const struct config *c, struct err *e);
/* The job as rank `rank` runs it: its card, its share of the cores. */
void train_ranks_job(const struct config *c, const struct train_ranks *r, int rank, struct config *out);
/* The ranks' data goes by NCCL from here on, where they are on cards and each has a usable one (comm.h, comm_nccl). Where not, rank 0
 * warns that `what` goes through the host's memory. Collective, once; o stays open until c is closed. ERR_PEER: NCCL failed. */
int train_ranks_join(struct comm *c, struct ops *o, double timeout_s, const char *what, struct err *e);
/* Which card is the slowest, in words ("card 0 is the slower by its maker's table, 71 against 165 TFLOP/s"): by the table of cards,
 * where one of them is not in it by what each rank has measured (FLOP/s of products; 0 = nothing). "" when they are equally fast or nobody
 * knows. Collective. */
int train_ranks_slowest(const struct train_ranks *r, struct comm *c, double measured, char *out, size_t size, struct err *e);

#endif
