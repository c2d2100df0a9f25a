/* hash.h - SHA-256 (libcrypto behind it, in one file). */
#ifndef LORAT_HASH_H
#define LORAT_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

enum { HASH_BYTES = 32, HASH_HEX = 65 };
struct hash; /* a running hash */
struct hash *hash_new(void); /* NULL when out of memory */
void hash_add(struct hash *h, const void *bytes, size_t n);
void hash_finish(struct hash *h, uint8_t out[HASH_BYTES]); /* also frees h */
void hash_abandon(struct hash *h);                         /* frees; NULL is fine */
void hash_bytes(const void *bytes, size_t n, uint8_t out[HASH_BYTES]);
const char *hash_hex(const uint8_t hash[HASH_BYTES], char hex[HASH_HEX]); /* lower case; returns hex */
/* Hash of `n` bytes of an open file from `at` on (n < 0: to the end). */
int hash_file(int fd, const char *path, int64_t at, int64_t n, uint8_t out[HASH_BYTES], struct err *e);

#endif
