/* bench_shape.h - models that `lorat bench` can build from nothing: facts as their makers published them in config.json. */
#ifndef LORAT_BENCH_SHAPE_H
#define LORAT_BENCH_SHAPE_H

#include "trainer/base/buf.h"
#include "trainer/facts.h"

/* The facts of a model by name; -1 (ERR_USAGE) with the nearest known one. */
int bench_shape(const char *name, struct facts *out, struct err *e);
/* The shape as a config.json that lorat and transformers read; names its type of weights as BF16. */
void bench_shape_config(const struct facts *f, struct buf *out);
/* The names, separated by ", ". */
void bench_shape_names(struct buf *out);

#endif
