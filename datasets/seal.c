#include "datasets/seal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/base/stop.h"

/* Offsets in the seal. The check covers what stands before it, so that damage to the seal is not mistaken for damage to the data.
 */
enum { AT_MAGIC = 0, AT_VERSION = 8, AT_SIZE = 12, AT_LENGTH = 16, AT_HASH = 24, AT_CHECK = 56, AT_ZERO = 64 };
enum { CHECK_BYTES = AT_ZERO - AT_CHECK, PIECE = 1 << 20, CACHE_LIMIT = 16384, CACHE_QUIET_S = 2 };
static const uint8_t magic[8] = {0x8f, 'L', 'O', 'R', 'A', 'T', 'D', '\n'};

static uint64_t get_le(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void put_le(uint8_t *p, int n, uint64_t v)
{
    for (int i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

bool seal_present(const void *bytes, size_t n) { return n >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0; }

int seal_parse(const void *bytes, size_t n, const char *where, struct seal *out, struct err *e)
{
    const uint8_t *p = bytes;
    if (!seal_present(bytes, n))
        FAIL(e, ERR_DATA,
             "%s: no seal at its start, expected a file written by `lorat data build`. Text goes through that first; for an HDF5 "
             "file that you trust: data.allow_unsealed, or --allow-unsealed",
             where);
    if (n < SEAL_BYTES)
        FAIL(e, ERR_DATA, "%s: %zu bytes, expected a seal of %d. The file is cut short; build it again", where, n, SEAL_BYTES);
    uint8_t hash[HASH_BYTES];
    hash_bytes(p, AT_CHECK, hash);
    if (memcmp(hash, p + AT_CHECK, CHECK_BYTES) != 0)
        FAIL(e, ERR_DATA, "%s: the seal itself is damaged. Build the dataset again or copy it anew", where);
    if (get_le(p + AT_VERSION, 4) != SEAL_VERSION)
        FAIL(e, ERR_DATA, "%s: seal version %llu, expected %d. It was written by another version of lorat; build it again", where,
             (unsigned long long)get_le(p + AT_VERSION, 4), SEAL_VERSION);
    if (get_le(p + AT_SIZE, 4) != SEAL_BYTES)
        FAIL(e, ERR_DATA, "%s: a seal of %llu bytes, expected %d", where, (unsigned long long)get_le(p + AT_SIZE, 4), SEAL_BYTES);
    for (int i = AT_ZERO; i < SEAL_BYTES; i++)
        if (p[i] != 0)
            FAIL(e, ERR_DATA, "%s: byte %d of the seal is %d, expected 0", where, i, p[i]);
    out->length = get_le(p + AT_LENGTH, 8);
    memcpy(out->hash, p + AT_HASH, HASH_BYTES);
    return 0;
}

void seal_format(const struct seal *s, uint8_t out[SEAL_BYTES])
{
    memset(out, 0, SEAL_BYTES);
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    put_le(out + AT_VERSION, 4, SEAL_VERSION);
    put_le(out + AT_SIZE, 4, SEAL_BYTES);
    put_le(out + AT_LENGTH, 8, s->length);
    memcpy(out + AT_HASH, s->hash, HASH_BYTES);
    uint8_t hash[HASH_BYTES];
    hash_bytes(out, AT_CHECK, hash);
    memcpy(out + AT_CHECK, hash, CHECK_BYTES);
}

/* As hash_file, but a person who asks to stop does not wait for the end of a large file. */
static int hash_from(int fd, const char *path, int64_t at, int64_t end, uint8_t out[HASH_BYTES], struct err *e)
{
    struct hash *h = hash_new();
    char *piece = mem_alloc(PIECE, 1);
    int rc = 0;
    if (h == NULL || piece == NULL) {
        rc = mem_fail(e, "hashing a dataset", PIECE);
        goto done;
    }
    while (at < end) {
        size_t n = (size_t)(end - at < PIECE ? end - at : PIECE);
        if (stop_requested()) {
            rc = err_set(e, ERR_STOPPED, "%s: stopped while its seal was being verified", path);
            goto done;
        }
        TRY_DONE(io_pread_all(fd, path, piece, n, at, e));
        hash_add(h, piece, n);
        at += (int64_t)n;
    }
    hash_finish(h, out);
    h = NULL;
done:
    hash_abandon(h);
    mem_free(piece);
    return rc;
}

/* ---- the memory of files that were hashed before ---- */

static bool cache_path(const char *path, const char *cache_dir, char *real, char *out, size_t out_size)
{
    uint8_t hash[HASH_BYTES];
    char hex[HASH_HEX];
    if (cache_dir == NULL || realpath(path, real) == NULL)
        return false;
    hash_bytes(real, strlen(real), hash);
    return snprintf(out, out_size, "%s/seal-%.24s.json", cache_dir, hash_hex(hash, hex)) < (int)out_size;
}

static int64_t nanoseconds(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

static void cache_text(const char *real, const struct stat *st, bool sealed, const char *identity, struct buf *out)
{
    buf_puts(out, "{\"path\":");
    json_put_string(out, real, strlen(real));
    buf_printf(out, ",\"inode\":%lld,\"size\":%lld,\"mtime_ns\":%lld,\"ctime_ns\":%lld,\"sealed\":%s,\"hash\":\"%s\"}\n",
               (long long)st->st_ino, (long long)st->st_size, (long long)nanoseconds(st->st_mtim),
               (long long)nanoseconds(st->st_ctim), sealed ? "true" : "false", identity);
}

/* An entry counts only if it is byte for byte what would be written now: any doubt, and the file is hashed. */
static bool cache_knows(const char *path, const char *cache_dir, const struct stat *st, bool sealed, const char *identity)
{
    char real[PATH_MAX], entry[PATH_MAX], *text = NULL;
    size_t n = 0;
    if (!cache_path(path, cache_dir, real, entry, sizeof entry) || !io_exists(entry) ||
        io_read_file(entry, ERR_IO, CACHE_LIMIT, &text, &n, NULL) != 0)
        return false;
    struct buf want = {0};
    cache_text(real, st, sealed, identity, &want);
    bool same = !want.failed && want.n == n && memcmp(want.data, text, n) == 0;
    buf_free(&want);
    mem_free(text);
    return same;
}

/* Best effort: a folder that cannot be written costs only time. A file younger than CACHE_QUIET_S is not remembered: it could
 * change once more within the resolution of its time stamp. */
static void cache_remember(const char *path, const char *cache_dir, const struct stat *st, bool sealed, const char *identity)
{
    char real[PATH_MAX], entry[PATH_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec - st->st_mtim.tv_sec < CACHE_QUIET_S || now.tv_sec - st->st_ctim.tv_sec < CACHE_QUIET_S)
        return;
    if (!cache_path(path, cache_dir, real, entry, sizeof entry) || io_mkdirs(cache_dir, NULL) != 0)
        return;
    struct buf text = {0};
    cache_text(real, st, sealed, identity, &text);
    if (!text.failed)
        io_write_file_atomic(entry, text.data, text.n, NULL);
    buf_free(&text);
}

/* ---- checking and writing ---- */

static int check_sealed(int fd, const char *path, const uint8_t *head, size_t n, const struct stat *st, const char *cache_dir,
                        char identity[HASH_HEX], struct err *e)
{
    struct seal seal;
    uint8_t hash[HASH_BYTES];
    TRY(seal_parse(head, n, path, &seal, e));
    if (seal.length != (uint64_t)st->st_size - SEAL_BYTES)
        FAIL(e, ERR_DATA, "%s: %lld bytes, expected %llu by its seal. The file is %s; build it again or copy it anew", path,
             (long long)st->st_size, (unsigned long long)seal.length + SEAL_BYTES,
             (uint64_t)st->st_size - SEAL_BYTES < seal.length ? "cut short" : "longer than it was");
    hash_hex(seal.hash, identity);
    if (cache_knows(path, cache_dir, st, true, identity))
        return 0;
    TRY(hash_from(fd, path, SEAL_BYTES, st->st_size, hash, e));
    if (memcmp(hash, seal.hash, HASH_BYTES) != 0)
        FAIL(e, ERR_DATA, "%s: its bytes do not match its seal. The file was damaged or changed; build it again or copy it anew",
             path);
    cache_remember(path, cache_dir, st, true, identity);
    return 0;
}

int seal_check(int fd, const char *path, bool unsealed, const char *cache_dir, bool *sealed, char identity[HASH_HEX],
               struct err *e)
{
    struct stat st;
    uint8_t head[SEAL_BYTES], hash[HASH_BYTES];
    if (io->fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s: its size could not be read", path);
    size_t n = (size_t)(st.st_size < SEAL_BYTES ? st.st_size : SEAL_BYTES);
    if (n > 0)
        TRY(io_pread_all(fd, path, head, n, 0, e));
    *sealed = !unsealed || seal_present(head, n);
    if (*sealed)
        return check_sealed(fd, path, head, n, &st, cache_dir, identity, e);
    TRY(hash_from(fd, path, 0, st.st_size, hash, e));
    hash_hex(hash, identity);
    return 0;
}

int seal_write(int fd, const char *path, char identity[HASH_HEX], struct err *e)
{
    struct stat st;
    struct seal seal;
    uint8_t bytes[SEAL_BYTES];
    if (io->fstat(fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s: its size could not be read", path);
    if (st.st_size < SEAL_BYTES)
        FAIL(e, ERR_INTERNAL, "%s: %lld bytes, expected room for a seal", path, (long long)st.st_size);
    seal.length = (uint64_t)st.st_size - SEAL_BYTES;
    TRY(hash_from(fd, path, SEAL_BYTES, st.st_size, seal.hash, e));
    seal_format(&seal, bytes);
    TRY(io_write_all(fd, path, bytes, SEAL_BYTES, e)); /* the file position is still 0: only pread was used */
    if (io->fsync(fd) != 0)
        return err_errno(e, ERR_IO, errno, "%s: could not be written to the disk", path);
    hash_hex(seal.hash, identity);
    return 0;
}
