#include "datasets/dataset.h"

#include <stdio.h>
#include <string.h>

#include "datasets/seal.h"
#include "datasets/store.h"
#include "datasets/tally.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum { SCAN_DOCUMENTS = 4096, SCAN_TOKENS = 65536, PROBE_S = 60, PROBE_BYTES_PER_S = 10 << 20 };

struct dataset {
    int fd;
    char *path;
    struct store *store;
    struct dataset_facts facts;
};

/* ---- a file without a seal: everything is read once, in a child process ---- */

struct scan {
    struct store *store;
    const char *path;
    const char *group;
    uint64_t n_tokens;
    struct tally tally;
    uint64_t ends[SCAN_DOCUMENTS];
    int64_t n_ends, at_end, documents; /* ends[0 .. n_ends) belong to documents `documents` .. */
    int32_t tokens[SCAN_TOKENS];
    float weights[SCAN_TOKENS];
};

static int next_ends(struct scan *s, uint64_t before, int64_t n_documents, struct err *e)
{
    s->documents += s->n_ends;
    s->at_end = 0;
    s->n_ends = n_documents - s->documents < SCAN_DOCUMENTS ? n_documents - s->documents : SCAN_DOCUMENTS;
    TRY(store_offsets(s->store, s->tally.group, s->documents + 1, s->n_ends, s->ends, e));
    for (int64_t i = 0; i < s->n_ends; i++) {
        if (s->ends[i] <= before || s->ends[i] > s->n_tokens)
            FAIL(e, ERR_DATA,
                 "%s: %s/offsets[%lld]: %llu, expected more than the %llu before it and at most the %llu tokens. Build the "
                 "dataset again",
                 s->path, s->group, (long long)(s->documents + i + 1), (unsigned long long)s->ends[i], (unsigned long long)before,
                 (unsigned long long)s->n_tokens);
        before = s->ends[i];
    }
    return 0;
}

static int scan_group(struct scan *s, struct dataset_facts *f, enum dataset_group g, struct err *e)
{
    int64_t n_tokens = f->group[g].tokens, n_documents = f->group[g].documents, at = 0;
    memset(&f->group[g], 0, sizeof f->group[g]);
    s->tally = (struct tally){.facts = f, .group = g};
    s->group = g == DATASET_TRAIN ? "train" : "validation";
    s->n_ends = s->documents = 0;
    s->n_tokens = (uint64_t)n_tokens;
    TRY(next_ends(s, 0, n_documents, e));
    while (at < n_tokens) {
        int64_t n = n_tokens - at < SCAN_TOKENS ? n_tokens - at : SCAN_TOKENS;
        TRY(store_tokens(s->store, g, at, n, s->tokens, e));
        TRY(store_weights(s->store, g, at, n, s->weights, e));
        for (int64_t i = 0; i < n; i++) {
            if (s->tokens[i] < 0 || (f->vocab > 0 && s->tokens[i] >= f->vocab))
                FAIL(e, ERR_DATA,
                     "%s: %s/tokens[%lld]: %d, expected at least 0 and below the vocabulary (%d). Build the dataset again",
                     s->path, s->group, (long long)(at + i), s->tokens[i], f->vocab);
            if (!(s->weights[i] >= 0 && s->weights[i] <= 1e6f))
                FAIL(e, ERR_DATA, "%s: %s/weights[%lld]: %g, expected at least 0 and at most 1e6. Build the dataset again",
                     s->path, s->group, (long long)(at + i), (double)s->weights[i]);
            tally_token(&s->tally, s->tokens[i], s->weights[i]);
            if ((uint64_t)(at + i) + 1 != s->ends[s->at_end])
                continue;
            tally_document(&s->tally);
            if (++s->at_end == s->n_ends && at + i + 1 < n_tokens)
                TRY(next_ends(s, s->ends[s->n_ends - 1], n_documents, e));
        }
        at += n;
    }
    return 0;
}

/* In the child: result is a struct dataset_facts. */
static int probe(void *arg, void *result, struct err *e)
{
    const struct dataset *d = arg;
    struct dataset_facts *f = result;
    struct scan *s = mem_alloc(1, sizeof *s);
    if (s == NULL)
        return mem_fail(e, "probing a dataset", sizeof *s);
    TRY(store_open(d->fd, d->path, true, &s->store, f, e));
    s->path = d->path;
    f->max_token = 0;
    for (int g = 0; g < 2; g++)
        if (f->group[g].present)
            TRY(scan_group(s, f, g, e));
    return 0;
}

/* ---- opening ---- */

static int open_checked(struct dataset *d, bool unsealed, const char *cache_dir, struct err *e)
{
    char identity[HASH_HEX];
    bool sealed;
    int64_t size;
    TRY(io_open_regular(d->path, ERR_DATA, &d->fd, &size, e));
    TRY(seal_check(d->fd, d->path, unsealed, cache_dir, &sealed, identity, e));
    struct dataset_facts scanned = {0};
    if (!sealed)
        TRY(store_probe(d->path, probe, d, &scanned, sizeof scanned, PROBE_S + (int)(size / PROBE_BYTES_PER_S), e));
    TRY(store_open(d->fd, d->path, !sealed, &d->store, &d->facts, e));
    if (!sealed)
        d->facts = scanned;
    memcpy(d->facts.seal, identity, sizeof identity);
    if (d->facts.vocab > 0 && d->facts.max_token >= d->facts.vocab)
        FAIL(e, ERR_DATA, "%s: holds token %d, expected all below its vocabulary of %d. Build the dataset again", d->path,
             d->facts.max_token, d->facts.vocab);
    return 0;
}

int dataset_open(const char *path, bool unsealed, const char *cache_dir, struct dataset **out, struct err *e)
{
    struct dataset *d = mem_alloc(1, sizeof *d);
    if (d == NULL)
        return mem_fail(e, "a dataset", sizeof *d);
    d->fd = -1;
    if ((d->path = io_expand_home(path)) == NULL) {
        mem_free(d);
        return mem_fail(e, "a dataset", strlen(path));
    }
    if (open_checked(d, unsealed, cache_dir, e) != 0) {
        dataset_close(d);
        return -1;
    }
    *out = d;
    return 0;
}

void dataset_close(struct dataset *d)
{
    if (d == NULL)
        return;
    store_close(d->store);
    if (d->fd >= 0)
        io->close(d->fd);
    mem_free(d->path);
    mem_free(d);
}

const struct dataset_facts *dataset_facts(const struct dataset *d) { return &d->facts; }
struct store *dataset_store(struct dataset *d) { return d->store; }

void document_free(struct document *d)
{
    mem_free(d->tokens);
    mem_free(d->weights);
    *d = (struct document){0};
}

static int document_reserve(struct document *d, size_t n, struct err *e)
{
    if (n <= d->cap)
        return 0;
    int32_t *t = mem_realloc(d->tokens, n, sizeof *t);
    d->tokens = t != NULL ? t : d->tokens;
    float *w = mem_realloc(d->weights, n, sizeof *w);
    d->weights = w != NULL ? w : d->weights;
    if (t == NULL || w == NULL)
        return mem_fail(e, "a document", n * 8);
    d->cap = n;
    return 0;
}

int dataset_document(struct dataset *d, enum dataset_group g, int64_t i, struct document *out, struct err *e)
{
    uint64_t at[2];
    if (i < 0 || i >= d->facts.group[g].documents)
        FAIL(e, ERR_DATA, "%s: no document %lld in group %s, expected less than %lld", d->path, (long long)i,
             g == DATASET_TRAIN ? "train" : "validation", (long long)d->facts.group[g].documents);
    TRY(store_offsets(d->store, g, i, 2, at, e));
    if (at[0] >= at[1] || at[1] > (uint64_t)d->facts.group[g].tokens)
        FAIL(e, ERR_DATA, "%s: document %lld: from token %llu to %llu, expected increasing offsets. Build the dataset again",
             d->path, (long long)i, (unsigned long long)at[0], (unsigned long long)at[1]);
    out->n = (size_t)(at[1] - at[0]);
    TRY(document_reserve(out, out->n, e));
    TRY(store_tokens(d->store, g, (int64_t)at[0], (int64_t)out->n, out->tokens, e));
    return store_weights(d->store, g, (int64_t)at[0], (int64_t)out->n, out->weights, e);
}

/* ---- what a person should know ---- */

static void warn_group(const struct dataset_facts *f, enum dataset_group g, struct buf *out)
{
    const char *name = g == DATASET_TRAIN ? "train" : "validation";
    int64_t documents = f->group[g].documents, without = f->group[g].without_targets;
    if (f->group[g].targets == 0)
        buf_printf(out, "group %s has no token that carries loss\n", name);
    else if (without > 0)
        buf_printf(out, "group %s: %lld of %lld documents (%.1f %%) have no token that carries loss; they teach nothing\n", name,
                   (long long)without, (long long)documents, 100.0 * (double)without / (double)documents);
    if (strcmp(f->tokenizer, "unknown") == 0 || f->group[g].targets == 0)
        return;
    if (f->group[g].ends == 0)
        buf_printf(out, "group %s: no document holds an end token of the model; it will not learn when to stop\n", name);
    else if (f->group[g].ends_trained == 0)
        buf_printf(out, "group %s: end tokens are there but carry no loss; the model will not learn when to stop\n", name);
}

void dataset_warnings(const struct dataset_facts *f, struct buf *out)
{
    for (int g = 0; g < 2; g++)
        if (f->group[g].present)
            warn_group(f, g, out);
}
