#include "checkpoints/adapter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

static const char name_head[] = "base_model.model.", tail_a[] = ".lora_A.weight", tail_b[] = ".lora_B.weight";
enum { CONFIG_MAX = 1 << 20, TAIL = sizeof tail_a - 1, TARGETS_MAX = 16 };

/* One tensor's name taken apart. */
struct part {
    char module[64]; /* "q_proj" */
    bool is_b;
};

static bool part_of(const char *name, struct part *out)
{
    size_t n = strlen(name), head = strlen(name_head);
    if (n <= head + TAIL || strncmp(name, name_head, head) != 0)
        return false;
    out->is_b = strcmp(name + n - TAIL, tail_b) == 0;
    if (!out->is_b && strcmp(name + n - TAIL, tail_a) != 0)
        return false;
    const char *end = name + n - TAIL, *start = end;
    while (start > name && start[-1] != '.')
        start--;
    if (start == end || (size_t)(end - start) >= sizeof out->module)
        return false;
    memcpy(out->module, start, (size_t)(end - start));
    out->module[end - start] = 0;
    return true;
}

static int check_tensor(const struct tensor_list *l, const struct tensor *t, const struct part *p, int32_t rank,
                        const char *where, struct err *e)
{
    char text[128], other[1024];
    if (t->type != TT_F32 && t->type != TT_F16 && t->type != TT_BF16)
        FAIL(e, ERR_MODEL, "%s: %.300s: found the type %s, expected F32, F16 or BF16. Save the adapter in one of these", where,
             t->name, t->type == TT_OTHER ? t->type_text : tensor_type_name(t->type));
    if (t->rank != 2 || t->shape[p->is_b] != rank || t->shape[!p->is_b] < 1)
        FAIL(e, ERR_MODEL,
             "%s: %.300s: found the shape %s, expected %s with r = %" PRId32 " from adapter_config.json. Use the "
             "config that belongs to it",
             where, t->name, tensor_shape_text(t, text), p->is_b ? "(out, r)" : "(r, in)", rank);
    int stem = (int)(strlen(t->name) - TAIL);
    if (snprintf(other, sizeof other, "%.*s%s", stem, t->name, p->is_b ? tail_a : tail_b) >= (int)sizeof other ||
        tensor_find(l, other) == NULL)
        FAIL(e, ERR_MODEL, "%s: %.300s: found without its lora_%s, expected both. Save the adapter again", where, t->name,
             p->is_b ? "A" : "B");
    return 0;
}

/* Every tensor is a LoRA matrix of a target, and every target has one. */
static int check_tensors(const char *where, struct adapter_config *c, const struct tensor_list *l, struct err *e)
{
    bool all_linear = c->n_targets == 0, seen[TARGETS_MAX] = {false};
    for (size_t i = 0; i < l->n; i++) {
        const struct tensor *t = &l->tensors[i];
        struct part p;
        int k = 0;
        if (!part_of(t->name, &p))
            FAIL(e, ERR_MODEL,
                 "%s: %.300s: found a tensor that is not a LoRA matrix, expected %s<module>%s or lora_B. Save the adapter "
                 "without it",
                 where, t->name, name_head, tail_a);
        TRY(check_tensor(l, t, &p, c->rank, where, e));
        while (k < c->n_targets && strcmp(c->targets[k], p.module) != 0)
            k++;
        if (k == c->n_targets && (!all_linear || k == TARGETS_MAX || strlen(p.module) >= sizeof c->targets[0]))
            FAIL(e, ERR_MODEL,
                 "%s: %.300s: found a matrix of %s, expected only target_modules of adapter_config.json. Use the config "
                 "that belongs to it",
                 where, t->name, p.module);
        if (k == c->n_targets)
            memcpy(c->targets[c->n_targets++], p.module, strlen(p.module) + 1);
        seen[k] = true;
    }
    for (int k = 0; k < c->n_targets; k++)
        if (!seen[k])
            FAIL(e, ERR_MODEL,
                 "%s: found no matrix of %s, expected one: adapter_config.json names it in target_modules. Use the config "
                 "that belongs to it",
                 where, c->targets[k]);
    if (c->n_targets == 0)
        FAIL(e, ERR_MODEL, "%s: found no tensors, expected LoRA matrices. Save the adapter again", where);
    return 0;
}

static int open_tensors(const char *dir, const char *path, struct tensor_list *l, struct err *e)
{
    char pickle[2048];
    snprintf(pickle, sizeof pickle, "%s/adapter_model.bin", dir);
    if (!io_exists(path) && io_exists(pickle))
        FAIL(e, ERR_MODEL,
             "%s: found a pickle, which can run code when it is read, expected adapter_model.safetensors. Save the "
             "adapter again with PEFT's save_pretrained(..., safe_serialization=True)",
             pickle);
    return safetensors_open(path, l, e);
}

int adapter_open(const char *dir, struct adapter_config *c, struct tensor_list *l, struct err *e)
{
    int rc = 0;
    char *text = NULL;
    size_t n = 0;
    struct buf path = {0}, tensors = {0};
    *l = (struct tensor_list){0};
    buf_printf(&path, "%s/adapter_config.json", dir);
    buf_printf(&tensors, "%s/adapter_model.safetensors", dir);
    if (path.failed || tensors.failed) {
        rc = mem_fail(e, "a path", strlen(dir));
        goto done;
    }
    if (!io_exists(path.data)) {
        rc = err_set(e, ERR_MODEL,
                     "%s: not found, expected an adapter folder. A run has adapter/ once it is done; until then name a folder under its checkpoints/",
                     path.data);
        goto done;
    }
    TRY_DONE(io_read_file(path.data, ERR_MODEL, CONFIG_MAX, &text, &n, e));
    TRY_DONE(adapter_config_parse(text, n, path.data, c, e));
    TRY_DONE(open_tensors(dir, tensors.data, l, e));
    TRY_DONE(check_tensors(tensors.data, c, l, e));
done:
    if (rc != 0)
        tensor_list_close(l);
    mem_free(text);
    buf_free(&tensors);
    buf_free(&path);
    return rc;
}

int adapter_tensors_header(const struct adapter_matrix *m, size_t n, struct buf *b, struct err *e)
{
    struct tensor *t = mem_alloc(n, sizeof *t);
    if (t == NULL)
        return mem_fail(e, "the tensors of an adapter", n * sizeof *t);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        uint64_t count;
        if (m[i].rows < 0 || m[i].cols < 0 || m[i].ld < m[i].cols || !num_mul((uint64_t)m[i].rows, (uint64_t)m[i].cols, &count) ||
            !num_mul(count, sizeof(float), &t[i].bytes))
            rc = err_set(e, ERR_INTERNAL,
                         "%.300s: found %" PRId64 " rows of %" PRId64 " at distance %" PRId64 ", expected a matrix. Report this",
                         m[i].name, m[i].rows, m[i].cols, m[i].ld);
        t[i].name = (char *)m[i].name; /* safetensors_header only reads it */
        t[i].type = TT_F32;
        t[i].rank = 2;
        t[i].shape[0] = m[i].rows;
        t[i].shape[1] = m[i].cols;
    }
    if (rc == 0)
        rc = safetensors_header(t, n, b, e);
    mem_free(t);
    return rc;
}

int adapter_tensors_write(const struct adapter_matrix *m, size_t n, struct buf *b, struct err *e)
{
    TRY(adapter_tensors_header(m, n, b, e));
    for (size_t i = 0; i < n; i++) {
        size_t row = (size_t)m[i].cols * sizeof(float);
        if (m[i].ld == m[i].cols)
            buf_add(b, m[i].data, row * (size_t)m[i].rows);
        else
            for (int64_t r = 0; r < m[i].rows; r++)
                buf_add(b, m[i].data + r * m[i].ld, row);
    }
    return b->failed ? mem_fail(e, "adapter_model.safetensors", b->n) : 0;
}
