#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/source_internal.h"

enum { BUFFER_BYTES = 16 << 20 };

/* GGUF files of the llama architecture keep the rows of q and k in pairs that are rotated together: with Q rows a head, row
 * 2 i + half there is row half * Q/2 + i in Hugging Face's order. (Source: permute() in llama.cpp's convert_hf_to_gguf.py.) */
static bool is_permuted(const struct source *s, enum role r)
{
    return s->is_gguf && (r == ROLE_Q || r == ROLE_K) && strcmp(s->facts.arch, "llama") == 0;
}

static int read_permuted(const struct source *s, const struct tensor *t, int64_t row0, int64_t rows, enum dtype to, char *dst,
                         struct err *e)
{
    int64_t q = s->facts.q, half = q / 2;
    size_t row_bytes = (size_t)t->shape[1] * dtype_size(to);
    int64_t head0 = row0 / q, heads = (row0 + rows - 1) / q - head0 + 1;
    int64_t at_once = (int64_t)(BUFFER_BYTES / (row_bytes * (size_t)q));
    at_once = at_once < 1 ? 1 : at_once > heads ? heads : at_once;
    char *buffer = mem_alloc((size_t)(at_once * q), row_bytes);
    int rc = 0;
    if (buffer == NULL)
        return mem_fail(e, t->name, (size_t)(at_once * q) * row_bytes);
    for (int64_t first = head0; first < head0 + heads; first += at_once) {
        int64_t n = head0 + heads - first < at_once ? head0 + heads - first : at_once;
        TRY_DONE(tensor_read(&s->tensors, t, first * q, n * q, to, buffer, e));
        int64_t from = first * q > row0 ? first * q : row0, until = (first + n) * q < row0 + rows ? (first + n) * q : row0 + rows;
        for (int64_t row = from; row < until; row++) {
            int64_t in_head = row % q, there = row - in_head - first * q + in_head % half * 2 + in_head / half;
            memcpy(dst + (size_t)(row - row0) * row_bytes, buffer + (size_t)there * row_bytes, row_bytes);
        }
    }
done:
    mem_free(buffer);
    return rc;
}

int source_read(const struct source *s, enum role r, int layer, int64_t row0, int64_t rows, enum dtype to, void *dst,
                struct err *e)
{
    char name[96];
    source_own_name(s, r, layer, name);
    const struct tensor *t = tensor_find(&s->tensors, name);
    if (t == NULL)
        FAIL(e, ERR_INTERNAL, "%s: tensor \"%s\" is not open", s->path, name);
    if (!is_permuted(s, r) || row0 < 0 || rows <= 0 || rows > t->shape[0] || row0 > t->shape[0] - rows)
        return tensor_read(&s->tensors, t, row0, rows, to, dst, e); /* refuses rows that are not there */
    return read_permuted(s, t, row0, rows, to, dst, e);
}
