/* mem.h - allocation. Two kinds: small host objects through mem_alloc (tests fail the N-th one), and arenas, which are sized
 * from tables before anything is allocated and then handed out part by part. */
#ifndef LORAT_MEM_H
#define LORAT_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

/* Zeroed memory or NULL. Free with mem_free (NULL is fine). Everything of lorat's own is allocated here. */
void *mem_alloc(size_t count, size_t size);
void *mem_realloc(void *p, size_t count, size_t size); /* NULL leaves p as it was; new bytes are not zeroed */
char *mem_strdup(const char *s);
void mem_free(void *p);
/* Fill e with "out of memory" (ERR_DEVICE) and what was asked for; returns -1. */
int mem_fail(struct err *e, const char *what, size_t bytes);
/* Tests: make allocation number n from now on (1 = the next) fail once; 0 = never. Counts since the last call. */
void mem_fail_at(int64_t n);
int64_t mem_count(void);

/* An arena runs the same layout code twice: first with base NULL, to count (that is what `lorat plan` prints), then over memory
 * of exactly that size. Parts start at multiples of ARENA_ALIGN bytes.
 *
 *   base |part 0|pad|part 1|pad| ... |part n-1|pad| size
 */
enum { ARENA_ALIGN = 256, ARENA_MAX_PARTS = 96 };
struct arena_part {
    const char *name; /* static text, as `lorat plan` prints it */
    size_t bytes;     /* with padding */
};
struct arena {
    const char *name;
    char *base;   /* NULL while counting; owned by whoever allocated it (the backend) */
    size_t size;  /* 0 while counting */
    size_t used;
    int n_parts;
    struct arena_part parts[ARENA_MAX_PARTS]; /* takes with the same name are added up */
    int overflow;                             /* a take did not fit, or a size overflowed: a fault in the table */
};
/* Next part of count * size bytes. Returns NULL while counting and on overflow (see arena_check). */
void *arena_take(struct arena *a, const char *name, int64_t count, size_t size);
int arena_check(const struct arena *a, struct err *e);
/* Begin the second pass over memory of a->used bytes at `base`; parts are counted anew. */
void arena_place(struct arena *a, void *base);

#endif
