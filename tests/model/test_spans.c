/* test_spans.c - the spans that a model gives to attention are those that ops.h asks for: 1 <= q_len <= k_len, no query in two of
 * them or in none, max_span the longest. So no query is without a key. Documents with dead tokens behind them, and generation
 * with more prompts than fit side by side, whose tokens take several passes. (The spans of the loader: test_loader.c.) */
#include "tests/model/golden.h"
#include "trainer/generate.h"

static struct ops real; /* the backend's own entries */
static struct {
    int64_t calls, longer; /* longer: spans of more keys than queries */
    int32_t most_spans;
} seen;

static void look(const struct attention *a)
{
    char *taken = calloc((size_t)a->n, 1);
    int32_t longest = 0, covered = 0;
    for (int32_t i = 0; i < a->n_spans; i++) {
        const struct span *s = &a->spans[i];
        CHECK(s->q_len >= 1 && s->q_len <= s->k_len && s->q0 >= 0 && s->q0 + s->q_len <= a->n && s->k0 >= 0);
        if (check_failures > 0)
            break;
        for (int32_t j = s->q0; j < s->q0 + s->q_len; j++)
            covered += !taken[j]++;
        CHECK(!a->square || s->q_len == s->k_len);
        longest = s->k_len > longest ? s->k_len : longest;
        seen.longer += s->k_len > s->q_len;
    }
    CHECK_INT(covered, a->n);
    for (int32_t i = 0; i < a->n; i++)
        CHECK_INT(taken[i], 1);
    CHECK(a->max_span >= longest);
    seen.calls++;
    seen.most_spans = a->n_spans > seen.most_spans ? a->n_spans : seen.most_spans;
    free(taken);
}
static void forward(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k, const void *v)
{
    look(a);
    real.attention_forward(o, a, out, lse, q, k, v);
}
static void backward(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout, const void *out,
                     const float *lse, const void *q, const void *k, const void *v, float *delta)
{
    look(a);
    CHECK(a->square);
    real.attention_backward(o, a, dq, dk, dv, dout, out, lse, q, k, v, delta);
}

static void train(struct golden *g)
{
    struct err e = {0};
    int32_t row = g->b.n_real - 1;
    float *logits = malloc((size_t)g->source.facts.v * sizeof *logits);
    CHECK(g->b.n > g->b.n_real);
    model_zero_grads(&g->m);
    CHECK_OK(model_accumulate(&g->m, &g->b, 0, &e), &e);
    CHECK_OK(model_logits(&g->m, &g->b, &row, 1, logits, &e), &e);
    CHECK_INT(seen.calls, (int64_t)g->source.facts.l * 3);
    CHECK_INT(seen.most_spans, g->b.n_spans);
    CHECK_INT(seen.longer, 0);
    free(logits);
}

static void answer(struct golden *g)
{
    enum { PROMPTS = GENERATE_SLOTS + 3, MOST = 10 };
    static const int32_t lengths[] = {1, 130, 2, 64, 65, 3};
    struct prompt prompts[PROMPTS] = {0};
    int32_t answers[PROMPTS][MOST];
    struct err e = {0};
    for (int i = 0; i < PROMPTS; i++)
        prompts[i] = (struct prompt){.tokens = g->b.tokens, .n = lengths[i % 6], .answer = answers[i]};
    memset(&seen, 0, sizeof seen);
    CHECK_OK(generate(&g->m, prompts, PROMPTS, &(struct generate_options){.max_new = MOST}, &e), &e);
    for (int i = 0; i < PROMPTS; i++)
        CHECK(prompts[i].n_answer == MOST || prompts[i].ended);
    CHECK(seen.most_spans > 1 && seen.longer > 0);
}

int main(void)
{
    struct golden g;
    golden_open(&g, "tiny-qwen3-q128", DT_F32, RECOMPUTE_NONE);
    real = *g.o;
    g.o->attention_forward = forward;
    g.o->attention_backward = backward;
    train(&g);
    answer(&g);
    golden_close(&g);
    return check_done();
}
