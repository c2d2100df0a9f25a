/* config.h - the job file. One table (config_table.c) drives parsing, checking, defaults, the resolved print and the reference. */
#ifndef LORAT_CONFIG_H
#define LORAT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

enum { CONFIG_TEXT = 1024, CONFIG_MAX_PROMPTS = 32, CONFIG_MAX_TARGETS = 7, CONFIG_MAX_CARDS = 16 };

enum cfg_schedule { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT };
enum cfg_scaling { SCALING_STANDARD, SCALING_RSLORA };
enum cfg_device { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA };
enum cfg_precision { PRECISION_AUTO, PRECISION_BF16, PRECISION_F32 };
enum cfg_parallel { PARALLEL_AUTO, PARALLEL_DATA, PARALLEL_SHARDED };
enum cfg_interconnect { INTERCONNECT_AUTO, INTERCONNECT_NVLINK, INTERCONNECT_PCIE };
enum cfg_placement { PLACEMENT_RESIDENT, PLACEMENT_HOST };
enum cfg_recompute { RECOMPUTE_AUTO, RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL };
enum cfg_too_long { CFG_TOO_LONG_AUTO, CFG_TOO_LONG_SPLIT, CFG_TOO_LONG_DROP, CFG_TOO_LONG_TRUNCATE };

/* A moment that comes round: every `steps` steps, or every `seconds` (the other is 0; both 0 = never). */
struct cfg_every {
    int64_t steps;
    double seconds;
};

struct config {
    char name[128];
    int64_t seed;
    struct {
        char path[CONFIG_TEXT];
        enum cfg_placement placement;
    } model;
    struct {
        char train[CONFIG_TEXT];
        char tmpl[32]; /* data.template: "auto" or a built-in's name; used by eval.prompts */
        int32_t sequence_length;
        bool packing, shuffle, allow_unsealed;
        enum cfg_too_long too_long;
    } data;
    struct {
        int32_t rank;
        double alpha, dropout;
        uint32_t targets; /* bit per module in the order q k v o gate up down */
        enum cfg_scaling scaling;
        char start_from[CONFIG_TEXT]; /* "" = null */
    } lora;
    struct {
        double epochs;     /* a whole number or a fraction of the first epoch's length; null = 0 when max_steps is given */
        int64_t max_steps; /* 0 = null */
        int32_t batch;
        int32_t micro_batch; /* 0 = auto */
        double learning_rate;
        enum cfg_schedule schedule;
        int64_t warmup_steps;
        double weight_decay, beta1, beta2, epsilon, max_grad_norm; /* max_grad_norm 0 = no clipping */
        int32_t max_skipped; /* non-finite steps in a row before the run gives up */
    } train;
    struct {
        enum cfg_device device;
        uint32_t gpus;        /* bit per card; 0 = auto */
        int32_t ranks;        /* processes on the CPU; a card each on CUDA, where gpus says which */
        enum cfg_parallel parallel;
        enum cfg_interconnect interconnect;
        double peer_timeout;  /* seconds */
        enum cfg_precision precision;
        enum cfg_recompute recompute;
        int64_t memory_limit; /* bytes; 0 = null: what the device has free */
        int32_t threads;      /* 0 = all */
    } compute;
    struct {
        struct cfg_every every;
        int64_t max_tokens; /* 0 = the whole validation group */
        char prompts[CONFIG_MAX_PROMPTS][CONFIG_TEXT];
        int n_prompts;
        int32_t answer_tokens;
    } eval;
    struct {
        struct cfg_every every;
        int32_t keep;
        bool keep_best;
    } checkpoint;
};

/* What may happen to a key when a run is resumed with a changed job (decisions.md). */
enum config_resume { RESUME_FREE, RESUME_SAID, RESUME_REFUSED };

/* Pure: YAML text (n bytes) into out (all defaults set first). Errors are "<where>:line:column: ...". Strict: unknown key (with the
 * nearest known one), duplicate key, wrong type, out of range, alias, anchor, tag, several documents, nesting over 4. What spans keys
 * is checked too. Jobs that say the same are equal bytes. */
int config_parse(const char *yaml, size_t n, const char *where, struct config *out, struct err *e);
/* Read the file, parse, then apply `sets` ("train.epochs=1", values in YAML) in order, then check what spans keys. */
int config_load(const char *path, const char *const *sets, int n_sets, struct config *out, struct err *e);
/* The resolved job as YAML that parses to the same config. */
void config_write(const struct config *c, struct buf *out);
/* Every key with type, range, default, what a resume allows, meaning: for a terminal, or as Markdown for docs/. */
void config_reference(struct buf *out, bool markdown);
/* Compare a run's recorded job with the one now asked for: a line for each difference ("train.epochs: 3 -> 5") into said;
 * returns -1 (ERR_STATE, naming every refused key) when one of them would silently change the run. */
int config_compare(const struct config *recorded, const struct config *now, struct buf *said, struct err *e);
/* each(key, values) for every key in which the n jobs (at most CONFIG_MAX_JOBS) are not all the same; values[i] is YAML. */
enum { CONFIG_MAX_JOBS = 16 };
int config_differ(const struct config *const *jobs, int n, void (*each)(void *arg, const char *key, const char *const *values), void *arg,
                  struct err *e);
/* The divisor of n (at least 1) that is nearest to `wanted`. */
int config_nearest_divisor(int n, int wanted);
/* "q_proj", ... for bit 0..6. */
const char *config_target_name(int bit);

#endif
