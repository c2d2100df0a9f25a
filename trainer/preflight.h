/* preflight.h - before the first step of several cards: do bytes arrive as they were sent, and sums as they should come out? Peer
 * access that the driver grants may still deliver zeros, or nothing; a run would train on that without a word. Goes the way that
 * training goes: through the comm table. A rank that stands still is ended by the ranks' watcher; NCCL that hangs by its own time-out. Both
 * have PREFLIGHT_ADVICE in their words. */
#ifndef LORAT_PREFLIGHT_H
#define LORAT_PREFLIGHT_H

#include "trainer/comm.h"

#define PREFLIGHT_DOING "preflight"
#define PREFLIGHT_ADVICE                                                                                                              \
    "Likely causes: an IOMMU or ACS between the cards, peer access that the driver grants and the hardware does not keep, a /dev/shm that is " \
    "too small. Try NCCL_P2P_DISABLE=1; boot with iommu=pt or turn ACS off; start a container with --shm-size=1g. lorat doctor tells more"

struct preflight_options {
    int64_t bytes;     /* that every rank sends to every other, twice; 0 = 64 MiB */
    double least_gb_s; /* slower copies are warned of; 0 = never */
};
struct preflight_result {
    double gb_s;      /* 1e9 bytes that a rank receives in a second, all ranks at once; of the copies alone */
    double latency_s; /* of a sum of one number, with waiting for it */
};
/* Collective. ERR_DEVICE when bytes or sums are wrong, ERR_PEER when they do not come. out may be NULL. Device memory: (ranks + 1) x
 * bytes, given back; not after ERR_PEER, when the process has to end. */
int preflight(struct comm *c, struct ops *o, const struct preflight_options *options, struct preflight_result *out, struct err *e);

#endif
