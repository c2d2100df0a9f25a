/* store.h - the HDF5 file behind a dataset, and the one door to libhdf5 (store_hdf5.c). The library keeps global state, so every
 * call into it is serialised here; a store itself belongs to one thread. Layout: docs/data-format.md. */
#ifndef LORAT_STORE_H
#define LORAT_STORE_H

#include <stdint.h>

#include "datasets/dataset.h"
#include "trainer/base/err.h"

enum { STORE_CHUNK = 8192, STORE_MAX_CHUNK = 65536 }; /* tokens in a chunk as written, and at most as read */
enum { STORE_CACHE_BYTES = 1 << 20 };                 /* chunk cache of one column */

/* ---- writing ---- */
struct store_writer; /* opaque */
/* A new file at `path` (which must not exist) that leaves room for the seal. Token and weight buffers are bounded; document
 * lengths wait in a nameless file beside it. */
int store_create(const char *path, struct store_writer **out, struct err *e);
int store_append(struct store_writer *w, enum dataset_group g, const int32_t *tokens, const float *weights, size_t n,
                 struct err *e);
/* Write offsets and facts and close the HDF5 file. The writer is freed, also on failure. */
int store_finish(struct store_writer *w, const struct dataset_facts *facts, struct err *e);
void store_abandon(struct store_writer *w); /* frees; the file stays for the caller to remove. NULL is fine */

/* ---- reading ---- */
struct store; /* opaque */
/* fd stays the caller's and open as long as the store. Everything is checked before it is read: names, links, types, ranks,
 * layout, filters, lengths. Facts come from the attributes; those of a file without them (`bare` allows that) stay zero except
 * present, documents and tokens. */
int store_open(int fd, const char *path, bool bare, struct store **out, struct dataset_facts *facts, struct err *e);
void store_close(struct store *s); /* NULL is fine */
int store_tokens(struct store *s, enum dataset_group g, int64_t first, int64_t n, int32_t *out, struct err *e);
int store_weights(struct store *s, enum dataset_group g, int64_t first, int64_t n, float *out, struct err *e);
/* Offsets [first, first + n) of the group's documents + 1. Read from the file itself, so that threads may call it side by side.
 */
int store_offsets(const struct store *s, enum dataset_group g, int64_t first, int64_t n, uint64_t *out, struct err *e);
/* Keep other threads out of the library meanwhile; for store_probe's fork. */
int store_library_hold(struct err *e);
void store_library_release(void);
/* The store of an open dataset, for the loader's one thread; borrowed. */
struct store *dataset_store(struct dataset *d);
/* Run `work` in a child process that may crash or hang (HDF5 does on malformed files) without harm: bytes it writes to `result`
 * come back. A crash, or more than `seconds` without an end, becomes an error naming path. */
int store_probe(const char *path, int (*work)(void *arg, void *result, struct err *e), void *arg, void *result, size_t n_result,
                int seconds, struct err *e);

#endif
