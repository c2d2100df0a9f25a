/* interconnect.h - the way that bytes take between cards: forced by compute.interconnect before NCCL is loaded, and proven afterwards.
 *
 * NCCL reads its settings from the environment when it starts, so they are set there. What is forced: nvlink lets NCCL use
 * peer-to-peer over NVLink alone; pcie keeps it off NVLink. Both fix the same algorithm and protocol, so that two runs differ in the
 * link alone. auto sets nothing.
 * What proves it: the cards' counters of bytes on NVLink before and after; where they cannot be read, NCCL's own log of how it
 * connected the ranks, which goes to memory and not to a file. */
#ifndef LORAT_INTERCONNECT_H
#define LORAT_INTERCONNECT_H

#include "trainer/config.h"
#include "trainer/machine.h"
#include "trainer/train_ranks.h"

/* Can these n cards (driver's numbers) do what is asked? ERR_DEVICE naming the pair and what it lacks. */
int interconnect_check(const struct machine *m, const int *cards, int n, enum cfg_interconnect want, struct err *e);

struct interconnect_setting {
    const char *name, *value;
    bool forced;       /* a value of the user's gives way, and that is said; else it stays */
};
enum { INTERCONNECT_MAX_SETTINGS = 8 };
/* What the environment must say. Returns how many. */
int interconnect_settings(const struct machine *m, const int *cards, int n, enum cfg_interconnect want,
                          struct interconnect_setting out[INTERCONNECT_MAX_SETTINGS]);

/* What NCCL wrote of its connections (NCCL_DEBUG=INFO, subsystems INIT and GRAPH). */
struct interconnect_log {
    int peer, shm, net; /* channels of each kind */
    char ring[8];       /* type of path inside the machine that the ring was planned for: NVL, PIX, PHB, ...; "" = not found */
};
void interconnect_read_log(const char *text, size_t n, struct interconnect_log *out); /* pure; any bytes will do */

struct interconnect_seen {
    int ranks;
    bool counted;        /* the counters could be read before and after */
    uint64_t nvlink;     /* bytes that the busiest card sent over NVLink in between */
    uint64_t collective; /* as comm.h counts the bytes of sums and gathers */
    struct interconnect_log log;
};
/* proof: a clause. */
enum machine_way interconnect_verdict(const struct interconnect_seen *s, char proof[200]);

/* For a rank: check, set the environment, prepare the log. Before the CUDA libraries are opened. On the CPU or with one rank it does
 * nothing. Collective. */
struct interconnect {
    const struct train_ranks *ranks; /* NULL: nothing to watch */
    enum cfg_interconnect want;
    struct machine *machine;         /* as rank 0 has read it, the same on every rank; NULL: nobody had to know */
    int log;                         /* memory that NCCL writes its log to; -1 = none */
    struct links *links;             /* of rank 0 */
    bool counted;
    uint64_t sent[LINKS_MAX_CARDS];  /* at the start of counting */
};
int interconnect_open(struct interconnect *x, const struct train_ranks *ranks, enum cfg_interconnect want, struct comm *comm, struct err *e);
/* Counting starts here. */
void interconnect_start(struct interconnect *x);
/* The way that was taken: says it, and returns its name ("" with one rank). bytes: summed and gathered since the start. */
const char *interconnect_end(struct interconnect *x, int n_ranks, int64_t bytes);
void interconnect_close(struct interconnect *x); /* zero is closed */

#endif
