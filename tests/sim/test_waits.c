/* test_waits.c - how long the first queue stands in fetch_wait, by the clock of events: nothing where the block is there already,
 * what was fetched in between where it is not; each wait is counted once, and only after the queue has passed it. */
#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "tests/sim/control.h"
#include "trainer/base/mem.h"

enum { BYTES = 4096, MANY = 300 };
static const double LAUNCH_S = 4e-6; /* streams.cpp: what anything that is queued takes */

static bool near(double got, double want) { return got - want <= 1e-9 && want - got <= 1e-9; }

int main(void)
{
    struct ops *o = NULL;
    struct err e = {0};
    void *slot, *host;
    sim_set_streams("lazy"); /* a fetch runs when somebody waits for it: in full between the two events */
    CHECK_OK(lorat_cuda_plugin()->open(0, DT_BF16, &o, &e), &e);
    if (o == NULL)
        return check_done();
    CHECK_OK(o->alloc(o, BYTES, &slot, &e), &e);
    CHECK_OK(o->alloc_host(o, BYTES, &host, &e), &e);
    memset(host, 1, BYTES);
    CHECK(o->fetch_waited(o) == 0);
    o->fetch_wait(o, 0); /* nothing was fetched */
    CHECK_OK(o->sync(o, &e), &e);
    CHECK(o->fetch_waited(o) == 0);

    o->fetch(o, 0, slot, host, BYTES);
    o->fetch_wait(o, 0);
    CHECK(o->fetch_waited(o) == 0); /* the queue has not come there */
    CHECK_OK(o->sync(o, &e), &e);
    double busy = o->fetch_waited(o);
    CHECK(o->fetch_waited(o) == 0);
    o->fetch_wait(o, 0); /* the same fetch again: it is there */
    CHECK_OK(o->sync(o, &e), &e);
    double idle = o->fetch_waited(o);
    CHECK(near(idle, LAUNCH_S));     /* the event behind it */
    CHECK(near(busy, 5 * LAUNCH_S)); /* also the wait; and on the second queue its own wait, the copy, its event */

    int64_t blocks = 0;
    for (int round = 0; round < 2; round++) { /* more than the ring begins with, all at once; then none is made any more */
        blocks = mem_count();
        for (int i = 0; i < MANY; i++) {
            o->fetch(o, i % FETCH_SLOTS, slot, host, BYTES);
            o->fetch_wait(o, i % FETCH_SLOTS);
        }
        CHECK_OK(o->sync(o, &e), &e);
        CHECK(near(o->fetch_waited(o), MANY * busy));
    }
    CHECK_INT(mem_count() - blocks, 0);

    sim_set_streams("others"); /* whatever can run has run before anybody waits */
    for (int i = 0; i < 3; i++) {
        o->fetch(o, 0, slot, host, BYTES);
        CHECK_OK(o->sync(o, &e), &e);
        o->fetch_wait(o, 0);
        CHECK_OK(o->sync(o, &e), &e);
    }
    CHECK(near(o->fetch_waited(o), 3 * idle));
    o->release(o, slot);
    o->release_host(o, host);
    o->close(o);
    sim_finish();
    return check_done();
}
