/* The merged model folder: what is written reads back, and a failure leaves nothing. */
#include "checkpoints/hf_export.h"

#include <errno.h>
#include <unistd.h>

#include "checkpoints/dequant.h"
#include "checkpoints/safetensors.h"
#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

static char folder[512]; /* ours alone; removed at the end */

static const char *in(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static float value(size_t i, int64_t at) { return (float)((at * 7 + (int64_t)i * 13) % 1001 - 500) / 300.0f; }

struct source {
    size_t fail_at; /* tensor whose fill fails; SIZE_MAX = none */
    float factor;
    int64_t next_row;
    size_t next;
    int disorder;
};

static int fill(void *user, size_t i, const struct hf_tensor *t, int64_t row0, int64_t rows, float *dst, struct err *e)
{
    struct source *s = user;
    int64_t rest = 1;
    for (int k = 1; k < t->rank; k++)
        rest *= t->shape[k];
    if (i == s->fail_at)
        FAIL(e, ERR_MODEL, "the source failed");
    if (row0 == 0)
        s->next = i + 1;
    else if (row0 != s->next_row || s->next != i + 1)
        s->disorder = 1;
    s->next_row = row0 + rows;
    for (int64_t k = 0; k < rows * rest; k++)
        dst[k] = value(i, row0 * rest + k) * s->factor;
    return 0;
}

static struct hf_tensor table[] = {
    {.name = "model.embed_tokens.weight", .rank = 2, .shape = {300, 8}, .type = TT_BF16},
    {.name = "model.norm.weight", .rank = 1, .shape = {77}, .type = TT_F32},
    {.name = "a.b", .rank = 2, .shape = {5, 3}, .type = TT_F16},
    {.name = "scalar", .rank = 0, .type = TT_F32},
    {.name = "none", .rank = 2, .shape = {0, 4}, .type = TT_BF16},
    {.name = "wide", .rank = 2, .shape = {2, 1100000}, .type = TT_F16},   /* a row larger than a piece */
    {.name = "large", .rank = 2, .shape = {1500, 1500}, .type = TT_BF16}, /* several pieces */
};
enum { SMALL = 5, ALL = 7 };
static const struct hf_file files[] = {{"config.json", "{}\n", 3}, {"empty.txt", "", 0}};

static int export_to(const char *dir, size_t n, uint64_t shard_bytes, struct source *s, double *rounding, struct err *e)
{
    return hf_export(dir, table, n, files, 2, shard_bytes, fill, s, rounding, e);
}

static void check_values(const struct tensor_list *l, size_t n)
{
    struct err e = {0};
    CHECK_INT(l->n, n);
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t;
        CHECK_OK(tensor_require(l, table[i].name, table[i].rank, table[i].shape, &t, &e), &e);
        CHECK_INT(t->type, table[i].type);
        int64_t count = tensor_count(t), wrong = 0;
        float *x = mem_alloc((size_t)count + 1, 4);
        CHECK_OK(tensor_read(l, t, 0, t->rank ? t->shape[0] : 1, DT_F32, x, &e), &e);
        for (int64_t k = 0; k < count; k++) {
            float want = value(i, k);
            if (t->type == TT_BF16)
                want = bf16_to_f32(bf16_from_f32(want));
            if (t->type == TT_F16)
                want = f16_to_f32(f16_from_f32(want));
            wrong += x[k] != want;
        }
        CHECK_INT(wrong, 0);
        mem_free(x);
    }
}

static void one_shard(void)
{
    struct source s = {SIZE_MAX, 1, 0, 0, 0};
    struct tensor_list l = {0};
    struct err e = {0};
    char *text;
    size_t n;
    double rounding = -1;
    CHECK_OK(export_to(in("new/parent/one/"), SMALL, 5000000000, &s, &rounding, &e), &e);
    CHECK(!s.disorder);
    CHECK(rounding > 1e-4 && rounding < 0x1p-8);
    CHECK(!io_exists(in("new/parent/one/model.safetensors.index.json")));
    CHECK_OK(safetensors_open(in("new/parent/one/model.safetensors"), &l, &e), &e);
    check_values(&l, SMALL);
    tensor_list_close(&l);
    CHECK_OK(io_read_file(in("new/parent/one/config.json"), ERR_DATA, 100, &text, &n, &e), &e);
    CHECK_STR(text, "{}\n");
    free(text);
    CHECK(io_exists(in("new/parent/one/empty.txt")));
    CHECK_INT(export_to(in("new/parent/one"), SMALL, 5000000000, &s, NULL, &e), -1);
    CHECK_HAS(e.text, "new/parent/one: a folder that is not empty, expected a new or empty one");
    CHECK_INT(export_to(in("new/parent/one/config.json"), SMALL, 5000000000, &s, NULL, &e), -1);
    CHECK_HAS(e.text, "config.json: not a folder");
    CHECK_OK(io_mkdirs(in("empty"), &e), &e);
    CHECK_OK(export_to(in("empty"), SMALL, 5000000000, &s, NULL, &e), &e);
}

static void several_shards(void)
{
    struct source s = {SIZE_MAX, 1, 0, 0, 0};
    struct tensor_list l = {0};
    struct err e = {0};
    char *text;
    size_t n;
    struct json *index;
    int64_t total;
    CHECK_OK(export_to(in("several"), ALL, 6000, &s, NULL, &e), &e);
    CHECK(!s.disorder);
    CHECK_OK(io_read_file(in("several/model.safetensors.index.json"), ERR_DATA, 10000, &text, &n, &e), &e);
    CHECK_OK(json_parse(text, n, "index", ERR_DATA, &index, &e), &e);
    CHECK(json_i64(json_get(json_get(index, "metadata"), "total_size"), &total));
    CHECK_INT(total, 4800 + 308 + 30 + 4 + 0 + 4500000 + 4400000);
    const struct json *map = json_get(index, "weight_map");
    CHECK_INT(json_length(map), ALL);
    for (int shard = 1; shard <= 3; shard++) {
        char name[64];
        size_t before = l.n;
        snprintf(name, sizeof name, "several/model-%05d-of-00003.safetensors", shard);
        CHECK_OK(safetensors_open(in(name), &l, &e), &e);
        for (size_t i = before; i < l.n; i++)
            CHECK_STR(json_string(json_get(map, l.tensors[i].name), NULL), name + strlen("several/"));
    }
    check_values(&l, ALL);
    tensor_list_close(&l);
    json_free(index);
    free(text);
}

static int leftovers(void)
{
    char **names;
    size_t n;
    struct err e = {0};
    CHECK_OK(io_list(folder, &names, &n, &e), &e);
    io_list_free(names, n);
    return (int)n;
}

static void failures(void)
{
    struct source s = {2, 1, 0, 0, 0}, large = {SIZE_MAX, 1e6f, 0, 0, 0}, nan = {SIZE_MAX, NAN, 0, 0, 0};
    struct err e = {0};
    int before = leftovers();
    CHECK_INT(export_to(in("fails"), SMALL, 1000, &s, NULL, &e), -1);
    CHECK_STR(e.text, "the source failed");
    CHECK_INT(export_to(in("fails"), SMALL, 1000, &large, NULL, &e), -1);
    CHECK_HAS(e.text, "tensor \"a.b\": rows 0 to 4 hold a value that is not finite as F16");
    CHECK_INT(export_to(in("fails"), SMALL, 1000, &nan, NULL, &e), -1);
    CHECK_HAS(e.text, "not finite");
    const struct hf_file bad = {"../x", "", 0};
    s.fail_at = SIZE_MAX;
    CHECK_INT(hf_export(in("fails"), table, SMALL, &bad, 1, 1000, fill, &s, NULL, &e), -1);
    CHECK_HAS(e.text, "plain file name");
    CHECK_INT(leftovers(), before);
}

/* Fail every file call in turn: an error and nothing left, or, where a call is only interrupted or short, a whole export. */
static void sweep(enum fault_kind kind, int errno_value, int must_succeed)
{
    struct err e = {0};
    int before = leftovers(), hit = 1;
    for (int64_t n = 1; hit && n < 1000; n++) {
        struct source s = {SIZE_MAX, 1, 0, 0, 0};
        fault_install(kind, n, errno_value);
        int rc = export_to(in("swept"), SMALL, 4900, &s, NULL, &e);
        hit = fault_hit();
        fault_remove();
        if (rc != 0) {
            CHECK(!must_succeed);
            CHECK(e.code == ERR_IO && e.text[0] != '\0');
            CHECK_INT(leftovers(), before);
        } else {
            struct tensor_list l = {0};
            CHECK_OK(safetensors_open(in("swept/model-00001-of-00002.safetensors"), &l, &e), &e);
            CHECK_OK(safetensors_open(in("swept/model-00002-of-00002.safetensors"), &l, &e), &e);
            check_values(&l, SMALL);
            tensor_list_close(&l);
            CHECK_OK(io_remove_tree(in("swept"), &e), &e);
        }
        CHECK(n > 20 || hit);
    }
}

static void half_precision(void)
{
    int wrong = 0;
    for (uint32_t h = 0; h < 0x10000; h++)
        if ((h & 0x7fff) <= 0x7c00)
            wrong += f16_from_f32(f16_to_f32((uint16_t)h)) != h;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1)), middle = (low + high) / 2;
        wrong += f16_from_f32(middle) != (h & 1 ? h + 1 : h);
        wrong += f16_from_f32(nextafterf(middle, high)) != h + 1;
        wrong += f16_from_f32(-nextafterf(middle, low)) != (h | 0x8000);
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(f16_from_f32(65519.996f), 0x7bff);
    CHECK_INT(f16_from_f32(65520.0f), 0x7c00);
    CHECK_INT(f16_from_f32(-INFINITY), 0xfc00);
    CHECK((f16_from_f32(NAN) & 0x7fff) > 0x7c00);
    CHECK_INT(f16_from_f32(1e-30f), 0);
}

/* The bytes are those of a committed file, which tests/golden/check_safetensors.py reads with the Python library. */
static void golden(void)
{
    struct source s = {SIZE_MAX, 1, 0, 0, 0};
    struct err e = {0};
    char *mine, *want;
    size_t n_mine = 0, n_want = 0;
    CHECK_OK(hf_export(in("golden"), table + 1, 4, NULL, 0, 5000000000, fill, &s, NULL, &e), &e);
    CHECK_OK(io_read_file(in("golden/model.safetensors"), ERR_DATA, 1 << 20, &mine, &n_mine, &e), &e);
    CHECK_OK(io_read_file("tests/golden/tensors/exported.safetensors", ERR_DATA, 1 << 20, &want, &n_want, &e), &e);
    CHECK(n_mine == n_want && n_mine > 0 && memcmp(mine, want, n_mine) == 0);
    free(mine);
    free(want);
}

int main(int argc, char **argv)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR"); /* in memory: hundreds of fsyncs */
    struct err e = {0};
    snprintf(folder, sizeof folder, "%s/lorat-export-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return 1;
    if (argc == 3 && strcmp(argv[1], "--write") == 0) { /* make tests/golden/tensors/exported.safetensors anew */
        struct source s = {SIZE_MAX, 1, 0, 0, 0};
        return hf_export(argv[2], table + 1, 4, NULL, 0, 5000000000, fill, &s, NULL, &e) != 0;
    }
    half_precision();
    one_shard();
    several_shards();
    failures();
    sweep(FAULT_ERRNO, EIO, 0);
    sweep(FAULT_ERRNO, EINTR, 1);
    sweep(FAULT_FULL, ENOSPC, 0);
    sweep(FAULT_SHORT, 0, 1);
    golden();
    CHECK_OK(io_remove_tree(folder, &e), &e);
    return check_done();
}
