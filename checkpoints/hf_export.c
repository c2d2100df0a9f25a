#include "checkpoints/hf_export.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/dequant.h"
#include "checkpoints/safetensors.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

enum { PIECE = 1 << 20 }; /* elements */

struct export
{
    const struct hf_tensor *tensors;
    struct tensor *table; /* the same n as safetensors_header wants them */
    size_t n, *first;     /* shard s holds tensors [first[s], first[s + 1]) */
    size_t n_shards;
    hf_fill *fill;
    void *user;
    float *piece;    /* room for the largest piece of any tensor */
    uint16_t *words; /* the same as they are written */
    double max_rounding;
    const char *folder; /* the temporary one */
    struct buf path;
};

static int64_t row_elements(const struct tensor *t) /* t is not empty */
{
    return t->rank > 0 ? tensor_count(t) / t->shape[0] : 1;
}

/* "<folder>/<name>" in x->path. */
static int set_path(struct export *x, const char *name, struct err *e)
{
    buf_clear(&x->path);
    buf_printf(&x->path, "%s/%s", x->folder, name);
    return x->path.failed ? mem_fail(e, "a path", strlen(name)) : 0;
}

static const char *shard_name(const struct export *x, size_t s, char name[64])
{
    if (x->n_shards == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", s + 1, x->n_shards);
    return name;
}

/* Sizes, the cut into shards, the buffers. */
static int plan(struct export *x, uint64_t shard_bytes, struct err *e)
{
    uint64_t filled = 0, widest = 1;
    x->table = mem_alloc(x->n + 1, sizeof *x->table);
    x->first = mem_alloc(x->n + 2, sizeof *x->first);
    if (x->table == NULL || x->first == NULL)
        return mem_fail(e, "a table of tensors", x->n * sizeof *x->table);
    for (size_t i = 0; i < x->n; i++) {
        const struct hf_tensor *h = &x->tensors[i];
        struct tensor *t = &x->table[i];
        if (h->rank < 0 || h->rank > TENSOR_MAX_RANK)
            FAIL(e, ERR_INTERNAL, "tensor \"%s\": rank %d, expected at most %d", h->name, h->rank, TENSOR_MAX_RANK);
        *t = (struct tensor){.name = (char *)h->name, .type = h->type, .rank = h->rank};
        memcpy(t->shape, h->shape, sizeof t->shape);
        uint64_t bytes = (uint64_t)tensor_type_block_bytes(h->type), count = 1;
        for (int k = 0; k < h->rank; k++)
            if (h->shape[k] < 0 || !num_mul(count, (uint64_t)h->shape[k], &count))
                FAIL(e, ERR_INTERNAL, "tensor \"%s\": its size overflows, expected fewer than 2^63 elements", h->name);
        if (!num_mul(bytes, count, &bytes) || bytes > INT64_MAX)
            FAIL(e, ERR_INTERNAL, "tensor \"%s\": its size overflows, expected fewer than 2^63 bytes", h->name);
        uint64_t most = count; /* of a piece: the whole tensor, or whole rows up to PIECE elements, or one longer row */
        if (count > PIECE)
            most = row_elements(t) < PIECE ? PIECE : (uint64_t)row_elements(t);
        if (most > widest)
            widest = most;
        if (i == 0 || (filled > 0 && (bytes > shard_bytes || filled > shard_bytes - bytes))) {
            x->first[x->n_shards++] = i;
            filled = 0;
        }
        filled += bytes;
    }
    if (x->n == 0)
        x->n_shards = 1;
    x->first[x->n_shards] = x->n;
    x->piece = mem_alloc(widest, sizeof *x->piece);
    x->words = mem_alloc(widest, sizeof *x->words);
    return x->piece != NULL && x->words != NULL ? 0 : mem_fail(e, "a buffer for writing tensors", widest * 6);
}

struct range {
    float largest, error; /* |exact|, |written - exact| */
    int finite;
};

/* n elements of x->piece as `type`; returns where the bytes lie. */
static const void *round_piece(struct export *x, enum tensor_type type, int64_t n, struct range *r)
{
    const float *piece = x->piece;
    uint16_t *words = x->words;
    float largest = r->largest, error = r->error;
    int finite = r->finite;
#pragma omp parallel for schedule(static) reduction(max : largest, error) reduction(& : finite) if (n > 16384)
    for (int64_t i = 0; i < n; i++) {
        float exact = piece[i], written = exact;
        if (type == TT_BF16)
            written = bf16_to_f32(words[i] = bf16_from_f32(exact));
        else if (type == TT_F16)
            written = f16_to_f32(words[i] = f16_from_f32(exact));
        finite &= isfinite(written) != 0;
        largest = fabsf(exact) > largest ? fabsf(exact) : largest;
        error = fabsf(written - exact) > error ? fabsf(written - exact) : error;
    }
    *r = (struct range){largest, error, finite};
    return type == TT_F32 ? (const void *)piece : (const void *)words;
}

static int write_tensor(struct export *x, size_t i, int fd, struct err *e)
{
    const struct tensor *t = &x->table[i];
    struct range r = {.finite = 1};
    if (tensor_count(t) == 0)
        return 0;
    int64_t all = t->rank > 0 ? t->shape[0] : 1, rest = row_elements(t), step = rest < PIECE ? PIECE / rest : 1;
    for (int64_t row = 0; row < all; row += step) {
        int64_t rows = all - row < step ? all - row : step;
        TRY(x->fill(x->user, i, &x->tensors[i], row, rows, x->piece, e));
        const void *bytes = round_piece(x, t->type, rows * rest, &r);
        if (!r.finite)
            FAIL(e, ERR_MODEL,
                 "tensor \"%s\": rows %lld to %lld hold a value that is not finite as %s, expected finite numbers%s", t->name,
                 (long long)row, (long long)(row + rows - 1), tensor_type_name(t->type),
                 t->type == TT_F16 ? " up to 65504. Export as bf16" : "");
        TRY(io_write_all(fd, x->path.data, bytes, (size_t)(rows * rest * tensor_type_block_bytes(t->type)), e));
    }
    double rounding = r.largest > 0 ? (double)r.error / (double)r.largest : 0;
    if (rounding > x->max_rounding)
        x->max_rounding = rounding;
    return 0;
}

static int write_shard(struct export *x, size_t s, struct err *e)
{
    char name[64];
    int fd = -1, rc = 0;
    size_t first = x->first[s], n = x->first[s + 1] - first;
    struct buf header = {0};
    TRY_DONE(safetensors_header(x->table + first, n, &header, e));
    TRY_DONE(set_path(x, shard_name(x, s, name), e));
    while ((fd = io->open(x->path.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0 && errno == EINTR)
        ;
    if (fd < 0)
        TRY_DONE(err_errno(e, ERR_IO, errno, "%s: cannot be written", x->path.data));
    TRY_DONE(io_write_all(fd, x->path.data, header.data, header.n, e));
    for (size_t i = first; i < first + n; i++)
        TRY_DONE(write_tensor(x, i, fd, e));
    int synced;
    while ((synced = io->fsync(fd)) != 0 && errno == EINTR)
        ;
    if (synced != 0)
        TRY_DONE(err_errno(e, ERR_IO, errno, "%s: syncing to disk failed", x->path.data));
done:
    if (fd >= 0 && io->close(fd) != 0 && errno != EINTR && rc == 0)
        rc = err_errno(e, ERR_IO, errno, "%s: closing failed", x->path.data);
    buf_free(&header);
    return rc;
}

static int write_file(struct export *x, const char *name, const void *bytes, size_t n, struct err *e)
{
    if (name[0] == '\0' || strchr(name, '/') != NULL)
        FAIL(e, ERR_INTERNAL, "\"%s\" in an exported model, expected a plain file name", name);
    TRY(set_path(x, name, e));
    return io_write_file_atomic(x->path.data, bytes, n, e);
}

/* The map that transformers reads to find the shard of a tensor. */
static int write_index(struct export *x, struct err *e)
{
    char name[64];
    uint64_t total = 0;
    struct buf b = {0};
    for (size_t i = 0; i < x->n; i++)
        total += x->table[i].bytes;
    buf_printf(&b, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {", (unsigned long long)total);
    for (size_t s = 0; s < x->n_shards; s++)
        for (size_t i = x->first[s]; i < x->first[s + 1]; i++) {
            buf_puts(&b, i ? ",\n    " : "\n    ");
            json_put_string(&b, x->table[i].name, strlen(x->table[i].name));
            buf_printf(&b, ": \"%s\"", shard_name(x, s, name));
        }
    buf_puts(&b, "\n  }\n}\n");
    int rc = b.failed ? mem_fail(e, "an index of shards", b.n) : write_file(x, "model.safetensors.index.json", b.data, b.n, e);
    buf_free(&b);
    return rc;
}

static int check_target(const char *dir, struct err *e)
{
    struct stat st;
    char **names;
    size_t n;
    if (io->lstat(dir, &st) != 0)
        return errno == ENOENT ? 0 : err_errno(e, ERR_IO, errno, "%s: cannot be examined", dir);
    if (!S_ISDIR(st.st_mode))
        FAIL(e, ERR_IO, "%s: not a folder, expected a new or empty folder. Choose another path", dir);
    TRY(io_list(dir, &names, &n, e));
    io_list_free(names, n);
    if (n != 0)
        FAIL(e, ERR_IO, "%s: a folder that is not empty, expected a new or empty one. Choose another path", dir);
    return 0;
}

static int write_all(struct export *x, const struct hf_file *files, size_t n_files, struct err *e)
{
    for (size_t s = 0; s < x->n_shards; s++)
        TRY(write_shard(x, s, e));
    if (x->n_shards > 1)
        TRY(write_index(x, e));
    for (size_t i = 0; i < n_files; i++)
        TRY(write_file(x, files[i].name, files[i].bytes, files[i].n, e));
    return io_fsync_dir(x->folder, e);
}

/* Write into `temporary`, then give it its name `dir` in `parent`. Whatever fails, neither stays. */
static int build(struct export *x, const char *dir, const char *temporary, const char *parent, const struct hf_file *files,
                 size_t n_files, struct err *e)
{
    int rc = 0;
    const char *standing = temporary;
    TRY(io_remove_tree(temporary, e)); /* of a killed process that had the same id */
    if (io->mkdir(temporary, 0777) != 0)
        return err_errno(e, ERR_IO, errno, "%s: the folder cannot be made", temporary);
    x->folder = temporary;
    TRY_DONE(write_all(x, files, n_files, e));
    if (io->rename(temporary, dir) != 0) /* an empty folder of that name is replaced, any other is not */
        TRY_DONE(err_errno(e, ERR_IO, errno, "%s: cannot be put in place", dir));
    standing = dir;
    TRY_DONE(io_fsync_dir(parent, e));
done:
    if (rc != 0)
        io_remove_tree(standing, NULL);
    return rc;
}

int hf_export(const char *dir, const struct hf_tensor *tensors, size_t n, const struct hf_file *files, size_t n_files,
              uint64_t shard_bytes, hf_fill *fill, void *user, double *max_rounding, struct err *e)
{
    int rc = 0;
    struct export x = {.tensors = tensors, .n = n, .fill = fill, .user = user};
    struct buf target = {0}, temporary = {0}, parent = {0};
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/')
        length--;
    buf_add(&target, dir, length);
    buf_printf(&temporary, "%.*s.tmp-%ld", (int)length, dir, (long)getpid());
    while (length > 0 && dir[length - 1] != '/')
        length--;
    buf_add(&parent, length ? dir : "./", length ? length : 2);
    if (target.failed || temporary.failed || parent.failed)
        TRY_DONE(mem_fail(e, "a path", strlen(dir)));
    TRY_DONE(check_target(target.data, e));
    TRY_DONE(plan(&x, shard_bytes, e));
    TRY_DONE(io_mkdirs(parent.data, e));
    TRY_DONE(build(&x, target.data, temporary.data, parent.data, files, n_files, e));
    if (max_rounding != NULL)
        *max_rounding = x.max_rounding;
done:
    mem_free(x.table);
    mem_free(x.first);
    mem_free(x.piece);
    mem_free(x.words);
    buf_free(&x.path);
    buf_free(&target);
    buf_free(&temporary);
    buf_free(&parent);
    return rc;
}
