/* Facts from config.json: public configurations, the refusals by name, inverse frequencies against transformers. */
#include "trainer/facts.h"

#include "tests/check.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

static char *read_shape(const char *name, size_t *n)
{
    char path[256], *text = NULL;
    struct err e = {0};
    snprintf(path, sizeof path, "tests/golden/shapes/%s/config.json", name);
    CHECK_OK(io_read_file(path, ERR_MODEL, 1 << 16, &text, n, &e), &e);
    return text;
}

/* The text with the first `from` replaced by `to`. */
static void replace(const char *text, const char *from, const char *to, struct buf *out)
{
    const char *at = strstr(text, from);
    buf_clear(out);
    CHECK(at != NULL);
    if (at == NULL)
        return;
    buf_add(out, text, (size_t)(at - text));
    buf_puts(out, to);
    buf_puts(out, at + strlen(from));
}

static void check_inv_freq(const char *name, const struct facts *f)
{
    struct err e = {0};
    struct json *root = NULL;
    char *text = NULL;
    size_t n;
    double got[512];
    CHECK_OK(io_read_file("tests/golden/shapes/inv_freq.json", ERR_MODEL, 1 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text, n, "inv_freq.json", ERR_MODEL, &root, &e), &e);
    const struct json *list = json_get(root, name);
    CHECK_INT(json_length(list), f->q / 2);
    facts_inv_freq(f, got);
    for (int i = 0; i < f->q / 2; i++) {
        double want = 0;
        CHECK(json_f64(json_at(list, (size_t)i), &want));
        CHECK_NEAR(got[i] / want, 1.0, 1e-6); /* theirs is float32 */
    }
    json_free(root);
    mem_free(text);
}

static void test_public_configurations(void)
{
    static const struct {
        const char *name, *arch;
        int l, d, f, h, k, q, v;
        double theta;
        long long context, total, blocks;
        bool bias, qk_norm, tied;
        int bos, eos;
    } want[] = {
        /* total: the parameter counts that the models' pages state; blocks: millions, as in the hardware tables */
        {"Llama-3.1-8B", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 5e5, 131072, 8030261248, 6979, false, false, false, 128000,
         128001},
        {"Llama-3.2-1B", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 5e5, 131072, 1235814400, 973, false, false, true, 128000,
         128001},
        {"Mistral-7B-v0.3", "mistral", 32, 4096, 14336, 32, 8, 128, 32768, 1e6, 32768, 7248023552, 6979, false, false, false, 1,
         2},
        {"Qwen2.5-7B", "qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 1e6, 131072, 7615616512, 6525, true, false, false, 151643,
         151643},
        {"Qwen3-0.6B", "qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 1e6, 40960, 596049920, 440, false, true, true, 151643,
         151645},
        {"Qwen3-8B", "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 1e6, 40960, 8190735360, 6945, false, true, false, 151643,
         151645},
        {"SmolLM2-135M", "llama", 30, 576, 1536, 9, 3, 64, 49152, 1e5, 8192, 134515008, 106, false, false, true, 1, 2},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct err e = {0};
        struct facts f;
        size_t n;
        char *text = read_shape(want[i].name, &n);
        CHECK_OK(facts_from_hf(text, n, NULL, 0, want[i].name, &f, &e), &e);
        CHECK_STR(f.arch, want[i].arch);
        CHECK_INT(f.l, want[i].l);
        CHECK_INT(f.d, want[i].d);
        CHECK_INT(f.f, want[i].f);
        CHECK_INT(f.h, want[i].h);
        CHECK_INT(f.k, want[i].k);
        CHECK_INT(f.q, want[i].q);
        CHECK_INT(f.v, want[i].v);
        CHECK_INT(f.context, want[i].context);
        CHECK_INT(f.qkv_bias, want[i].bias);
        CHECK_INT(f.qk_norm, want[i].qk_norm);
        CHECK_INT(f.tied, want[i].tied);
        CHECK_INT(f.bos, want[i].bos);
        CHECK_INT(f.n_eos, 1);
        CHECK_INT(f.eos[0], want[i].eos);
        CHECK_NEAR(f.rope.theta, want[i].theta, 0);
        CHECK_INT(facts_n_total(&f), want[i].total);
        CHECK_INT(facts_n_blocks(&f) / 1000000, want[i].blocks);
        CHECK_INT(facts_n_head(&f), (long long)want[i].v * want[i].d);
        check_inv_freq(want[i].name, &f);
        facts_free(&f);
        mem_free(text);
    }
}

static void test_end_tokens(void)
{
    static const char generation[] = "{\"eos_token_id\": [151645, 151643]}";
    struct err e = {0};
    struct facts f;
    size_t n;
    char *text = read_shape("Qwen3-8B", &n);
    CHECK_OK(facts_from_hf(text, n, generation, strlen(generation), "q", &f, &e), &e);
    CHECK_INT(f.n_eos, 2);
    CHECK_INT(f.eos[0], 151645);
    CHECK_INT(f.eos[1], 151643);
    facts_free(&f);
    static const char bad[] = "{\"eos_token_id\": [151645, 151936]}";
    CHECK(facts_from_hf(text, n, bad, strlen(bad), "q", &f, &e) != 0);
    CHECK_HAS(e.text, "generation_config.json");
    CHECK_HAS(e.text, "151936");
    static const char cut[] = "{\"eos_token_id\": ";
    CHECK(facts_from_hf(text, n, cut, strlen(cut), "q", &f, &e) != 0);
    mem_free(text);
}

static void test_refusals(void)
{
    static const struct {
        const char *model, *from, *to, *says;
    } cases[] = {
        {"Qwen3-8B", "\"model_type\": \"qwen3\"", "\"model_type\": \"gemma3\"", "gemma3"},
        {"Qwen3-8B", "\"model_type\": \"qwen3\",", "", "model_type"},
        {"Qwen3-8B", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification", "Qwen3ForSequenceClassification"},
        {"Qwen3-8B", "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias"},
        {"Qwen3-8B", "\"attention_bias\": false", "\"attention_bias\": 1", "true or false"},
        {"Llama-3.1-8B", "\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias"},
        {"Llama-3.1-8B", "\"silu\"", "\"gelu\"", "gelu"},
        {"Llama-3.1-8B", "\"use_cache\"", "\"num_local_experts\": 8, \"use_cache\"", "num_local_experts"},
        {"Llama-3.1-8B", "\"use_cache\"", "\"quantization_config\": {\"quant_method\": \"awq\"}, \"use_cache\"", "awq"},
        {"Llama-3.1-8B", "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", "yarn"},
        {"Llama-3.1-8B", "\"rope_type\": \"llama3\"", "\"type\": \"dynamic\"", "dynamic"},
        {"Llama-3.1-8B", "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0", "low_freq_factor"},
        {"Llama-3.1-8B", "\"factor\": 8.0,", "", "factor"},
        {"Llama-3.1-8B", "\"rope_theta\": 500000.0", "\"rope_theta\": -1", "rotary base"},
        {"Llama-3.1-8B", "\"rope_theta\"", "\"partial_rotary_factor\": 0.5, \"rope_theta\"", "partial_rotary_factor"},
        {"Llama-3.1-8B", "\"hidden_size\": 4096", "\"hidden_size\": 0", "hidden_size"},
        {"Llama-3.1-8B", "\"hidden_size\": 4096", "\"hidden_size\": 99999999999", "hidden_size"},
        {"Llama-3.1-8B", "\"hidden_size\": 4096", "\"hidden_size\": \"4096\"", "hidden_size"},
        {"Llama-3.1-8B", "\"hidden_size\": 4096", "\"hidden_size\": 4095", "head_dim"},
        {"Llama-3.1-8B", "\"hidden_size\": 4096,", "", "hidden_size"},
        {"Llama-3.1-8B", "\"num_key_value_heads\": 8", "\"num_key_value_heads\": 7", "multiple"},
        {"Llama-3.1-8B", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "epsilon"},
        {"Llama-3.1-8B", "\"bos_token_id\": 128000", "\"bos_token_id\": 128256", "bos_token_id"},
        {"Llama-3.1-8B", "\"eos_token_id\": 128001", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", "end tokens"},
        {"Llama-3.1-8B", "\"eos_token_id\": 128001", "\"eos_token_id\": \"</s>\"", "eos_token_id"},
        {"Llama-3.2-1B", "\"head_dim\": 64", "\"head_dim\": 63", "a multiple of 8"},
        {"Mistral-7B-v0.3", "\"sliding_window\": null", "\"sliding_window\": 4096", "4096"},
        {"Qwen2.5-7B", "\"use_sliding_window\": false", "\"use_sliding_window\": true, \"layer_types\": [\"linear_attention\"]",
         "linear_attention"},
        {"Qwen2.5-7B", "\"sliding_window\": 131072", "\"layer_types\": [\"sliding_attention\"], \"sliding_window\": 4096",
         "sliding window"},
        {"Qwen2.5-7B", "\"vocab_size\": 152064", "\"vocab_size\": 152064, \"vocab_size\": 152064", "vocab_size"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        struct facts f;
        size_t n;
        char *text = read_shape(cases[i].model, &n);
        replace(text, cases[i].from, cases[i].to, &b);
        int rc = facts_from_hf(b.data, b.n, NULL, 0, "models/x/config.json", &f, &e);
        if (rc == 0)
            fprintf(stderr, "accepted: %s\n", cases[i].to);
        CHECK(rc != 0);
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, cases[i].says);
        CHECK_HAS(e.text, "models/x/config.json");
        mem_free(text);
    }
    /* Not refused: a window that hides nothing, an old Llama file without the newer keys. */
    struct err e = {0};
    struct facts f;
    size_t n;
    char *text = read_shape("Mistral-7B-v0.3", &n);
    replace(text, "\"sliding_window\": null", "\"sliding_window\": 32768", &b);
    CHECK_OK(facts_from_hf(b.data, b.n, NULL, 0, "x", &f, &e), &e);
    mem_free(text);
    static const char old[] =
        "{\"model_type\": \"llama\", \"hidden_act\": \"silu\", \"hidden_size\": 4096, \"intermediate_size\": 11008, "
        "\"num_attention_heads\": 32, \"num_hidden_layers\": 32, \"vocab_size\": 32000, \"rms_norm_eps\": 1e-6, "
        "\"max_position_embeddings\": 2048, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}";
    double freq[64];
    CHECK_OK(facts_from_hf(old, strlen(old), NULL, 0, "old", &f, &e), &e);
    CHECK_INT(f.k, 32);
    CHECK_INT(facts_n_total(&f), 6738415616); /* Llama-7B */
    facts_inv_freq(&f, freq);
    CHECK_NEAR(freq[0], 0.25, 0);
    CHECK_NEAR(freq[32], 0.25 * 0.01, 1e-15);
    for (size_t cut = 0; cut < strlen(old); cut++)
        CHECK(facts_from_hf(old, cut, NULL, 0, "old", &f, &e) != 0);
    buf_free(&b);
}

int main(void)
{
    test_public_configurations();
    test_end_tokens();
    test_refusals();
    return check_done();
}
