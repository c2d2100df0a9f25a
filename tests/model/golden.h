/* golden.h - shared by the tests that hold lorat against values from PyTorch (tests/golden/make_golden.py). */
#ifndef LORAT_TEST_GOLDEN_H
#define LORAT_TEST_GOLDEN_H

#include "checkpoints/adapter.h"
#include "checkpoints/safetensors.h"
#include "kernels/plugin.h"
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/model.h"
#include "trainer/optim.h"
#include "trainer/source.h"
#include "trainer/state.h"

enum { GOLDEN_THREADS = 1 }; /* the tensors are tiny: a second thread would only wait */

struct golden {
    char dir[128];
    struct json *json;
    struct tensor_list tensors; /* expected.safetensors */
    struct config c;
    struct source source;
    struct lora lora;
    struct ops *o;
    struct model m;
    float *params; /* the adapter of the golden model */
    struct batch b;
};

/* tests/golden/<name> with its adapter loaded; exits when it cannot be opened. */
static inline void golden_open(struct golden *g, const char *name, enum dtype act, enum cfg_recompute recompute);
static inline void golden_close(struct golden *g);

static inline double golden_number(const struct json *j, const char *key)
{
    double v = NAN;
    json_f64(json_get(j, key), &v);
    return v;
}
/* The expected tensor as F32; malloc'ed. */
static inline float *golden_tensor(const struct golden *g, const char *name, int64_t *count)
{
    struct err e = {0};
    const struct tensor *t = tensor_find(&g->tensors, name);
    if (t == NULL) {
        fprintf(stderr, "%s: no tensor %s\n", g->dir, name);
        exit(1);
    }
    int64_t rows = t->rank > 0 ? t->shape[0] : 1;
    float *v = malloc((size_t)tensor_count(t) * sizeof *v);
    CHECK_OK(tensor_read(&g->tensors, t, 0, rows, DT_F32, v, &e), &e);
    *count = tensor_count(t);
    return v;
}
/* max|got - want| / max|want| over n values; NaN when anything is. */
static inline double golden_error(const float *got, const float *want, int64_t n)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= worst))
            worst = d;
        if (fabs(want[i]) > scale)
            scale = fabs(want[i]);
        if (isnan(worst))
            return NAN;
    }
    return worst / scale;
}
/* A parameter or gradient matrix without its padding; malloc'ed (A: rank x in, B: out x rank). */
static inline float *golden_matrix(const struct golden *g, const struct lora_module *m, char which, const float *block,
                                   int64_t *count)
{
    int32_t r = g->lora.rank, p = g->lora.padded;
    int64_t rows = which == 'A' ? r : m->out, cols = which == 'A' ? m->in : r, ld = which == 'A' ? m->in : p;
    const float *from = block + (which == 'A' ? m->a : m->b);
    float *v = malloc((size_t)(rows * cols) * sizeof *v);
    for (int64_t i = 0; i < rows; i++)
        memcpy(v + i * cols, from + i * ld, (size_t)cols * sizeof *v);
    *count = rows * cols;
    return v;
}
static inline void golden_die(struct err *e)
{
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}
static inline void golden_batch_free(struct golden *g)
{
    free(g->b.tokens);
    free(g->b.targets);
    free(g->b.weights);
    free(g->b.positions);
    free(g->b.keys);
    free(g->b.spans);
}
/* g->b = the tokens and weights of `from` (the file's root, or one of its "batches"). */
static inline void golden_batch(struct golden *g, const struct json *from)
{
    const struct json *tokens = json_get(from, "tokens"), *lengths = json_get(g->json, "doc_lengths"),
                      *weights = json_get(from, "weights");
    struct batch *b = &g->b;
    golden_batch_free(g);
    int32_t real = (int32_t)json_length(tokens), n = (real + BATCH_ROUND - 1) / BATCH_ROUND * BATCH_ROUND;
    *b = (struct batch){.n = n, .n_real = real, .n_rows = 1};
    b->tokens = calloc((size_t)n, 4);
    b->targets = calloc((size_t)n, 4);
    b->weights = calloc((size_t)n, 4);
    b->positions = calloc((size_t)n, 4);
    b->keys = calloc((size_t)n, 4);
    b->spans = calloc(json_length(lengths) + 1, sizeof *b->spans);
    int32_t at = 0;
    for (size_t d = 0; d < json_length(lengths); d++) {
        int64_t len;
        json_i64(json_at(lengths, d), &len);
        b->spans[b->n_spans++] = (struct span){at, (int32_t)len, at, (int32_t)len};
        b->max_span = len > b->max_span ? (int32_t)len : b->max_span;
        for (int32_t i = 0; i < len; i++, at++) {
            int64_t id, next = 0;
            double w = 0;
            json_i64(json_at(tokens, (size_t)at), &id);
            if (i + 1 < len) {
                json_i64(json_at(tokens, (size_t)at + 1), &next);
                json_f64(json_at(weights, (size_t)at + 1), &w);
            }
            b->tokens[at] = (int32_t)id;
            b->targets[at] = (int32_t)next;
            b->weights[at] = (float)w;
            b->positions[at] = i;
            b->keys[at] = (uint32_t)at;
            b->weight_sum += w;
        }
    }
    if (n > real) {
        b->spans[b->n_spans++] = (struct span){real, n - real, real, n - real};
        b->max_span = n - real > b->max_span ? n - real : b->max_span;
        for (int32_t i = real; i < n; i++)
            b->positions[i] = i - real;
    }
}
static inline void golden_config(struct golden *g)
{
    const struct json *o = json_get(g->json, "optimizer");
    bool rslora = false;
    int64_t rank = 0;
    json_bool(json_get(g->json, "rslora"), &rslora);
    json_i64(json_get(g->json, "rank"), &rank);
    g->c.lora.rank = (int32_t)rank;
    g->c.lora.alpha = golden_number(g->json, "alpha");
    g->c.lora.targets = 127;
    g->c.lora.scaling = rslora ? SCALING_RSLORA : SCALING_STANDARD;
    g->c.train.schedule = SCHEDULE_CONSTANT;
    g->c.train.learning_rate = golden_number(o, "lr");
    g->c.train.beta1 = golden_number(o, "beta1");
    g->c.train.beta2 = golden_number(o, "beta2");
    g->c.train.epsilon = golden_number(o, "eps");
    g->c.train.weight_decay = golden_number(o, "weight_decay");
    g->c.train.max_grad_norm = golden_number(o, "max_norm");
}
/* The golden files of tests/golden/<name>: g->json, tensors, c and the first batch. */
static inline void golden_files(struct golden *g, const char *name)
{
    struct err e = {0};
    char path[160], *text;
    size_t n;
    *g = (struct golden){0};
    snprintf(g->dir, sizeof g->dir, "tests/golden/%s", name);
    snprintf(path, sizeof path, "%s/expected.json", g->dir);
    if (io_read_file(path, ERR_IO, 1 << 20, &text, &n, &e) != 0 || json_parse(text, n, path, ERR_DATA, &g->json, &e) != 0)
        golden_die(&e);
    free(text);
    snprintf(path, sizeof path, "%s/expected.safetensors", g->dir);
    if (safetensors_open(path, &g->tensors, &e) != 0)
        golden_die(&e);
    golden_config(g);
    golden_batch(g, g->json);
}
/* The backend: the CPU's, or with golden_cuda set that of card 0 through the plug-in that lorat would load. */
static bool golden_cuda;
static struct frozen_place golden_place; /* of the base, for golden_model */
static struct comm *golden_comm;         /* where it is sharded */
static inline int golden_backend(enum dtype act, struct ops **out, struct err *e)
{
    const struct cuda_plugin *plugin;
    if (!golden_cuda)
        return ops_cpu_open(act, GOLDEN_THREADS, out, e);
    TRY(plugin_cuda(&plugin, e));
    return plugin->open(0, act, out, e);
}
/* The base at `path` with room for g->params, which are zero. */
static inline void golden_model(struct golden *g, const char *path, enum dtype act, enum cfg_recompute recompute)
{
    struct err e = {0};
    if (source_open(path, false, &g->source, &e) != 0 || lora_plan(&g->source.facts, &g->c, &g->lora, &e) != 0 ||
        golden_backend(act, &g->o, &e) != 0)
        golden_die(&e);
    struct model_shape shape = {
        .n = g->b.n, .sequence_length = g->b.n, .positions = 256, .head_chunk = 64, .recompute = recompute, .place = golden_place};
    g->params = calloc((size_t)g->lora.count, sizeof *g->params);
    if (model_layout(&g->m, g->o, &g->source.facts, &g->lora, &shape, &e) != 0)
        golden_die(&e);
    g->m.comm = golden_comm;
    if (model_allocate(&g->m, &e) != 0 ||
        model_load(&g->m, &g->source, NULL, NULL, &e) != 0)
        golden_die(&e);
}
static inline void golden_open(struct golden *g, const char *name, enum dtype act, enum cfg_recompute recompute)
{
    struct err e = {0};
    char path[160];
    golden_files(g, name);
    golden_model(g, g->dir, act, recompute);
    snprintf(path, sizeof path, "%s/adapter", g->dir);
    if (state_load_adapter(path, &g->lora, &g->c, g->params, &e) != 0 || model_set_params(&g->m, g->params, &e) != 0)
        golden_die(&e);
}
static inline void golden_close(struct golden *g)
{
    model_close(&g->m);
    g->o->close(g->o);
    lora_free(&g->lora);
    source_close(&g->source);
    tensor_list_close(&g->tensors);
    json_free(g->json);
    free(g->params);
    golden_batch_free(g);
}

#endif
