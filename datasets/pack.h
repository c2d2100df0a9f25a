/* pack.h - from documents to rows: which pieces an epoch has, in which order, and how they share rows. Everything here is a pure
 * function of (document lengths, options, seed, epoch); the algorithm is written down in docs/data-format.md. */
#ifndef LORAT_PACK_H
#define LORAT_PACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "datasets/loader.h"
#include "datasets/store.h"

enum { PACK_BLOCK = 1024, PACK_OPEN_ROWS = 64, PACK_CACHED_BLOCKS = 256 };

struct piece { /* tokens [first, first + n) of the group, all of one document */
    int64_t document, first;
    int32_t n;
};
struct row {
    struct piece *pieces; /* (n) in order; owned by the packer */
    int32_t n, cap;
    int32_t used; /* tokens, at most sequence_length */
};

/* The pieces of a group, numbered by document and place in it. Read-only after index_build; threads may share it. */
struct piece_index {
    const struct store *store;
    enum dataset_group group;
    int32_t sequence_length;
    enum too_long too_long; /* never AUTO */
    int64_t documents, pieces;
    bool direct;       /* piece i is document i: nothing is too long */
    int64_t *before;   /* (documents / PACK_BLOCK + 2) pieces in the blocks before this one; NULL when direct */
    uint64_t *without; /* a bit per document left out for want of a target; NULL when there is none */
};
/* One pass over the document lengths (and over the weights of documents that are too long). ERR_STOPPED when a stop is requested.
 * Here and below the caller puts the file's name before messages. */
int index_build(struct store *store, const struct dataset_facts *f, const struct loader_options *o, struct piece_index *out,
                struct loader_counts *counts, struct err *e);
void index_free(struct piece_index *ix);

struct packer; /* opaque; one thread */
/* cancel (may be NULL): when it becomes true, calls fail soon. */
int packer_new(const struct piece_index *ix, const struct loader_options *o, const atomic_bool *cancel, struct packer **out,
               struct err *e);
void packer_free(struct packer *p); /* NULL is fine */
void packer_start(struct packer *p, int64_t epoch);
/* Without packing only: go on behind the epoch's first n rows. */
void packer_skip(struct packer *p, int64_t n);
/* The next row of the epoch, borrowed until the next call; NULL at its end. */
int packer_row(struct packer *p, const struct row **out, struct err *e);

#endif
