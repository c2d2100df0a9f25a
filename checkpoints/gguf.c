#include "checkpoints/gguf.h"

#include <string.h>

#include "checkpoints/extents.h"
#include "checkpoints/gguf_types.h"
#include "checkpoints/names.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

typedef unsigned long long ull;

/* Bounds that no real model comes near: a hostile file cannot make the tables larger. */
enum { HEAD_MAX = 256 << 20, COUNT_MAX = 1 << 20, FIRST_READ = 4 << 20 };

enum value_type { V_U8, V_I8, V_U16, V_I16, V_U32, V_I32, V_F32, V_BOOL, V_STRING, V_ARRAY, V_U64, V_I64, V_F64, V_COUNT };
static const uint8_t value_size[V_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}; /* 0: not of one size */

struct pair {
    size_t key, key_n;      /* offsets are into bytes */
    uint32_t type, element; /* element: of an array */
    size_t data, n;         /* the value; n: bytes of a string, elements of an array */
    uint32_t *strings;      /* array of strings: offset of each one's length */
};
struct gguf {
    char *bytes; /* the file's head up to the end of the metadata */
    struct pair *pairs;
    size_t n, cap;
    struct names index;
};

struct reader {
    const char *bytes;
    size_t n, at;        /* bytes at hand; position */
    uint64_t file_bytes; /* >= n */
    uint64_t need;       /* set when the file goes on behind n and this many bytes of it are needed */
    const char *where;
    struct err *e;
};

/* The next k bytes are there, or an error: field says which. */
static int want(struct reader *r, uint64_t k, const char *field)
{
    if (k > r->file_bytes - r->at)
        FAIL(r->e, ERR_MODEL, "%s: %s at offset %zu takes %llu bytes, expected at most the %llu left in the file", r->where,
             field, r->at, (ull)k, (ull)(r->file_bytes - r->at));
    if (k > HEAD_MAX - r->at)
        FAIL(r->e, ERR_MODEL, "%s: %s at offset %zu takes %llu bytes, expected metadata and tensor table within %d bytes",
             r->where, field, r->at, (ull)k, HEAD_MAX);
    if (k > r->n - r->at) {
        r->need = r->at + k;
        FAIL(r->e, ERR_MODEL, "%s: %s at offset %zu goes past the %zu bytes at hand, expected the whole head of the file",
             r->where, field, r->at, r->n);
    }
    return 0;
}

static int read_u32(struct reader *r, const char *field, uint32_t *out)
{
    TRY(want(r, 4, field));
    memcpy(out, r->bytes + r->at, 4);
    r->at += 4;
    return 0;
}

static int read_u64(struct reader *r, const char *field, uint64_t *out)
{
    TRY(want(r, 8, field));
    memcpy(out, r->bytes + r->at, 8);
    r->at += 8;
    return 0;
}

static int read_string(struct reader *r, const char *field, size_t *start, size_t *n)
{
    uint64_t length;
    TRY(read_u64(r, field, &length));
    TRY(want(r, length, field));
    *start = r->at;
    *n = (size_t)length;
    r->at += (size_t)length;
    return 0;
}

static int check_bools(struct reader *r, size_t at, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)r->bytes[at + i] > 1)
            FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\": truth value %d, expected 0 or 1", r->where, key,
                 (unsigned char)r->bytes[at + i]);
    return 0;
}

static int read_string_array(struct reader *r, struct pair *p)
{
    p->strings = mem_alloc(p->n ? p->n : 1, sizeof *p->strings);
    if (p->strings == NULL)
        return mem_fail(r->e, "an index of strings", p->n * sizeof *p->strings);
    for (size_t i = 0; i < p->n; i++) {
        size_t start, n;
        p->strings[i] = (uint32_t)r->at;
        TRY(read_string(r, "a string of an array", &start, &n));
    }
    return 0;
}

static int read_array(struct reader *r, struct pair *p, const char *key)
{
    uint64_t n;
    TRY(read_u32(r, "an array's element type", &p->element));
    TRY(read_u64(r, "an array's length", &n));
    if (p->element == V_ARRAY)
        FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\": an array of arrays (nested), expected an array of plain values", r->where,
             key);
    if (p->element >= V_COUNT)
        FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\": array of unknown value type %u, expected 0 to %d", r->where, key,
             p->element, V_COUNT - 1);
    uint64_t least = p->element == V_STRING ? 8 : value_size[p->element];
    if (n > (r->file_bytes - r->at) / least)
        FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\": array length %llu, expected at most %llu in the %llu bytes left",
             r->where, key, (ull)n, (ull)((r->file_bytes - r->at) / least), (ull)(r->file_bytes - r->at));
    TRY(want(r, n * least, "an array"));
    p->data = r->at;
    p->n = (size_t)n;
    if (p->element == V_STRING)
        return read_string_array(r, p);
    if (p->element == V_BOOL)
        TRY(check_bools(r, r->at, p->n, key));
    r->at += (size_t)(n * least);
    return 0;
}

static int read_pair(struct reader *r, struct pair *p)
{
    char key[NAME_TEXT];
    TRY(read_string(r, "a metadata key", &p->key, &p->key_n));
    if (p->key_n == 0)
        FAIL(r->e, ERR_MODEL, "%s: an empty metadata key at offset %zu, expected a name", r->where, p->key);
    name_text(r->bytes + p->key, p->key_n, key);
    TRY(read_u32(r, "a metadata value type", &p->type));
    if (p->type >= V_COUNT)
        FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\": unknown value type %u, expected 0 to %d", r->where, key, p->type,
             V_COUNT - 1);
    int rc = 0;
    if (p->type == V_STRING)
        rc = read_string(r, "a metadata string", &p->data, &p->n);
    else if (p->type == V_ARRAY)
        rc = read_array(r, p, key);
    else {
        TRY(want(r, value_size[p->type], "a metadata value"));
        p->data = r->at;
        p->n = 1;
        r->at += value_size[p->type];
        if (p->type == V_BOOL)
            rc = check_bools(r, p->data, 1, key);
    }
    return rc;
}

static int read_pairs(struct reader *r, struct gguf *g, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (g->n == g->cap) {
            size_t cap = g->cap ? g->cap * 2 : 64;
            struct pair *pairs = mem_realloc(g->pairs, cap, sizeof *pairs);
            if (pairs == NULL)
                return mem_fail(r->e, "metadata", cap * sizeof *pairs);
            g->pairs = pairs;
            g->cap = cap;
        }
        g->pairs[g->n] = (struct pair){0};
        TRY(read_pair(r, &g->pairs[g->n++]));
    }
    g->bytes = mem_alloc(1, r->at ? r->at : 1);
    if (g->bytes == NULL)
        return mem_fail(r->e, "metadata", r->at);
    memcpy(g->bytes, r->bytes, r->at);
    for (size_t i = 0; i < g->n; i++) {
        const struct pair *p = &g->pairs[i];
        char key[NAME_TEXT];
        bool already;
        TRY(names_add(&g->index, g->bytes + p->key, p->key_n, i, &already, r->e));
        if (already)
            FAIL(r->e, ERR_MODEL, "%s: metadata key \"%s\" is there twice, expected each key once (duplicate)", r->where,
                 name_text(g->bytes + p->key, p->key_n, key));
    }
    return 0;
}

static int check_count(struct reader *r, const char *what, uint64_t n, uint64_t least_bytes)
{
    uint64_t most = (r->file_bytes - r->at) / least_bytes;
    if (most > COUNT_MAX)
        most = COUNT_MAX;
    if (n > most)
        FAIL(r->e, ERR_MODEL, "%s: %s count %llu, expected at most %llu in a file of %llu bytes", r->where, what, (ull)n,
             (ull)most, (ull)r->file_bytes);
    return 0;
}

static int read_head(struct reader *r, uint64_t *n_tensors, uint64_t *n_pairs)
{
    uint32_t version;
    if (r->file_bytes < 24)
        FAIL(r->e, ERR_MODEL, "%s: a file of %llu bytes, expected a GGUF file of at least 24", r->where, (ull)r->file_bytes);
    TRY(want(r, 24, "the header"));
    if (memcmp(r->bytes, "GGUF", 4) != 0) {
        char magic[NAME_TEXT];
        FAIL(r->e, ERR_MODEL, "%s: begins with \"%s\", expected \"GGUF\"", r->where, name_text(r->bytes, 4, magic));
    }
    r->at = 4;
    TRY(read_u32(r, "the version", &version));
    if (version != 0 && (version & 0xffff) == 0)
        FAIL(r->e, ERR_MODEL, "%s: a big-endian GGUF file, expected a little-endian one. Convert it again", r->where);
    if (version != 2 && version != 3)
        FAIL(r->e, ERR_MODEL, "%s: GGUF version %u, expected 2 or 3", r->where, version);
    TRY(read_u64(r, "the tensor count", n_tensors));
    TRY(read_u64(r, "the metadata count", n_pairs));
    TRY(check_count(r, "tensor", *n_tensors, 24)); /* name length 8, rank 4, type 4, offset 8 */
    TRY(check_count(r, "metadata", *n_pairs, 13)); /* key length 8, type 4, value 1 */
    return 0;
}

/* One entry of the tensor table; t->name stays NULL, the name lies at [*name, *name + *name_n). t->offset is relative to the
 * data. */
static int read_tensor(struct reader *r, struct tensor *t, size_t *name, size_t *name_n)
{
    char text[NAME_TEXT];
    uint32_t rank, type;
    uint64_t count = 1, blocks, dims[4] = {1, 1, 1, 1};
    uint64_t span = 1; /* count without empty dimensions: no product of some of them overflows either */
    *t = (struct tensor){0};
    TRY(read_string(r, "a tensor's name", name, name_n));
    name_text(r->bytes + *name, *name_n, text);
    if (memchr(r->bytes + *name, 0, *name_n) != NULL)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": a control character (0x00) in the name, expected printable text", r->where,
             text);
    TRY(read_u32(r, "a tensor's rank", &rank));
    if (rank > 4)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": rank %u, expected at most 4", r->where, text, rank);
    for (uint32_t i = 0; i < rank; i++) {
        TRY(read_u64(r, "a tensor's shape", &dims[i]));
        if (!num_mul(span, dims[i] ? dims[i] : 1, &span) || span > INT64_MAX)
            FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": size %llu in dimension %u overflows, expected fewer than 2^63 elements",
                 r->where, text, (ull)dims[i], i);
        count *= dims[i];
        t->shape[rank - 1 - i] = (int64_t)dims[i];
    }
    TRY(read_u32(r, "a tensor's type", &type));
    if (type >= GGUF_TYPE_COUNT || gguf_types[type].name == NULL)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": unknown tensor type %u, expected one of ggml's", r->where, text, type);
    const struct gguf_type *g = &gguf_types[type];
    if (dims[0] % g->block != 0)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": %llu elements a row, expected a multiple of %u for %s", r->where, text,
             (ull)dims[0], g->block, g->name);
    blocks = count / g->block;
    if (!num_mul(blocks, g->bytes, &t->bytes) || t->bytes > INT64_MAX)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": its size overflows, expected fewer than 2^63 bytes", r->where, text);
    t->rank = (int)rank;
    t->type = g->type;
    strcpy(t->type_text, g->name);
    return read_u64(r, "a tensor's offset", &t->offset);
}

static int add_tensor(struct reader *r, struct tensor_list *out, struct tensor *t, size_t name, size_t name_n, uint64_t data,
                      uint64_t alignment)
{
    uint64_t end;
    char text[NAME_TEXT];
    name_text(r->bytes + name, name_n, text);
    if (t->offset % alignment != 0)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": offset %llu, expected a multiple of the alignment %llu", r->where, text,
             (ull)t->offset, (ull)alignment);
    if (!num_add(data, t->offset, &t->offset) || !num_add(t->offset, t->bytes, &end) || end > r->file_bytes)
        FAIL(r->e, ERR_MODEL, "%s: tensor \"%s\": %llu bytes at %llu end past the file, expected them within its %llu bytes",
             r->where, text, (ull)t->bytes, (ull)t->offset, (ull)r->file_bytes);
    t->file = (int)out->n_files - 1;
    t->name = mem_alloc(1, name_n + 1);
    if (t->name == NULL)
        return mem_fail(r->e, "a tensor name", name_n + 1);
    memcpy(t->name, r->bytes + name, name_n);
    int rc = tensor_list_add(out, t, r->where, r->e);
    mem_free(t->name);
    return rc;
}

static int read_alignment(struct reader *r, const struct gguf *g, uint64_t *out)
{
    int64_t alignment = 32;
    bool there = gguf_has(g, "general.alignment");
    if (there && !gguf_i64(g, "general.alignment", &alignment))
        FAIL(r->e, ERR_MODEL, "%s: general.alignment is not an integer, expected a power of two from 8 on", r->where);
    if (alignment < 8 || alignment > (1 << 30) || (alignment & (alignment - 1)) != 0)
        FAIL(r->e, ERR_MODEL, "%s: general.alignment is %lld, expected a power of two from 8 on", r->where, (long long)alignment);
    *out = (uint64_t)alignment;
    return 0;
}

static int read_tensors(struct reader *r, const struct gguf *g, uint64_t n, struct tensor_list *out)
{
    struct tensor t;
    size_t table = r->at, first = out->n, name, name_n;
    uint64_t alignment;
    TRY(read_alignment(r, g, &alignment));
    for (uint64_t i = 0; i < n; i++) /* once without adding: the list stays as it is when the table is not all at hand */
        TRY(read_tensor(r, &t, &name, &name_n));
    uint64_t data = (r->at + alignment - 1) / alignment * alignment;
    r->at = table;
    TRY(tensor_list_add_file(out, r->where, -1, r->e));
    for (uint64_t i = 0; i < n; i++) {
        TRY(read_tensor(r, &t, &name, &name_n));
        TRY(add_tensor(r, out, &t, name, name_n, data, alignment));
    }
    return extents_check(out, first, r->file_bytes, false, r->where, r->e);
}

static int parse(struct reader *r, struct gguf **meta, struct tensor_list *out)
{
    int rc = 0;
    int64_t splits;
    uint64_t n_tensors, n_pairs;
    struct gguf *g = mem_alloc(1, sizeof *g);
    if (g == NULL)
        return mem_fail(r->e, "metadata", sizeof *g);
    TRY_DONE(read_head(r, &n_tensors, &n_pairs));
    TRY_DONE(read_pairs(r, g, n_pairs));
    if (gguf_i64(g, "split.count", &splits) && splits != 0 && splits != 1)
        TRY_DONE(err_set(r->e, ERR_MODEL,
                         "%s: one of %lld parts of a split GGUF model (split.count), expected a whole one. Join the parts with "
                         "llama-gguf-split --merge",
                         r->where, (long long)splits));
    TRY_DONE(read_tensors(r, g, n_tensors, out));
    *meta = g;
    return 0;
done:
    gguf_close(g);
    return rc;
}

int gguf_parse(const char *bytes, size_t n, uint64_t file_bytes, const char *where, struct gguf **meta, struct tensor_list *out,
               struct err *e)
{
    struct reader r = {.bytes = bytes, .n = n, .file_bytes = file_bytes > n ? file_bytes : n, .where = where, .e = e};
    *meta = NULL;
    return parse(&r, meta, out);
}

/* Reads more of the head until the tables are whole: sizes grow by a factor, so that the work stays linear. */
static int open_head(int fd, const char *path, uint64_t size, char **head, struct gguf **meta, struct tensor_list *out,
                     struct err *e)
{
    size_t have = 0, take = size < FIRST_READ ? (size_t)size : FIRST_READ;
    for (;;) {
        char *bytes = mem_realloc(*head, take ? take : 1, 1);
        if (bytes == NULL)
            return mem_fail(e, "the head of a GGUF file", take);
        *head = bytes;
        TRY(io_pread_all(fd, path, bytes + have, take - have, (int64_t)have, e));
        have = take;
        struct reader r = {.bytes = bytes, .n = have, .file_bytes = size, .where = path, .e = e};
        if (parse(&r, meta, out) == 0)
            return 0;
        if (r.need == 0)
            return -1;
        take = have * 4 > r.need ? have * 4 : (size_t)r.need;
        if (take > size)
            take = (size_t)size;
    }
}

int gguf_open(const char *path, struct gguf **meta, struct tensor_list *out, struct err *e)
{
    int fd;
    int64_t size;
    char *head = NULL;
    *meta = NULL;
    TRY(io_open_regular(path, ERR_MODEL, &fd, &size, e));
    int rc = open_head(fd, path, (uint64_t)size, &head, meta, out, e);
    mem_free(head);
    if (rc == 0)
        out->files[out->n_files - 1].fd = fd;
    else
        io->close(fd);
    return rc;
}

void gguf_close(struct gguf *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->n; i++)
        mem_free(g->pairs[i].strings);
    mem_free(g->pairs);
    mem_free(g->bytes);
    names_free(&g->index);
    mem_free(g);
}

static const struct pair *find(const struct gguf *g, const char *key)
{
    size_t i;
    return names_find(&g->index, key, strlen(key), &i) ? &g->pairs[i] : NULL;
}

/* The array at key when it has element i. */
static const struct pair *find_element(const struct gguf *g, const char *key, size_t i)
{
    const struct pair *p = find(g, key);
    return p != NULL && p->type == V_ARRAY && i < p->n ? p : NULL;
}

#define READ_AS(type, at)                                                                                                        \
    __extension__({                                                                                                              \
        type v_;                                                                                                                 \
        memcpy(&v_, (at), sizeof v_);                                                                                            \
        v_;                                                                                                                      \
    })

static bool value_i64(uint32_t type, const char *at, int64_t *out)
{
    switch (type) {
    case V_U8:
        *out = (uint8_t)*at;
        return true;
    case V_I8:
        *out = (int8_t)*at;
        return true;
    case V_U16:
        *out = READ_AS(uint16_t, at);
        return true;
    case V_I16:
        *out = READ_AS(int16_t, at);
        return true;
    case V_U32:
        *out = READ_AS(uint32_t, at);
        return true;
    case V_I32:
        *out = READ_AS(int32_t, at);
        return true;
    case V_U64:
        *out = READ_AS(int64_t, at);
        return *out >= 0;
    case V_I64:
        *out = READ_AS(int64_t, at);
        return true;
    default:
        return false;
    }
}

static bool value_f64(uint32_t type, const char *at, double *out)
{
    if (type == V_F32)
        *out = READ_AS(float, at);
    else if (type == V_F64)
        *out = READ_AS(double, at);
    return type == V_F32 || type == V_F64;
}

bool gguf_has(const struct gguf *g, const char *key) { return find(g, key) != NULL; }

bool gguf_i64(const struct gguf *g, const char *key, int64_t *out)
{
    const struct pair *p = find(g, key);
    return p != NULL && value_i64(p->type, g->bytes + p->data, out);
}

bool gguf_f64(const struct gguf *g, const char *key, double *out)
{
    const struct pair *p = find(g, key);
    return p != NULL && value_f64(p->type, g->bytes + p->data, out);
}

bool gguf_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct pair *p = find(g, key);
    if (p == NULL || p->type != V_BOOL)
        return false;
    *out = g->bytes[p->data] != 0;
    return true;
}

const char *gguf_string(const struct gguf *g, const char *key, size_t *n_out)
{
    const struct pair *p = find(g, key);
    if (p == NULL || p->type != V_STRING)
        return NULL;
    *n_out = p->n;
    return g->bytes + p->data;
}

size_t gguf_array_length(const struct gguf *g, const char *key)
{
    const struct pair *p = find(g, key);
    return p != NULL && p->type == V_ARRAY ? p->n : 0;
}

const char *gguf_array_string(const struct gguf *g, const char *key, size_t i, size_t *n_out)
{
    const struct pair *p = find_element(g, key, i);
    if (p == NULL || p->element != V_STRING)
        return NULL;
    const char *at = g->bytes + p->strings[i];
    *n_out = (size_t)READ_AS(uint64_t, at);
    return at + 8;
}

bool gguf_array_i64(const struct gguf *g, const char *key, size_t i, int64_t *out)
{
    const struct pair *p = find_element(g, key, i);
    return p != NULL && p->element < V_COUNT && value_i64(p->element, g->bytes + p->data + i * value_size[p->element], out);
}

bool gguf_array_f64(const struct gguf *g, const char *key, size_t i, double *out)
{
    const struct pair *p = find_element(g, key, i);
    return p != NULL && value_f64(p->element, g->bytes + p->data + i * value_size[p->element], out);
}
