/* A GGUF file holds the same model as the folder it was made from; what is refused; SmolLM2-135M as llama.cpp's converter wrote
 * it. */
#include "tests/model/gguf_write.h"
#include "trainer/base/json.h"
#include "trainer/source.h"

#define SMOLLM2_GGUF "models/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char *const gguf_names[ROLE_COUNT] = {
    [ROLE_EMBED] = "token_embd.weight",   [ROLE_FINAL_NORM] = "output_norm.weight",
    [ROLE_HEAD] = "output.weight",        [ROLE_NORM1] = "attn_norm.weight",
    [ROLE_Q] = "attn_q.weight",           [ROLE_K] = "attn_k.weight",
    [ROLE_V] = "attn_v.weight",           [ROLE_Q_BIAS] = "attn_q.bias",
    [ROLE_K_BIAS] = "attn_k.bias",        [ROLE_V_BIAS] = "attn_v.bias",
    [ROLE_Q_NORM] = "attn_q_norm.weight", [ROLE_K_NORM] = "attn_k_norm.weight",
    [ROLE_O] = "attn_output.weight",      [ROLE_NORM2] = "ffn_norm.weight",
    [ROLE_GATE] = "ffn_gate.weight",      [ROLE_UP] = "ffn_up.weight",
    [ROLE_DOWN] = "ffn_down.weight",
};

/* What a conversion may do differently. */
struct change {
    const char *arch, *scaling; /* NULL: as it should be */
    int drop;                   /* this role is left out of layer 0, -1 = none */
    const char *extra;          /* a tensor more */
    uint32_t experts, window, rotated, eot;
    bool factors, bad_factors, no_tensors;
};
static const struct change none = {.drop = -1};

/* llama.cpp's converter: view (heads, 2, Q/2, D), swap the two in the middle. */
static void permute(const float *w, int64_t heads, int64_t half, int64_t d, float *out)
{
    for (int64_t h = 0; h < heads; h++)
        for (int64_t two = 0; two < 2; two++)
            for (int64_t i = 0; i < half; i++)
                memcpy(out + ((h * half + i) * 2 + two) * d, w + ((h * 2 + two) * half + i) * d, (size_t)d * sizeof *w);
}

static void put_tensor(struct gguf_writer *w, const struct source *s, enum role r, int layer, const char *name)
{
    int64_t shape[2];
    int rank;
    struct err e = {0};
    source_shape(&s->facts, r, shape, &rank);
    float *v = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *v), *p = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *p);
    CHECK_OK(source_read(s, r, layer, 0, shape[0], DT_F32, v, &e), &e);
    if ((r == ROLE_Q || r == ROLE_K) && strcmp(s->facts.arch, "llama") == 0) {
        permute(v, shape[0] / s->facts.q, s->facts.q / 2, shape[1], p);
        gw_tensor(w, name, (uint32_t)rank, shape, p);
    } else
        gw_tensor(w, name, (uint32_t)rank, shape, v);
    mem_free(v);
    mem_free(p);
}

static void put_tensors(struct gguf_writer *w, const struct source *s, const struct change *c)
{
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        bool one = r == ROLE_EMBED || r == ROLE_FINAL_NORM || r == ROLE_HEAD;
        for (int layer = 0; source_has(s, r) && layer < (one ? 1 : s->facts.l); layer++) {
            char name[96];
            if ((int)r == c->drop && layer == 0)
                continue;
            if (one)
                snprintf(name, sizeof name, "%s", gguf_names[r]);
            else
                snprintf(name, sizeof name, "blk.%d.%s", layer, gguf_names[r]);
            put_tensor(w, s, r, layer, name);
        }
    }
    if (c->extra != NULL)
        put_tensor(w, s, ROLE_FINAL_NORM, 0, c->extra);
    if (c->factors) {
        /* How the converter expresses llama3 scaling: unscaled over scaled frequencies. */
        double freq[64];
        float factors[64];
        int64_t half = s->facts.q / 2;
        facts_inv_freq(&s->facts, freq);
        for (int64_t i = 0; i < half; i++)
            factors[i] = (float)(pow(s->facts.rope.theta, -2.0 * (double)i / s->facts.q) / freq[i]);
        if (c->bad_factors)
            factors[1] = 0;
        gw_tensor(w, "rope_freqs.weight", 1, &half, factors);
    }
}

/* The folder's model as <root>/<file>. */
static void convert(const struct source *s, const char *file, const struct change *c)
{
    struct gguf_writer w = {0};
    const struct facts *f = &s->facts;
    const struct {
        const char *key;
        int64_t v;
    } ints[] = {{"block_count", f->l},
                {"context_length", f->context},
                {"embedding_length", f->d},
                {"feed_forward_length", f->f},
                {"attention.head_count", f->h},
                {"attention.head_count_kv", f->k},
                {"attention.key_length", f->q},
                {"attention.value_length", f->q},
                {"rope.dimension_count", c->rotated ? (int64_t)c->rotated : f->q},
                {"vocab_size", f->v},
                {"expert_count", c->experts},
                {"attention.sliding_window", c->window}};
    char key[96];
    gw_string(&w, "general.architecture", c->arch ? c->arch : f->arch);
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", f->arch, ints[i].key);
        gw_u32(&w, key, (uint32_t)ints[i].v);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", f->arch);
    gw_f32(&w, key, f->norm_eps);
    snprintf(key, sizeof key, "%s.rope.freq_base", f->arch);
    gw_f32(&w, key, (float)f->rope.theta);
    if (c->scaling != NULL) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", f->arch);
        gw_string(&w, key, c->scaling);
        snprintf(key, sizeof key, "%s.rope.scaling.factor", f->arch);
        gw_f32(&w, key, 4.0f);
    }
    if (f->bos >= 0)
        gw_u32(&w, "tokenizer.ggml.bos_token_id", (uint32_t)f->bos);
    gw_u32(&w, "tokenizer.ggml.eos_token_id", (uint32_t)f->eos[0]);
    if (c->eot != 0 || f->n_eos > 1)
        gw_u32(&w, "tokenizer.ggml.eot_token_id", c->eot != 0 ? c->eot : (uint32_t)f->eos[1]);
    if (!c->no_tensors)
        put_tensors(&w, s, c);
    gw_finish(&w, files_root, file);
}

static void check_same(const struct source *a, const struct source *b)
{
    struct err e = {0};
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        bool one = r == ROLE_EMBED || r == ROLE_FINAL_NORM || r == ROLE_HEAD;
        CHECK_INT(source_has(a, r), source_has(b, r));
        for (int layer = 0; source_has(a, r) && layer < (one ? 1 : a->facts.l); layer++) {
            int64_t shape[2];
            int rank;
            source_shape(&a->facts, r, shape, &rank);
            size_t n = (size_t)(shape[0] * shape[1]), bytes = n * sizeof(float);
            float *x = mem_alloc(n, sizeof *x), *y = mem_alloc(n, sizeof *y);
            for (int64_t row0 = 0; row0 < shape[0]; row0 += 1 + shape[0] / 5)
                for (int64_t rows = 1; rows <= shape[0] - row0; rows += 1 + shape[0] / 7) {
                    memset(x, 0, bytes), memset(y, 1, bytes);
                    CHECK_OK(source_read(a, r, layer, row0, rows, DT_F32, x, &e), &e);
                    CHECK_OK(source_read(b, r, layer, row0, rows, DT_F32, y, &e), &e);
                    CHECK(memcmp(x, y, (size_t)(rows * shape[1]) * sizeof *x) == 0);
                }
            CHECK(source_read(b, r, layer, 1, shape[0], DT_F32, y, &e) != 0);
            CHECK(source_read(b, r, layer, -1, 1, DT_F32, y, &e) != 0);
            mem_free(x), mem_free(y);
        }
    }
}

static void test_same_model(const char *model)
{
    struct source folder, file;
    struct err e = {0};
    char path[128], hex[65], other[65];
    double want[64], got[64];
    snprintf(path, sizeof path, "tests/golden/%s", model);
    CHECK_OK(source_open(path, false, &folder, &e), &e);
    struct change c = none;
    c.factors = folder.facts.rope.kind == ROPE_LLAMA3;
    convert(&folder, "model.gguf", &c);
    snprintf(path, sizeof path, "%s/model.gguf", files_root);
    CHECK_OK(source_open(path, false, &file, &e), &e);
    const struct facts *a = &folder.facts, *b = &file.facts;
    CHECK(file.is_gguf);
    CHECK_STR(b->arch, a->arch);
    CHECK(a->l == b->l && a->d == b->d && a->f == b->f && a->h == b->h && a->k == b->k && a->q == b->q && a->v == b->v);
    CHECK(a->qkv_bias == b->qkv_bias && a->qk_norm == b->qk_norm && a->tied == b->tied && a->norm_eps == b->norm_eps);
    CHECK(a->context == b->context && a->bos == b->bos && a->n_eos == b->n_eos && a->eos[0] == b->eos[0] &&
          a->eos[1] == b->eos[1]);
    CHECK_INT(facts_n_total(a), facts_n_total(b));
    facts_inv_freq(a, want);
    facts_inv_freq(b, got);
    for (int i = 0; i < a->q / 2; i++)
        CHECK_NEAR(got[i] / want[i], 1, 1e-6);
    check_same(&folder, &file);
    CHECK_OK(source_identity(&file, NULL, hex, &e), &e);
    CHECK_OK(source_identity(&folder, NULL, other, &e), &e);
    CHECK(strcmp(hex, other) != 0);
    source_close(&file);
    CHECK_OK(source_open(path, true, &file, &e), &e);
    CHECK_INT(file.tensors.n, 0);
    CHECK_INT(file.facts.l, folder.facts.l);
    source_close(&file);
    source_close(&folder);
}

static void test_refusals(void)
{
    static const struct {
        struct change change;
        const char *says;
    } cases[] = {
        {{.drop = -1, .arch = "gemma3"}, "\"gemma3\", expected llama, qwen2 or qwen3"},
        {{.drop = -1, .arch = "a\nb"}, "a?b"},
        {{.drop = -1, .arch = "qwen2"}, "qwen2.block_count"},
        {{.drop = -1, .experts = 8}, "expert_count"},
        {{.drop = -1, .window = 128}, "sliding window of 128"},
        {{.drop = -1, .rotated = 8}, "8 of a head's 16"},
        {{.drop = -1, .scaling = "yarn"}, "yarn"},
        {{.drop = -1, .eot = 1u << 20}, "1048576"},
        {{.drop = ROLE_V}, "\"blk.0.attn_v.weight\" is missing"},
        {{.drop = ROLE_EMBED}, "token_embd.weight"},
        {{.drop = ROLE_FINAL_NORM}, "\"output_norm.weight\" is missing"},
        {{.drop = -1, .extra = "blk.0.ffn_gate_inp.weight"}, "\"blk.0.ffn_gate_inp.weight\""},
        {{.drop = -1, .extra = "blk.2.attn_norm.weight"}, "\"blk.2.attn_norm.weight\""},
        {{.drop = -1, .extra = "rope_freqs.weight"}, "\"rope_freqs.weight\" has shape"},
        {{.drop = -1, .factors = true, .bad_factors = true}, "rotary factor 1"},
        {{.drop = -1, .factors = true, .scaling = "linear"}, "rope_freqs.weight"},
        {{.drop = -1, .no_tensors = true}, "token_embd.weight"},
    };
    struct source folder, file;
    struct err e = {0};
    char path[128];
    CHECK_OK(source_open("tests/golden/tiny-llama", false, &folder, &e), &e);
    snprintf(path, sizeof path, "%s/bad.gguf", files_root);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        convert(&folder, "bad.gguf", &cases[i].change);
        e = (struct err){0};
        CHECK(source_open(path, i % 2 == 0, &file, &e) != 0);
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, cases[i].says);
    }
    struct change c = none;
    c.scaling = "linear";
    convert(&folder, "bad.gguf", &c);
    CHECK_OK(source_open(path, false, &file, &e), &e);
    CHECK_INT(file.facts.rope.kind, ROPE_LINEAR);
    CHECK_NEAR(file.facts.rope.factor, 4, 0);
    source_close(&file);
    files_write_text(files_root, "bad.gguf", "GGUF");
    CHECK(source_open(path, false, &file, &e) != 0);
    source_close(&folder);
}

/* One column of q_proj and k_proj as the `gguf` package dequantizes them and a reshape puts their rows in order. */
static void check_column(const struct source *s, enum role r, const char *name)
{
    struct tensor_list l = {0};
    struct err e = {0};
    const struct tensor *t;
    int64_t shape[2];
    int rank;
    source_shape(&s->facts, r, shape, &rank);
    CHECK_OK(safetensors_open("tests/golden/smollm2/expected.safetensors", &l, &e), &e);
    CHECK_OK(tensor_require(&l, name, 1, shape, &t, &e), &e);
    float *want = mem_alloc((size_t)shape[0], sizeof *want), *got = mem_alloc((size_t)(shape[0] * shape[1]), sizeof *got);
    CHECK_OK(tensor_read(&l, t, 0, shape[0], DT_F32, want, &e), &e);
    CHECK_OK(source_read(s, r, 0, 0, shape[0], DT_F32, got, &e), &e);
    for (int64_t i = 0; i < shape[0]; i++)
        CHECK_NEAR(got[i * shape[1]], want[i], 1e-7 * fabs((double)want[i]));
    mem_free(want), mem_free(got);
    tensor_list_close(&l);
}

static void test_smollm2(void)
{
    struct source s;
    struct err e = {0};
    if (!io_exists(SMOLLM2_GGUF)) {
        printf("not checked, there is no " SMOLLM2_GGUF "\n");
        return;
    }
    CHECK_OK(source_open(SMOLLM2_GGUF, false, &s, &e), &e);
    CHECK_STR(s.facts.arch, "llama");
    CHECK_INT(facts_n_total(&s.facts), 134515008);
    CHECK(s.facts.tied);
    CHECK_INT(s.facts.bos, 1);
    CHECK_INT(s.facts.eos[0], 2);
    CHECK_NEAR(s.facts.rope.theta, 100000, 0);
    CHECK_NEAR(s.facts.norm_eps, 1e-5, 1e-12);
    check_column(&s, ROLE_Q, "q0_column");
    check_column(&s, ROLE_K, "k0_column");
    source_close(&s);
}

int main(void)
{
    files_begin();
    test_same_model("tiny-llama");
    test_same_model("tiny-llama3");
    test_same_model("tiny-qwen2");
    test_same_model("tiny-qwen3");
    test_refusals();
    test_smollm2();
    files_end();
    return check_done();
}
