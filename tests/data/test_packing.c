/* Order and packing against an independent program that was written from docs/data-format.md (tests/golden/make_packing.py). */
#include "datasets/pack.h"

#include "tests/data/data_util.h"
#include "trainer/base/hash.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

static int64_t number(const struct json *c, const char *key)
{
    int64_t v = -1;
    CHECK(json_i64(json_get(c, key), &v));
    return v;
}

static bool flag(const struct json *c, const char *key)
{
    bool v = false;
    CHECK(json_bool(json_get(c, key), &v));
    return v;
}

static void build(const char *path, int64_t documents, int64_t longest, int64_t *starts)
{
    uint32_t x = 12345;
    int32_t *lengths = mem_alloc((size_t)documents, sizeof *lengths);
    starts[0] = 0;
    for (int64_t d = 0; d < documents; d++) {
        x = x * 1664525u + 1013904223u;
        lengths[d] = 1 + (int32_t)((x >> 16) % (uint32_t)longest);
        starts[d + 1] = starts[d] + lengths[d];
    }
    util_dataset(path, lengths, documents, false);
    mem_free(lengths);
}

static void check_rows(const struct json *c, const struct piece_index *ix, const struct loader_options *o, const int64_t *starts)
{
    struct packer *p = NULL;
    struct buf text = {0};
    const struct row *row;
    struct err e = {0};
    int64_t rows = 0;
    uint8_t hash[HASH_BYTES];
    char hex[HASH_HEX];
    CHECK_OK(packer_new(ix, o, NULL, &p, &e), &e);
    packer_start(p, 3); /* what was done before does not matter */
    CHECK_OK(packer_row(p, &row, &e), &e);
    packer_start(p, number(c, "epoch"));
    for (; packer_row(p, &row, &e) == 0 && row != NULL; rows++)
        for (int32_t i = 0; i < row->n; i++)
            buf_printf(&text, "%lld:%lld+%d%s", (long long)row->pieces[i].document,
                       (long long)(row->pieces[i].first - starts[row->pieces[i].document]), row->pieces[i].n,
                       i + 1 < row->n ? " " : "\n");
    packer_free(p);
    CHECK_INT(rows, number(c, "rows"));
    hash_bytes(text.data, text.n, hash);
    CHECK_STR(hash_hex(hash, hex), json_string(json_get(c, "sha256"), NULL));
    text.data[strcspn(text.data, "\n")] = '\0';
    CHECK(strncmp(text.data, json_string(json_get(c, "first"), NULL), 120) == 0);
    buf_free(&text);
}

static void check_case(const struct json *c)
{
    static int64_t starts[4096];
    struct loader_options o = {.sequence_length = (int32_t)number(c, "sequence_length"),
                               .packing = flag(c, "packing"),
                               .shuffle = flag(c, "shuffle"),
                               .seed = (uint64_t)number(c, "seed"),
                               .batch = 1,
                               .micro_batch = 1,
                               .ranks = 1};
    const char *how = json_string(json_get(c, "too_long"), NULL);
    struct piece_index ix = {0};
    struct loader_counts counts;
    struct dataset *d = NULL;
    struct err e = {0};
    o.too_long = strcmp(how, "split") == 0 ? TOO_LONG_SPLIT : strcmp(how, "drop") == 0 ? TOO_LONG_DROP : TOO_LONG_TRUNCATE;
    build(util_path("packing.h5"), number(c, "documents"), number(c, "longest"), starts);
    CHECK_OK(dataset_open(util_path("packing.h5"), false, NULL, &d, &e), &e);
    if (d == NULL)
        return;
    CHECK_OK(index_build(dataset_store(d), dataset_facts(d), &o, &ix, &counts, &e), &e);
    CHECK_INT(ix.pieces, number(c, "pieces"));
    check_rows(c, &ix, &o, starts);
    index_free(&ix);
    dataset_close(d);
}

int main(void)
{
    char *text = NULL;
    size_t n = 0;
    struct json *root = NULL;
    struct err e = {0};
    util_begin();
    CHECK_OK(io_read_file("tests/golden/packing/packing.json", ERR_IO, 1 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text != NULL ? text : "", n, "packing.json", ERR_IO, &root, &e), &e);
    CHECK(json_length(root) >= 30);
    for (size_t i = 0; i < json_length(root); i++)
        check_case(json_at(root, i));
    json_free(root);
    mem_free(text);
    return util_end();
}
