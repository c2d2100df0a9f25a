/* clock.h - seconds on a clock that only goes forward; its zero means nothing. */
#ifndef LORAT_CLOCK_H
#define LORAT_CLOCK_H

#include <time.h>

static inline double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
