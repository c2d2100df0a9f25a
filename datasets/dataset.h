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
    const char *const *inputs; /* JSON lines files, forms may be mixed: jsonl.h */
    int n_inputs;
    const char *output;
    double validation; /* share of documents for the validation group, 0 = none; chosen by a hash of their number and the seed */
    uint64_t seed;
    const struct tokenizer *tokenizer; /* NULL: only {"tokens"} inputs; the tokenizer is then recorded as unknown */
    enum chat_template template;
    bool chat_pairs;        /* {"prompt", "completion"} too go through the template; otherwise raw text, the completion trained */
    int32_t eos;            /* appended to {"text"} documents with weight 1; -1 = none */
    int32_t vocab;          /* ids are checked against this; 0 = unknown */
    bool replace;           /* an existing output is otherwise refused */
    const int32_t *end_ids; /* the model's end tokens, for the "end token not trained" warning */
    int n_end_ids;
};
struct dataset_facts {
    char tokenizer[65]; /* hex hash, or "unknown" */
    char template_name[32];
    int32_t vocab;     /* 0 = unknown */
    int32_t max_token; /* the largest id present in any group */
    struct {
        bool present;
        int64_t documents, tokens, targets; /* targets: tokens with weight > 0 that are not a document's first */
        int64_t longest;
        int64_t without_targets; /* documents that carry no target */
        int64_t ends;            /* documents that hold one of the model's end tokens */
        int64_t ends_trained;    /* documents in which such a token has weight > 0 */
        int64_t masked;          /* documents with weight 0 on a token that is not their first: what chat data look like */
    } group[2];
    char seal[65];    /* hex SHA-256: the dataset's identity */
    char source[512]; /* inputs, as recorded */
    char notes[1024]; /* building only: lines about what was ignored or left out of the inputs; "" otherwise */
};
/* Streams the inputs; memory does not grow with them. On failure, and when a stop is requested (ERR_STOPPED), nothing is left at
 * `output` nor beside it. Errors name file and line. A training group without a single target token is refused. */
int dataset_build(const struct build_options *o, struct dataset_facts *facts, struct err *e);
/* What a person should know before training on it, a line each (no target in many documents, end tokens that are never trained);
 * appends nothing when all is well. */
struct buf;
void dataset_warnings(const struct dataset_facts *f, struct buf *out);

/* ---- reading facts and documents (one thread) ---- */
struct dataset; /* opaque */
/* Verifies the seal before HDF5 sees the file (cached by size and mtime beside the file's path under `cache_dir`, NULL = no
 * cache). unsealed: accept a file without a seal after probing it in a child process. */
int dataset_open(const char *path, bool unsealed, const char *cache_dir, struct dataset **out, struct err *e);
void dataset_close(struct dataset *d);
const struct dataset_facts *dataset_facts(const struct dataset *d);
/* Document i of a group, 0-based. `out` is overwritten and its memory reused; begin with zero, end with document_free. */
struct document {
    int32_t *tokens; /* (n) */
    float *weights;  /* (n); weights[0] is never used */
    size_t n, cap;
};
int dataset_document(struct dataset *d, enum dataset_group g, int64_t i, struct document *out, struct err *e);
void document_free(struct document *d);

#endif
