/* Reading tensors. The file is read front to back by one thread in pieces (the disk likes it, and errors come in order); a piece
 * is then converted by all threads while it is still in the cache. */
#include "checkpoints/tensor.h"

#include "checkpoints/dequant.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

enum {
    PIECE_BYTES = 4 << 20,
    SLICE = 8192,  /* elements a thread converts at a time, a multiple of every block */
    PARALLEL = 16, /* slices from which waking the other threads pays */
};

static void convert(enum tensor_type type, const char *src, int64_t n, enum dtype to, void *dst)
{
    int64_t slice_bytes = SLICE / tensor_type_block(type) * tensor_type_block_bytes(type);
    int64_t slices = num_div_up(n, SLICE);
#pragma omp parallel for schedule(static) if (slices >= PARALLEL)
    for (int64_t s = 0; s < slices; s++) {
        int64_t at = s * SLICE, k = n - at < SLICE ? n - at : SLICE;
        if (to == DT_F32)
            dequant_f32(type, src + s * slice_bytes, k, (float *)dst + at);
        else
            dequant_bf16(type, src + s * slice_bytes, k, (bf16 *)dst + at);
    }
}

static int read_converted(int fd, const char *path, enum tensor_type type, int64_t at, int64_t n, enum dtype to, char *dst,
                          struct err *e)
{
    int64_t block = tensor_type_block(type), block_bytes = tensor_type_block_bytes(type);
    int64_t piece = PIECE_BYTES / block_bytes * block; /* elements */
    if (piece > n)
        piece = n;
    size_t size = (size_t)(piece / block * block_bytes);
    char *bytes = mem_alloc(1, size);
    if (bytes == NULL)
        return mem_fail(e, "a buffer for reading tensors", size);
    int rc = 0;
    for (int64_t done = 0; done < n; done += piece) {
        int64_t k = n - done < piece ? n - done : piece;
        size_t k_bytes = (size_t)(k / block * block_bytes);
        TRY_DONE(io_pread_all(fd, path, bytes, k_bytes, at + done / block * block_bytes, e));
        convert(type, bytes, k, to, dst + (size_t)done * dtype_size(to));
    }
done:
    mem_free(bytes);
    return rc;
}

int tensor_read(const struct tensor_list *l, const struct tensor *t, int64_t row0, int64_t rows, enum dtype to, void *dst,
                struct err *e)
{
    const struct tensor_file *f = &l->files[t->file];
    if (t->type == TT_OTHER)
        FAIL(e, ERR_MODEL, "%s: tensor \"%s\" is stored as %s, expected F32, F16, BF16, Q8_0, Q4_0 or Q4_1. Use another export",
             f->path, t->name, t->type_text);
    int64_t all_rows = t->rank > 0 ? t->shape[0] : 1;
    if (row0 < 0 || rows < 0 || rows > all_rows || row0 > all_rows - rows || (to != DT_F32 && to != DT_BF16) || f->fd < 0)
        FAIL(e, ERR_INTERNAL, "%s: tensor \"%s\": rows %lld and %lld more of %lld cannot be read as %s", f->path, t->name,
             (long long)row0, (long long)rows, (long long)all_rows, dtype_name(to));
    if (rows == 0 || tensor_count(t) == 0)
        return 0;
    int64_t rest = tensor_count(t) / all_rows, block = tensor_type_block(t->type);
    if (row0 * rest % block != 0 || rows * rest % block != 0)
        FAIL(e, ERR_INTERNAL, "%s: tensor \"%s\": rows that begin or end inside a block of %lld cannot be read", f->path, t->name,
             (long long)block);
    int64_t n = rows * rest, at = (int64_t)t->offset + row0 * rest / block * tensor_type_block_bytes(t->type);
    bool same = (t->type == TT_F32 && to == DT_F32) || (t->type == TT_BF16 && to == DT_BF16);
    if (same)
        return io_pread_all(f->fd, f->path, dst, (size_t)n * dtype_size(to), at, e);
    return read_converted(f->fd, f->path, t->type, at, n, to, dst, e);
}
