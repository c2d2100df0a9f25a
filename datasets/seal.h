/* seal.h - the first 512 bytes of a dataset file: what the rest must hash to. Verified before HDF5, which crashes on malformed
 * files, sees the file. Byte layout: docs/data-format.md. */
#ifndef LORAT_SEAL_H
#define LORAT_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"
#include "trainer/base/hash.h"

enum { SEAL_BYTES = 512, SEAL_VERSION = 1 };
struct seal {
    uint64_t length;          /* bytes of the file behind the seal */
    uint8_t hash[HASH_BYTES]; /* SHA-256 of those bytes: the dataset's identity */
};
/* Does this look like a seal at all (the magic stands at the start)? */
bool seal_present(const void *bytes, size_t n);
/* Pure. `where` begins the message. */
int seal_parse(const void *bytes, size_t n, const char *where, struct seal *out, struct err *e);
void seal_format(const struct seal *s, uint8_t out[SEAL_BYTES]);

/* Compare an open file with its seal; identity in hex. The hash of an unchanged file (path, inode, size, times) is remembered
 * under cache_dir (NULL: no memory). A file without a seal: ERR_DATA, or, when `unsealed`, *sealed = false and the hash of the
 * whole file. ERR_STOPPED when a stop is requested meanwhile. */
int seal_check(int fd, const char *path, bool unsealed, const char *cache_dir, bool *sealed, char identity[HASH_HEX],
               struct err *e);
/* Hash what lies behind the first SEAL_BYTES of a file open for reading and writing, write the seal in front, fsync. */
int seal_write(int fd, const char *path, char identity[HASH_HEX], struct err *e);

#endif
