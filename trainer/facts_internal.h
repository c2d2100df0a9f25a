/* facts_internal.h - shared by the readers of facts. */
#ifndef LORAT_FACTS_INTERNAL_H
#define LORAT_FACTS_INTERNAL_H

#include "trainer/facts.h"

/* Bounds that keep every product of two sizes within 63 bits and every size within an int32. */
enum {
    FACTS_MAX_LAYERS = 4096,
    FACTS_MAX_WIDTH = 1 << 20,
    FACTS_MAX_HEADS = 4096,
    FACTS_MAX_HEAD_SIZE = 1024,
    FACTS_MAX_VOCABULARY = 1 << 24
};
enum { FACTS_MAX_CONTEXT = 1 << 30 };

/* What both sources must satisfy: head counts that divide, an even head size, positive rotary numbers. */
int facts_check(const struct facts *f, const char *where, struct err *e);
/* Add an end token unless it is already there. */
int facts_add_eos(struct facts *f, int64_t id, const char *where, struct err *e);

#endif
