/* onednn.c - one matmul primitive per distinct product, in an open-addressed table. Making one costs milliseconds (it is compiled
 * at run time) and tens of kilobytes, using one microseconds. Scratch memory is the backend's workspace. */
#include "kernels/cpu/onednn.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/onednn_version.h"
#include "trainer/base/mem.h"

struct kept {
    struct product key;
    dnnl_primitive_t primitive; /* NULL: a free slot */
    dnnl_memory_t a, b, bias, c, scratch;
    size_t scratch_bytes;
};

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct kept *slots; /* capacity is a power of two, at most half full */
    size_t capacity, used;
    void *spare; /* scratch of a product that needs more than the workspace has */
    size_t spare_size;
};

static int fail(struct cpu *c, const char *where, const char *what, dnnl_status_t status)
{
    cpu_fail(c, status == dnnl_out_of_memory ? ERR_DEVICE : ERR_INTERNAL, "%s: oneDNN %d.%d: %s: status %d, expected success",
             where, dnnl_version()->major, dnnl_version()->minor, what, (int)status);
    return -1;
}

void ops_cpu_versions(char *out, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

int onednn_open(struct cpu *c, struct err *e)
{
    struct onednn *d = mem_alloc(1, sizeof(*d));
    if (!d)
        return mem_fail(e, "the table of matrix products", sizeof(*d));
    c->onednn = d;
    d->capacity = 256;
    d->slots = mem_alloc(d->capacity, sizeof(*d->slots));
    if (!d->slots)
        return mem_fail(e, "the table of matrix products", d->capacity * sizeof(*d->slots));
    omp_set_num_threads(c->threads);
    if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) != dnnl_success)
        FAIL(e, ERR_DEVICE, "cpu: oneDNN gives no engine for this CPU, expected one. Check the installed oneDNN");
    return 0;
}

static void kept_free(struct kept *k)
{
    dnnl_memory_t memories[] = {k->a, k->b, k->bias, k->c, k->scratch};
    for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
        if (memories[i])
            dnnl_memory_destroy(memories[i]);
    if (k->primitive)
        dnnl_primitive_destroy(k->primitive);
    memset(k, 0, sizeof(*k));
}

void onednn_close(struct cpu *c)
{
    struct onednn *d = c->onednn;
    if (!d)
        return;
    for (size_t i = 0; d->slots && i < d->capacity; i++)
        kept_free(&d->slots[i]);
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    mem_free(d->slots);
    mem_free(d->spare);
    mem_free(d);
    c->onednn = NULL;
}

static struct kept *find(const struct onednn *d, const struct product *p)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    const unsigned char *bytes = (const void *)p;
    for (size_t i = 0; i < sizeof(*p); i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    size_t at = (size_t)(h ^ h >> 32) & (d->capacity - 1);
    while (d->slots[at].primitive && memcmp(&d->slots[at].key, p, sizeof(*p)) != 0)
        at = (at + 1) & (d->capacity - 1);
    return &d->slots[at];
}

static int grow(struct cpu *c, const char *where)
{
    struct onednn *d = c->onednn;
    struct kept *old = d->slots, *larger = mem_alloc(d->capacity * 2, sizeof(*larger));
    size_t n = d->capacity;
    if (!larger) {
        cpu_fail(c, ERR_DEVICE, "%s: out of memory for the table of matrix products", where);
        return -1;
    }
    d->slots = larger;
    d->capacity = n * 2;
    for (size_t i = 0; i < n; i++)
        if (old[i].primitive)
            *find(d, &old[i].key) = old[i];
    mem_free(old);
    return 0;
}

static dnnl_data_type_t type_of(uint8_t t) { return t == DT_BF16 ? dnnl_bf16 : dnnl_f32; }

static dnnl_status_t describe(matrix_desc *d, int32_t rows, int32_t cols, int32_t ld, bool trans, uint8_t type)
{
    dnnl_dims_t dims = {rows, cols}, strides = {trans ? 1 : ld, trans ? ld : 1};
    return matrix_init(d, dims, strides, type_of(type));
}

static dnnl_status_t attributes(const struct product *p, dnnl_primitive_attr_t *out)
{
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(out);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && (p->alpha != 1.0f || p->accumulate)) {
        s = dnnl_post_ops_create(&post);
        if (s == dnnl_success && p->alpha != 1.0f)
            s = post_scale(post, p->alpha);
        if (s == dnnl_success && p->accumulate)
            s = post_sum(post, 1.0f);
        if (s == dnnl_success)
            s = dnnl_primitive_attr_set_post_ops(*out, post);
        if (post)
            dnnl_post_ops_destroy(post);
    }
    return s;
}

/* Descriptors of A, B, bias, C and the primitive descriptor made of them; the caller frees whatever is not NULL. */
struct making {
    matrix_desc md[4];
    int described;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
};

static dnnl_status_t make_desc(struct onednn *d, const struct product *p, struct making *m)
{
    dnnl_status_t s = describe(&m->md[0], p->m, p->k, p->lda, p->trans_a, p->type);
    m->described = 1;
    if (s == dnnl_success)
        s = describe(&m->md[m->described++], p->k, p->n, p->ldb, p->trans_b, p->type);
    if (s == dnnl_success)
        s = describe(&m->md[m->described++], 1, p->n, p->n, false, p->bias_type);
    if (s == dnnl_success)
        s = describe(&m->md[m->described++], p->m, p->n, p->ldc, false, p->c_type);
    if (s == dnnl_success)
        s = attributes(p, &m->attr);
    if (s == dnnl_success)
        s = matmul_desc(&m->desc, d->engine, &m->md[0], &m->md[1], p->bias ? &m->md[2] : NULL, &m->md[3], m->attr);
    return s;
}

static void making_free(struct making *m)
{
    if (m->desc)
        dnnl_primitive_desc_destroy(m->desc);
    if (m->attr)
        dnnl_primitive_attr_destroy(m->attr);
    for (int i = 0; i < m->described; i++)
        matrix_free(&m->md[i]);
}

static dnnl_status_t make(struct onednn *d, const struct product *p, struct kept *k)
{
    struct making m = {0};
    dnnl_status_t s = make_desc(d, p, &m);
    if (s == dnnl_success) {
        k->key = *p;
        k->scratch_bytes = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(m.desc, dnnl_query_scratchpad_md, 0));
        s = dnnl_primitive_create(&k->primitive, m.desc);
    }
    if (s == dnnl_success)
        s = dnnl_memory_create(&k->a, matrix_in(&m.md[0]), d->engine, DNNL_MEMORY_NONE);
    if (s == dnnl_success)
        s = dnnl_memory_create(&k->b, matrix_in(&m.md[1]), d->engine, DNNL_MEMORY_NONE);
    if (s == dnnl_success && p->bias)
        s = dnnl_memory_create(&k->bias, matrix_in(&m.md[2]), d->engine, DNNL_MEMORY_NONE);
    if (s == dnnl_success)
        s = dnnl_memory_create(&k->c, matrix_in(&m.md[3]), d->engine, DNNL_MEMORY_NONE);
    if (s == dnnl_success && k->scratch_bytes > 0)
        s = dnnl_memory_create(&k->scratch, dnnl_primitive_desc_query_md(m.desc, dnnl_query_scratchpad_md, 0), d->engine,
                               DNNL_MEMORY_NONE);
    making_free(&m);
    return s;
}

static struct kept *get(struct cpu *c, const char *where, const struct product *p)
{
    struct onednn *d = c->onednn;
    struct kept *k = find(d, p);
    if (k->primitive)
        return k;
    if (2 * (d->used + 1) > d->capacity) {
        if (grow(c, where) != 0)
            return NULL;
        k = find(d, p);
    }
    dnnl_status_t s = make(d, p, k);
    if (s != dnnl_success) {
        kept_free(k);
        fail(c, where, "a product cannot be made", s);
        return NULL;
    }
    d->used++;
    return k;
}

static dnnl_status_t execute(struct cpu *c, const struct kept *k, void *scratch, const void *a, const void *b, const void *bias,
                             void *out)
{
    dnnl_exec_arg_t args[5];
    int n = 0;
    const struct {
        int index;
        dnnl_memory_t memory;
        const void *data;
    } all[] = {{DNNL_ARG_SRC, k->a, a}, {DNNL_ARG_WEIGHTS, k->b, b}, {DNNL_ARG_BIAS, k->bias, bias}, {DNNL_ARG_DST, k->c, out},
               {DNNL_ARG_SCRATCHPAD, k->scratch, scratch}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!all[i].memory)
            continue;
        dnnl_status_t s = dnnl_memory_set_data_handle(all[i].memory, (void *)(uintptr_t)all[i].data);
        if (s != dnnl_success)
            return s;
        args[n++] = (dnnl_exec_arg_t){all[i].index, all[i].memory};
    }
    dnnl_status_t s = dnnl_primitive_execute(k->primitive, c->onednn->stream, n, args);
    return s != dnnl_success ? s : dnnl_stream_wait(c->onednn->stream);
}

/* The workspace, or, for shapes that workspace_bytes could not foresee, memory of the table's own that only ever grows. */
static int scratch_for(struct cpu *c, const char *where, size_t bytes, void **out)
{
    struct onednn *d = c->onednn;
    *out = c->workspace_size >= bytes ? c->workspace : d->spare;
    if (bytes <= c->workspace_size || bytes <= d->spare_size)
        return 0;
    mem_free(d->spare);
    d->spare_size = 0;
    d->spare = mem_alloc(bytes, 1);
    if (!d->spare) {
        cpu_fail(c, ERR_DEVICE, "%s: no memory for a product's scratch of %zu bytes, expected enough", where, bytes);
        return -1;
    }
    d->spare_size = bytes;
    *out = d->spare;
    return 0;
}

static void multiply_piece(struct cpu *c, const char *where, const struct product *p, const void *a, const void *b,
                           const void *bias, void *out)
{
    struct kept *k = get(c, where, p);
    void *scratch = NULL;
    if (!k || scratch_for(c, where, k->scratch_bytes, &scratch) != 0)
        return;
    dnnl_status_t s = execute(c, k, scratch, a, b, bias, out);
    if (s != dnnl_success)
        fail(c, where, "a product failed", s);
}

/* The number of tokens changes from call to call, as documents are packed without padding. So that the table stays small and few
 * steps stop to make primitives, a long dimension is cut: whole 512s, then 256, 128, 64, then what is left. Products run as fast
 * in pieces of 64 rows as whole. */
static int32_t piece(int32_t left)
{
    if (left >= 512)
        return left / 512 * 512;
    for (int32_t size = 256; size >= 64; size /= 2)
        if (left >= size)
            return size;
    return left;
}

/* The sum of nothing: the bias (which has the output's type) in every row, or zeros. */
static void fill_rows(const struct product *p, const void *bias, void *out)
{
    size_t each = dtype_size((enum dtype)p->c_type), bytes = (size_t)p->n * each;
    for (int32_t i = 0; i < p->m; i++) {
        void *row = (char *)out + (size_t)i * (size_t)p->ldc * each;
        if (bias)
            memcpy(row, bias, bytes);
        else
            memset(row, 0, bytes);
    }
}

void onednn_multiply(struct cpu *c, const char *where, const struct product *p, const void *a, const void *b, const void *bias,
                     void *out)
{
    size_t in_size = dtype_size((enum dtype)p->type), out_size = dtype_size((enum dtype)p->c_type);
    struct product part = *p;
    if (c->failed)
        return;
    if (p->m < 0 || p->n < 0 || p->k < 0) {
        cpu_fail(c, ERR_INTERNAL, "%s: a product of %d x %d x %d, expected sizes of 0 or more", where, p->m, p->n, p->k);
        return;
    }
    if (p->m == 0 || p->n == 0)
        return;
    if (p->k == 0) {
        if (!p->accumulate)
            fill_rows(p, bias, out);
        return;
    }
    omp_set_num_threads(c->threads); /* oneDNN's own loops ask OpenMP */
    if (p->c_type == DT_F32 && p->trans_a && !p->trans_b && !bias && p->k > 64) { /* a gradient: the tokens are summed over */
        for (int32_t at = 0; at < p->k && !c->failed; at += part.k) {
            part.k = piece(p->k - at);
            part.accumulate = p->accumulate || at > 0;
            multiply_piece(c, where, &part, (const char *)a + (size_t)at * (size_t)p->lda * in_size,
                           (const char *)b + (size_t)at * (size_t)p->ldb * in_size, NULL, out);
        }
        return;
    }
    size_t row = p->trans_a ? in_size : (size_t)p->lda * in_size;
    for (int32_t at = 0; at < p->m && !c->failed; at += part.m) {
        part.m = piece(p->m - at);
        multiply_piece(c, where, &part, (const char *)a + (size_t)at * row, b, bias,
                       (char *)out + (size_t)at * (size_t)p->ldc * out_size);
    }
}

static size_t scratch_of(struct onednn *d, const struct product *p)
{
    struct making m = {0};
    size_t bytes = 0;
    if (p->m > 0 && p->n > 0 && p->k > 0 && make_desc(d, p, &m) == dnnl_success)
        bytes = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(m.desc, dnnl_query_scratchpad_md, 0));
    making_free(&m);
    return bytes;
}

/* oneDNN says what a product needs only for an exact shape: ask for the largest of each kind. */
size_t onednn_scratch(struct cpu *c, const struct ops_dims *d)
{
    int32_t n = (int32_t)d->n, qkv = (d->h + 2 * d->k) * d->q, r = d->r;
    const int32_t shapes[][3] = {{n, qkv, d->d}, {n, d->d, d->h * d->q}, {n, 2 * d->f, d->d}, {n, d->d, d->f}, {n, d->d, qkv},
                                 {n, d->d, 2 * d->f}, {n, d->f, d->d}, {n, d->h * d->q, d->d}, {d->head_chunk, d->v, d->d},
                                 {d->head_chunk, d->d, d->v}, {n, r, d->d}, {n, d->d, r}, {n, r, d->f}, {n, d->f, r},
                                 {n, 2 * d->f, r}, {n, r, 2 * d->f}, {r, d->d, n}, {r, d->f, n}, {d->f, r, n}, {2 * d->f, r, n},
                                 {d->d, r, n}, {qkv, r, n}};
    size_t most = 0;
    omp_set_num_threads(c->threads);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int kind = 0; kind < 8; kind++) {
            int32_t m = shapes[i][0], cols = shapes[i][1], k = shapes[i][2];
            bool ta = kind & 1, tb = kind & 2, wide = kind & 4; /* wide: += into F32 */
            struct product p = {.m = m, .n = cols, .k = k, .lda = ta ? m : k, .ldb = tb ? k : cols, .ldc = cols, .alpha = 1,
                                .trans_a = ta, .trans_b = tb, .accumulate = wide, .type = (uint8_t)c->ops.act,
                                .bias_type = (uint8_t)c->ops.act, .c_type = (uint8_t)(wide ? DT_F32 : c->ops.act)};
            size_t bytes = scratch_of(c->onednn, &p);
            most = bytes > most ? bytes : most;
        }
    return most + most / 4;
}
