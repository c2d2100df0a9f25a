/* A model folder: values against PEFT's merge, what must be there, what must not, and what the messages say. */
#include "trainer/source.h"

#include <errno.h>

#include "tests/model/model_files.h"

static const char *const tiny[] = {"tests/golden/tiny-llama", "tests/golden/tiny-llama3", "tests/golden/tiny-qwen2",
                                   "tests/golden/tiny-qwen3"};

static void expect_refused(const char *path, bool plan_only, const char *says)
{
    struct source s;
    struct err e = {0};
    int rc = source_open(path, plan_only, &s, &e);
    if (rc == 0)
        fprintf(stderr, "accepted, expected: %s\n", says);
    CHECK(rc != 0);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_HAS(e.text, says);
    CHECK(s.tensors.n == 0 && s.gguf == NULL);
    if (rc == 0)
        source_close(&s);
}

static void read_named(const struct tensor_list *l, const char *name, float **out, const struct tensor **t)
{
    struct err e = {0};
    *t = tensor_find(l, name);
    CHECK(*t != NULL);
    *out = mem_alloc((size_t)tensor_count(*t), sizeof **out);
    CHECK_OK(tensor_read(l, *t, 0, (*t)->shape[0], DT_F32, *out, &e), &e);
}

/* W + scale * B A of layer 0 is what PEFT merged: the role finds the right tensor, and its rows in the right order. */
static void check_merged(const struct source *s, enum role r, double scale)
{
    char name[96], text[1200];
    struct err e = {0};
    struct tensor_list adapter = {0}, expected = {0};
    const struct tensor *ta, *tb, *tm;
    float *a, *b, *merged, *w;
    int64_t shape[2];
    int rank;
    double worst = 0, largest = 0;
    source_hf_name(r, 0, name);
    source_shape(&s->facts, r, shape, &rank);
    snprintf(text, sizeof text, "%s/adapter/adapter_model.safetensors", s->path);
    CHECK_OK(safetensors_open(text, &adapter, &e), &e);
    snprintf(text, sizeof text, "%s/expected.safetensors", s->path);
    CHECK_OK(safetensors_open(text, &expected, &e), &e);
    snprintf(text, sizeof text, "base_model.model.%.*s.lora_A.weight", (int)strlen(name) - 7, name);
    read_named(&adapter, text, &a, &ta);
    snprintf(text, sizeof text, "base_model.model.%.*s.lora_B.weight", (int)strlen(name) - 7, name);
    read_named(&adapter, text, &b, &tb);
    snprintf(text, sizeof text, "merged.%s", name);
    read_named(&expected, text, &merged, &tm);
    w = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *w);
    CHECK_OK(source_read(s, r, 0, 0, shape[0], DT_F32, w, &e), &e);
    CHECK_INT(tm->shape[0], shape[0]);
    CHECK_INT(tm->shape[1], shape[1]);
    for (int64_t o = 0; o < shape[0]; o++)
        for (int64_t i = 0; i < shape[1]; i++) {
            double sum = 0;
            for (int64_t k = 0; k < ta->shape[0]; k++)
                sum += (double)b[o * ta->shape[0] + k] * (double)a[k * shape[1] + i];
            double got = (double)w[o * shape[1] + i] + scale * sum, want = (double)merged[o * shape[1] + i];
            worst = fabs(got - want) <= worst ? worst : fabs(got - want); /* NaN stays */
            largest = fmax(largest, fabs(want));
        }
    CHECK(worst <= 1e-6 * largest);
    mem_free(a), mem_free(b), mem_free(merged), mem_free(w);
    tensor_list_close(&adapter);
    tensor_list_close(&expected);
}

/* Any rows, as F32 and as BF16 (the tiny weights are exact in BF16), are the rows of the whole. */
static void check_rows(const struct source *s, enum role r, int layer)
{
    struct err e = {0};
    int64_t shape[2];
    int rank;
    source_shape(&s->facts, r, shape, &rank);
    float *all = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *all),
          *some = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *some);
    bf16 *half = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *half);
    CHECK_OK(source_read(s, r, layer, 0, shape[0], DT_F32, all, &e), &e);
    CHECK_OK(source_read(s, r, layer, 0, shape[0], DT_BF16, half, &e), &e);
    for (int64_t i = 0; i < shape[0] * shape[1]; i++)
        CHECK(bf16_to_f32(half[i]) == all[i]);
    int64_t row0 = shape[0] / 3, rows = shape[0] / 2;
    CHECK_OK(source_read(s, r, layer, row0, rows, DT_F32, some, &e), &e);
    CHECK(memcmp(some, all + row0 * shape[1], (size_t)(rows * shape[1]) * sizeof *some) == 0);
    CHECK(source_read(s, r, layer, 1, shape[0], DT_F32, some, &e) != 0);
    mem_free(all), mem_free(some), mem_free(half);
}

static void test_values(void)
{
    static const double scale[] = {8.0 / 4, 0, 0, 8.0 / 5};
    for (int i = 0; i < 4; i++) {
        struct source s;
        struct err e = {0};
        int64_t n = 0;
        CHECK_OK(source_open(tiny[i], false, &s, &e), &e);
        for (enum role r = 0; r < ROLE_COUNT; r++) {
            int64_t shape[2];
            int rank;
            if (!source_has(&s, r))
                continue;
            bool one = r == ROLE_EMBED || r == ROLE_FINAL_NORM || r == ROLE_HEAD;
            for (int layer = 0; layer < (one ? 1 : s.facts.l); layer++)
                check_rows(&s, r, layer);
            source_shape(&s.facts, r, shape, &rank);
            n += shape[0] * shape[1] * (one ? 1 : s.facts.l);
        }
        CHECK_INT(n, facts_n_total(&s.facts));
        double k = scale[i] != 0 ? scale[i] : 8 / sqrt(i == 1 ? 5 : 4); /* rank-stabilized */
        check_merged(&s, ROLE_Q, k);
        check_merged(&s, ROLE_DOWN, k);
        CHECK_INT(source_has(&s, ROLE_Q_BIAS), i == 2);
        CHECK_INT(source_has(&s, ROLE_Q_NORM), i == 3);
        CHECK_INT(source_has(&s, ROLE_HEAD), i == 0 || i == 2);
        CHECK_INT(s.facts.rope.kind, i == 1 ? ROPE_LLAMA3 : ROPE_DEFAULT);
        CHECK_INT(s.facts.n_eos, i == 1 || i == 2 ? 2 : 1);
        source_close(&s);
        source_close(&s); /* closing twice is fine */
    }
}

static void test_inv_freq(void)
{
    for (int i = 0; i < 4; i++) {
        struct source s;
        struct err e = {0};
        struct tensor_list l = {0};
        const struct tensor *t;
        char path[256];
        float *want;
        double got[64];
        CHECK_OK(source_open(tiny[i], true, &s, &e), &e);
        CHECK_INT(s.tensors.n, 0);
        snprintf(path, sizeof path, "%s/expected.safetensors", tiny[i]);
        CHECK_OK(safetensors_open(path, &l, &e), &e);
        read_named(&l, "inv_freq", &want, &t);
        CHECK_INT(t->shape[0], s.facts.q / 2);
        facts_inv_freq(&s.facts, got);
        for (int j = 0; j < s.facts.q / 2; j++)
            CHECK_NEAR(got[j] / (double)want[j], 1, 1e-6);
        mem_free(want);
        tensor_list_close(&l);
        source_close(&s);
    }
}

static void test_not_there(void)
{
    expect_refused("models/Qwen3-8B", false, "\nhf download Qwen/Qwen3-8B --local-dir models/Qwen3-8B");
    expect_refused("models/qwen3-8b/", true, "\nhf download Qwen/Qwen3-8B --local-dir models/qwen3-8b");
    expect_refused("no/Llama-3.1-8B", false,
                   "\nhf download meta-llama/Llama-3.1-8B --exclude \"original/*\" --local-dir no/Llama-3.1-8B\n");
    expect_refused("no/mine", false, "\nhf download ORG/NAME --exclude \"original/*\" --local-dir no/mine");
    expect_refused("no/it's mine", false, "--local-dir 'no/it'\\''s mine'");
    expect_refused("no/x.Q8_0.gguf", false, "\nhf download ORG/NAME-GGUF x.Q8_0.gguf --local-dir no");
    expect_refused("x.gguf", false, "\nhf download ORG/NAME-GGUF x.gguf --local-dir .");
    expect_refused("", false, "path");
    expect_refused("tests/golden/tiny-llama/adapter", false, "adapter");
    expect_refused("tests/golden/tiny-llama3/model.safetensors", false, "the folder that it lies in");
    expect_refused("tests/golden/shapes", false, "config.json");
    expect_refused("tests/golden/shapes/Qwen3-8B", false, "\nhf download Qwen/Qwen3-8B --local-dir tests/golden/shapes/Qwen3-8B");
    char long_path[3000];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    expect_refused(long_path, false, "bytes");
    long_path[1000] = '\0';
    expect_refused(long_path, false, "hf download");

    struct source s;
    struct err e = {0};
    CHECK_OK(source_open("tests/golden/shapes/Qwen3-8B", true, &s, &e), &e);
    CHECK_INT(s.facts.l, 36);
    char hex[65];
    CHECK(source_identity(&s, NULL, hex, &e) != 0);
    source_close(&s);

    const char *dir = files_copy("tiny-llama3", "pickle");
    files_remove(dir, "model.safetensors");
    files_write_text(dir, "pytorch_model.bin", "x");
    expect_refused(dir, false, "pytorch_model.bin");
}

static void test_tensors(void)
{
    const char *dir = files_copy("tiny-llama", "t");
    files_edit(dir, "config.json", "\"intermediate_size\": 160", "\"intermediate_size\": 161");
    expect_refused(dir, false, "\"model.layers.0.mlp.gate_proj.weight\" has shape (160, 64), expected (161, 64)");
    dir = files_copy("tiny-llama", "t");
    files_edit(dir, "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    expect_refused(dir, false, "\"model.layers.2.input_layernorm.weight\" is missing");
    dir = files_copy("tiny-llama", "t");
    files_edit(dir, "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    expect_refused(dir, false, "model.layers.1.");
    dir = files_copy("tiny-qwen2", "t");
    files_edit(dir, "config.json", "\"Qwen2ForCausalLM\"", "\"LlamaForCausalLM\"");
    files_edit(dir, "config.json", "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"");
    expect_refused(dir, false, "_proj.bias\""); /* biases that a llama would leave out */

    /* a tensor more than there should be */
    struct source s;
    struct err e = {0};
    CHECK_OK(source_open("tests/golden/tiny-llama3", false, &s, &e), &e);
    dir = files_copy("tiny-llama3", "t");
    int64_t head[2] = {s.facts.v, s.facts.d}, other[2] = {s.facts.v, s.facts.d + 1}, freq[1] = {s.facts.q / 2};
    static const struct {
        const char *name;
        int rank, shape;
        const char *says; /* NULL = accepted */
    } extra[] = {
        {"lm_head.weight", 2, 0, NULL}, /* tied: known, not used */
        {"lm_head.weight", 2, 1, "\"lm_head.weight\" has shape"},
        {"model.layers.0.self_attn.rotary_emb.inv_freq", 1, 2, NULL},
        {"model.layers.0.self_attn.q_proj.lora_A.weight", 2, 0, "lora_A"},
        {"model.layers.0.self_attn.q_norm.weight", 1, 2, "q_norm"},
        {"visual.weight", 2, 0, "\"visual.weight\" (96, 32) is not part of a llama model"},
    };
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        const int64_t *shape = extra[i].shape == 0 ? head : extra[i].shape == 1 ? other : freq;
        struct source again;
        files_write_safetensors(dir, "model.safetensors", &s.tensors, extra[i].name, extra[i].rank, shape);
        if (extra[i].says != NULL)
            expect_refused(dir, false, extra[i].says);
        else {
            CHECK_OK(source_open(dir, false, &again, &e), &e);
            source_close(&again);
        }
    }
    source_close(&s);

    dir = files_copy("tiny-llama3", "t");
    files_edit(dir, "model.safetensors", "\"dtype\":\"BF16\"", "\"dtype\":\"U16\" ");
    expect_refused(dir, false, "U16");
    dir = files_copy("tiny-llama3", "t");
    size_t n;
    char *bytes = files_read(dir, "model.safetensors", &n);
    for (size_t cut = 0; cut < n; cut += cut < 1500 ? 7 : 999) {
        struct source again;
        files_write(dir, "model.safetensors", bytes, cut);
        CHECK(source_open(dir, false, &again, &e) != 0);
    }
    mem_free(bytes);
}

static void test_shards(void)
{
    static const char index[] = "model.safetensors.index.json", shard[] = "model-00002-of-00004.safetensors";
    const char *dir = files_copy("tiny-llama", "s");
    files_remove(dir, shard);
    expect_refused(dir, false, "\"model-00002-of-00004.safetensors\" is missing (1 of 4");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"metadata\"", "\"metadat\"");
    expect_refused(dir, false, "metadat");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"model-00004-of-00004.safetensors\"", "\"../model-00004-of-00004.safetensors\"");
    expect_refused(dir, false, "in the same folder");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"model-00004-of-00004.safetensors\"", "17");
    expect_refused(dir, false, "lm_head.weight");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"lm_head.weight\": \"model-00004", "\"lm_head.weight\": \"model-00001");
    expect_refused(dir, false, "lm_head.weight");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"model.layers.0.mlp.up_proj.weight\": \"model-00002-of-00004.safetensors\",", "");
    expect_refused(dir, false, "\"model.layers.0.mlp.up_proj.weight\" of");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"lm_head.weight\":", "\"lm_head.bias\":");
    expect_refused(dir, false, "lm_head.bias");
    dir = files_copy("tiny-llama", "s");
    files_edit(dir, index, "\"weight_map\"", "\"weight_map\": {}, \"weight_map\"");
    expect_refused(dir, false, "weight_map");
    files_write_text(dir, index, "{\"weight_map\": {}}");
    expect_refused(dir, false, "empty");
    files_write_text(dir, index, "[]");
    expect_refused(dir, false, index);
    dir = files_copy("tiny-llama", "s");
    files_write_text(dir, "generation_config.json", "{\"eos_token_id\": [1, 2, ");
    expect_refused(dir, false, "generation_config.json");
}

static void test_identity(void)
{
    struct source s, again;
    struct err e = {0};
    char hex[65], other[65], cache[128], path[256];
    snprintf(cache, sizeof cache, "%s/cache/deep", files_root);
    const char *dir = files_copy("tiny-llama", "id");
    CHECK_OK(source_open(dir, false, &s, &e), &e);
    CHECK_OK(source_identity(&s, NULL, hex, &e), &e);
    CHECK_INT(strlen(hex), 64);
    CHECK_OK(source_identity(&s, cache, other, &e), &e);
    CHECK_STR(other, hex);

    /* The same tensors in one file are the same model. */
    char single[300];
    snprintf(single, sizeof single, "%s/single", files_root);
    size_t n;
    char *config = files_read(dir, "config.json", &n);
    files_write(single, "config.json", config, n);
    mem_free(config);
    files_write_safetensors(single, "model.safetensors", &s.tensors, NULL, 0, NULL);
    CHECK_OK(source_open(single, false, &again, &e), &e);
    CHECK_OK(source_identity(&again, cache, other, &e), &e);
    CHECK_STR(other, hex);
    source_close(&again);
    source_close(&s);

    /* Another bit in one weight is another model; the cache must notice. */
    char *bytes = files_read(single, "model.safetensors", &n);
    bytes[n - 1] ^= 1;
    files_write(single, "model.safetensors", bytes, n);
    mem_free(bytes);
    CHECK_OK(source_open(single, false, &again, &e), &e);
    CHECK_OK(source_identity(&again, cache, other, &e), &e);
    CHECK(strcmp(other, hex) != 0);

    /* What is in the cache is used, as long as it is whole. */
    char **names = NULL;
    size_t n_names = 0;
    CHECK_OK(io_list(cache, &names, &n_names, &e), &e);
    CHECK_INT(n_names, 2);
    for (size_t i = 0; i < n_names; i++) {
        bytes = files_read(cache, names[i], &n);
        CHECK(n > 65);
        memset(bytes + n - 65, 'a', 64);
        files_write(cache, names[i], bytes, n);
        mem_free(bytes);
    }
    CHECK_OK(source_identity(&again, cache, hex, &e), &e);
    CHECK_INT(strspn(hex, "a"), 64);
    for (size_t i = 0; i < n_names; i++) {
        bytes = files_read(cache, names[i], &n);
        files_write(cache, names[i], bytes, n - 2);
        mem_free(bytes);
    }
    CHECK_OK(source_identity(&again, cache, hex, &e), &e);
    CHECK_STR(hex, other);
    io_list_free(names, n_names);
    /* A cache that cannot be written is no error. */
    snprintf(path, sizeof path, "%s/id/config.json", files_root);
    CHECK_OK(source_identity(&again, path, hex, &e), &e);
    CHECK_STR(hex, other);
    source_close(&again);
}

/* Out of memory, and file calls that fail, anywhere in opening and hashing: an error, nothing lost, and the next try succeeds. */
static void test_failing_allocations(void)
{
    struct source s;
    struct err e = {0};
    char hex[65];
    int64_t n = 0;
    int rc = -1;
    while (rc != 0 && ++n < 3000) {
        e = (struct err){0};
        mem_fail_at(n);
        rc = source_open("tests/golden/tiny-llama", false, &s, &e);
        if (rc == 0) {
            rc = source_identity(&s, NULL, hex, &e);
            source_close(&s);
        }
        mem_fail_at(0);
        CHECK(rc == 0 || e.text[0] != '\0');
    }
    CHECK(rc == 0);
    CHECK(n > 50);
}

static int64_t calls_left;
static int failing_open(const char *path, int flags, mode_t mode)
{
    return --calls_left == 0 ? (errno = EIO, -1) : io_libc.open(path, flags, mode);
}
static ssize_t failing_pread(int fd, void *buf, size_t n, off_t at)
{
    return --calls_left == 0 ? (errno = EIO, -1) : io_libc.pread(fd, buf, n, at);
}
static ssize_t failing_read(int fd, void *buf, size_t n)
{
    return --calls_left == 0 ? (errno = EIO, -1) : io_libc.read(fd, buf, n);
}
static int failing_fstat(int fd, struct stat *st) { return --calls_left == 0 ? (errno = EIO, -1) : io_libc.fstat(fd, st); }

static void test_failing_files(void)
{
    struct io_table table = io_libc;
    table.open = failing_open;
    table.pread = failing_pread;
    table.read = failing_read;
    table.fstat = failing_fstat;
    struct source s;
    struct err e = {0};
    int64_t n = 0;
    float head[64];
    int rc = -1;
    while (rc != 0 && ++n < 1000) {
        e = (struct err){0};
        calls_left = n;
        io = &table;
        rc = source_open("tests/golden/tiny-llama", false, &s, &e);
        if (rc == 0) {
            rc = source_read(&s, ROLE_HEAD, 0, 7, 1, DT_F32, head, &e);
            source_close(&s);
        }
        io = &io_libc;
        CHECK(rc == 0 || (e.text[0] != '\0' && e.code != ERR_OK));
    }
    CHECK(rc == 0);
    CHECK(n > 10);
}

int main(void)
{
    test_failing_allocations();
    test_failing_files();
    files_begin();
    test_values();
    test_inv_freq();
    test_not_there();
    test_tensors();
    test_shards();
    test_identity();
    files_end();
    return check_done();
}
