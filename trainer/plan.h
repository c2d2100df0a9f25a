/* plan.h - will the job fit, with which micro-batch and recomputation, and how long will it take? Decided from config.json and the job
 * alone, by the same layout code that allocates. */
#ifndef LORAT_PLAN_H
#define LORAT_PLAN_H

#include "kernels/cuda/plugin.h"
#include "trainer/base/buf.h"
#include "trainer/config.h"
#include "trainer/facts.h"
#include "trainer/lora.h"
#include "trainer/machine.h"
#include "trainer/model.h"
#include "trainer/plan_links.h"

/* Bytes a second in each direction with both busy; 0 = not there, or not known. */
struct plan_ways {
    double nvlink, peer, staged; /* between two cards: a bridge, PCIe from card to card, PCIe through host memory */
    double host;                 /* from pinned host memory to a card */
    enum machine_way own;        /* of the three, what NCCL takes by its own rules; WAY_UNKNOWN: names alone are known */
};
/* The three by PCIe of a slot, from published rates of Gen4 x16 (docs/nvlink.md): in proportion. */
struct plan_ways plan_ways_pcie(int generation, int lanes);
/* *w, usual for the cards, as n cards (driver's numbers) of this machine have it: narrower slots, a bridge with fewer links or
 * none, peer access or none. Of several pairs the slowest. What NVML does not tell stays. */
void plan_ways_machine(const struct machine *m, const int *cards, int n, struct plan_ways *w);

/* What a plan has to know of a device. */
struct plan_device {
    char name[96];
    bool cuda;
    int cards;
    int64_t total, available; /* bytes of one card, or of the machine; available already respects compute.memory_limit */
    int64_t reserve;          /* context, libraries, the program itself and its tokenizer: not lorat's arenas, but taken from the same memory */
    double gemm_rate;         /* FLOP/s that large products reach; 0 = unknown */
    int32_t tokens_enough;    /* beyond this many tokens a micro-batch is not faster */
    int32_t tokens_half;      /* at this many tokens products reach half their rate: efficiency n / (n + tokens_half) */
    enum dtype act;
    struct plan_ways ways;
    char unequal[256];        /* the cards where they are not alike, in words; "" = they are */
    char holder[128];         /* the process that holds most of what is not free; "" = none or unknown */
};
/* The slowest way that a job may take which asks for `want`: what is not known of the machine is taken for the slowest. */
enum machine_way plan_ways_taken(const struct plan_ways *w, enum cfg_interconnect want);
/* Its rate; 0 = not known. */
double plan_ways_rate(const struct plan_ways *w, enum machine_way way);

/* A card of the table by its short name ("3090", "2x3090", ...) or the driver's ("RTX 3090"), in which case, blanks and hyphens do
 * not count; -1 with the known names otherwise. A card whose rate is not known
 * has gemm_rate 0: its plan has memory and no time. */
int plan_card(const char *name, struct plan_device *out, struct err *e);
/* Dense BF16 FLOP/s of the card whose name stands in `device` (as in ops->device), by its maker's table; 0 = not in the table. */
double plan_card_peak(const char *device);
/* What its large products reach, by the same table; 0 = not in it. */
double plan_card_rate(const char *device);
/* What `cards` such cards have in slots of their own generation and 16 lanes; all 0 when they are not in the table. */
struct plan_ways plan_card_ways(const char *device, int cards);
/* This machine through an open backend. card: the card behind it as it was before it was opened (zero for the CPU). */
int plan_here(struct ops *o, const struct cuda_card *card, const struct config *c, const struct facts *f, struct plan_device *out, struct err *e);

struct plan {
    struct plan_device device;
    int32_t micro_batch, accumulation;
    enum cfg_recompute recompute;
    struct model_shape shape;
    struct arena arenas[ARENAS]; /* counted */
    int64_t loader_bytes, total_bytes; /* total: arenas + loader + reserve */
    int64_t parameters;     /* trainable, without padding */
    double flop_token;      /* executed per token with the chosen recomputation, every position a target */
    double flop_token_min;  /* without any recomputation: what model FLOP utilisation counts */
    struct plan_work work;  /* of one step, for the links */
    enum machine_way way;   /* between the cards, that choice and estimate go by; WAY_UNKNOWN with one card or an unknown rate */
    double fetch_rate, sum_rate; /* bytes a second, for `work`; INFINITY: nothing to wait for, or not known */
    double tokens_s;             /* estimate by these rates, 0 = unknown */
    char base[192];         /* where the base lies and why, in words */
};
/* Choose placement, micro_batch and recompute where the job says auto, or check what it names: the first placement with which anything
 * fits (placement.h), the fastest variant of it. When nothing fits: ERR_DEVICE with the smallest
 * variant's numbers and what to change. o may be NULL (planning for another machine). */
int plan_make(const struct config *c, const struct facts *f, const struct lora *l, struct ops *o, const struct plan_device *d,
              int64_t loader_bytes, struct plan *out, struct err *e);
/* What the steps were made with that a resume goes on from. */
struct plan_before {
    int32_t micro_batch;    /* 0: none, or not known */
    bool placed;            /* place is known */
    enum frozen_kind place; /* of the base */
};
/* plan_make, where the job says auto in this order: the placement of before with its rows, that placement with other rows, another
 * placement. said: a sentence when it became another (out says which), or when it stayed where a faster one would fit; else "". */
int plan_resume(const struct config *c, const struct facts *f, const struct lora *l, struct ops *o, const struct plan_device *d,
                int64_t loader_bytes, const struct plan_before *before, struct plan *out, char *said, size_t size, struct err *e);
/* tokens_s again, after work.flop_s was set to what was measured. */
void plan_estimate(struct plan *p);
/* What `auto` leaves free of each of several cards where it can: JOB_NCCL_BYTES is an allowance. */
enum { PLAN_SPARE_BYTES = 300 << 20 };
/* The tables, as `lorat plan` prints them. steps, tokens: of the whole run, 0 = unknown. */
void plan_print(const struct plan *p, const struct config *c, const struct facts *f, int64_t steps, int64_t tokens, struct buf *out);
/* The same as one JSON object: docs/plan.md. */
void plan_json(const struct plan *p, const struct config *c, const struct facts *f, int64_t steps, int64_t tokens,
               struct buf *out);

/* A way that bytes can take, and what it costs. */
struct plan_row {
    const char *name;
    double rate;                    /* bytes a second; INFINITY: computing alone, the first row */
    double step_s, tokens_s, sum_s; /* sum_s: of it the sum over ranks */
    double hidden, hidden_rows;     /* tokens a pass, and micro_batch, from which every fetch is hidden */
};
enum { PLAN_ROWS = 4 };
/* 0 when nothing travels or the device's rate is not known. */
int plan_rows(const struct plan *p, struct plan_row out[PLAN_ROWS]);
/* The fewest rows of the job that hold so many tokens and divide a rank's rows of a step; where they are more than these, just so many. */
double plan_rows_of(const struct plan *p, double tokens);
/* NVLink against the way through host memory, which cards without it have of themselves. */
struct plan_bridge {
    double worth; /* steps' times, without over with */
    double until; /* tokens a pass from which it is worth nothing; 0: sums alone travel */
};
bool plan_bridge(const struct plan *p, struct plan_bridge *out); /* false: there is none, or nothing is known */
/* FLOP per token of one step with documents of `span` tokens. Formulas: docs/plan.md. */
double plan_flop(const struct facts *f, const struct lora *l, enum cfg_recompute r, double span);
/* Rows of a head chunk at n tokens: logits of at most 128 MiB. */
int32_t plan_head_chunk(const struct facts *f, enum dtype act, int32_t n);
const char *plan_recompute_name(enum cfg_recompute r);

#endif
