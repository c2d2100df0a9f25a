/* interconnect_rules.c - what can be forced, by which settings, and what was seen. Pure; see interconnect.h. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/num.h"
#include "trainer/interconnect.h"

/* One end's links, for the message. */
static void describe_links(const struct link_card *c, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "card %lld: ", (long long)c->index);
    if (c->n_links == 0)
        snprintf(out + n, size - n, "no NVLink");
    for (int i = 0; i < c->n_links && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%slink %d %s%s%s", i > 0 ? ", " : "", i, c->link[i].active == 1 ? "ends at " : "down",
                              c->link[i].active == 1 && strcmp(c->link[i].type, "switch") == 0 ? "a switch, " : "",
                              c->link[i].active == 1 ? c->link[i].remote : "");
}

static int check_bridge(const struct machine *m, int one, int other, struct err *e)
{
    const struct link_card *a = machine_card(m, one), *b = machine_card(m, other);
    const struct link_pair *p = machine_pair(m, one, other);
    char left[256], right[256];
    if (a == NULL || b == NULL)
        FAIL(e, ERR_DEVICE, "compute.interconnect: nvlink, but card %d is not among those that the driver lists. See lorat doctor",
             a == NULL ? one : other);
    if (m->nvml != 1)
        FAIL(e, ERR_DEVICE, "compute.interconnect: nvlink, but NVML does not answer, so no bridge can be seen, expected one between cards %d and %d. "
                            "Install libnvidia-ml.so.1, or set compute.interconnect: auto",
             one, other);
    if (machine_bridges(m, a, b, NULL) == 0) {
        describe_links(a, left, sizeof left);
        describe_links(b, right, sizeof right);
        FAIL(e, ERR_DEVICE, "compute.interconnect: nvlink, but no NVLink joins cards %d and %d (%s; %s), expected one that is up. Seat the bridge, or set "
                            "compute.interconnect: pcie",
             one, other, left, right);
    }
    if (p != NULL && machine_peer(p) == 0)
        FAIL(e, ERR_DEVICE, "compute.interconnect: nvlink, but the driver grants cards %d and %d no peer access (%s), expected it granted. See lorat doctor",
             one, other, p->peer == 0 ? p->peer_status : "by CUDA");
    return 0;
}

int interconnect_check(const struct machine *m, const int *cards, int n, enum cfg_interconnect want, struct err *e)
{
    if (want == INTERCONNECT_NVLINK && n < 2)
        FAIL(e, ERR_CONFIG, "compute.interconnect: nvlink, and one card, expected two or more. Set it to auto");
    for (int i = 0; i < n && want == INTERCONNECT_NVLINK; i++)
        for (int k = i + 1; k < n; k++)
            TRY(check_bridge(m, cards[i], cards[k], e));
    return 0;
}

static bool any_bridge(const struct machine *m, const int *cards, int n)
{
    bool any = m->nvml != 1; /* not known: as if there were one */
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            const struct link_card *a = machine_card(m, cards[i]), *b = machine_card(m, cards[k]);
            any = any || (a != NULL && b != NULL && machine_bridges(m, a, b, NULL) > 0);
        }
    return any;
}

/* A forced setting also says what must not be: NCCL's own file of settings (nccl.conf) yields to the environment. */
int interconnect_settings(const struct machine *m, const int *cards, int n, enum cfg_interconnect want,
                          struct interconnect_setting out[INTERCONNECT_MAX_SETTINGS])
{
    int k = 0;
    if (want != INTERCONNECT_AUTO) {
        out[k++] = (struct interconnect_setting){"NCCL_ALGO", "Ring", true};
        out[k++] = (struct interconnect_setting){"NCCL_PROTO", "Simple", true};
    }
    if (want == INTERCONNECT_NVLINK) {
        out[k++] = (struct interconnect_setting){"NCCL_P2P_DISABLE", "0", true};
        out[k++] = (struct interconnect_setting){"NCCL_P2P_LEVEL", "NVL", true};
    } else if (want == INTERCONNECT_PCIE) {
        /* Where there is a bridge, NCCL would take it for every peer copy: off it means no peer copies. */
        if (any_bridge(m, cards, n))
            out[k++] = (struct interconnect_setting){"NCCL_P2P_DISABLE", "1", true};
        out[k++] = (struct interconnect_setting){"NCCL_SHM_DISABLE", "0", true};
    }
    return k;
}

/* ": 0[0] -> 1[1] via P2P/CUMEM", "... via SHM/direct/direct", "... via NET/Socket/0": NCCL's p2pSendSetup, shmSendSetup, sendSetup. */
static void read_line(const char *line, size_t n, struct interconnect_log *out)
{
    char text[512];
    int pattern, cross, channels;
    char inside[8];
    size_t kept = n < sizeof text - 1 ? n : sizeof text - 1;
    memcpy(text, line, kept);
    text[kept] = '\0';
    const char *via = strstr(text, " -> ") != NULL ? strstr(text, " via ") : NULL, *graph = strstr(text, "Pattern ");
    if (via != NULL) {
        out->peer += strncmp(via + 5, "P2P", 3) == 0;
        out->shm += strncmp(via + 5, "SHM", 3) == 0;
        out->net += strncmp(via + 5, "NET", 3) == 0;
    }
    /* ncclTopoPrintGraph; pattern 4 is the ring. */
    if (graph != NULL && sscanf(graph, "Pattern %d, crossNic %d, nChannels %d, bw %*f/%*f, type %7[A-Z0-9]/", &pattern, &cross, &channels, inside) == 4 &&
        pattern == 4 && out->ring[0] == '\0')
        snprintf(out->ring, sizeof out->ring, "%s", inside);
}

void interconnect_read_log(const char *text, size_t n, struct interconnect_log *out)
{
    *out = (struct interconnect_log){0};
    while (n > 0) {
        const char *end = memchr(text, '\n', n);
        size_t line = end != NULL ? (size_t)(end - text) : n;
        read_line(text, line, out);
        n -= end != NULL ? line + 1 : n;
        text += end != NULL ? line + 1 : line;
    }
}

static enum machine_way by_log(const struct interconnect_log *l, bool off_nvlink, char proof[200])
{
    if (l->net > 0) {
        snprintf(proof, 200, "NCCL's log: %d channels over the network", l->net);
        return WAY_UNKNOWN;
    }
    if (l->shm > 0 && l->peer == 0) {
        snprintf(proof, 200, "NCCL's log: %d channels through shared host memory", l->shm);
        return WAY_HOST;
    }
    if (l->peer > 0 && l->shm == 0) {
        bool nvlink = strcmp(l->ring, "NVL") == 0 && !off_nvlink;
        snprintf(proof, 200, "NCCL's log: %d peer-to-peer channels, ring of type %s", l->peer, l->ring[0] != '\0' ? l->ring : "unknown");
        return l->ring[0] == '\0' && !off_nvlink ? WAY_UNKNOWN : nvlink ? WAY_NVLINK : WAY_PEER;
    }
    snprintf(proof, 200, l->peer > 0 ? "NCCL's log names peer-to-peer and host memory" : "neither the cards' counters nor NCCL's log tell");
    return WAY_UNKNOWN;
}

/* A ring over n ranks takes 2 (n-1)/n of a sum's buffer out of each card, and half of that of a gather's, which comm.h counts by half.
 * Half of that is proof: other traffic between cards is small. A tenth or less is proof of the contrary. Counters that do not move at
 * all may be ones that this card does not keep, and then NCCL's log decides. */
enum machine_way interconnect_verdict(const struct interconnect_seen *s, char proof[200])
{
    char nvlink[32], all[32];
    double whole = s->ranks > 0 ? 2.0 * (double)s->collective * (s->ranks - 1) / s->ranks : 0;
    num_format_bytes(nvlink, s->nvlink);
    num_format_bytes(all, s->collective);
    if (s->counted && s->nvlink > 0 && whole > 0) {
        double share = (double)s->nvlink / whole;
        snprintf(proof, 200, "the cards' counters: %s sent over NVLink for %s summed and gathered", nvlink, all);
        if (share >= 0.5)
            return WAY_NVLINK;
        if (share > 0.1)
            return WAY_UNKNOWN;
        return by_log(&s->log, true, proof);
    }
    return by_log(&s->log, false, proof);
}
