/* facts.h - a decoder described by facts, not by family code. Legend as in ops.h: D F H K Q V, L layers. */
#ifndef LORAT_FACTS_H
#define LORAT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/gguf.h"
#include "trainer/base/err.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_FACTORS };
struct facts {
    char arch[32];          /* "llama", "mistral", "qwen2", "qwen3" */
    int32_t l, d, f, h, k, q, v;
    float norm_eps;
    bool qkv_bias, qk_norm, tied;
    struct {
        enum rope_kind kind;
        double theta, factor, low_freq_factor, high_freq_factor;
        int64_t original_context;
        float *factors;     /* ROPE_FACTORS: (Q/2) divisors of the frequencies from GGUF's rope_freqs; owned, else NULL */
    } rope;
    int64_t context;        /* positions the model was made for */
    int32_t bos;            /* -1 = none */
    int32_t eos[8];         /* every end token the model names (config.json, generation_config.json, GGUF) */
    int n_eos;
};
void facts_free(struct facts *f);
/* Pure: config.json (and generation_config.json, may be NULL). Refuses by name what lorat does not do: other architectures, other
 * activations, attention or MLP bias, sliding windows that are shorter than the context, mixture of experts, quantization, unknown rope types. */
int facts_from_hf(const char *config, size_t n, const char *generation, size_t n_generation, const char *where, struct facts *out,
                  struct err *e);
int facts_from_gguf(const struct gguf *g, const struct tensor_list *tensors, const char *where, struct facts *out, struct err *e);
/* inverse frequencies (Q/2) with the scaling applied; llama3: Meta's reference formula, as transformers' _compute_llama3_parameters. */
void facts_inv_freq(const struct facts *f, double *inv_freq);
/* Parameters of the block linears, of the head, of all. */
int64_t facts_n_blocks(const struct facts *f), facts_n_head(const struct facts *f), facts_n_total(const struct facts *f);

#endif
