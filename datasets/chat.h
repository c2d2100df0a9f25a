/* chat.h - chat templates as built-in renderers, and which tokens of a conversation carry loss. */
#ifndef LORAT_CHAT_H
#define LORAT_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/tokenizer.h"
#include "trainer/base/err.h"

/* X(enum, name in job files, what it adds by itself) */
#define CHAT_TEMPLATES(X)                                                                                                        \
    X(CHAT_NONE, "none", "nothing: there is no chat template")                                                                   \
    X(CHAT_CHATML, "chatml", "nothing")                                                                                          \
    X(CHAT_SMOLLM2, "smollm2", "SmolLM2's default system turn when the conversation has none")                                   \
    X(CHAT_QWEN25, "qwen2.5", "Qwen2.5's default system turn when the conversation has none")                                    \
    X(CHAT_QWEN3, "qwen3", "an empty think block before the answer that is trained or asked for without one")                    \
    X(CHAT_LLAMA3, "llama3", "the begin-of-text token")                                                                          \
    X(CHAT_LLAMA31, "llama3.1",                                                                                                  \
      "the begin-of-text token and a system turn with \"Cutting Knowledge Date: December 2023\" and \"Today Date: 26 Jul "       \
      "2024\"")
enum chat_template {
#define X(id, name, adds) id,
    CHAT_TEMPLATES(X)
#undef X
};
const char *chat_name(enum chat_template c);
const char *chat_adds(enum chat_template c); /* one sentence: what the template injects */
/* By name; -1 (with the nearest known name in the message) when unknown. */
int chat_from_name(const char *name, enum chat_template *out, struct err *e);
/* By the SHA-256 of the model's own Jinja text (leading and trailing white space stripped). Unknown: ERR_MODEL, naming the hash
 * and the built-ins that a job may name in data.template. NULL text: CHAT_NONE. */
int chat_from_jinja(const char *jinja, size_t n, enum chat_template *out, struct err *e);

struct chat_message {
    const char *role, *content; /* role: system, user, assistant; NUL-terminated role, content with length */
    size_t n;
};
/* Tokens of a conversation, and weights[i] in {0, 1}: 1 on what an assistant turn says and on its end token
 * (ChatML: <|im_end|>, not the newline after it; Llama 3: <|eot_id|>). What the template injects weighs 0. Content never becomes
 * special tokens, except an assistant's own <think> block with Qwen3, whose tags are part of that template. The text is that of
 * the model's own Jinja template; what an assistant says is tokenized apart from the opening of its turn, so that the tokens of a
 * prompt begin those of the conversation that continues it. Appended to both lists, which stay the same length (also on failure:
 * then nothing is appended). prompt: after the messages, the opening of an assistant turn (generation).
 * Refused: no messages, other roles (by number of the message, from 1), a tokenizer without the template's special tokens,
 * CHAT_NONE. */
int chat_render(enum chat_template c, const struct tokenizer *t, const struct chat_message *m, size_t n, bool prompt,
                struct ids *tokens, struct ids *weights, struct err *e);

#endif
