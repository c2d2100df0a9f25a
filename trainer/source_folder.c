#include <stdio.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/source_internal.h"

enum { MAX_SHARDS = 4096 };

const char *source_join(const char *folder, const char *name, char path[SOURCE_MAX_PATH])
{
    size_t n = strlen(folder);
    snprintf(path, SOURCE_MAX_PATH, "%s%s%s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", name);
    return path;
}

int source_read_optional(const char *folder, const char *name, char **text, size_t *n, struct err *e)
{
    char path[SOURCE_MAX_PATH];
    *text = NULL;
    *n = 0;
    if (!io_exists(source_join(folder, name, path)))
        return 0;
    return io_read_file(path, ERR_MODEL, SOURCE_MAX_JSON, text, n, e);
}

static bool has(const char *folder, const char *name)
{
    char path[SOURCE_MAX_PATH];
    return io_exists(source_join(folder, name, path));
}

static int no_weights(const char *folder, struct err *e)
{
    if (has(folder, "pytorch_model.bin") || has(folder, "pytorch_model.bin.index.json"))
        FAIL(e, ERR_MODEL,
             "%s: the weights are a pickle (pytorch_model.bin), expected model.safetensors. Save the model with transformers'"
             " save_pretrained, which writes safetensors",
             folder);
    if (has(folder, "consolidated.safetensors") || has(folder, "consolidated.00.pth"))
        FAIL(e, ERR_MODEL,
             "%s: the weights are in the maker's own layout (consolidated), expected model.safetensors. Fetch the files"
             " model-*.safetensors and model.safetensors.index.json too",
             folder);
    err_set(e, ERR_MODEL, "%s: there are no weights, expected model.safetensors or model.safetensors.index.json", folder);
    return source_add_command(folder, e);
}

/* A shard is a file of this folder, nothing else. */
static int check_shard_name(const char *name, const char *where, struct err *e)
{
    size_t n = strlen(name);
    bool plain = n > 12 && n < 200 && name[0] != '.' && strcmp(name + n - 12, ".safetensors") == 0;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        plain = plain && *p > 0x20 && *p < 0x7f && *p != '/' && *p != '\\';
    if (!plain)
        FAIL(e, ERR_MODEL, "%s: a tensor's file is \"%.64s\", expected the name of a .safetensors file in the same folder", where,
             name);
    return 0;
}

struct index {
    char *names[MAX_SHARDS]; /* owned */
    size_t n;
};

static int index_add(struct index *x, const char *name, const char *where, struct err *e)
{
    for (size_t i = x->n; i-- > 0;) /* files come in runs: the last ones first */
        if (strcmp(x->names[i], name) == 0)
            return 0;
    TRY(check_shard_name(name, where, e));
    if (x->n == MAX_SHARDS)
        FAIL(e, ERR_MODEL, "%s: more than %d files, expected at most that many", where, MAX_SHARDS);
    if ((x->names[x->n] = mem_strdup(name)) == NULL)
        return mem_fail(e, "a file name", strlen(name) + 1);
    x->n++;
    return 0;
}

static int open_index_files(const char *folder, const char *where, const struct index *x, struct tensor_list *l, struct err *e)
{
    char path[SOURCE_MAX_PATH];
    size_t missing = 0, first = 0;
    for (size_t i = x->n; i-- > 0;)
        if (!has(folder, x->names[i])) {
            missing++;
            first = i;
        }
    if (missing > 0) {
        err_set(e, ERR_MODEL, "%s: \"%s\" is missing (%zu of %zu files are), expected every file that %s names", folder,
                x->names[first], missing, x->n, where + strlen(folder) + (where[strlen(folder)] == '/'));
        return source_add_command(folder, e);
    }
    for (size_t i = 0; i < x->n; i++)
        TRY(safetensors_open(source_join(folder, x->names[i], path), l, e));
    return 0;
}

/* The index and the files agree: each tensor lies in the file that the index names, and in no file lies another. */
static int check_index(const struct json *map, const char *where, const struct tensor_list *l, struct err *e)
{
    for (void *it = json_first(map); it != NULL; it = json_next(map, it)) {
        const struct tensor *t = tensor_find(l, json_key(it));
        const char *file = json_string(json_value(it), NULL);
        if (t == NULL)
            FAIL(e, ERR_MODEL, "%s: tensor \"%.96s\" is missing in \"%s\", expected it there", where, json_key(it), file);
        const char *path = l->files[t->file].path, *slash = strrchr(path, '/');
        if (strcmp(slash == NULL ? path : slash + 1, file) != 0)
            FAIL(e, ERR_MODEL, "%s: tensor \"%.96s\" lies in \"%s\", expected it in \"%s\"", where, json_key(it),
                 slash == NULL ? path : slash + 1, file);
    }
    for (size_t i = 0; i < l->n; i++)
        if (json_get(map, l->tensors[i].name) == NULL)
            FAIL(e, ERR_MODEL, "%s: tensor \"%.96s\" of %s is not in the index, expected every tensor in it", where,
                 l->tensors[i].name, l->files[l->tensors[i].file].path);
    return 0;
}

static int read_index(const struct json *root, const char *where, struct index *x, struct err *e)
{
    const struct json *map = json_get(root, "weight_map");
    if (json_kind(root) != JSON_OBJECT)
        FAIL(e, ERR_MODEL, "%s: %s, expected an object", where, json_kind_name(json_kind(root)));
    for (void *it = json_first(root); it != NULL; it = json_next(root, it))
        if (strcmp(json_key(it), "weight_map") != 0 && strcmp(json_key(it), "metadata") != 0)
            FAIL(e, ERR_MODEL, "%s: unknown key \"%.64s\", expected \"metadata\" and \"weight_map\"", where, json_key(it));
    if (json_kind(map) != JSON_OBJECT || json_length(map) == 0)
        FAIL(e, ERR_MODEL, "%s: \"weight_map\" is %s, expected an object that names a file for each tensor", where,
             json_kind(map) == JSON_OBJECT ? "empty" : json_kind_name(json_kind(map)));
    for (void *it = json_first(map); it != NULL; it = json_next(map, it)) {
        size_t n = 0;
        const char *file = json_string(json_value(it), &n);
        if (file == NULL || strlen(file) != n)
            FAIL(e, ERR_MODEL, "%s: the file of tensor \"%.96s\" is %s, expected a file name", where, json_key(it),
                 json_kind_name(json_kind(json_value(it))));
        TRY(index_add(x, file, where, e));
    }
    return 0;
}

static int open_index(const char *folder, const char *where, struct tensor_list *l, struct err *e)
{
    struct index *x = mem_alloc(1, sizeof *x);
    struct json *root = NULL;
    char *text = NULL;
    size_t n = 0;
    int rc = 0;
    if (x == NULL)
        return mem_fail(e, "a list of files", sizeof *x);
    TRY_DONE(io_read_file(where, ERR_MODEL, SOURCE_MAX_JSON, &text, &n, e));
    TRY_DONE(json_parse(text, n, where, ERR_MODEL, &root, e));
    TRY_DONE(read_index(root, where, x, e));
    TRY_DONE(open_index_files(folder, where, x, l, e));
    TRY_DONE(check_index(json_get(root, "weight_map"), where, l, e));
done:
    json_free(root);
    mem_free(text);
    for (size_t i = 0; i < x->n; i++)
        mem_free(x->names[i]);
    mem_free(x);
    return rc;
}

int source_open_shards(const char *folder, struct tensor_list *l, struct err *e)
{
    char path[SOURCE_MAX_PATH];
    /* transformers takes the single file when both are there. */
    if (io_exists(source_join(folder, "model.safetensors", path)))
        return safetensors_open(path, l, e);
    if (io_exists(source_join(folder, "model.safetensors.index.json", path)))
        return open_index(folder, path, l, e);
    return no_weights(folder, e);
}
