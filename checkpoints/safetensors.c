#include "checkpoints/safetensors.h"

#include <string.h>

#include "checkpoints/dequant.h"
#include "checkpoints/extents.h"
#include "checkpoints/names.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

typedef unsigned long long ull;

enum { HEADER_MAX = 100000000 }; /* the limit of the reference implementation */

/* https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html; some are smaller than a byte */
static const struct st_type {
    const char *name;
    int bits;
    enum tensor_type type;
} st_types[] = {
    {"F32", 32, TT_F32},          {"F16", 16, TT_F16},          {"BF16", 16, TT_BF16},    {"F64", 64, TT_OTHER},
    {"BOOL", 8, TT_OTHER},        {"U8", 8, TT_OTHER},          {"I8", 8, TT_OTHER},      {"U16", 16, TT_OTHER},
    {"I16", 16, TT_OTHER},        {"U32", 32, TT_OTHER},        {"I32", 32, TT_OTHER},    {"U64", 64, TT_OTHER},
    {"I64", 64, TT_OTHER},        {"F8_E5M2", 8, TT_OTHER},     {"F8_E4M3", 8, TT_OTHER}, {"F8_E8M0", 8, TT_OTHER},
    {"F8_E4M3FNUZ", 8, TT_OTHER}, {"F8_E5M2FNUZ", 8, TT_OTHER}, {"F6_E2M3", 6, TT_OTHER}, {"F6_E3M2", 6, TT_OTHER},
    {"F4", 4, TT_OTHER},          {"C64", 64, TT_OTHER},
};

struct entry {                /* where a message stands */
    const char *where, *name; /* name: safe to print */
    struct err *e;
};

static int read_dtype(const struct entry *c, const struct json *j, struct tensor *t, int *bits)
{
    size_t n;
    const char *text = json_string(j, &n);
    char shown[NAME_TEXT];
    if (text == NULL)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": dtype is %s, expected a string such as \"BF16\"", c->where, c->name,
             json_kind_name(json_kind(j)));
    for (size_t i = 0; i < sizeof st_types / sizeof st_types[0]; i++)
        if (strlen(st_types[i].name) == n && memcmp(st_types[i].name, text, n) == 0) {
            t->type = st_types[i].type;
            strcpy(t->type_text, st_types[i].name);
            *bits = st_types[i].bits;
            return 0;
        }
    FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": unknown dtype \"%s\", expected one of the format's such as \"BF16\"", c->where,
         c->name, name_text(text, n, shown));
}

/* A whole number >= 0 written as one. */
static int read_size(const struct entry *c, const struct json *j, const char *what, uint64_t *out)
{
    int64_t v;
    if (json_kind(j) != JSON_INT || !json_i64(j, &v))
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": %s holds %s, expected a whole number below 2^63", c->where, c->name, what,
             json_kind_name(json_kind(j)));
    if (v < 0)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": %s holds the negative number %lld, expected 0 or more", c->where, c->name, what,
             (long long)v);
    *out = (uint64_t)v;
    return 0;
}

static int read_shape(const struct entry *c, const struct json *j, struct tensor *t, uint64_t *count)
{
    if (json_kind(j) != JSON_ARRAY)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": shape is %s, expected a list of sizes", c->where, c->name,
             json_kind_name(json_kind(j)));
    if (json_length(j) > TENSOR_MAX_RANK)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": rank %zu, expected at most %d", c->where, c->name, json_length(j),
             TENSOR_MAX_RANK);
    t->rank = (int)json_length(j);
    uint64_t span = 1; /* count without empty dimensions: no product of some of them overflows either */
    *count = 1;
    for (int i = 0; i < t->rank; i++) {
        uint64_t size;
        TRY(read_size(c, json_at(j, (size_t)i), "shape", &size));
        t->shape[i] = (int64_t)size;
        if (!num_mul(span, size ? size : 1, &span) || span > INT64_MAX)
            FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": the product of its shape overflows, expected fewer than 2^63 elements",
                 c->where, c->name);
        *count *= size;
    }
    return 0;
}

static int read_offsets(const struct entry *c, const struct json *j, uint64_t data_bytes, struct tensor *t)
{
    uint64_t begin, end;
    if (json_kind(j) != JSON_ARRAY || json_length(j) != 2)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": data_offsets is %s of %zu, expected a list of 2 numbers", c->where, c->name,
             json_kind_name(json_kind(j)), json_length(j));
    TRY(read_size(c, json_at(j, 0), "data_offsets", &begin));
    TRY(read_size(c, json_at(j, 1), "data_offsets", &end));
    if (begin > end)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": begins at %llu and ends at %llu, expected begin <= end", c->where, c->name,
             (ull)begin, (ull)end);
    if (end > data_bytes)
        FAIL(c->e, ERR_MODEL,
             "%s: tensor \"%s\": ends at %llu past the end of the file, expected at most the %llu bytes of data. The file may be "
             "cut",
             c->where, c->name, (ull)end, (ull)data_bytes);
    t->offset = begin;
    t->bytes = end - begin;
    return 0;
}

static int check_fields(const struct entry *c, const struct json *j)
{
    char shown[NAME_TEXT];
    if (json_kind(j) != JSON_OBJECT)
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\" is %s, expected an object with dtype, shape and data_offsets", c->where, c->name,
             json_kind_name(json_kind(j)));
    for (void *it = json_first(j); it != NULL; it = json_next(j, it)) {
        const char *key = json_key(it);
        if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
            FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": unknown field \"%s\", expected dtype, shape and data_offsets", c->where,
                 c->name, name_text(key, strlen(key), shown));
    }
    return 0;
}

static int read_entry(const struct entry *c, const struct json *j, uint64_t data_bytes, struct tensor *t)
{
    int bits;
    uint64_t count, size;
    TRY(check_fields(c, j));
    TRY(read_dtype(c, json_get(j, "dtype"), t, &bits));
    TRY(read_shape(c, json_get(j, "shape"), t, &count));
    TRY(read_offsets(c, json_get(j, "data_offsets"), data_bytes, t));
    if (!num_mul(count, (uint64_t)bits, &size))
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": its size overflows, expected fewer than 2^64 bits", c->where, c->name);
    if (size % 8 != 0 || size / 8 != t->bytes) {
        char shape[128];
        FAIL(c->e, ERR_MODEL, "%s: tensor \"%s\": %llu bytes of data, expected %llu for shape %s of %s", c->where, c->name,
             (ull)t->bytes, (ull)(size / 8), tensor_shape_text(t, shape), t->type_text);
    }
    return 0;
}

static int check_metadata(const struct json *j, const char *where, struct err *e)
{
    char shown[NAME_TEXT];
    if (json_kind(j) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: __metadata__ is %s, expected an object of strings", where, json_kind_name(json_kind(j)));
    for (void *it = json_first(j); it != NULL; it = json_next(j, it))
        if (json_kind(json_value(it)) != JSON_STRING)
            FAIL(e, ERR_MODEL, "%s: __metadata__: \"%s\" is %s, expected a string", where,
                 name_text(json_key(it), strlen(json_key(it)), shown), json_kind_name(json_kind(json_value(it))));
    return 0;
}

static int add_entries(const struct json *root, uint64_t data_bytes, const char *where, struct tensor_list *out, struct err *e)
{
    if (json_kind(root) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: the header is %s, expected an object", where, json_kind_name(json_kind(root)));
    for (void *it = json_first(root); it != NULL; it = json_next(root, it)) {
        const char *key = json_key(it);
        char shown[NAME_TEXT];
        struct entry c = {where, name_text(key, strlen(key), shown), e};
        struct tensor t = {.file = (int)out->n_files - 1};
        if (strcmp(key, "__metadata__") == 0) {
            TRY(check_metadata(json_value(it), where, e));
            continue;
        }
        TRY(read_entry(&c, json_value(it), data_bytes, &t));
        t.name = (char *)key; /* copied by the list */
        TRY(tensor_list_add(out, &t, where, e));
    }
    return 0;
}

int safetensors_parse(const char *header, size_t n, uint64_t data_bytes, const char *where, struct tensor_list *out,
                      struct err *e)
{
    size_t first = out->n;
    struct json *root;
    if (n == 0 || header[0] != '{')
        FAIL(e, ERR_MODEL, "%s: the header does not begin with '{', expected a JSON object", where);
    TRY(json_parse(header, n, where, ERR_MODEL, &root, e));
    int rc = tensor_list_add_file(out, where, -1, e);
    if (rc == 0)
        rc = add_entries(root, data_bytes, where, out, e);
    json_free(root);
    return rc == 0 ? extents_check(out, first, data_bytes, true, where, e) : rc;
}

static int open_header(int fd, const char *path, uint64_t size, char **header, struct tensor_list *out, struct err *e)
{
    uint64_t n;
    size_t first = out->n;
    if (size < 8)
        FAIL(e, ERR_MODEL, "%s: a file of %llu bytes, expected a safetensors file of at least 10", path, (ull)size);
    TRY(io_pread_all(fd, path, &n, 8, 0, e));
    if (n == 0)
        FAIL(e, ERR_MODEL, "%s: header length 0, expected at least 2", path);
    if (n > HEADER_MAX)
        FAIL(e, ERR_MODEL, "%s: header length %llu, expected at most %d", path, (ull)n, HEADER_MAX);
    if (n > size - 8)
        FAIL(e, ERR_MODEL, "%s: header length %llu goes past the end of the file, expected at most %llu. The file may be cut",
             path, (ull)n, (ull)(size - 8));
    *header = mem_alloc(1, (size_t)n);
    if (*header == NULL)
        return mem_fail(e, "a safetensors header", (size_t)n);
    TRY(io_pread_all(fd, path, *header, (size_t)n, 8, e));
    TRY(safetensors_parse(*header, (size_t)n, size - 8 - n, path, out, e));
    for (size_t i = first; i < out->n; i++)
        out->tensors[i].offset += 8 + n;
    return 0;
}

int safetensors_open(const char *path, struct tensor_list *out, struct err *e)
{
    int fd;
    int64_t size;
    char *header = NULL;
    TRY(io_open_regular(path, ERR_MODEL, &fd, &size, e));
    int rc = open_header(fd, path, (uint64_t)size, &header, out, e);
    mem_free(header);
    if (rc == 0)
        out->files[out->n_files - 1].fd = fd;
    else
        io->close(fd);
    return rc;
}

static int put_tensor(struct tensor *t, uint64_t *at, struct buf *b, struct err *e)
{
    uint64_t bytes = (uint64_t)tensor_type_block_bytes(t->type);
    if (tensor_type_block(t->type) != 1 || bytes == 0 || t->rank < 0 || t->rank > TENSOR_MAX_RANK)
        FAIL(e, ERR_INTERNAL, "tensor \"%s\" is %s of rank %d, expected F32, F16 or BF16 of rank %d at most", t->name,
             tensor_type_name(t->type), t->rank, TENSOR_MAX_RANK);
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || !num_mul(bytes, (uint64_t)t->shape[i], &bytes))
            FAIL(e, ERR_INTERNAL, "tensor \"%s\": its size overflows, expected fewer than 2^63 bytes", t->name);
    t->offset = *at;
    t->bytes = bytes;
    if (!num_add(*at, bytes, at) || *at > INT64_MAX)
        FAIL(e, ERR_INTERNAL, "tensor \"%s\": it ends past 2^63 bytes, expected less", t->name);
    buf_puts(b, ",");
    json_put_string(b, t->name, strlen(t->name));
    buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", tensor_type_name(t->type));
    for (int i = 0; i < t->rank; i++)
        buf_printf(b, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (ull)t->offset, (ull)*at);
    return 0;
}

int safetensors_header(struct tensor *tensors, size_t n, struct buf *b, struct err *e)
{
    size_t start = b->n;
    uint64_t at = 0, length = 0;
    buf_add(b, &length, 8);
    buf_puts(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++)
        TRY(put_tensor(&tensors[i], &at, b, e));
    buf_puts(b, "}");
    while (!b->failed && (b->n - start) % 8 != 0)
        buf_puts(b, " ");
    if (b->failed)
        return mem_fail(e, "a safetensors header", b->n);
    length = b->n - start - 8;
    memcpy(b->data + start, &length, 8);
    return 0;
}
