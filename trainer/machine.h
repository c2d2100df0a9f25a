/* machine.h - what lorat knows of a machine: its cards and the ways between them, driver and libraries, host memory and limits. A
 * plain struct, read from the live machine or from a JSON file, so that everything said about a machine (lorat doctor, what
 * compute.interconnect may ask for) can be tested without it. Numbers that nobody tells are -1, texts "". */
#ifndef LORAT_MACHINE_H
#define LORAT_MACHINE_H

#include "kernels/links.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"
#include "trainer/base/json.h"

enum { MACHINE_MAX_PAIRS = LINKS_MAX_CARDS * (LINKS_MAX_CARDS - 1) / 2 };

struct machine {
    char label[64];          /* "live"; in a file "synthetic" when it was made up, "captured" when it was read from a machine */
    int64_t card_present;    /* 1: there are signs of an NVIDIA card, whether or not it can be used */
    char trouble[512];       /* why the plug-in or the driver cannot be used */
    char driver[32];         /* "580.95.05" */
    char driver_cuda[16];    /* the CUDA that the driver speaks, "13.0" */
    char cuda[16], cudnn[16], nccl[16]; /* of the plug-in; "" = not there */
    int64_t nvml;            /* 1: the management library answers */
    char cpu[32];            /* vendor: "GenuineIntel", "AuthenticAMD", "aarch64" */
    char kernel[96];
    int64_t wsl, container;  /* 1: lorat runs in one */
    int64_t iommu;           /* 1: devices are behind an IOMMU that translates */
    int64_t acs;             /* 1: a PCIe bridge sends peer traffic by way of the CPU (Access Control Services) */
    int64_t host_total, host_available, disk_free, shm_total, shm_free; /* bytes; disk: of the folder that lorat is run in */
    int64_t open_files, locked_memory; /* limits of this process; INT64_MAX = none */
    char nccl_settings[256]; /* NCCL_* variables of the environment, "A=1 B=2" */
    struct link_card card[LINKS_MAX_CARDS];
    int n_cards;
    struct link_pair pair[MACHINE_MAX_PAIRS]; /* every two cards, a before b */
    int n_pairs;
};

/* This machine. Never fails: what cannot be read stays unknown. Starts the driver: not in a process that forks later. */
void machine_read(struct machine *out);
/* Pure: a machine from JSON. Unknown keys, wrong types and cards that a pair names but the list lacks are refused (ERR_DATA). */
int machine_parse(const char *json, size_t n, const char *where, struct machine *out, struct err *e);
/* As JSON that parses to the same machine. */
void machine_write(const struct machine *m, struct buf *out);

/* What two cards have in common; the card or the pair by the driver's numbers, NULL when there is none. */
const struct link_card *machine_card(const struct machine *m, int64_t index);
const struct link_pair *machine_pair(const struct machine *m, int64_t a, int64_t b);
/* NVLinks that join card a to card b, from one to the other or by way of switches (NVSwitch joins every card that has links to it):
 * how many are up; *down (may be NULL): how many of a's links are down. */
int machine_bridges(const struct machine *m, const struct link_card *a, const struct link_card *b, int *down);
/* How many of them go by way of switches. */
int machine_switched(const struct link_card *a, const struct link_card *b);

/* Do cards reach one another's memory? 1 yes, 0 no, -1 unknown. NCCL asks NVML and CUDA both, and one no is enough. */
int machine_peer(const struct link_pair *p);

/* The way that NCCL takes between two cards by its own rules when nobody forces one. */
enum machine_way { WAY_UNKNOWN, WAY_NVLINK, WAY_PEER, WAY_HOST };
const char *machine_way_name(enum machine_way w); /* "nvlink", "pcie, peer-to-peer", "pcie, through host memory", "unknown" */
/* why: one clause. */
enum machine_way machine_way(const struct machine *m, const struct link_pair *p, char why[160]);

#endif
