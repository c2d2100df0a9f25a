/* metrics.h - runs/<name>/metrics.jsonl and summary.json, and the progress line. A full log disk costs lines, never the run: the first
 * failure is said, later lines are dropped. One JSON object a line; after a resume the last line of a step wins.
 *   {"step","loss","norm","lr","tokens","targets","tok_s","gemm_share","wait_s","time"}   a training step; "skipped": true when not finite
 *   {"step","eval_loss","eval_targets","time"}                                              an evaluation */
#ifndef LORAT_METRICS_H
#define LORAT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

struct metrics_step {
    int64_t step, total;  /* step: 1 = the first one done */
    double loss, norm, rate;
    int64_t tokens, targets; /* of the run so far */
    int64_t step_tokens;
    double seconds, wait_s, flop; /* of this step */
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
void metrics_eval(struct metrics *m, int64_t step, double loss, double targets);
/* Append n bytes (a line of JSON with its newline) to the run's file `name`. */
void metrics_line(struct metrics *m, const char *name, const char *json, size_t n);
void metrics_close(struct metrics *m);

struct metrics_summary {
    const char *name, *state; /* "done", "stopped", "failed" */
    int64_t step, steps, tokens, skipped;
    double loss, eval_first, eval_loss; /* NaN: none */
    double seconds, ready_s, tok_s, gemm_share, wait_share, peak_bytes, plan_bytes;
    const char *adapter;
};
void metrics_summary(const char *run_dir, const struct metrics_summary *s);
double metrics_now(void);      /* monotonic seconds */
int64_t metrics_peak_rss(void); /* bytes */

#endif
