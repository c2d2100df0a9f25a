/* The identity of a base model: SHA-256 over its tensors, sorted by name: for each name, type, shape and the SHA-256 of the
 * stored bytes, so that it is the same however the tensors are spread over files. Several threads hash, a tensor each. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/base/buf.h"
#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/source_internal.h"

enum { MAX_THREADS = 8, MAX_CACHE = 1 << 20 };

struct work {
    const struct tensor_list *list;
    const struct tensor **sorted;
    uint8_t (*hashes)[HASH_BYTES];
    atomic_size_t next;
    atomic_bool failed;
    pthread_mutex_t lock; /* of err */
    struct err err;
};

static void *hash_some(void *arg)
{
    struct work *w = arg;
    for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->list->n && !atomic_load(&w->failed);) {
        const struct tensor *t = w->sorted[i];
        const struct tensor_file *f = &w->list->files[t->file];
        struct err e = {0};
        if (hash_file(f->fd, f->path, (int64_t)t->offset, (int64_t)t->bytes, w->hashes[i], &e) == 0)
            continue;
        pthread_mutex_lock(&w->lock);
        if (!atomic_exchange(&w->failed, true))
            w->err = e;
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static void run_threads(struct work *w)
{
    pthread_t threads[MAX_THREADS];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int n = 0, wanted = cpus < 1 ? 1 : cpus > MAX_THREADS ? MAX_THREADS : (int)cpus;
    while (n < wanted - 1 && pthread_create(&threads[n], NULL, hash_some, w) == 0)
        n++;
    hash_some(w); /* also when no thread could be made */
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

static int by_name(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int combine(const struct work *w, char hex[65], struct err *e)
{
    struct hash *all = hash_new();
    uint8_t out[HASH_BYTES];
    char text[128];
    if (all == NULL)
        return mem_fail(e, "a hash", 0);
    for (size_t i = 0; i < w->list->n; i++) {
        const struct tensor *t = w->sorted[i];
        hash_add(all, t->name, strlen(t->name) + 1);
        hash_add(all, t->type_text, strlen(t->type_text) + 1);
        const char *type = tensor_type_name(t->type), *shape = tensor_shape_text(t, text);
        hash_add(all, type, strlen(type) + 1);
        hash_add(all, shape, strlen(shape) + 1);
        hash_add(all, w->hashes[i], HASH_BYTES);
    }
    hash_finish(all, out);
    hash_hex(out, hex);
    return 0;
}

static int compute(const struct source *s, char hex[65], struct err *e)
{
    size_t n = s->tensors.n;
    struct work w = {.list = &s->tensors, .lock = PTHREAD_MUTEX_INITIALIZER};
    int rc = 0;
    w.sorted = mem_alloc(n + 1, sizeof *w.sorted);
    w.hashes = mem_alloc(n + 1, sizeof *w.hashes);
    if (w.sorted == NULL || w.hashes == NULL) {
        rc = mem_fail(e, "a list of tensors", (n + 1) * (sizeof *w.sorted + sizeof *w.hashes));
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        w.sorted[i] = &s->tensors.tensors[i];
    qsort(w.sorted, n, sizeof *w.sorted, by_name);
    run_threads(&w);
    if (atomic_load(&w.failed))
        rc = err_set(e, w.err.code, "%s", w.err.text);
    else
        rc = combine(&w, hex, e);
done:
    mem_free(w.hashes);
    mem_free(w.sorted);
    return rc;
}

int source_stamp(const struct source *s, struct buf *out, struct err *e)
{
    for (size_t i = 0; i < s->tensors.n_files; i++) {
        struct stat st;
        if (io->fstat(s->tensors.files[i].fd, &st) != 0)
            FAIL(e, ERR_IO, "%s: cannot be examined", s->tensors.files[i].path);
        buf_printf(out, "%s %llu %llu %lld %lld.%09ld %lld.%09ld\n", s->tensors.files[i].path, (unsigned long long)st.st_dev,
                   (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                   (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    }
    return out->failed ? mem_fail(e, "a list of files", out->n) : 0;
}

/* A cache file is the key, then 64 hex digits and a line feed. Anything else is no hit. */
static bool cache_get(const char *path, const struct buf *key, char hex[65])
{
    struct err ignored;
    char *text = NULL;
    size_t n;
    bool hit = false;
    if (io_exists(path) && io_read_file(path, ERR_IO, MAX_CACHE, &text, &n, &ignored) == 0 && n == key->n + 65 &&
        memcmp(text, key->data, key->n) == 0 && strspn(text + key->n, "0123456789abcdef") == 64) {
        memcpy(hex, text + key->n, 64);
        hex[64] = '\0';
        hit = true;
    }
    mem_free(text);
    return hit;
}

/* Failing to keep the hash costs time in the next run, nothing else. */
static void cache_put(const char *dir, const char *path, const struct buf *key, const char hex[65])
{
    struct err ignored;
    struct buf b = {0};
    buf_add(&b, key->data, key->n);
    buf_printf(&b, "%s\n", hex);
    if (!b.failed && io_mkdirs(dir, &ignored) == 0)
        (void)io_write_file_atomic(path, b.data, b.n, &ignored);
    buf_free(&b);
}

int source_identity(const struct source *s, const char *cache_dir, char hex[65], struct err *e)
{
    struct buf key = {0};
    uint8_t digest[HASH_BYTES];
    char digest_hex[HASH_HEX], name[48], path[SOURCE_MAX_PATH];
    int rc = 0;
    if (s->tensors.n_files == 0)
        FAIL(e, ERR_INTERNAL, "%s: opened without its weights", s->path);
    if (cache_dir == NULL)
        return compute(s, hex, e);
    buf_puts(&key, "lorat identity 1\n"); /* what the cached hash holds for */
    TRY_DONE(source_stamp(s, &key, e));
    hash_bytes(s->path, strlen(s->path), digest);
    snprintf(name, sizeof name, "base-%.32s", hash_hex(digest, digest_hex));
    source_join(cache_dir, name, path);
    if (cache_get(path, &key, hex))
        goto done;
    TRY_DONE(compute(s, hex, e));
    cache_put(cache_dir, path, &key, hex);
done:
    buf_free(&key);
    return rc;
}
