/* machine.c - what follows from a machine's description: which cards are bridged, and the way that NCCL takes. */
#include "trainer/machine.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const struct link_card *machine_card(const struct machine *m, int64_t index)
{
    for (int i = 0; i < m->n_cards; i++)
        if (m->card[i].index == index)
            return &m->card[i];
    return NULL;
}

const struct link_pair *machine_pair(const struct machine *m, int64_t a, int64_t b)
{
    for (int i = 0; i < m->n_pairs; i++)
        if ((m->pair[i].a == a && m->pair[i].b == b) || (m->pair[i].a == b && m->pair[i].b == a))
            return &m->pair[i];
    return NULL;
}

/* PCI addresses differ in the width of their domain and in case: "00000000:0A:00.0" and "0000:0a:00.0" are one. */
static bool same_address(const char *a, const char *b)
{
    size_t n = strlen(a), k = strlen(b);
    return n >= 12 && k >= 12 && strcasecmp(a + n - 12, b + k - 12) == 0;
}

static int count_to_switch(const struct link_card *c)
{
    int n = 0;
    for (int i = 0; i < c->n_links; i++)
        n += c->link[i].active == 1 && strcmp(c->link[i].type, "switch") == 0;
    return n;
}

int machine_switched(const struct link_card *a, const struct link_card *b)
{
    int from = count_to_switch(a), to = count_to_switch(b);
    return from < to ? from : to;
}

int machine_bridges(const struct machine *m, const struct link_card *a, const struct link_card *b, int *down)
{
    int up = machine_switched(a, b), off = 0;
    for (int i = 0; i < a->n_links; i++) {
        up += a->link[i].active == 1 && same_address(a->link[i].remote, b->pci);
        off += a->link[i].active == 0;
    }
    if (down != NULL)
        *down = off;
    return up;
}

const char *machine_way_name(enum machine_way w)
{
    static const char *const names[] = {"unknown", "nvlink", "pcie, peer-to-peer", "pcie, through host memory"};
    return names[w];
}

static bool is_behind_bridge(const struct link_pair *p) { return strcmp(p->topology, "PIX") == 0 || strcmp(p->topology, "PXB") == 0; }

/* NCCL's ncclTopoCheckP2p (graph/paths.cc, 2.21 to 2.29): peer-to-peer at any distance, but on Intel, Zhaoxin and ARM not across the
 * CPU's own PCIe ports. */
static bool crosses_cpu(const struct machine *m, const struct link_pair *p)
{
    bool held = strcmp(m->cpu, "GenuineIntel") == 0 || strcmp(m->cpu, "CentaurHauls") == 0 || strcmp(m->cpu, "aarch64") == 0;
    return held && p->topology[0] != '\0' && !is_behind_bridge(p);
}

int machine_peer(const struct link_pair *p)
{
    if (p->peer == 0 || p->cuda_peer == 0)
        return 0;
    return p->peer == 1 || p->cuda_peer == 1 ? 1 : -1;
}

enum machine_way machine_way(const struct machine *m, const struct link_pair *p, char why[160])
{
    const struct link_card *a = machine_card(m, p->a), *b = machine_card(m, p->b);
    int up = a != NULL && b != NULL ? machine_bridges(m, a, b, NULL) : 0;
    if (strstr(m->nccl_settings, "NCCL_P2P_DISABLE=1") != NULL) {
        snprintf(why, 160, "NCCL_P2P_DISABLE=1 is set");
        return WAY_HOST;
    }
    if (machine_peer(p) == 0) {
        snprintf(why, 160, "the driver grants no peer access (%s)",
                 p->peer != 0                  ? "by CUDA; NVML does not say so"
                 : p->peer_status[0] != '\0' ? p->peer_status
                                              : "no reason given");
        return WAY_HOST;
    }
    if (up > 0) {
        snprintf(why, 160, "%d NVLink%s %s", up, up == 1 ? "" : "s",
                 machine_switched(a, b) > 0 ? "to switches that join the two" : "between the two");
        return WAY_NVLINK;
    }
    if (machine_peer(p) < 0) {
        snprintf(why, 160, "whether the driver grants peer access cannot be read");
        return WAY_UNKNOWN;
    }
    if (crosses_cpu(m, p)) {
        snprintf(why, 160, "peer access is granted, but NCCL does not use it across this CPU's PCIe ports (%s)", p->topology);
        return WAY_HOST;
    }
    snprintf(why, 160, "the driver grants peer access%s%s%s", p->topology[0] != '\0' ? " (" : "", p->topology,
             p->topology[0] != '\0' ? ")" : "");
    return WAY_PEER;
}
