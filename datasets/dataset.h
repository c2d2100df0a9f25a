/* dataset.h - the tokenized dataset file: a sealed HDF5 file with a "train" and maybe a "validation" group.
 * Layout, seal, splitting and packing: docs/data-format.md. */
#ifndef LORAT_DATASET_H
#define LORAT_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/chat.h"
#include "datasets/tokenizer.h"
#include "trainer/base/err.h"

enum dataset_group { DATASET_TRAIN, DATASET_VALIDATION };

/* ---- building ---- */
struct build_options {
    const char *const *inputs;  /* JSON lines files: {"messages"}, {"text"} or {"tokens","loss"}; may be mixed */
    int n_inputs;
    const char *output;
    double validation;          /* share of documents for the validation group, 0 = none; chosen by a hash of the document's place and the seed */
    uint64_t seed;
    const struct tokenizer *tokenizer; /* NULL: only {"tokens"} inputs; the tokenizer is then recorded as unknown */
    enum chat_template template;
    int32_t eos;                /* appended to {"text"} documents with weight 1; -1 = none */
    int32_t vocab;              /* ids are checked against this; 0 = unknown */
    bool replace;               /* an existing output is otherwise refused */
    const int32_t *end_ids;     /* the model's end tokens, for the "end token not trained" warning */
    int n_end_ids;
};
struct dataset_facts {
    char tokenizer[65];       /* hex hash, or "unknown" */
    char template_name[32];
    int32_t vocab;            /* 0 = unknown */
    int32_t max_token;        /* the largest id present in any group */
    struct {
        bool present;
        int64_t documents, tokens, targets;  /* targets: tokens with weight > 0 that are not a document's first */
        int64_t longest;
        int64_t without_targets;             /* documents that carry no target */
        int64_t ends_trained;                /* documents whose last token is an end token with weight > 0 */
        int64_t ends;                        /* documents whose last token is an end token */
    } group[2];
    char seal[65];            /* hex SHA-256: the dataset's identity */
    char source[512];         /* inputs, as recorded */
};
/* Streams the inputs; memory does not grow with them. On failure nothing is left at `output`. Errors name file and line.
 * A dataset without a single target token is refused. */
int dataset_build(const struct build_options *o, struct dataset_facts *facts, struct err *e);

/* ---- reading facts and documents (one thread) ---- */
struct dataset; /* opaque */
/* Verifies the seal before HDF5 sees the file (cached by size and mtime beside the file's path under `cache_dir`, NULL = no cache).
 * unsealed: accept a file without a seal after probing it in a child process. */
int dataset_open(const char *path, bool unsealed, const char *cache_dir, struct dataset **out, struct err *e);
void dataset_close(struct dataset *d);
const struct dataset_facts *dataset_facts(const struct dataset *d);
/* Document i of a group: tokens and weights appended. */
int dataset_document(struct dataset *d, enum dataset_group g, int64_t i, struct ids *tokens, struct ids *weights, struct err *e);

#endif
