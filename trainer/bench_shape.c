/* bench_shape.c - see bench_shape.h. Sources: config.json of Qwen/Qwen3-{0.6B,1.7B,4B,8B,14B}, meta-llama/Meta-Llama-3-8B,
 * meta-llama/Llama-2-7b-hf, HuggingFaceTB/SmolLM2-135M. "tiny" is nobody's model: small enough for a simulated card, with
 * everything that a decoder of this kind has, and more blocks than the two that a streamed base has room for. */
#include "trainer/bench_shape.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/nearest.h"

static const struct {
    const char *name, *arch;
    int32_t v, l, d, f, h, k, q;
    double theta;
    float eps;
    bool tied, qk_norm;
    int64_t context;
} SHAPES[] = {
    {"qwen3-0.6b", "qwen3", 151936, 28, 1024, 3072, 16, 8, 128, 1e6, 1e-6f, true, true, 40960},
    {"qwen3-1.7b", "qwen3", 151936, 28, 2048, 6144, 16, 8, 128, 1e6, 1e-6f, true, true, 40960},
    {"qwen3-4b", "qwen3", 151936, 36, 2560, 9728, 32, 8, 128, 1e6, 1e-6f, true, true, 40960},
    {"qwen3-8b", "qwen3", 151936, 36, 4096, 12288, 32, 8, 128, 1e6, 1e-6f, false, true, 40960},
    {"qwen3-14b", "qwen3", 151936, 40, 5120, 17408, 40, 8, 128, 1e6, 1e-6f, false, true, 40960},
    {"llama3-8b", "llama", 128256, 32, 4096, 14336, 32, 8, 128, 5e5, 1e-5f, false, false, 8192},
    {"llama2-7b", "llama", 32000, 32, 4096, 11008, 32, 32, 128, 1e4, 1e-5f, false, false, 4096},
    {"smollm2-135m", "llama", 49152, 30, 576, 1536, 9, 3, 64, 1e5, 1e-5f, true, false, 8192},
    {"tiny", "qwen3", 256, 4, 64, 192, 2, 1, 64, 1e4, 1e-6f, true, true, 2048},
};
enum { N_SHAPES = sizeof SHAPES / sizeof SHAPES[0] };

void bench_shape_names(struct buf *out)
{
    for (int i = 0; i < N_SHAPES; i++)
        buf_printf(out, "%s%s", i > 0 ? ", " : "", SHAPES[i].name);
}

void bench_shape_config(const struct facts *f, struct buf *out)
{
    buf_printf(
        out,
        "{\n"
        "  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n  \"torch_dtype\": \"bfloat16\",\n"
        "  \"vocab_size\": %d,\n  \"num_hidden_layers\": %d,\n  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n"
        "  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n"
        "  \"rope_theta\": %.1f,\n  \"rms_norm_eps\": %g,\n  \"tie_word_embeddings\": %s,\n  \"max_position_embeddings\": %lld\n"
        "}\n",
        f->qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM", f->arch, f->v, f->l, f->d, f->f, f->h, f->k, f->q, f->rope.theta,
        (double)f->norm_eps, f->tied ? "true" : "false", (long long)f->context);
}

int bench_shape(const char *name, struct facts *out, struct err *e)
{
    const char *known[N_SHAPES];
    for (int i = 0; i < N_SHAPES; i++) {
        known[i] = SHAPES[i].name;
        if (strcmp(name, SHAPES[i].name) != 0)
            continue;
        *out = (struct facts){.l = SHAPES[i].l,
                              .d = SHAPES[i].d,
                              .f = SHAPES[i].f,
                              .h = SHAPES[i].h,
                              .k = SHAPES[i].k,
                              .q = SHAPES[i].q,
                              .v = SHAPES[i].v,
                              .norm_eps = SHAPES[i].eps,
                              .qk_norm = SHAPES[i].qk_norm,
                              .tied = SHAPES[i].tied,
                              .context = SHAPES[i].context,
                              .bos = -1};
        out->rope.kind = ROPE_DEFAULT;
        out->rope.theta = SHAPES[i].theta;
        snprintf(out->arch, sizeof out->arch, "%s", SHAPES[i].arch);
        return 0;
    }
    const char *near = nearest_word(name, known, N_SHAPES);
    struct buf list = {0};
    bench_shape_names(&list);
    err_set(e, ERR_USAGE, "--shape %.60s: unknown, expected one of %s%s%s%s", name, list.n > 0 ? list.data : "the table's",
            near ? ". Did you mean " : "", near ? near : "", near ? "?" : "");
    buf_free(&list);
    return -1;
}
