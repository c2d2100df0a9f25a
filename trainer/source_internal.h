/* source_internal.h - the parts of a source: opening, what to say when it is not there. */
#ifndef LORAT_SOURCE_INTERNAL_H
#define LORAT_SOURCE_INTERNAL_H

#include "trainer/source.h"

enum { SOURCE_MAX_JSON = 64 << 20, SOURCE_MAX_PATH = 1024 + 256 };

/* "<folder>/<name>" */
const char *source_join(const char *folder, const char *name, char path[SOURCE_MAX_PATH]);
/* A file of the folder; *text = NULL with return 0 when there is none. Free with mem_free. */
int source_read_optional(const char *folder, const char *name, char **text, size_t *n, struct err *e);
/* The safetensors files of a folder, one or many, into l. */
int source_open_shards(const char *folder, struct tensor_list *l, struct err *e);
/* The name of a tensor in this source's own file. */
void source_own_name(const struct source *s, enum role r, int layer, char name[96]);
/* Every tensor that the facts ask for is there with its shape and a type that is read, and no other is. */
int source_check_tensors(const struct source *s, struct err *e);

/* Append the command that brings a model to `path` to the message that e holds. Returns -1. */
int source_add_command(const char *path, struct err *e);
/* e becomes: nothing at `path`, and the command. Returns -1. */
int source_missing(const char *path, struct err *e);

#endif
