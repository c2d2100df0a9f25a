/* plan_links.h - what the way between two cards, or between a card and host memory, costs a step. Formulas alone: numbers in,
 * numbers out. docs/nvlink.md explains them, tabulates them, and holds them against published figures. */
#ifndef LORAT_PLAN_LINKS_H
#define LORAT_PLAN_LINKS_H

#include <stdint.h>

/* One step of one rank. Rates are bytes a second of one direction with both busy; INFINITY costs no time. */
struct plan_work {
    int32_t ranks, passes, tokens; /* a step is `passes` micro-batches of `tokens` on each rank */
    int32_t blocks;                /* L */
    double forward, backward;      /* FLOP a token of all blocks */
    double head;                   /* FLOP a token behind them, both directions; nothing is fetched meanwhile */
    double fetch_bytes;            /* what arrives for one block; 0 = the base is resident */
    double sum_bytes;              /* the gradient block, summed over ranks once a step */
    double flop_s;                 /* large products */
    double tokens_half;            /* n tokens take as long as n + tokens_half would at that rate */
};
/* Where neighbouring blocks stand at once, so that a pass begins with two and fetches the others. */
enum { PLAN_SLOTS = 2 };

/* Blocks in one direction. Block l+2 is sent for when l is done, and travels while l+1 computes. With c for one block's work and f
 * for one fetch:  2c + (L - 2) max(c, f). */
double plan_link_pass_s(const struct plan_work *w, double flop_token, double fetch_rate);
/* Ring sum over n ranks, S bytes: each sends and receives 2 (n-1)/n S (nccl-tests, doc/PERFORMANCE.md). */
double plan_link_sum_s(const struct plan_work *w, double rate);
/* passes x (forward + head + backward) + the sum, which begins when the last gradient is there. */
double plan_link_step_s(const struct plan_work *w, double fetch_rate, double sum_rate);
/* Of all ranks together. */
double plan_link_tokens_s(const struct plan_work *w, double fetch_rate, double sum_rate);
/* Tokens a pass from which the slower of the two directions hides every fetch: c = f solved for n. 0 when there is nothing to hide. */
double plan_link_hidden(const struct plan_work *w, double fetch_rate);

#endif
