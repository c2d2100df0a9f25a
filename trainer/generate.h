/* generate.h - greedy decoding with a KV cache, several prompts at once, inside memory that the model already has. */
#ifndef LORAT_GENERATE_H
#define LORAT_GENERATE_H

#include "trainer/model.h"

enum { GENERATE_SLOTS = 32 }; /* most prompts side by side */

struct prompt {
    const int32_t *tokens; /* borrowed */
    int32_t n;
    int32_t *answer;       /* room for max_new ids; without the end token */
    int32_t n_answer;      /* out */
    bool ended;            /* out: stopped at an end token, not at max_new or the end of the context */
};
struct generate_options {
    int32_t max_new;
    /* Called for every new token while decoding (may be NULL); a return of -1 ends generation with e filled. */
    int (*on_token)(void *arg, int prompt, int32_t id, struct err *e);
    void *arg;
};
/* The activations arena is used as scratch: no micro-batch may be under way. As many prompts run side by side as fit (which may
 * change the rounding of a product). Stops at every end token of the model's facts. */
int generate(struct model *m, struct prompt *prompts, int n, const struct generate_options *g, struct err *e);
/* Bytes of the activations arena that `slots` prompts side by side of `context` tokens (question and answer) need. m: laid out, maybe not
 * allocated. */
size_t generate_bytes(const struct model *m, int32_t slots, int32_t context);

#endif
