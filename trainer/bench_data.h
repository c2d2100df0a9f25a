/* bench_data.h - random weights and packed random tokens for `lorat bench step`. */
#ifndef LORAT_BENCH_DATA_H
#define LORAT_BENCH_DATA_H

#include "trainer/bench.h"
#include "trainer/model.h"

/* Seeded weights of about the sizes of a trained model's, so that activations and gradients stay finite; the adapter's start. The
 * same numbers wherever the base lies. */
int bench_weights(struct model *m, struct err *e);
/* A micro-batch of b->c's geometry: documents of b->document tokens, or a seeded mix with 32 to a row. Every token but the last
 * of a document has a target. Release with bench_batch_free. */
int bench_batch(const struct bench *b, uint32_t number, struct batch *out, struct err *e);
void bench_batch_free(struct batch *x);

#endif
