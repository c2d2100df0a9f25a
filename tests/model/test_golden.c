/* test_golden.c MODEL [--device cpu|cuda] - M3, M7: logits, loss, every LoRA gradient and ten AdamW steps against PyTorch and PEFT in float64. f32:
 * max|d| / max|ref| at most 1e-5. bf16: at most 1.5 times the error that PyTorch in bfloat16 has (make_golden.py says which;
 * gradients in the Euclidean norm, and the largest of all in the maximum norm), and no more than PyTorch's over all gradients
 * together. All recompute policies give the same gradient bits. Prints the measured errors, PyTorch's own in brackets. */
#include "tests/model/golden.h"

enum { BATCHES = 3 };

static const char *precision;

/* What was measured: the largest errors, and the squares of the gradients' relative errors. */
static struct {
    double logits, loss, grad, grad_max, final, squares;
    int n_squares;
} seen;

static void expect(const struct golden *g, const char *what, double error, double limit)
{
    if (!(error <= limit)) {
        fprintf(stderr, "%s %s: %s: error %.3g, expected at most %.3g\n", g->dir, precision, what, error, limit);
        check_failures++;
    }
}

static void largest(double *of, double value) { *of = value > *of || isnan(value) ? value : *of; }

/* PyTorch's own error in the precision at hand. */
static double theirs(const struct golden *g, const char *group, const char *name)
{
    const struct json *j = json_get(json_get(json_get(g->json, "error"), precision), group);
    double v = NAN;
    json_f64(name != NULL ? json_get(j, name) : j, &v);
    return v;
}

static double bound(const struct golden *g, const char *group, const char *name)
{
    return g->o->act == DT_F32 ? 1e-5 : 1.5 * theirs(g, group, name);
}

static void check_logits(struct golden *g, const char *name)
{
    struct err e = {0};
    int64_t count;
    const struct json *at = json_get(g->json, "logit_rows");
    int32_t rows[64], n = (int32_t)json_length(at);
    float *want = golden_tensor(g, name, &count), *got = malloc((size_t)count * sizeof *got);
    CHECK(n > 0 && n <= 64);
    CHECK_INT(count, (int64_t)n * g->source.facts.v);
    for (int32_t i = 0; i < n; i++) {
        int64_t row = -1;
        json_i64(json_at(at, (size_t)i), &row);
        rows[i] = (int32_t)row;
    }
    CHECK_OK(model_logits(&g->m, &g->b, rows, n, got, &e), &e);
    double error = golden_error(got, want, count);
    expect(g, name, error, bound(g, "logits", NULL));
    largest(&seen.logits, error);
    free(want);
    free(got);
}

/* (|got - want| / |want|)^2, Euclidean. */
static double relative_square(const float *got, const float *want, int64_t n)
{
    double d = 0, w = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        w += (double)want[i] * want[i];
    }
    return d / w;
}

static void each_matrix(struct golden *g, const char *prefix, bool gradients, const float *block)
{
    for (int32_t i = 0; i < g->lora.n_modules; i++)
        for (const char *which = "AB"; *which; which++) {
            char name[128], key[160];
            int64_t n, want_n;
            lora_tensor_name(&g->lora.modules[i], *which, name);
            snprintf(key, sizeof key, "%s.%s", prefix, name);
            float *got = golden_matrix(g, &g->lora.modules[i], *which, block, &n), *want = golden_tensor(g, key, &want_n);
            CHECK_INT(n, want_n);
            double error = golden_error(got, want, n), square = relative_square(got, want, n);
            if (g->o->act == DT_F32)
                expect(g, key, error, 1e-5);
            else
                expect(g, key, sqrt(square), bound(g, "grad", name));
            largest(gradients ? &seen.grad_max : &seen.final, error);
            if (gradients) {
                largest(&seen.grad, sqrt(square));
                seen.squares += square;
                seen.n_squares++;
            }
            free(got);
            free(want);
        }
}

static float *gradient(struct golden *g, struct optim_result *r, double rate, int64_t updates)
{
    struct err e = {0};
    struct comm comm;
    size_t bytes = (size_t)g->lora.count * sizeof(float);
    float *grads = malloc(bytes);
    comm_solo(&comm);
    model_zero_grads(&g->m);
    CHECK_OK(model_accumulate(&g->m, &g->b, updates, &e), &e);
    CHECK_OK(g->o->download(g->o, grads, g->m.t.grads, bytes, &e), &e);
    CHECK_OK(optim_step(&g->m, &comm, &g->c, rate, updates, r, &e), &e);
    for (int64_t i = 0; i < g->lora.count; i++)
        grads[i] /= (float)r->weight;
    return grads;
}

static void check_loss(struct golden *g, double got, double want)
{
    double error = fabs(got - want) / want;
    expect(g, "loss", error, g->o->act == DT_F32 ? 1e-6 : bound(g, "loss", NULL));
    largest(&seen.loss, error);
}

static void check_steps(struct golden *g)
{
    struct err e = {0};
    struct optim_result r;
    const struct json *steps = json_get(g->json, "steps");
    double slack =
        g->o->act == DT_F32 ? 1e-5 : 0.02; /* bf16: the path through ten steps, a sanity bound; gradients carry the strict one */
    for (size_t s = 0; s < json_length(steps); s++) {
        float *grads = gradient(g, &r, g->c.train.learning_rate, (int64_t)s);
        double loss = golden_number(json_at(steps, s), "loss"), norm = golden_number(json_at(steps, s), "grad_norm");
        expect(g, "loss of a step", fabs(r.loss - loss) / loss, slack);
        expect(g, "gradient norm of a step", fabs(r.norm - norm) / norm, slack * 5);
        if (s == 0) {
            check_loss(g, r.loss, golden_number(g->json, "loss"));
            each_matrix(g, "grad", true, grads);
        }
        free(grads);
    }
    if (g->o->act != DT_F32)
        return;
    float *params = malloc((size_t)g->lora.count * sizeof *params);
    CHECK_OK(g->o->download(g->o, params, g->m.t.params, (size_t)g->lora.count * sizeof *params, &e), &e);
    each_matrix(g, "final", false, params);
    free(params);
}

/* The golden file's two more batches, with the adapter as it was before the ten steps. */
static void check_more(struct golden *g)
{
    struct err e = {0};
    struct optim_result r;
    const struct json *batches = json_get(g->json, "batches");
    CHECK_INT((int64_t)json_length(batches), BATCHES - 1);
    CHECK_OK(model_set_params(&g->m, g->params, &e), &e);
    for (size_t i = 0; i < json_length(batches); i++) {
        char name[64];
        golden_batch(g, json_at(batches, i));
        snprintf(name, sizeof name, "batch%zu.logits", i + 1);
        check_logits(g, name);
        float *grads = gradient(g, &r, 0, 0);
        check_loss(g, r.loss, golden_number(json_at(batches, i), "loss"));
        snprintf(name, sizeof name, "batch%zu.grad", i + 1);
        each_matrix(g, name, true, grads);
        free(grads);
    }
    golden_batch(g, g->json);
}

/* M7: with B = 0 the adapted model is the base. */
static void check_base(struct golden *g)
{
    struct err e = {0};
    float *params = calloc((size_t)g->lora.count, sizeof *params);
    lora_init(&g->lora, params);
    CHECK_OK(model_set_params(&g->m, params, &e), &e);
    check_logits(g, "logits_base");
    free(params);
}

static void check_policies(const char *name, enum dtype act)
{
    float *first = NULL;
    for (enum cfg_recompute policy = RECOMPUTE_NONE; policy <= RECOMPUTE_FULL; policy++) {
        struct golden g;
        struct optim_result r;
        golden_open(&g, name, act, policy);
        float *grads = gradient(&g, &r, 0, 0);
        if (first == NULL)
            first = grads;
        else {
            CHECK(memcmp(first, grads, (size_t)g.lora.count * sizeof *grads) == 0);
            free(grads);
        }
        golden_close(&g);
    }
    free(first);
}

static double most(const struct golden *g, const char *group)
{
    double worst = 0;
    for (int32_t i = 0; i < g->lora.n_modules; i++)
        for (const char *which = "AB"; *which; which++) {
            char name[128];
            lora_tensor_name(&g->lora.modules[i], *which, name);
            largest(&worst, theirs(g, group, name));
        }
    return worst;
}

static void report(const struct golden *g)
{
    double l2 = sqrt(seen.squares / seen.n_squares);
    CHECK_INT(seen.n_squares, BATCHES * 2 * g->lora.n_modules);
    if (g->o->act != DT_F32) {
        expect(g, "gradients, root mean square", l2, theirs(g, "grad_l2", NULL));
        expect(g, "largest error of a gradient", seen.grad_max, bound(g, "grad_max", NULL));
    }
    printf("%s %s: logits %.1e (%.1e), loss %.1e (%.1e), worst gradient %.1e (%.1e), in the maximum norm %.1e (%.1e), gradients "
           "together %.2e (%.2e)",
           g->dir, precision, seen.logits, theirs(g, "logits", NULL), seen.loss, theirs(g, "loss", NULL), seen.grad,
           most(g, "grad"), seen.grad_max, theirs(g, "grad_max", NULL), l2, theirs(g, "grad_l2", NULL));
    if (g->o->act == DT_F32)
        printf(", after ten steps %.1e (%.1e)", seen.final, most(g, "final"));
    printf("\n");
    memset(&seen, 0, sizeof seen);
}

int main(int argc, char **argv)
{
    if (argc != 2 && (argc != 4 || strcmp(argv[2], "--device") != 0))
        return 2;
    golden_cuda = argc == 4 && strcmp(argv[3], "cuda") == 0;
    if (golden_cuda && !plugin_card_present())
        CHECK_SKIP("no NVIDIA card");
    for (enum dtype act = DT_F32; act <= DT_BF16; act++) {
        struct golden g;
        precision = dtype_name(act);
        golden_open(&g, argv[1], act, RECOMPUTE_NONE);
        check_logits(&g, "logits");
        check_steps(&g);
        check_more(&g);
        check_base(&g);
        report(&g);
        golden_close(&g);
        check_policies(argv[1], act);
    }
    return check_done();
}
