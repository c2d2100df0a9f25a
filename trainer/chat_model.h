/* chat_model.h - a model opened for answering: base weights, maybe an adapter, tokenizer and template. No dataset, no training state. */
#ifndef LORAT_CHAT_MODEL_H
#define LORAT_CHAT_MODEL_H

#include "trainer/generate.h"
#include "trainer/job.h"

/* Where the base lies while it answers; auto: on the device, or, where it does not fit, in host memory. Each gives the same answers. */
enum chat_placement { CHAT_PLACEMENT_AUTO, CHAT_PLACEMENT_RESIDENT, CHAT_PLACEMENT_HOST };
struct chat_options {
    const char *model;
    const char *adapter;  /* PEFT folder, or NULL */
    const char *tmpl;     /* "auto" or a built-in; "none" = the prompt is the text itself */
    const char *system;   /* system turn, or NULL */
    enum cfg_device device;
    enum cfg_precision precision;
    enum chat_placement placement;
    int32_t threads, max_new;
};
struct chat_prompt {
    const char *text;     /* borrowed */
    struct ids tokens;
    int32_t *answer;      /* (max_new) */
};
struct chat_model {
    struct job job;       /* source, adapter table, device, model; no plan of a run */
    struct chat_options options;
    struct chat_prompt *prompts;
    struct prompt *list;  /* what generate() works on */
    int n;
};
/* Open everything and encode the prompts; memory is sized for them. */
int chat_model_open(struct chat_model *m, const struct chat_options *o, const char *const *prompts, int n, struct err *e);
/* Answer all prompts. on_token as in generate_options, may be NULL. */
int chat_model_answer(struct chat_model *m, int (*on_token)(void *arg, int prompt, int32_t id, struct err *e), void *arg, struct err *e);
/* The text of answer i appended. */
void chat_model_text(const struct chat_model *m, int i, struct buf *out);
void chat_model_close(struct chat_model *m);

/* lora.* of a config from an adapter's own config: rank, alpha, scaling, targets; dropout off. */
int chat_adapter_config(const char *dir, struct config *c, struct err *e);

#endif
