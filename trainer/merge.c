#include "trainer/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/adapter.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/merge_files.h"
#include "trainer/source.h"

enum { SHARD_BYTES_LOG2 = 32 }; /* 4 GiB a shard */

/* One tensor of the merged model, and the adapter's share of it. */
struct part {
    enum role role;
    int layer;
    char name[96];
    const struct tensor *a, *b; /* NULL: not adapted */
};
struct merge {
    struct source source;
    struct adapter_config config;
    struct tensor_list adapter;
    struct part *parts;
    struct hf_tensor *tensors;
    size_t n, changed, used; /* used: adapter tensors that found their product */
    float *a, *b;            /* (rank, in) of the part at hand; rows of B */
    size_t a_of;             /* which part `a` belongs to; n = none */
    int64_t b_cap;           /* elements of b */
};

static enum tensor_type own_type(const struct source *s)
{
    enum tensor_type t = s->tensors.n > 0 ? s->tensors.tensors[0].type : TT_BF16;
    for (size_t i = 0; i < s->tensors.n; i++)
        if (s->tensors.tensors[i].rank == 2)
            t = s->tensors.tensors[i].type;
    return t == TT_F32 || t == TT_F16 ? t : TT_BF16;
}

static int pick_type(const struct source *s, const char *dtype, enum tensor_type *out, struct err *e)
{
    if (strcmp(dtype, "auto") == 0)
        *out = own_type(s);
    else if (strcmp(dtype, "bf16") == 0)
        *out = TT_BF16;
    else if (strcmp(dtype, "f16") == 0)
        *out = TT_F16;
    else if (strcmp(dtype, "f32") == 0)
        *out = TT_F32;
    else
        FAIL(e, ERR_USAGE, "--dtype %s: unknown, expected auto, bf16, f16 or f32", dtype);
    return 0;
}

/* "model.layers.3.mlp.up_proj.weight" -> the adapter's tensors for it, with their shapes checked. */
static int find_adapter(struct merge *g, struct part *p, const struct hf_tensor *t, struct err *e)
{
    char stem[96], name[160];
    snprintf(stem, sizeof stem, "%s", p->name);
    char *end = strrchr(stem, '.');
    if (t->rank != 2 || end == NULL)
        return 0;
    *end = '\0';
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", stem);
    if (tensor_find(&g->adapter, name) == NULL)
        return 0;
    TRY(tensor_require(&g->adapter, name, 2, (const int64_t[]){g->config.rank, t->shape[1]}, &p->a, e));
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", stem);
    TRY(tensor_require(&g->adapter, name, 2, (const int64_t[]){t->shape[0], g->config.rank}, &p->b, e));
    g->changed++;
    g->used += 2;
    return 0;
}

static int add_part(struct merge *g, enum role role, int layer, enum tensor_type type, struct err *e)
{
    struct part *p = &g->parts[g->n];
    struct hf_tensor *t = &g->tensors[g->n];
    if (!source_has(&g->source, role))
        return 0;
    *p = (struct part){.role = role, .layer = layer};
    source_hf_name(role, layer, p->name);
    *t = (struct hf_tensor){.name = p->name, .type = type};
    source_shape(&g->source.facts, role, t->shape, &t->rank);
    g->n++;
    return find_adapter(g, p, t, e);
}

static int list_parts(struct merge *g, enum tensor_type type, struct err *e)
{
    int32_t layers = g->source.facts.l;
    size_t most = (size_t)ROLE_COUNT * ((size_t)layers + 1);
    g->parts = mem_alloc(most, sizeof *g->parts);
    g->tensors = mem_alloc(most, sizeof *g->tensors);
    if (g->parts == NULL || g->tensors == NULL)
        return mem_fail(e, "the table of tensors", most * sizeof *g->parts);
    TRY(add_part(g, ROLE_EMBED, 0, type, e));
    for (int32_t l = 0; l < layers; l++)
        for (enum role r = ROLE_NORM1; r < ROLE_COUNT; r++)
            TRY(add_part(g, r, l, type, e));
    TRY(add_part(g, ROLE_FINAL_NORM, 0, type, e));
    if (!g->source.facts.tied)
        TRY(add_part(g, ROLE_HEAD, 0, type, e));
    g->a_of = g->n;
    if (g->used != g->adapter.n)
        FAIL(e, ERR_MODEL, "the adapter has %zu tensors, expected the %zu that fit %s. It was made for another model", g->adapter.n, g->used,
             g->source.path);
    return 0;
}

/* A of part i, and rows [row0, row0 + rows) of its B, as F32. */
static int load_low_rank(struct merge *g, size_t i, int64_t row0, int64_t rows, struct err *e)
{
    const struct part *p = &g->parts[i];
    int64_t r = g->config.rank;
    if (g->a_of != i) {
        int64_t n = r * g->tensors[i].shape[1];
        mem_free(g->a);
        g->a = mem_alloc((size_t)n, sizeof *g->a);
        if (g->a == NULL)
            return mem_fail(e, "lora_A", (size_t)n * sizeof *g->a);
        TRY(tensor_read(&g->adapter, p->a, 0, r, DT_F32, g->a, e));
        g->a_of = i;
    }
    if (rows * r > g->b_cap) {
        mem_free(g->b);
        g->b = mem_alloc((size_t)(rows * r), sizeof *g->b);
        g->b_cap = g->b != NULL ? rows * r : 0;
        if (g->b == NULL)
            return mem_fail(e, "lora_B", (size_t)(rows * r) * sizeof *g->b);
    }
    return tensor_read(&g->adapter, p->b, row0, rows, DT_F32, g->b, e);
}

static int fill(void *user, size_t i, const struct hf_tensor *t, int64_t row0, int64_t rows, float *dst, struct err *e)
{
    struct merge *g = user;
    const struct part *p = &g->parts[i];
    TRY(source_read(&g->source, p->role, p->layer, row0, rows, DT_F32, dst, e));
    if (p->a == NULL)
        return 0;
    TRY(load_low_rank(g, i, row0, rows, e));
    double scale = adapter_scale(&g->config);
    int64_t in = t->shape[1], r = g->config.rank;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < r; k++) {
            float c = (float)(scale * g->b[row * r + k]);
            const float *a = g->a + k * in;
            float *w = dst + row * in;
            for (int64_t j = 0; j < in; j++)
                w[j] += c * a[j];
        }
    return 0;
}

static void merge_close(struct merge *g)
{
    mem_free(g->parts);
    mem_free(g->tensors);
    mem_free(g->a);
    mem_free(g->b);
    tensor_list_close(&g->adapter);
    source_close(&g->source);
}

int merge_export(const char *base, const char *adapter, const char *dir, const char *dtype, struct merge_facts *facts, struct err *e)
{
    struct merge g = {0};
    struct merge_files files = {0};
    int rc = 0;
    TRY_DONE(source_open(base, false, &g.source, e));
    TRY_DONE(adapter_open(adapter, &g.config, &g.adapter, e));
    TRY_DONE(pick_type(&g.source, dtype, &facts->type, e));
    TRY_DONE(list_parts(&g, facts->type, e));
    TRY_DONE(merge_files_collect(&g.source, facts->type, &files, e));
    TRY_DONE(hf_export(dir, g.tensors, g.n, files.list, files.n, 1ull << SHARD_BYTES_LOG2, fill, &g, &facts->max_rounding, e));
    facts->tensors = (int64_t)g.n;
    facts->changed = (int64_t)g.changed;
done:
    merge_files_free(&files);
    merge_close(&g);
    return rc;
}
