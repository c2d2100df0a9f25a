/* loader.h - a dataset as a stream of micro-batches, in an order that is a pure function of (dataset, options, step).
 * One thread owns HDF5 and fills a ring ahead of the loop. Memory: the ring, one chunk cache and an index of 8 bytes per 1,024
 * documents. */
#ifndef LORAT_LOADER_H
#define LORAT_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "datasets/dataset.h"
#include "trainer/base/batch.h"
#include "trainer/base/err.h"

enum too_long { TOO_LONG_AUTO, TOO_LONG_SPLIT, TOO_LONG_DROP, TOO_LONG_TRUNCATE }; /* auto: truncate for chat data, split for text */

struct loader_options {
    const char *path, *cache_dir;
    bool unsealed;
    enum dataset_group group;
    int32_t sequence_length;
    bool packing, shuffle;
    enum too_long too_long;
    uint64_t seed;
    int32_t batch;        /* rows in one step over all ranks */
    int32_t micro_batch;  /* rows in one micro-batch; divides batch / ranks */
    int32_t rank, ranks;  /* which share of each step this loader delivers: see loader_next */
    int64_t max_tokens;   /* 0 = all; evaluation: stop after the row in which this many tokens were reached */
    int32_t vocab;        /* every token is checked to be below it; 0 = not checked */
};
struct loader_counts { /* what the options do to this group, once over (one epoch) */
    int64_t documents, pieces, split, dropped, truncated, no_target; /* split: documents cut in windows; no_target: dropped for want of one */
    int64_t tokens, targets;
};
struct loader; /* opaque */

int loader_open(const struct loader_options *o, struct loader **out, struct err *e);
void loader_close(struct loader *l);
const struct dataset_facts *loader_facts(const struct loader *l);
const struct loader_counts *loader_counts(const struct loader *l);
/* Optimizer steps in one epoch. Every epoch visits every piece exactly once; its last step is padded with empty rows. Epochs may
 * differ in length (packing depends on the order). */
int loader_epoch_steps(struct loader *l, int64_t epoch, int64_t *steps, struct err *e);
/* Start (again) at optimizer step `step` (0-based over all epochs) and run for `epochs` epochs from epoch 0. Never waits for data.
 * For evaluation: step 0, epochs 1. */
int loader_start(struct loader *l, int64_t step, int64_t epochs, struct err *e);
/* The next micro-batch, in order of first_row: batch/micro_batch of them make a step (this rank gets batch/(micro_batch*ranks) of
 * them, numbers rank*k .. rank*k+k-1 of the step). *out is borrowed until loader_release; NULL at the end of the last epoch.
 * wait_s (may be NULL) += seconds spent waiting for the reader. */
int loader_next(struct loader *l, struct batch **out, double *wait_s, struct err *e);
void loader_release(struct loader *l, struct batch *b);
/* Bytes of host memory that a loader with these options will hold (for the plan). */
int64_t loader_bytes(const struct loader_options *o);

#endif
