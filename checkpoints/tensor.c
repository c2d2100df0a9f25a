#include "checkpoints/tensor.h"

#include <stdio.h>
#include <string.h>

#include "checkpoints/names.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

const char *tensor_type_name(enum tensor_type t)
{
    switch (t) {
#define X(name, text, block, bytes)                                                                                              \
    case name:                                                                                                                   \
        return text;
        TENSOR_TYPES(X)
#undef X
    }
    return "?";
}

void tensor_list_close(struct tensor_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->tensors[i].name);
    for (size_t i = 0; i < l->n_files; i++) {
        if (l->files[i].fd >= 0)
            io->close(l->files[i].fd);
        mem_free(l->files[i].path);
    }
    if (l->index != NULL)
        names_free(l->index);
    mem_free(l->index);
    mem_free(l->tensors);
    mem_free(l->files);
    *l = (struct tensor_list){0};
}

int tensor_list_add_file(struct tensor_list *l, const char *path, int fd, struct err *e)
{
    struct tensor_file *files = mem_realloc(l->files, l->n_files + 1, sizeof *files);
    if (files == NULL)
        return mem_fail(e, "a list of tensor files", (l->n_files + 1) * sizeof *files);
    l->files = files;
    files[l->n_files].path = mem_strdup(path);
    if (files[l->n_files].path == NULL)
        return mem_fail(e, "a file name", strlen(path) + 1);
    files[l->n_files++].fd = fd;
    return 0;
}

static int check_name(const char *name, const char *where, struct err *e)
{
    char text[NAME_TEXT];
    if (name[0] == '\0')
        FAIL(e, ERR_MODEL, "%s: a tensor with an empty name, expected a name", where);
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            FAIL(e, ERR_MODEL, "%s: tensor \"%s\": a control character (0x%02x) in the name, expected printable text", where,
                 name_text(name, strlen(name), text), *p);
    return 0;
}

static int refuse_duplicate(const struct tensor_list *l, const struct tensor *t, const char *where, struct err *e)
{
    char text[NAME_TEXT];
    const struct tensor *first = tensor_find(l, t->name);
    name_text(t->name, strlen(t->name), text);
    if (first->file != t->file && first->file >= 0 && (size_t)first->file < l->n_files)
        FAIL(e, ERR_MODEL, "%s: tensor \"%s\" is also in %s, expected each name in one file", where, text,
             l->files[first->file].path);
    FAIL(e, ERR_MODEL, "%s: tensor \"%s\" is there twice, expected each name once (duplicate)", where, text);
}

int tensor_list_add(struct tensor_list *l, const struct tensor *t, const char *where, struct err *e)
{
    TRY(check_name(t->name, where, e));
    if (l->index == NULL && (l->index = mem_alloc(1, sizeof(struct names))) == NULL)
        return mem_fail(e, "an index of tensors", sizeof(struct names));
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct tensor *tensors = mem_realloc(l->tensors, cap, sizeof *tensors);
        if (tensors == NULL)
            return mem_fail(e, "a list of tensors", cap * sizeof *tensors);
        l->tensors = tensors;
        l->cap = cap;
    }
    struct tensor *mine = &l->tensors[l->n];
    *mine = *t;
    mine->name = mem_strdup(t->name);
    if (mine->name == NULL)
        return mem_fail(e, "a tensor name", strlen(t->name) + 1);
    bool already;
    int rc = names_add(l->index, mine->name, strlen(mine->name), l->n, &already, e);
    if (rc == 0 && already)
        rc = refuse_duplicate(l, t, where, e);
    if (rc == 0)
        l->n++;
    else
        mem_free(mine->name);
    return rc;
}

const struct tensor *tensor_find(const struct tensor_list *l, const char *name)
{
    size_t i;
    return l->index != NULL && names_find(l->index, name, strlen(name), &i) ? &l->tensors[i] : NULL;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

const char *tensor_shape_text(const struct tensor *t, char text[128])
{
    size_t n = 0, room = 128;
    n += (size_t)snprintf(text, room, "(");
    for (int i = 0; i < t->rank && n < room; i++)
        n += (size_t)snprintf(text + n, room - n, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (n < room)
        snprintf(text + n, room - n, ")");
    return text;
}

/* The path of the list's files for a message: the one file, or the first and how many more. */
static const char *files_text(const struct tensor_list *l, char *text, size_t size)
{
    if (l->n_files == 0)
        snprintf(text, size, "the model");
    else if (l->n_files == 1)
        snprintf(text, size, "%s", l->files[0].path);
    else
        snprintf(text, size, "%s and %zu more", l->files[0].path, l->n_files - 1);
    return text;
}

int tensor_require(const struct tensor_list *l, const char *name, int rank, const int64_t *shape, const struct tensor **out,
                   struct err *e)
{
    char text[512], found[128], wanted[128];
    struct tensor want = {.rank = rank};
    memcpy(want.shape, shape, (size_t)rank * sizeof *shape);
    tensor_shape_text(&want, wanted);
    const struct tensor *t = tensor_find(l, name);
    if (t == NULL)
        FAIL(e, ERR_MODEL, "%s: tensor \"%s\" is missing, expected it with shape %s", files_text(l, text, sizeof text), name,
             wanted);
    if (t->rank != rank || memcmp(t->shape, shape, (size_t)rank * sizeof *shape) != 0)
        FAIL(e, ERR_MODEL, "%s: tensor \"%s\" has shape %s, expected %s", l->files[t->file].path, name,
             tensor_shape_text(t, found), wanted);
    *out = t;
    return 0;
}
