/* compare.h - runs held against one another: what their folders say (compare_read.c), the statistics (compare_stats.c), the
 * result (compare.c), and its forms: words, a table's rows, text, JSON, HTML. Only reads; nothing here needs a device.
 *
 * A number that was not recorded is NaN, everywhere. The first run is what the others are compared with. */
#ifndef LORAT_COMPARE_H
#define LORAT_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"
#include "trainer/base/hash.h"
#include "trainer/config.h"

enum { COMPARE_MAX_RUNS = 8, COMPARE_PATH = 1024, COMPARE_STATE_FILES = 3 };

/* ---- one run ---- */
struct compare_step {
    int64_t step;
    double loss, tokens, seconds, tok_s; /* tokens: of this step */
    double compute_s, comm_s, wait_s, optim_s, save_s, comm_bytes, energy_j;
};
struct compare_eval {
    int64_t step;
    double loss;
};
struct compare_checkpoint {
    int64_t step;
    bool common;                             /* another run has this step too; only these are hashed */
    char hex[COMPARE_STATE_FILES][HASH_HEX]; /* compare_state_files; "" = cannot be read */
};
extern const char *const compare_state_files[COMPARE_STATE_FILES];
struct compare_run {
    char dir[COMPARE_PATH], label[64]; /* label: what a table's column is called, printable ASCII */
    bool running;
    struct config *job; /* NULL: not there, or cannot be read (then job_error says why) */
    char job_error[256];
    struct compare_step *steps; /* ascending, one for each step */
    size_t n_steps;
    struct compare_eval *evals;
    size_t n_evals;
    size_t n_damaged;                       /* lines of metrics.jsonl that cannot be read */
    size_t n_rewritten;                     /* lines that a resumed process wrote anew */
    struct compare_checkpoint *checkpoints; /* ascending */
    size_t n_checkpoints;
    char adapter[HASH_HEX];     /* of adapter/adapter_model.safetensors; "" = none */
    char base[80], dataset[80]; /* identities in the newest checkpoint; "" or "unknown" = not known */
    bool summed;                /* summary.json was read: */
    char state[16], devices[256], interconnect[128], precision[16], version[128], libraries[256];
    int64_t planned_steps; /* -1 = not known */
    double ranks, peak_bytes, plan_bytes, device_bytes, total_s;
};
/* Reads a run's folder but its checkpoints' bytes. ERR_IO: not there; ERR_STATE: not a run, or a run without any step. */
int compare_read(const char *dir, struct compare_run *out, struct err *e);
/* Pure: the lines of a metrics.jsonl. whole: the last line is complete (a running process may be in the middle of it). */
int compare_read_metrics(const char *text, size_t n, bool whole, struct compare_run *out, struct err *e);
/* Hash the adapter and those checkpoints whose step another run has too. A file that cannot be read has no hash. */
void compare_hash(struct compare_run *runs, int n);
void compare_run_free(struct compare_run *r);

/* ---- statistics ---- */
enum { COMPARE_REPLICATES = 2000, COMPARE_SEED = 20240229, COMPARE_FEWEST = 10 };
/* Steps at the beginning that are left out of every rate: a tenth, at least 1 and at most 20; none of a single step. */
size_t compare_warm(size_t n);
/* Quantile q of ascending values, linear between neighbours (Hyndman and Fan's type 7, numpy's default). n >= 1. */
double compare_quantile(const double *sorted, size_t n, double q);
/* Steps in a block of the bootstrap: twice the first lag at which the autocorrelation is below 2 / sqrt(n), but at least the cube
 * root of n and at most a quarter of n. A slow stretch thus stays in one piece. */
size_t compare_block(const double *values, size_t n);
struct compare_interval {
    double difference, low, high; /* of the medians, b / a - 1, with its 95 % interval */
};
/* Moving-block bootstrap (Kuensch, Annals of Statistics 17, 1989), percentile interval, COMPARE_REPLICATES replicates from a
 * fixed seed: a and b are cut into overlapping blocks of neighbouring steps, and blocks drawn with replacement make each
 * replicate. */
int compare_bootstrap(const double *a, size_t n_a, const double *b, size_t n_b, struct compare_interval *out, struct err *e);

/* ---- the result ---- */
enum compare_verdict {
    COMPARE_FASTER,
    COMPARE_SLOWER,
    COMPARE_NO_DIFFERENCE,
    COMPARE_REPEAT,
    COMPARE_TOO_FEW,
    COMPARE_INCOMPARABLE
};
const char *compare_verdict_name(enum compare_verdict v);
/* From an interval: beyond noise when it does not hold 0 and the difference is at least half a per cent. */
enum compare_verdict compare_judge(const struct compare_interval *i);

struct compare_measures {    /* of one run; rates over the steps behind the warm-up, totals over all */
    size_t n_warm, n_steady; /* n_steady: steps with a rate */
    double tok_s, tok_s_10, tok_s_90;
    double step_s, compute_s, comm_s, wait_s, optim_s, save_s; /* means of a step; step_s without save_s */
    double comm_bytes, bus_rate; /* bytes summed in all; bytes a second over the slowest link, 2 (N-1)/N bytes / comm_s */
    double energy_j, power_w, tokens_joule; /* of all steps */
    double final_loss, final_eval, best_eval;
};
struct compare_loss {
    size_t n_common, n_equal;
    double distance; /* the largest over common steps; NaN without any */
    int64_t at;
};
struct compare_pair {             /* run k against run 0 */
    bool adapters, same_adapters; /* both have one; same bytes */
    size_t n_states, n_same_states;
    int64_t differs_at; /* first common checkpoint that differs, and its file; -1 = none */
    const char *differs_file;
    struct compare_loss train, eval;
    enum compare_verdict speed;
    struct compare_interval interval; /* unless TOO_FEW or INCOMPARABLE */
    bool other_data;
    char why[400]; /* INCOMPARABLE: the sentence */
};
struct compare {
    struct compare_run run[COMPARE_MAX_RUNS];
    struct compare_measures of[COMPARE_MAX_RUNS];
    struct compare_pair pair[COMPARE_MAX_RUNS]; /* [0] is unused */
    int n;
    double run_to_run; /* largest difference of medians between two runs of one job on one machine; NaN = there are no such two */
    double price;      /* of a kWh; NaN = not asked */
    char currency[9];
};
/* Open and read 2..COMPARE_MAX_RUNS runs, hash what can be compared, and judge. Free with compare_free, also after a failure. */
int compare_open(const char *const *dirs, int n, struct compare *out, struct err *e);
/* The same without reading: from out->run[0..n-1]. */
int compare_make(struct compare *c, struct err *e);
void compare_free(struct compare *c);

/* ---- words, and the rows of the tables ---- */
bool compare_same_bits(const struct compare_pair *p);                     /* something was compared and all of it is equal */
void compare_words_bits(const struct compare *c, int k, struct buf *out); /* a sentence each, without a newline */
void compare_words_loss(const struct compare *c, int k, struct buf *out);
void compare_words_speed(const struct compare *c, int k, struct buf *out);
/* What a reader must know of run k before believing its numbers; a line each, with its newline. */
void compare_words_notes(const struct compare *c, int k, struct buf *out);
extern const char compare_method[]; /* the statistics in two sentences */
/* Every row of every table: section, label, a value a run ("-" = not recorded). */
typedef void (*compare_row_fn)(void *arg, const char *section, const char *label, const char *const *values);
int compare_rows(const struct compare *c, compare_row_fn each, void *arg, struct err *e);

/* ---- forms ---- */
int compare_text(const struct compare *c, struct buf *out, struct err *e);
int compare_json(const struct compare *c, struct buf *out, struct err *e);
int compare_html(const struct compare *c, struct buf *out, struct err *e);

#endif
