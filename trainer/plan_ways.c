/* plan_ways.c - rates of the ways to and between cards: what is usual of a PCIe slot, and what this machine really has. */
#include <math.h>

#include "trainer/machine.h"
#include "trainer/plan.h"

struct plan_ways plan_ways_pcie(int generation, int lanes)
{
    double of_gen4 = generation > 0 && lanes > 0 ? ldexp(lanes / 16.0, generation - 4) : 0;
    return (struct plan_ways){.peer = 27.1e9 * of_gen4, .staged = 8.4e9 * of_gen4, .host = 25e9 * of_gen4};
}

/* The generation that card and slot can do together, since a card without work lowers its own; the lanes that it has now. */
static void by_slot(const struct link_card *c, struct plan_ways *w)
{
    if (c == NULL || c->pcie_gen_max <= 0 || c->pcie_width <= 0)
        return;
    struct plan_ways slot = plan_ways_pcie((int)c->pcie_gen_max, (int)c->pcie_width);
    w->peer = fmin(w->peer, slot.peer);
    w->staged = fmin(w->staged, slot.staged);
    w->host = fmin(w->host, slot.host);
}

void plan_ways_machine(const struct machine *m, const int *cards, int n, struct plan_ways *w)
{
    char why[160];
    if (m->nvml <= 0)
        return;
    for (int i = 0; i < n; i++)
        by_slot(machine_card(m, cards[i]), w);
    if (n != 2)
        return;
    const struct link_card *a = machine_card(m, cards[0]), *b = machine_card(m, cards[1]);
    const struct link_pair *p = machine_pair(m, cards[0], cards[1]);
    if (a == NULL || b == NULL || p == NULL)
        return;
    int up = machine_bridges(m, a, b, NULL);
    w->nvlink = up > 0 ? w->nvlink * up / a->n_links : 0;
    if (machine_way(m, p, why) != WAY_PEER) /* over a bridge NCCL's peer copies are the bridge's */
        w->peer = 0;
}
