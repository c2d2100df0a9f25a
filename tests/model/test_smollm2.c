/* test_smollm2.c [--device cuda] - M3: SmolLM2-135M-Instruct from its GGUF file, with the adapter of a formula: logits, loss and every matrix's
 * first gradient against transformers and PEFT in float64 (tests/golden/make_smollm2.py). f32: at most 1e-5, or twice the error
 * that PyTorch has in float32 where that is more; bf16: at most 1.5 times the error that PyTorch has in bfloat16. Prints the
 * measured errors, PyTorch's own in brackets. */
#include "tests/model/golden.h"

#define GGUF "models/SmolLM2-135M-Instruct.Q4_1.gguf"
enum { TOP = 16, SAMPLES = 8 };

static void expect(const struct golden *g, const char *what, double error)
{
    const char *precision = dtype_name(g->o->act);
    double theirs = golden_number(json_get(json_get(g->json, "error"), precision), what);
    printf("%s %s %.2e (%.2e)\n", precision, what, error, theirs);
    double limit = g->o->act == DT_F32 ? fmax(1e-5, 2 * theirs) : 1.5 * theirs;
    if (!(error <= limit)) {
        fprintf(stderr, "%s: %s: error %.3g, expected at most %.3g\n", precision, what, error, limit);
        check_failures++;
    }
}

/* The adapter of make_smollm2.py: computed in double, rounded to float. */
static void formula(struct golden *g)
{
    struct err e = {0};
    for (int32_t i = 0; i < g->lora.n_modules; i++) {
        const struct lora_module *m = &g->lora.modules[i];
        int32_t t = 7 * m->layer + (int32_t)m->kind, r = g->lora.rank;
        for (int64_t j = 0; j < (int64_t)r * m->in; j++)
            g->params[m->a + j] = (float)(sin(1 + t + 0.731 * (double)j) / sqrt(m->in));
        for (int64_t j = 0; j < (int64_t)m->out * r; j++)
            g->params[m->b + j / r * g->lora.padded + j % r] = (float)(0.01 * sin(2 + t + 0.577 * (double)j));
    }
    CHECK_OK(model_set_params(&g->m, g->params, &e), &e);
}

/* The stored ids have the stored values, and no other logit of the position is larger than the least of them by more than the
 * error. */
static void check_logits(struct golden *g)
{
    struct err e = {0};
    const struct json *positions = json_get(g->json, "positions"), *ids = json_get(g->json, "logits_ids");
    int32_t rows[64], n = (int32_t)json_length(positions), v = g->source.facts.v;
    int64_t count;
    float *top = golden_tensor(g, "logits_top", &count), *norms = golden_tensor(g, "logits_norm", &count);
    float *logits = malloc((size_t)n * (size_t)v * sizeof *logits);
    double scale = 0, worst = 0, norm_error = 0, above = 0;
    for (int32_t i = 0; i < n; i++) {
        int64_t at = -1;
        json_i64(json_at(positions, (size_t)i), &at);
        rows[i] = (int32_t)at;
    }
    CHECK_OK(model_logits(&g->m, &g->b, rows, n, logits, &e), &e);
    for (int32_t i = 0; i < n; i++) {
        const float *row = logits + (int64_t)i * v, *want = top + i * TOP;
        bool listed[1 << 17] = {false};
        double squares = 0;
        for (int j = 0; j < TOP; j++) {
            int64_t id = -1;
            CHECK(json_i64(json_at(json_at(ids, (size_t)i), (size_t)j), &id) && id >= 0 && id < v);
            listed[id] = true;
            double d = fabs((double)row[id] - want[j]);
            worst = d > worst || isnan(d) ? d : worst;
            scale = fabs(want[j]) > scale ? fabs(want[j]) : scale;
        }
        for (int32_t j = 0; j < v; j++) {
            squares += (double)row[j] * row[j];
            if (!listed[j] && row[j] - want[TOP - 1] > above)
                above = row[j] - want[TOP - 1];
        }
        double d = fabs(sqrt(squares) / norms[i] - 1);
        norm_error = d > norm_error || isnan(d) ? d : norm_error;
    }
    expect(g, "logits_top", worst / scale);
    expect(g, "logits_norm", norm_error);
    CHECK(above <= 2 * worst);
    free(top);
    free(norms);
    free(logits);
}

/* All gradients of one step, summed over the targets, and the loss. */
static float *gradients(struct golden *g)
{
    struct err e = {0};
    size_t count = (size_t)g->lora.count + TAIL_COUNT;
    float *grads = malloc(count * sizeof *grads);
    model_zero_grads(&g->m);
    CHECK_OK(model_accumulate(&g->m, &g->b, 0, &e), &e);
    CHECK_OK(g->o->download(g->o, grads, g->m.t.grads, count * sizeof *grads, &e), &e);
    const float *tail = grads + g->lora.count;
    double want = golden_number(g->json, "loss");
    CHECK(tail[TAIL_WEIGHT] == (float)g->b.weight_sum);
    expect(g, "loss", fabs((double)tail[TAIL_LOSS] / tail[TAIL_WEIGHT] - want) / want);
    return grads;
}

static void check_gradients(struct golden *g)
{
    int64_t n_norms, n_samples;
    float *norms = golden_tensor(g, "grad_norm", &n_norms), *samples = golden_tensor(g, "grad_sample", &n_samples),
          *grads = gradients(g);
    double norm_squares = 0, sample_squares = 0;
    CHECK_INT(n_norms, 2 * g->lora.n_modules);
    CHECK_INT(n_samples, n_norms * SAMPLES);
    for (int32_t i = 0; i < g->lora.n_modules; i++)
        for (int k = 0; k < 2; k++) {
            const struct lora_module *m = &g->lora.modules[i];
            int64_t count, at = (m->layer * 7 + (int64_t)m->kind) * 2 + k;
            float *v = golden_matrix(g, m, "AB"[k], grads, &count);
            double squares = 0, size = norms[at] / sqrt((double)count);
            for (int64_t j = 0; j < count; j++)
                squares += (double)v[j] * v[j];
            double d = sqrt(squares) / g->b.weight_sum / norms[at] - 1;
            norm_squares += d * d;
            for (int s = 0; s < SAMPLES; s++) {
                double ds = (v[s * count / SAMPLES + s] / g->b.weight_sum - samples[at * SAMPLES + s]) / size;
                sample_squares += ds * ds;
            }
            free(v);
        }
    expect(g, "grad_norm", sqrt(norm_squares / (double)n_norms));
    expect(g, "grad_sample", sqrt(sample_squares / (double)n_samples));
    free(norms);
    free(samples);
    free(grads);
}

int main(int argc, char **argv)
{
    golden_cuda = argc == 3 && strcmp(argv[1], "--device") == 0 && strcmp(argv[2], "cuda") == 0;
    if (argc != 1 && !golden_cuda)
        return 2;
    if (golden_cuda && !plugin_card_present())
        CHECK_SKIP("no NVIDIA card");
    if (!io_exists(GGUF)) {
        printf("skipped: there is no " GGUF "\n");
        return 77;
    }
    for (enum dtype act = DT_F32; act <= DT_BF16; act++) {
        struct golden g;
        golden_files(&g, "smollm2");
        golden_model(&g, GGUF, act, RECOMPUTE_FULL);
        formula(&g);
        check_logits(&g);
        check_gradients(&g);
        golden_close(&g);
    }
    return check_done();
}
