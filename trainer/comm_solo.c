#include "trainer/comm.h"

static int solo_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e) { return 0; }
static void solo_alive(struct comm *c, int64_t step, const char *doing) {}
static void solo_close(struct comm *c) {}

void comm_solo(struct comm *out)
{
    *out = (struct comm){.rank = 0, .ranks = 1, .sum = solo_sum, .alive = solo_alive, .close = solo_close};
}
