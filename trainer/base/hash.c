/* The three-call interface of libcrypto rather than EVP: it allocates nothing and cannot fail, so neither can ours; both reach
 * the same code with the processor's SHA instructions. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "trainer/base/hash.h"

#include <errno.h>

#include "trainer/base/io.h"
#include "trainer/base/mem.h"

struct hash {
    SHA256_CTX state;
};

struct hash *hash_new(void)
{
    struct hash *h = mem_alloc(1, sizeof *h);
    if (h != NULL)
        SHA256_Init(&h->state);
    return h;
}

void hash_add(struct hash *h, const void *bytes, size_t n) { SHA256_Update(&h->state, bytes, n); }

void hash_finish(struct hash *h, uint8_t out[HASH_BYTES])
{
    SHA256_Final(out, &h->state);
    mem_free(h);
}

void hash_abandon(struct hash *h) { mem_free(h); }

void hash_bytes(const void *bytes, size_t n, uint8_t out[HASH_BYTES])
{
    SHA256_CTX state;
    SHA256_Init(&state);
    SHA256_Update(&state, bytes, n);
    SHA256_Final(out, &state);
}

const char *hash_hex(const uint8_t hash[HASH_BYTES], char hex[HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < HASH_BYTES; i++) {
        hex[2 * i] = digits[hash[i] >> 4];
        hex[2 * i + 1] = digits[hash[i] & 15];
    }
    hex[HASH_HEX - 1] = '\0';
    return hex;
}

int hash_file(int fd, const char *path, int64_t at, int64_t n, uint8_t out[HASH_BYTES], struct err *e)
{
    enum { CHUNK = 1 << 20 };
    SHA256_CTX state;
    int rc = 0;
    char *chunk = mem_alloc(CHUNK, 1);
    if (chunk == NULL)
        return mem_fail(e, path, CHUNK);
    SHA256_Init(&state);
    for (int64_t left = n; left != 0;) {
        ssize_t got = io->pread(fd, chunk, left > 0 && left < CHUNK ? (size_t)left : CHUNK, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            TRY_DONE(err_errno(e, ERR_IO, errno, "%s: reading at %lld failed", path, (long long)at));
        if (got == 0 && left > 0)
            TRY_DONE(err_set(e, ERR_IO,
                             "%s: ends at byte %lld, expected %lld more. The file is cut short; fetch or build it again", path,
                             (long long)at, (long long)left));
        if (got == 0)
            break;
        SHA256_Update(&state, chunk, (size_t)got);
        at += got;
        left -= left > 0 ? got : 0;
    }
    SHA256_Final(out, &state);
done:
    mem_free(chunk);
    return rc;
}
