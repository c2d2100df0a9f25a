/* gguf_write.h - a writer of GGUF files for tests, by the format's description: a header, metadata, a tensor table, aligned data.
 */
#ifndef LORAT_TESTS_GGUF_WRITE_H
#define LORAT_TESTS_GGUF_WRITE_H

#include "tests/model/model_files.h"

struct gguf_writer {
    struct buf meta, table, data;
    uint64_t n_meta, n_tensors;
};

static inline void gw_text(struct buf *b, const char *s)
{
    uint64_t n = strlen(s);
    buf_add(b, &n, 8);
    buf_puts(b, s);
}
static inline void gw_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    gw_text(&w->meta, key);
    buf_add(&w->meta, &type, 4);
    w->n_meta++;
}
static inline void gw_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gw_key(w, key, 4);
    buf_add(&w->meta, &v, 4);
}
static inline void gw_f32(struct gguf_writer *w, const char *key, float v)
{
    gw_key(w, key, 6);
    buf_add(&w->meta, &v, 4);
}
static inline void gw_string(struct gguf_writer *w, const char *key, const char *v)
{
    gw_key(w, key, 8);
    gw_text(&w->meta, v);
}
/* F32; shape outermost first, GGUF stores it the other way round. */
static inline void gw_tensor(struct gguf_writer *w, const char *name, uint32_t rank, const int64_t *shape, const float *v)
{
    uint32_t type = 0;
    uint64_t at = w->data.n, n = 1;
    gw_text(&w->table, name);
    buf_add(&w->table, &rank, 4);
    for (uint32_t i = rank; i-- > 0;) {
        uint64_t size = (uint64_t)shape[i];
        buf_add(&w->table, &size, 8);
        n *= size;
    }
    buf_add(&w->table, &type, 4);
    buf_add(&w->table, &at, 8);
    buf_add(&w->data, v, n * 4);
    while (w->data.n % 32 != 0)
        buf_add(&w->data, "", 1);
    w->n_tensors++;
}
static inline void gw_finish(struct gguf_writer *w, const char *dir, const char *name)
{
    struct buf b = {0};
    uint32_t version = 3;
    buf_puts(&b, "GGUF");
    buf_add(&b, &version, 4);
    buf_add(&b, &w->n_tensors, 8);
    buf_add(&b, &w->n_meta, 8);
    buf_add(&b, w->meta.data, w->meta.n);
    buf_add(&b, w->table.data, w->table.n);
    while (b.n % 32 != 0)
        buf_add(&b, "", 1);
    buf_add(&b, w->data.data, w->data.n);
    files_write(dir, name, b.data, b.n);
    buf_free(&b);
    buf_free(&w->meta);
    buf_free(&w->table);
    buf_free(&w->data);
}

#endif
