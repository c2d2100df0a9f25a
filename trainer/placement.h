/* placement.h - which placements of the base a job may have, in the order in which the plan tries them. */
#ifndef LORAT_PLACEMENT_H
#define LORAT_PLACEMENT_H

#include <stdbool.h>

#include "kernels/cuda/plugin.h"
#include "trainer/config.h"
#include "trainer/frozen.h"

enum { PLACEMENT_CHOICES = 2 };
/* Of a job on `ranks` ranks: host only when asked for; with several ranks what compute.parallel says, auto is data (resident on
 * each) and then sharded. unequal: the cards in words where they are not alike, else "": they cannot share a base. */
int placement_choices(const struct config *c, int ranks, const char *unequal, struct frozen_place out[PLACEMENT_CHOICES], int *n,
                      struct err *e);
/* "resident", "sharded", "host": as lorat writes it for programs. */
const char *placement_name(enum frozen_kind kind);
/* "sharded over 2 ranks, each holds 1/2 of every block" */
void placement_words(const struct frozen_place *p, int ranks, char *out, size_t size);
/* Who wants room: a job, or a verb that works on one card and has a --placement of its own. */
enum placement_asker { PLACEMENT_OF_JOB, PLACEMENT_OF_GENERATE, PLACEMENT_OF_BENCH };
/* Has the host memory for the blocks of `ranks` processes, `bytes` each? ERR_DEVICE with the numbers and what that asker can do. unequal: as
 * above. (That the driver pins them does not count against RLIMIT_MEMLOCK: it gives the pages itself.) */
int placement_room(enum placement_asker who, int64_t bytes, int ranks, const char *unequal, struct err *e);
/* Are the cards not alike? Then out names them ("card 0, NVIDIA GeForce RTX 3090, and card 1, ..."). */
bool placement_unequal(const struct cuda_card *cards, int n, char *out, size_t size);

#endif
