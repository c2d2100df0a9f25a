#include "trainer/facts.h"

#include <math.h>

#include "trainer/base/mem.h"
#include "trainer/facts_internal.h"

void facts_free(struct facts *f)
{
    mem_free(f->rope.factors);
    f->rope.factors = NULL;
}

int facts_add_eos(struct facts *f, int64_t id, const char *where, struct err *e)
{
    int max = (int)(sizeof f->eos / sizeof f->eos[0]);
    if (id < 0 || id >= f->v)
        FAIL(e, ERR_MODEL, "%s: end token %lld, expected one of the vocabulary's %d tokens", where, (long long)id, f->v);
    for (int i = 0; i < f->n_eos; i++)
        if (f->eos[i] == id)
            return 0;
    if (f->n_eos == max)
        FAIL(e, ERR_MODEL, "%s: more than %d end tokens, expected at most %d", where, max, max);
    f->eos[f->n_eos++] = (int32_t)id;
    return 0;
}

static int check_rope(const struct facts *f, const char *where, struct err *e)
{
    if (!(f->rope.theta > 0) || !isfinite(f->rope.theta))
        FAIL(e, ERR_MODEL, "%s: the rotary base is %g, expected a positive number", where, f->rope.theta);
    if ((f->rope.kind == ROPE_LINEAR || f->rope.kind == ROPE_LLAMA3) && (!(f->rope.factor >= 1) || !isfinite(f->rope.factor)))
        FAIL(e, ERR_MODEL, "%s: the rotary scaling factor is %g, expected at least 1", where, f->rope.factor);
    if (f->rope.kind == ROPE_LLAMA3) {
        if (!(f->rope.low_freq_factor > 0) || !(f->rope.high_freq_factor > f->rope.low_freq_factor) ||
            !isfinite(f->rope.high_freq_factor))
            FAIL(e, ERR_MODEL, "%s: low_freq_factor %g and high_freq_factor %g, expected 0 < low < high", where,
                 f->rope.low_freq_factor, f->rope.high_freq_factor);
        if (f->rope.original_context < 1)
            FAIL(e, ERR_MODEL, "%s: original_max_position_embeddings is %lld, expected at least 1", where,
                 (long long)f->rope.original_context);
    }
    if (f->rope.kind == ROPE_FACTORS)
        for (int32_t i = 0; i < f->q / 2; i++)
            if (!(f->rope.factors[i] > 0) || !isfinite(f->rope.factors[i]))
                FAIL(e, ERR_MODEL, "%s: rotary factor %d is %g, expected a positive number", where, i,
                     (double)f->rope.factors[i]);
    return 0;
}

int facts_check(const struct facts *f, const char *where, struct err *e)
{
    if (f->h % f->k != 0)
        FAIL(e, ERR_MODEL, "%s: %d attention heads over %d key/value heads, expected a multiple", where, f->h, f->k);
    if (f->q % 8 != 0 || f->q > 256)
        FAIL(e, ERR_MODEL, "%s: the head size is %d, expected a multiple of 8 up to 256", where, f->q);
    if (!(f->norm_eps > 0) || !(f->norm_eps < 1))
        FAIL(e, ERR_MODEL, "%s: the norm's epsilon is %g, expected a number between 0 and 1", where, (double)f->norm_eps);
    return check_rope(f, where, e);
}

void facts_inv_freq(const struct facts *f, double *inv_freq)
{
    double old = (double)f->rope.original_context;
    for (int32_t i = 0; i < f->q / 2; i++) {
        double freq = pow(f->rope.theta, -2.0 * i / f->q);
        switch (f->rope.kind) {
        case ROPE_DEFAULT:
            break;
        case ROPE_LINEAR:
            freq /= f->rope.factor;
            break;
        case ROPE_FACTORS:
            freq /= (double)f->rope.factors[i];
            break;
        case ROPE_LLAMA3: {
            /* Long waves are stretched by `factor`, short ones kept, those between are blended. */
            double wave = 2 * M_PI / freq;
            double blend = (old / wave - f->rope.low_freq_factor) / (f->rope.high_freq_factor - f->rope.low_freq_factor);
            blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
            freq = (1 - blend) * freq / f->rope.factor + blend * freq;
            break;
        }
        }
        inv_freq[i] = freq;
    }
}

int64_t facts_n_blocks(const struct facts *f)
{
    int64_t d = f->d, hq = (int64_t)f->h * f->q, kq = (int64_t)f->k * f->q;
    return f->l * (2 * d * hq + 2 * d * kq + 3 * d * f->f);
}

int64_t facts_n_head(const struct facts *f) { return (int64_t)f->v * f->d; }

int64_t facts_n_total(const struct facts *f)
{
    int64_t per_layer = 2 * (int64_t)f->d;
    if (f->qkv_bias)
        per_layer += ((int64_t)f->h + 2 * f->k) * f->q;
    if (f->qk_norm)
        per_layer += 2 * (int64_t)f->q;
    return facts_n_blocks(f) + facts_n_head(f) * (f->tied ? 1 : 2) + f->l * per_layer + f->d;
}
