/* energy.h - joules that the machine's CPU packages have used, from the kernel's RAPL counters (/sys/class/powercap). A counter
 * is of a whole package, other programs included. Where the counters are missing or only root may read them, energy is unknown.
 */
#ifndef LORAT_ENERGY_H
#define LORAT_ENERGY_H

#include <stdint.h>

enum { ENERGY_MAX_PACKAGES = 8 };
struct energy {
    int n; /* packages that can be read; 0 = energy is unknown */
    struct {
        int fd;
        int64_t last, range; /* microjoules; the counter goes back to 0 behind range */
    } package[ENERGY_MAX_PACKAGES];
    double joules; /* since it was opened */
};
/* root: the folder of the counters, NULL = the kernel's. Never fails: without counters n is 0. */
void energy_open(struct energy *m, const char *root);
/* Joules since energy_open; NaN when unknown. Allocates nothing. A counter must be read before it wraps twice (a minute or more).
 */
double energy_read(struct energy *m);
void energy_close(struct energy *m); /* zero is closed */

#endif
