/* config_table.h - the one table behind the job file, for the files config_*.c. */
#ifndef LORAT_CONFIG_TABLE_H
#define LORAT_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"
#include "trainer/config.h"
#include "trainer/yaml_tree.h"

enum config_type {
    TYPE_TEXT,    /* char[size] */
    TYPE_NAME,    /* char[size], usable as a folder's name */
    TYPE_WORD,    /* char[size], one of choices */
    TYPE_CHOICE,  /* an enum: the index in choices */
    TYPE_BOOL,    /* bool */
    TYPE_INT32,   /* int32_t in min..max */
    TYPE_INT64,   /* int64_t in min..max */
    TYPE_NUMBER,  /* double in min..max */
    TYPE_BYTES,   /* int64_t */
    TYPE_EVERY,   /* struct cfg_every */
    TYPE_TARGETS, /* uint32_t bits */
    TYPE_CARDS,   /* uint32_t bits */
    TYPE_PROMPTS  /* char[CONFIG_MAX_PROMPTS][CONFIG_TEXT] */
};

struct config_key {
    const char *name; /* "train.epochs" */
    enum config_type type;
    size_t offset, size;        /* in struct config */
    double min, max;            /* of numbers; max below 2^53, so that every bound is exact */
    const char *const *choices; /* NULL-terminated */
    const char *zero;           /* the word that stands for 0 or "": "null" or "auto"; NULL = there is none */
    const char *preset;         /* the default as YAML; NULL = the key is required */
    enum config_resume resume;
    const char *meaning; /* sentences */
    const char *cost;    /* what it costs in memory or time; NULL = nothing to say */
};

extern const struct config_key config_keys[];
extern const int config_n_keys;
enum { CONFIG_MAX_KEYS = 64 };

const struct config_key *config_find(const char *name);
/* Advice for an unknown key, into out: ", did you mean train.epochs?", ", expected one of ..."; section "" = top level. */
void config_suggest(const char *section, const char *key, char *out, size_t n);
/* "train" of train.epochs, "" of name; returns out. */
const char *config_section(const struct config_key *key, char out[32]);

/* One value into its field, which is cleared first. The message does not name the place ("found ..., expected ..."); *at is the
 * item it speaks of: the value or one element of it. */
int config_value_read(const struct config_key *key, const struct yaml_item *item, struct config *out, const struct yaml_item **at,
                      struct err *e);
/* The field as YAML that reads back to the same bits. */
void config_value_write(const struct config_key *key, const struct config *c, struct buf *out);
/* "a number between 0 and 10, or null" */
void config_expected(const struct config_key *key, struct buf *out);

#endif
