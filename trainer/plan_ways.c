/* plan_ways.c - rates of the ways to and between cards: what is usual of a PCIe slot, what this machine really has, and which of
 * them a job counts on. */
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

/* A pair's bridge into w->nvlink, its way into *slowest. False: NVML does not know the two. */
static bool by_pair(const struct machine *m, int one, int other, double nvlink, struct plan_ways *w, enum machine_way *slowest)
{
    char why[160];
    const struct link_card *a = machine_card(m, one), *b = machine_card(m, other);
    const struct link_pair *p = machine_pair(m, one, other);
    if (a == NULL || b == NULL || p == NULL)
        return false;
    int up = machine_bridges(m, a, b, NULL);
    w->nvlink = fmin(w->nvlink, up > 0 ? nvlink * up / a->n_links : 0);
    enum machine_way way = machine_way(m, p, why);
    if (way == WAY_UNKNOWN)
        way = WAY_HOST;
    if (way > *slowest) /* the enumeration runs from fast to slow */
        *slowest = way;
    return true;
}

void plan_ways_machine(const struct machine *m, const int *cards, int n, struct plan_ways *w)
{
    struct plan_ways usual = *w;
    enum machine_way slowest = WAY_NVLINK;
    if (m->nvml <= 0)
        return;
    for (int i = 0; i < n; i++)
        by_slot(machine_card(m, cards[i]), w);
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            if (!by_pair(m, cards[i], cards[k], usual.nvlink, w, &slowest))
                return;
        }
    if (n < 2)
        return;
    if (slowest != WAY_PEER) /* over a bridge NCCL's peer copies are the bridge's */
        w->peer = 0;
    w->own = slowest;
}

enum machine_way plan_ways_taken(const struct plan_ways *w, enum cfg_interconnect want)
{
    if (want == INTERCONNECT_NVLINK)
        return WAY_NVLINK;
    if (w->own == WAY_UNKNOWN || (want == INTERCONNECT_PCIE && w->nvlink > 0)) /* off a bridge means no peer copies */
        return WAY_HOST;
    return w->own;
}

double plan_ways_rate(const struct plan_ways *w, enum machine_way way)
{
    return way == WAY_NVLINK ? w->nvlink : way == WAY_PEER ? w->peer : way == WAY_HOST ? w->staged : 0;
}
