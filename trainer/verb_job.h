/* verb_job.h - what verbs that take a job share. */
#ifndef LORAT_VERB_JOB_H
#define LORAT_VERB_JOB_H

#include "trainer/config.h"
#include "trainer/options.h"

#define SET_ROW {"set", "KEY=VALUE", "set a key for this call, as in --set train.epochs=1; may be repeated", 0, true}

/* The job file `path` with every --set of o applied. */
int verb_job(const struct options *o, const char *path, struct config *c, struct err *e);

#endif
