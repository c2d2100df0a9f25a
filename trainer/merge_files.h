/* merge_files.h - the small files of a merged model folder: config.json, generation_config.json, the tokenizer's. */
#ifndef LORAT_MERGE_FILES_H
#define LORAT_MERGE_FILES_H

#include "checkpoints/hf_export.h"
#include "trainer/source.h"

enum { MERGE_FILES = 12 };
struct merge_files {
    struct hf_file list[MERGE_FILES]; /* names static, bytes owned */
    size_t n;
};
/* From a folder they are copied (config.json with the type that is written); from a GGUF file they are made from its metadata. */
int merge_files_collect(const struct source *s, enum tensor_type type, struct merge_files *out, struct err *e);
void merge_files_free(struct merge_files *f);

#endif
