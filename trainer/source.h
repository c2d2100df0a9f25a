/* source.h - a base model on disk, whatever its format: facts, tensors under one naming, tokenizer and template, identity. */
#ifndef LORAT_SOURCE_H
#define LORAT_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/gguf.h"
#include "checkpoints/tensor.h"
#include "datasets/chat.h"
#include "datasets/tokenizer.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"
#include "trainer/facts.h"

/* The tensors of a decoder. Per layer unless marked (one). */
enum role {
    ROLE_EMBED /* (one) (V, D) */, ROLE_FINAL_NORM /* (one) (D) */, ROLE_HEAD /* (one) (V, D), absent when tied */,
    ROLE_NORM1 /* (D) */, ROLE_Q, ROLE_K, ROLE_V, ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS, ROLE_Q_NORM, ROLE_K_NORM, ROLE_O,
    ROLE_NORM2, ROLE_GATE, ROLE_UP, ROLE_DOWN, ROLE_COUNT
};

struct source {
    char path[1024];
    bool is_gguf;
    struct facts facts;
    struct tensor_list tensors; /* empty when opened for planning */
    struct gguf *gguf;          /* NULL for a folder */
};

/* Open a folder or a .gguf file. plan_only: config.json is enough, no weights are looked for. A path that is not there gets a
 * message with the command that brings it (`hf download ORG/NAME --local-dir PATH`; known names get their repository).
 * Every tensor of the file is accounted for: used, known and derivable (rope_freqs, tied heads), or an error by name. */
int source_open(const char *path, bool plan_only, struct source *out, struct err *e);
void source_close(struct source *s);
/* The Hugging Face name of a tensor ("model.layers.3.self_attn.q_proj.weight"), and its shape; rank 1 or 2. */
void source_hf_name(enum role r, int layer, char name[96]);
void source_shape(const struct facts *f, enum role r, int64_t shape[2], int *rank);
bool source_has(const struct source *s, enum role r); /* this model has such a tensor */
/* Read rows [row0, row0+rows) of a tensor as `to`, in Hugging Face's row order (q and k rows of GGUF llama files un-permuted). */
int source_read(const struct source *s, enum role r, int layer, int64_t row0, int64_t rows, enum dtype to, void *dst, struct err *e);
/* Hash over names, shapes and stored bytes of all tensors, cached under cache_dir (NULL: no cache) by path, size and mtime. */
int source_identity(const struct source *s, const char *cache_dir, char hex[65], struct err *e);
/* The files that were opened, each by path, inode, size and times, appended as text: the same text, the same bytes, as far as the file
 * system's clock tells. Reads nothing of them, and so serves as a key and between ranks. */
int source_stamp(const struct source *s, struct buf *out, struct err *e);
/* The tokenizer. *out = NULL with return 0 when a folder has none. */
int source_tokenizer(const struct source *s, struct tokenizer **out, struct err *e);
/* The chat template: name = "auto" recognises the model's own by hash, otherwise the named built-in. CHAT_NONE when there is none. */
int source_template(const struct source *s, const char *name, enum chat_template *out, struct err *e);

#endif
