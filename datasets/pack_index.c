#include <string.h>

#include "datasets/pack.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/stop.h"

enum { WEIGHT_BLOCK = 16384 };

/* Targets of document tokens [first, first + n) beyond the first, in all, within the first `kept` tokens, and at the starts of
 * windows of `kept` tokens (which nothing in their window predicts). */
struct target_counts {
    int64_t all, head, starts;
};

static int count_targets(struct store *s, enum dataset_group g, int64_t first, int64_t n, int64_t kept, struct target_counts *c,
                         float *weights, struct err *e)
{
    *c = (struct target_counts){0};
    for (int64_t at = 0; at < n; at += WEIGHT_BLOCK) {
        int64_t k = n - at < WEIGHT_BLOCK ? n - at : WEIGHT_BLOCK;
        TRY(store_weights(s, g, first + at, k, weights, e));
        for (int64_t i = at; i < at + k; i++) {
            bool target = i > 0 && weights[i - at] > 0;
            c->all += target;
            c->head += target && i < kept;
            c->starts += target && i % kept == 0;
        }
    }
    return 0;
}

struct walk {
    struct store *store;
    struct piece_index *ix;
    struct loader_counts *counts;
    float *weights;   /* (WEIGHT_BLOCK) */
    uint64_t tokens;  /* of the group */
    bool all_targets; /* every token that is not a document's first is one: weights need not be read */
};

static int mark_without(struct piece_index *ix, int64_t document, struct err *e)
{
    if (ix->without == NULL) {
        size_t words = (size_t)(ix->documents / 64 + 1);
        ix->without = mem_alloc(words, sizeof *ix->without);
        if (ix->without == NULL)
            return mem_fail(e, "documents without a target", words * 8);
    }
    ix->without[document / 64] |= UINT64_C(1) << (document % 64);
    return 0;
}

/* A document of n > sequence_length tokens: what becomes of it, in w->counts. */
static int count_long(struct walk *w, int64_t document, int64_t first, int64_t n, struct err *e)
{
    struct loader_counts *c = w->counts;
    int64_t kept = w->ix->sequence_length, windows = num_div_up(n, kept);
    struct target_counts t = {.all = n - 1, .head = kept - 1, .starts = windows - 1};
    if (!w->all_targets)
        TRY(count_targets(w->store, w->ix->group, first, n, kept, &t, w->weights, e));
    c->targets -= t.all;
    switch (w->ix->too_long) {
    case TOO_LONG_SPLIT:
        c->split++;
        c->pieces += windows;
        c->tokens += n;
        c->targets += t.all - t.starts;
        return 0;
    case TOO_LONG_TRUNCATE:
        if (t.head == 0) {
            c->no_target++;
            return mark_without(w->ix, document, e);
        }
        c->truncated++;
        c->pieces++;
        c->tokens += kept;
        c->targets += t.head;
        return 0;
    default:
        c->dropped++;
        return 0;
    }
}

static int walk_block(struct walk *w, int64_t first_document, int64_t n, uint64_t offsets[PACK_BLOCK + 1], struct err *e)
{
    TRY(store_offsets(w->store, w->ix->group, first_document, n + 1, offsets, e));
    for (int64_t i = 0; i < n; i++) {
        if (offsets[i + 1] <= offsets[i] || offsets[i + 1] > w->tokens)
            FAIL(
                e, ERR_DATA,
                "offsets[%lld]: %llu, expected more than the %llu before it and at most the %llu tokens. Build the dataset again",
                (long long)(first_document + i + 1), (unsigned long long)offsets[i + 1], (unsigned long long)offsets[i],
                (unsigned long long)w->tokens);
        int64_t length = (int64_t)(offsets[i + 1] - offsets[i]);
        if (length > w->ix->sequence_length) {
            TRY(count_long(w, first_document + i, (int64_t)offsets[i], length, e));
        } else {
            w->counts->pieces++;
            w->counts->tokens += length;
        }
    }
    return 0;
}

static enum too_long choose(const struct dataset_facts *f, enum too_long asked)
{
    if (asked != TOO_LONG_AUTO)
        return asked;
    bool chat = f->group[DATASET_TRAIN].masked * 2 > f->group[DATASET_TRAIN].documents;
    return chat ? TOO_LONG_TRUNCATE : TOO_LONG_SPLIT;
}

int index_build(struct store *store, const struct dataset_facts *f, const struct loader_options *o, struct piece_index *ix,
                struct loader_counts *counts, struct err *e)
{
    int64_t documents = f->group[o->group].documents, blocks = documents / PACK_BLOCK + 2;
    *ix = (struct piece_index){.store = store, .group = o->group, .sequence_length = o->sequence_length, .documents = documents};
    *counts = (struct loader_counts){.documents = documents, .targets = f->group[o->group].targets};
    ix->too_long = choose(f, o->too_long);
    ix->before = mem_alloc((size_t)blocks, sizeof *ix->before);
    struct walk w = {.store = store,
                     .ix = ix,
                     .counts = counts,
                     .tokens = (uint64_t)f->group[o->group].tokens,
                     .all_targets = f->group[o->group].masked == 0};
    w.weights = mem_alloc(WEIGHT_BLOCK, sizeof *w.weights);
    uint64_t *offsets = mem_alloc(PACK_BLOCK + 1, sizeof *offsets);
    int rc = 0;
    if (ix->before == NULL || w.weights == NULL || offsets == NULL)
        rc = mem_fail(e, "the index of a dataset", (size_t)blocks * 8);
    for (int64_t b = 0, at = 0; rc == 0 && at < documents; b++, at += PACK_BLOCK) {
        ix->before[b] = counts->pieces;
        rc = walk_block(&w, at, documents - at < PACK_BLOCK ? documents - at : PACK_BLOCK, offsets, e);
        ix->before[b + 1] = counts->pieces;
        if (rc == 0 && stop_requested())
            rc = err_set(e, ERR_STOPPED, "stopped while it was being indexed");
    }
    mem_free(offsets);
    mem_free(w.weights);
    ix->pieces = counts->pieces;
    ix->direct = counts->split + counts->dropped + counts->truncated + counts->no_target == 0;
    if (ix->direct || rc != 0) {
        mem_free(ix->before);
        ix->before = NULL;
    }
    return rc;
}

void index_free(struct piece_index *ix)
{
    mem_free(ix->before);
    mem_free(ix->without);
    *ix = (struct piece_index){0};
}
