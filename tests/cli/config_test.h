/* config_test.h - what the tests of the job file share. */
#ifndef LORAT_CONFIG_TEST_H
#define LORAT_CONFIG_TEST_H

#include "tests/check.h"
#include "trainer/config.h"

#define MINIMAL "name: n\nmodel: {path: m}\ndata: {train: d}\n"

static inline int parse(const char *yaml, struct config *c, struct err *e)
{
    memset(e, 0, sizeof *e);
    return config_parse(yaml, strlen(yaml), "job.yaml", c, e);
}

#endif
