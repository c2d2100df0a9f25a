/* verb_data.h - the parts of `lorat data`. */
#ifndef LORAT_VERB_DATA_H
#define LORAT_VERB_DATA_H

#include "datasets/dataset.h"
#include "trainer/base/err.h"
#include "trainer/options.h"

/* Each gets argv[0] = its own name ("build") and returns as a verb does. */
int data_build(int argc, char **argv, struct err *e);
int data_show(int argc, char **argv, struct err *e);
int data_info(int argc, char **argv, struct err *e);
/* A group's line of figures on stdout, both groups, and warnings on stderr. */
void data_print_facts(const struct dataset_facts *f);
/* "train" or "validation". */
int data_group(const char *name, enum dataset_group *out, struct err *e);

#define DATA_CACHE ".cache/lorat"

#endif
