/* test_golden.c MODEL - M3, M7: logits, loss, every LoRA gradient and ten AdamW steps against PyTorch and PEFT in float64, in f32 (1e-5) and
 * in bf16 (at most 1.5 times the error that PyTorch in bfloat16 has). All recompute policies give the same gradient bits. */
#include "tests/model/golden.h"

static const char *precision;

static void expect(const struct golden *g, const char *what, double error, double limit)
{
    if (!(error <= limit)) {
        fprintf(stderr, "%s %s: %s: error %.3g, expected at most %.3g\n", g->dir, precision, what, error, limit);
        check_failures++;
    }
}

/* f32: the fixed bound. bf16: 1.5 times PyTorch's own, which the golden file names. */
static double bound(const struct golden *g, const char *group, const char *name)
{
    if (g->o->act == DT_F32)
        return 1e-5;
    const struct json *j = json_get(json_get(json_get(g->json, "error"), "bf16"), group);
    double v = NAN;
    json_f64(name != NULL ? json_get(j, name) : j, &v);
    return 1.5 * v;
}

static void check_logits(struct golden *g, const char *name)
{
    struct err e = {0};
    int64_t count;
    int32_t rows[64], n = g->b.spans[0].q_len;
    float *want = golden_tensor(g, name, &count), *got = malloc((size_t)count * sizeof *got);
    for (int32_t i = 0; i < n; i++)
        rows[i] = i;
    CHECK_OK(model_logits(&g->m, &g->b, rows, n, got, &e), &e);
    expect(g, name, golden_error(got, want, count), bound(g, "logits", NULL));
    free(want);
    free(got);
}

static void each_matrix(struct golden *g, const char *prefix, const float *block)
{
    for (int32_t i = 0; i < g->lora.n_modules; i++)
        for (const char *which = "AB"; *which; which++) {
            char name[128], key[160];
            int64_t n, want_n;
            lora_tensor_name(&g->lora.modules[i], *which, name);
            snprintf(key, sizeof key, "%s.%s", prefix, name);
            float *got = golden_matrix(g, &g->lora.modules[i], *which, block, &n), *want = golden_tensor(g, key, &want_n);
            CHECK_INT(n, want_n);
            expect(g, key, golden_error(got, want, n), bound(g, "grad", name));
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

static void check_steps(struct golden *g)
{
    struct err e = {0};
    struct optim_result r;
    const struct json *steps = json_get(g->json, "steps");
    double slack = g->o->act == DT_F32 ? 1e-5 : 0.02; /* bf16: the path through ten steps, a sanity bound; gradients carry the strict one */
    for (size_t s = 0; s < json_length(steps); s++) {
        float *grads = gradient(g, &r, g->c.train.learning_rate, (int64_t)s);
        double loss = golden_number(json_at(steps, s), "loss"), norm = golden_number(json_at(steps, s), "grad_norm");
        expect(g, "loss of a step", fabs(r.loss - loss) / loss, slack);
        expect(g, "gradient norm of a step", fabs(r.norm - norm) / norm, slack * 5);
        if (s == 0) {
            expect(g, "loss", fabs(r.loss - golden_number(g->json, "loss")) / loss, bound(g, "loss", NULL) > 1e-6 ? bound(g, "loss", NULL) : 1e-6);
            each_matrix(g, "grad", grads);
        }
        free(grads);
    }
    if (g->o->act != DT_F32)
        return;
    float *params = malloc((size_t)g->lora.count * sizeof *params);
    CHECK_OK(g->o->download(g->o, params, g->m.t.params, (size_t)g->lora.count * sizeof *params, &e), &e);
    each_matrix(g, "final", params);
    free(params);
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

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (enum dtype act = DT_F32; act <= DT_BF16; act++) {
        struct golden g;
        precision = dtype_name(act);
        golden_open(&g, argv[1], act, RECOMPUTE_NONE);
        check_logits(&g, "logits");
        check_steps(&g);
        check_base(&g);
        golden_close(&g);
        check_policies(argv[1], act);
    }
    return check_done();
}
