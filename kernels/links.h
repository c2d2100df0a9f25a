/* links.h - what the driver's management library (NVML) tells about cards and the ways between them: clocks, power, slots, NVLink,
 * peer access, and the counters of energy and of bytes on NVLink. Makes no context on any card. NVML is loaded when it is there; it
 * comes with the driver, and a container or WSL may lack it or parts of it. Numbers that nobody tells are -1, texts are "". */
#ifndef LORAT_LINKS_H
#define LORAT_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINKS_MAX_CARDS = 16, LINKS_MAX_LINKS = 18, LINKS_MAX_USERS = 4 };

struct link_state { /* one NVLink of a card */
    int64_t active;  /* 1 up, 0 down */
    char remote[32]; /* PCI address of what stands at its other end */
    char type[8];    /* what that is: "gpu", "switch" (NVSwitch), "npu" (a POWER CPU) */
};
struct link_user { /* a process with memory on a card */
    int64_t pid, bytes;
    char name[64];
};
struct link_card {
    int64_t index; /* the driver's number: what compute.gpus names */
    char name[64], pci[32], uuid[48];
    int64_t major, minor;           /* compute capability */
    int64_t total, free;            /* bytes */
    int64_t power_limit_w, power_default_w;
    int64_t clock_mhz, clock_max_mhz;
    int64_t temperature_c;
    int64_t throttle;               /* bits LINKS_THROTTLE_*: why clocks are held down now */
    int64_t pcie_gen, pcie_gen_max; /* a card without work lowers its generation; at most: of card and slot together */
    int64_t pcie_width, pcie_width_max;
    struct link_user user[LINKS_MAX_USERS];
    int n_users;
    struct link_state link[LINKS_MAX_LINKS];
    int n_links;                    /* that the card has, up or down */
};
enum { LINKS_THROTTLE_POWER = 0x4 | 0x80, LINKS_THROTTLE_HEAT = 0x20 | 0x40, LINKS_THROTTLE_HARDWARE = 0x8 };
struct link_pair { /* two cards; a < b as the driver counts */
    int64_t a, b;
    int64_t peer;         /* 1: the driver grants peer access both ways, by NVML */
    int64_t cuda_peer;    /* 1: by the CUDA runtime; set by who has one */
    char peer_status[48]; /* why not, in NVML's words */
    char topology[8];     /* as nvidia-smi topo -m: PIX, PXB, PHB, NODE, SYS */
};

struct links;
struct links *links_open(void); /* NULL when the library is missing or does not answer */
void links_close(struct links *l); /* NULL is fine */
/* The driver's version, "580.95.05"; "" when unknown. */
void links_driver(struct links *l, char out[32]);
/* The cards as NVML counts them, with name, pci and capability; for when CUDA cannot list them. Returns how many. */
int links_list(struct links *l, struct link_card *out, int max);
/* A card of which nothing is known. */
struct link_card links_unknown(void);
/* What NVML tells about the card at card->pci; the rest stays as it is. */
void links_ask(struct links *l, struct link_card *card);
/* The way between two cards; a and b of *out are set by the caller. */
void links_ask_pair(struct links *l, const char *pci_a, const char *pci_b, struct link_pair *out);
/* Millijoules since the driver was loaded. */
bool links_energy(struct links *l, const char *pci, uint64_t *out);
/* Bytes of data that all NVLinks of a card have sent and received since the driver was loaded. */
bool links_bytes(struct links *l, const char *pci, uint64_t *sent, uint64_t *received);

#endif
