/* metrics.h - runs/<name>/metrics.jsonl and summary.json, and the progress line. A full log disk costs lines, never the run: the first
 * failure is said, later lines are dropped. One JSON object a line; after a resume the last line of a step wins.
 * Every field is described in docs/run-folder.md. What is not known is left out. */
#ifndef LORAT_METRICS_H
#define LORAT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

/* Where the time of a step, or of all steps, went. seconds = compute + comm + wait + optim; saving is beside the steps. */
struct metrics_split {
    double compute_s; /* forward, backward, and the read-back of the sum */
    double comm_s;    /* waiting for a sum over ranks, or for blocks of the base: exposed communication */
    double wait_s;    /* waiting for a batch */
    double optim_s;   /* AdamW and the working copy; on a card only what the host sees of it: the work itself runs into the next step */
    double save_s;    /* saving since the line before */
    int64_t comm_bytes; /* summed over ranks */
    double energy_j;  /* NaN = not known */
};
struct metrics_step {
    int64_t step, total;  /* step: 1 = the first one done */
    double loss, norm, rate;
    int64_t tokens, targets; /* of the run so far */
    int64_t step_tokens;
    double seconds, flop; /* of this step */
    struct metrics_split split;
    double gemm_rate;     /* 0 = unknown */
    bool finite;
};
struct metrics {
    char path[192];
    bool failed;          /* said once */
    double started, mean_s; /* smoothed seconds a step */
    struct buf line;      /* reused, so that a long run allocates nothing */
};
void metrics_open(struct metrics *m, const char *run_dir);
void metrics_step(struct metrics *m, const struct metrics_step *s);
void metrics_eval(struct metrics *m, int64_t step, double loss, double targets, double seconds);
/* Append n bytes (a line of JSON with its newline) to the run's file `name`. */
void metrics_line(struct metrics *m, const char *name, const char *json, size_t n);
void metrics_close(struct metrics *m);

struct metrics_summary {
    const char *name, *state; /* "done", "stopped", "failed" */
    int64_t step, steps, tokens, skipped;
    double loss, eval_first, eval_loss; /* NaN: none */
    double seconds, ready_s, tok_s, gemm_share, wait_share, peak_bytes, plan_bytes;
    double device_bytes; /* what this process takes of a card, by the driver; NaN on the CPU */
    const char *adapter;
    struct metrics_split split; /* summed over the steps of this process */
    double step_s, eval_s;      /* seconds in steps, in evaluations; of this process */
    int ranks;
    const char *device, *interconnect, *libraries; /* interconnect "" with one rank */
    const char *precision;                         /* "bf16", "f32" */
};
void metrics_summary(const char *run_dir, const struct metrics_summary *s);
double metrics_now(void);      /* monotonic seconds */
int64_t metrics_peak_rss(void); /* bytes */

#endif
