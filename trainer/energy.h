/* energy.h - joules that were used: by the machine's CPU packages, from the kernel's RAPL counters (/sys/class/powercap), or by
 * cards, from NVML's. A counter is of a whole package or card, other programs included. Where a counter is missing or only root may
 * read it, energy is unknown. */
#ifndef LORAT_ENERGY_H
#define LORAT_ENERGY_H

#include <stdint.h>

#include "kernels/links.h"

enum { ENERGY_MAX_PACKAGES = 8 };
struct energy {
    int n; /* packages or cards that can be read; 0 = energy is unknown */
    struct {
        int fd;
        int64_t last, range; /* microjoules; the counter goes back to 0 behind range */
    } package[ENERGY_MAX_PACKAGES];
    struct links *links; /* NULL: packages */
    struct {
        char pci[32];
        uint64_t last;   /* millijoules */
    } card[LINKS_MAX_CARDS];
    double joules; /* since it was opened */
};
/* root: the folder of the counters, NULL = the kernel's. Never fails: without counters n is 0. */
void energy_open(struct energy *m, const char *root);
/* The same for n cards at these PCI addresses; unknown when one of them does not tell. */
void energy_open_cards(struct energy *m, const char *const *pci, int n);
/* Joules since energy_open; NaN when unknown. Allocates nothing. A counter must be read before it wraps twice (a minute or more).
 */
double energy_read(struct energy *m);
void energy_close(struct energy *m); /* zero is closed */

#endif
