/* state.c - the trainable block and the counters, to and from a checkpoint folder. */
#include "trainer/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/adapter.h"
#include "checkpoints/safetensors.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

enum { STATE_VERSION = 1, STATE_PATH = 4096 };

/* Where matrix `which` of a module lies in the block, and its shape without padding. */
static void matrix_place(const struct lora *l, const struct lora_module *m, char which, int64_t *offset, int64_t shape[2], int64_t *ld)
{
    bool a = which == 'A';
    *offset = a ? m->a : m->b;
    shape[0] = a ? l->rank : m->out;
    shape[1] = a ? m->in : l->rank;
    *ld = a ? m->in : l->padded;
}

/* Every matrix of some arrays of the block, named with the array's suffix, in the order of the table. */
struct matrices {
    struct adapter_matrix *list; /* owned */
    struct matrix_name {
        char text[160];
    } *names;                    /* owned */
    size_t n;
};

static void matrices_free(struct matrices *t)
{
    mem_free(t->names);
    mem_free(t->list);
    *t = (struct matrices){0};
}

static int matrices_of(const struct lora *l, const float *const *arrays, const char *const *suffixes, int n_arrays, struct matrices *t,
                       struct err *e)
{
    size_t n = (size_t)l->n_modules * 2 * (size_t)n_arrays;
    *t = (struct matrices){.list = mem_alloc(n, sizeof *t->list), .names = mem_alloc(n, sizeof *t->names)};
    if (t->list == NULL || t->names == NULL) {
        matrices_free(t);
        return mem_fail(e, "the table of adapter tensors", n * sizeof *t->names);
    }
    for (int32_t i = 0; i < l->n_modules; i++)
        for (const char *which = "AB"; *which; which++)
            for (int j = 0; j < n_arrays; j++, t->n++) {
                char name[128];
                int64_t offset, shape[2], ld;
                lora_tensor_name(&l->modules[i], *which, name);
                matrix_place(l, &l->modules[i], *which, &offset, shape, &ld);
                snprintf(t->names[t->n].text, sizeof t->names[t->n].text, "%s%s", name, suffixes[j]);
                t->list[t->n] = (struct adapter_matrix){t->names[t->n].text, arrays[j] + offset, shape[0], shape[1], ld};
            }
    return 0;
}

/* A safetensors file in pieces that point into the block, so that a save copies nothing. */
struct tensor_pieces {
    struct buf header;
    struct run_piece *pieces; /* owned */
    size_t n;
};

static int pieces_of(const struct matrices *t, struct tensor_pieces *out, struct err *e)
{
    size_t most = 1;
    for (size_t i = 0; i < t->n; i++)
        most += t->list[i].ld == t->list[i].cols ? 1 : (size_t)t->list[i].rows;
    *out = (struct tensor_pieces){.pieces = mem_alloc(most, sizeof *out->pieces)};
    if (out->pieces == NULL)
        return mem_fail(e, "the pieces of a checkpoint", most * sizeof *out->pieces);
    TRY(adapter_tensors_header(t->list, t->n, &out->header, e));
    if (out->header.failed)
        return mem_fail(e, "the header of a checkpoint", out->header.n);
    out->pieces[out->n++] = (struct run_piece){out->header.data, out->header.n};
    for (size_t i = 0; i < t->n; i++) {
        const struct adapter_matrix *m = &t->list[i];
        bool whole = m->ld == m->cols;
        for (int64_t row = 0; row < (whole ? 1 : m->rows); row++)
            out->pieces[out->n++] = (struct run_piece){m->data + row * m->ld, (size_t)((whole ? m->rows : 1) * m->cols) * sizeof(float)};
    }
    return 0;
}

static void pieces_free(struct tensor_pieces *p)
{
    buf_free(&p->header);
    mem_free(p->pieces);
}

/* Rows read side by side, moved apart from the end to their distance ld, with zeros between them. */
static void spread_rows(float *p, int64_t rows, int64_t cols, int64_t ld)
{
    for (int64_t row = rows - 1; row >= 0 && ld > cols; row--) {
        memmove(p + row * ld, p + row * cols, (size_t)cols * sizeof *p);
        memset(p + row * ld + cols, 0, (size_t)(ld - cols) * sizeof *p);
    }
}

/* The other way; padding of the arrays becomes zero. Every tensor of the file must be one of these. */
static int read_tensors(const struct lora *l, const struct tensor_list *t, const char *where, float **arrays, const char *const *suffixes,
                        int n_arrays, struct err *e)
{
    for (int j = 0; j < n_arrays; j++)
        memset(arrays[j], 0, (size_t)l->count * sizeof(float));
    for (int32_t i = 0; i < l->n_modules; i++)
        for (const char *which = "AB"; *which; which++)
            for (int j = 0; j < n_arrays; j++) {
                char name[128], full[160];
                int64_t offset, shape[2], ld;
                const struct tensor *tensor;
                lora_tensor_name(&l->modules[i], *which, name);
                snprintf(full, sizeof full, "%s%s", name, suffixes[j]);
                matrix_place(l, &l->modules[i], *which, &offset, shape, &ld);
                TRY(tensor_require(t, full, 2, shape, &tensor, e));
                TRY(tensor_read(t, tensor, 0, shape[0], DT_F32, arrays[j] + offset, e));
                spread_rows(arrays[j] + offset, shape[0], shape[1], ld);
            }
    size_t want = (size_t)l->n_modules * 2 * (size_t)n_arrays;
    if (t->n != want)
        FAIL(e, ERR_MODEL, "%s: %zu tensors, expected %zu. It was made for other lora.targets", where, t->n, want);
    return 0;
}

static int adapter_config_of(const struct lora *l, const struct config *c, struct buf *out, struct err *e)
{
    struct adapter_config a = {.rank = c->lora.rank, .alpha = c->lora.alpha, .dropout = c->lora.dropout,
                               .rslora = c->lora.scaling == SCALING_RSLORA};
    snprintf(a.base, sizeof a.base, "%s", c->model.path);
    for (int bit = 0; bit < CONFIG_MAX_TARGETS; bit++)
        if (c->lora.targets >> bit & 1)
            snprintf(a.targets[a.n_targets++], sizeof a.targets[0], "%s", config_target_name(bit));
    return adapter_config_write(&a, out, e);
}

static void put_i64(struct buf *b, const char *key, int64_t v) { buf_printf(b, "  \"%s\": %lld,\n", key, (long long)v); }

static void put_text(struct buf *b, const char *key, const char *v, const char *end)
{
    buf_printf(b, "  \"%s\": ", key);
    json_put_string(b, v, strlen(v));
    buf_puts(b, end);
}

static void state_write(const struct run_state *s, struct buf *b)
{
    buf_puts(b, "{\n");
    put_i64(b, "version", STATE_VERSION);
    put_i64(b, "step", s->step);
    put_i64(b, "updates", s->updates);
    put_i64(b, "skipped", s->skipped);
    put_i64(b, "skipped_in_row", s->skipped_in_row);
    put_i64(b, "tokens", s->tokens);
    put_i64(b, "targets", s->targets);
    buf_puts(b, "  \"best_loss\": ");
    json_put_f64(b, s->best_step < 0 ? 0 : s->best_loss);
    buf_puts(b, ",\n");
    put_i64(b, "best_step", s->best_step);
    put_i64(b, "evaluated", s->evaluated);
    put_text(b, "dataset", s->dataset, ",\n");
    put_text(b, "base", s->base, ",\n");
    put_text(b, "tokenizer", s->tokenizer, "\n}\n");
}

static int get_i64(const struct json *j, const char *where, const char *key, int64_t least, int64_t *out, struct err *e)
{
    if (!json_i64(json_get(j, key), out) || *out < least)
        FAIL(e, ERR_STATE, "%s: %s: found %s, expected a whole number of at least %lld", where, key, json_kind_name(json_kind(json_get(j, key))),
             (long long)least);
    return 0;
}

static int get_text(const struct json *j, const char *where, const char *key, char out[65], struct err *e)
{
    const char *v = json_string(json_get(j, key), NULL);
    if (v == NULL || strlen(v) > 64)
        FAIL(e, ERR_STATE, "%s: %s: found %s, expected an identity of at most 64 characters", where, key,
             json_kind_name(json_kind(json_get(j, key))));
    snprintf(out, 65, "%s", v);
    return 0;
}

static int state_parse(const struct json *j, const char *where, struct run_state *s, struct err *e)
{
    int64_t version;
    TRY(get_i64(j, where, "version", 1, &version, e));
    if (version != STATE_VERSION)
        FAIL(e, ERR_STATE, "%s: version %lld, expected %d. It was written by a newer lorat", where, (long long)version, STATE_VERSION);
    TRY(get_i64(j, where, "step", 0, &s->step, e));
    TRY(get_i64(j, where, "updates", 0, &s->updates, e));
    TRY(get_i64(j, where, "skipped", 0, &s->skipped, e));
    TRY(get_i64(j, where, "skipped_in_row", 0, &s->skipped_in_row, e));
    TRY(get_i64(j, where, "tokens", 0, &s->tokens, e));
    TRY(get_i64(j, where, "targets", 0, &s->targets, e));
    TRY(get_i64(j, where, "best_step", -1, &s->best_step, e));
    TRY(get_i64(j, where, "evaluated", -1, &s->evaluated, e));
    if (!json_f64(json_get(j, "best_loss"), &s->best_loss))
        FAIL(e, ERR_STATE, "%s: best_loss: found %s, expected a number", where, json_kind_name(json_kind(json_get(j, "best_loss"))));
    TRY(get_text(j, where, "dataset", s->dataset, e));
    TRY(get_text(j, where, "base", s->base, e));
    return get_text(j, where, "tokenizer", s->tokenizer, e);
}

static const char *const plain[] = {""};
static const char *const moments[] = {".exp_avg", ".exp_avg_sq"};

int state_save(const char *run_dir, const struct lora *l, const struct config *c, const struct run_block *b, const struct run_state *s,
               struct err *e)
{
    enum { N = 5, TEXTS = 3 };
    static const char *const names[TEXTS] = {"adapter_config.json", "state.json", "job.yaml"};
    struct buf text[TEXTS] = {0};
    struct run_piece whole[TEXTS];
    struct run_file files[N];
    struct matrices params = {0}, both = {0};
    struct tensor_pieces adapter = {0}, optimizer = {0};
    int rc = 0;
    TRY_DONE(matrices_of(l, (const float *const[]){b->params}, plain, 1, &params, e));
    TRY_DONE(matrices_of(l, (const float *const[]){b->m, b->v}, moments, 2, &both, e));
    TRY_DONE(pieces_of(&params, &adapter, e));
    TRY_DONE(pieces_of(&both, &optimizer, e));
    TRY_DONE(adapter_config_of(l, c, &text[0], e));
    state_write(s, &text[1]);
    config_write(c, &text[2]);
    for (int i = 0; i < TEXTS; i++) {
        if (text[i].failed)
            TRY_DONE(mem_fail(e, names[i], text[i].n));
        whole[i] = (struct run_piece){text[i].data, text[i].n};
        files[i] = (struct run_file){names[i], &whole[i], 1};
    }
    files[3] = (struct run_file){"adapter_model.safetensors", adapter.pieces, adapter.n};
    files[4] = (struct run_file){"optimizer.safetensors", optimizer.pieces, optimizer.n};
    rc = run_save(run_dir, s->step, files, N, e);
done:
    for (int i = 0; i < TEXTS; i++)
        buf_free(&text[i]);
    pieces_free(&adapter);
    pieces_free(&optimizer);
    matrices_free(&params);
    matrices_free(&both);
    return rc;
}

/* A small text file of a checkpoint, malloc'ed. */
static int read_text(const char *dir, const char *name, char **out, size_t *n, struct err *e)
{
    char path[STATE_PATH];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return io_read_file(path, ERR_STATE, 1 << 20, out, n, e);
}

static int load_tensors(const char *dir, const char *name, const struct lora *l, float **arrays, const char *const *suffixes, int n_arrays,
                        struct err *e)
{
    char path[STATE_PATH];
    struct tensor_list t = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int rc = safetensors_open(path, &t, e);
    if (rc == 0)
        rc = read_tensors(l, &t, path, arrays, suffixes, n_arrays, e);
    tensor_list_close(&t);
    return rc;
}

int state_read(const char *checkpoint_dir, struct run_state *s, char **job, struct err *e)
{
    char where[STATE_PATH], *text = NULL, *yaml = NULL;
    struct json *j = NULL;
    size_t n;
    int rc = 0;
    snprintf(where, sizeof where, "%s/state.json", checkpoint_dir);
    TRY_DONE(read_text(checkpoint_dir, "state.json", &text, &n, e));
    TRY_DONE(json_parse(text, n, where, ERR_STATE, &j, e));
    TRY_DONE(state_parse(j, where, s, e));
    if (job != NULL) {
        TRY_DONE(read_text(checkpoint_dir, "job.yaml", &yaml, &n, e));
        *job = yaml;
    }
done:
    json_free(j);
    free(text);
    return rc;
}

int state_load(const char *checkpoint_dir, const struct lora *l, struct run_block *b, struct run_state *s, char **job, struct err *e)
{
    char *yaml = NULL;
    int rc = 0;
    TRY_DONE(state_read(checkpoint_dir, s, &yaml, e));
    TRY_DONE(load_tensors(checkpoint_dir, "adapter_model.safetensors", l, (float *[]){b->params}, plain, 1, e));
    TRY_DONE(load_tensors(checkpoint_dir, "optimizer.safetensors", l, (float *[]){b->m, b->v}, moments, 2, e));
    if (job != NULL) {
        *job = yaml;
        yaml = NULL;
    }
done:
    free(yaml);
    return rc;
}

int state_save_adapter(const char *dir, const struct lora *l, const struct config *c, const float *params, struct err *e)
{
    char path[STATE_PATH];
    struct buf tensors = {0}, text = {0};
    struct matrices list = {0};
    int rc = 0;
    TRY_DONE(matrices_of(l, &params, plain, 1, &list, e));
    TRY_DONE(adapter_tensors_write(list.list, list.n, &tensors, e));
    TRY_DONE(adapter_config_of(l, c, &text, e));
    if (tensors.failed || text.failed)
        TRY_DONE(mem_fail(e, "the adapter", tensors.n));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    TRY_DONE(io_write_file_atomic(path, tensors.data, tensors.n, e));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    TRY_DONE(io_write_file_atomic(path, text.data, text.n, e));
done:
    buf_free(&tensors);
    buf_free(&text);
    matrices_free(&list);
    return rc;
}

/* The adapter's own config against the job's: anything that differs would change what it computes. */
static int check_adapter(const char *dir, const struct adapter_config *a, const struct lora *l, struct err *e)
{
    if (a->rank != l->rank)
        FAIL(e, ERR_CONFIG, "lora.rank: %d, expected %d, the rank of the adapter %s that lora.start_from names", l->rank, a->rank, dir);
    double scale = adapter_scale(a);
    if (!((scale - l->scale) * (scale - l->scale) <= 1e-12 * scale * scale))
        FAIL(e, ERR_CONFIG, "lora.alpha, lora.scaling: scale %g, expected %g, the scale of the adapter %s", (double)l->scale, scale, dir);
    return 0;
}

int state_load_adapter(const char *dir, const struct lora *l, const struct config *c, float *params, struct err *e)
{
    struct adapter_config a;
    struct tensor_list t = {0};
    TRY(adapter_open(dir, &a, &t, e));
    int rc = check_adapter(dir, &a, l, e);
    if (rc == 0)
        rc = read_tensors(l, &t, dir, &params, plain, 1, e);
    tensor_list_close(&t);
    return rc;
}
