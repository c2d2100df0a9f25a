/* Conversations written as each model's Jinja template writes them, token by token. */
#include <stdio.h>
#include <string.h>

#include "datasets/chat.h"
#include "trainer/base/buf.h"
#include "trainer/base/mem.h"

struct render {
    enum chat_template template;
    const struct tokenizer *t;
    struct ids *tokens, *weights;
    struct err *e;
};
struct span {
    const char *s;
    size_t n;
};

static struct span span(const char *s) { return (struct span){s, strlen(s)}; }

static int weigh(struct render *r, int32_t weight)
{
    while (r->weights->n < r->tokens->n)
        TRY(ids_add(r->weights, weight, r->e));
    return 0;
}

/* The parts as one text, so that tokens may join them; never special. */
static int put3(struct render *r, const char *before, struct span text, const char *after, int32_t weight)
{
    struct buf all = {0};
    buf_puts(&all, before);
    buf_add(&all, text.s, text.n);
    buf_puts(&all, after);
    int rc = all.failed ? mem_fail(r->e, "a chat message", text.n) : 0;
    if (rc == 0 && all.n > 0)
        rc = tokenizer_encode(r->t, all.data, all.n, false, r->tokens, r->e);
    buf_free(&all);
    return rc ? rc : weigh(r, weight);
}

static int put(struct render *r, const char *before, struct span text, int32_t weight)
{
    return put3(r, before, text, "", weight);
}

static int put_token(struct render *r, const char *text, int32_t weight)
{
    int32_t id = tokenizer_find(r->t, text);
    if (id < 0)
        return err_set(r->e, ERR_MODEL,
                       "chat template %s: the tokenizer has no token %s, expected one. Choose a template that fits the model",
                       chat_name(r->template), text);
    TRY(ids_add(r->tokens, id, r->e));
    return weigh(r, weight);
}

static bool is_role(const struct chat_message *m, const char *role) { return strcmp(m->role, role) == 0; }

static struct span content(const struct chat_message *m)
{
    return (struct span){m->content ? m->content : "", m->content ? m->n : 0};
}

/* ---- ChatML: SmolLM2, Qwen2.5, Qwen3 and others ---- */

static int chatml_open(struct render *r, const char *role, struct span text, int32_t weight)
{
    char opening[32];
    snprintf(opening, sizeof opening, "%s\n", role);
    TRY(put_token(r, "<|im_start|>", 0));
    if (weight == 0)
        return put(r, opening, text, 0);
    TRY(put(r, opening, span(""), 0));
    return put(r, "", text, weight);
}

static int chatml_close(struct render *r, int32_t weight)
{
    TRY(put_token(r, "<|im_end|>", weight));
    return put(r, "\n", span(""), 0);
}

static int chatml_turn(struct render *r, const char *role, struct span text)
{
    int32_t weight = strcmp(role, "assistant") == 0;
    TRY(chatml_open(r, role, text, weight));
    return chatml_close(r, weight);
}

/* ---- Qwen3's think blocks ---- */

static const char *find_last(struct span s, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = s.n >= n ? s.n - n + 1 : 0; i-- > 0;)
        if (memcmp(s.s + i, word, n) == 0)
            return s.s + i;
    return NULL;
}

static struct span strip_newlines(struct span s, bool left, bool right)
{
    while (left && s.n > 0 && *s.s == '\n') {
        s.s++;
        s.n--;
    }
    while (right && s.n > 0 && s.s[s.n - 1] == '\n')
        s.n--;
    return s;
}

/* "<think>reasoning</think>answer" taken apart: the answer is what follows the last </think>, the reasoning what stands between
 * the first </think> and the last <think> before it. */
static bool split_think(struct span *text, struct span *reasoning)
{
    *reasoning = span("");
    const char *first = text->n ? memmem(text->s, text->n, "</think>", 8) : NULL;
    if (first == NULL)
        return false;
    struct span before = {text->s, (size_t)(first - text->s)};
    const char *open = find_last(before, "<think>"), *last = find_last(*text, "</think>");
    if (open != NULL)
        before = (struct span){open + 7, (size_t)(first - open - 7)};
    *reasoning = strip_newlines(before, true, true);
    *text = strip_newlines((struct span){last + 8, (size_t)(text->s + text->n - last - 8)}, true, false);
    return true;
}

static int think_block(struct render *r, struct span reasoning)
{
    int32_t weight = reasoning.n > 0; /* an empty block is the template's doing */
    TRY(put_token(r, "<think>", weight));
    TRY(put3(r, "\n", reasoning, "\n", weight));
    TRY(put_token(r, "</think>", weight));
    return put(r, "\n\n", span(""), weight);
}

/* The block is written for answers to the last question only: all of them that have one, and the last message in any case. */
static int qwen3_assistant(struct render *r, struct span text, bool answers_last, bool last)
{
    struct span reasoning;
    split_think(&text, &reasoning);
    TRY(chatml_open(r, "assistant", span(""), 1));
    if (answers_last && (last || reasoning.n > 0)) {
        TRY(think_block(r, reasoning));
        text = strip_newlines(text, true, false);
    }
    TRY(put(r, "", text, 1));
    return chatml_close(r, 1);
}

static bool wrapped(struct span s, const char *head, const char *tail)
{
    size_t h = strlen(head), t = strlen(tail);
    return s.n >= h && s.n >= t && memcmp(s.s, head, h) == 0 && memcmp(s.s + s.n - t, tail, t) == 0;
}

/* The last message that is a question and not the result of a tool. */
static size_t last_question(const struct chat_message *m, size_t n)
{
    for (size_t i = n; i-- > 0;)
        if (is_role(&m[i], "user") && !wrapped(content(&m[i]), "<tool_response>", "</tool_response>"))
            return i;
    return n - 1;
}

static int render_chatml(struct render *r, const struct chat_message *m, size_t n, bool prompt)
{
    const char *added = r->template == CHAT_SMOLLM2  ? "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
                        : r->template == CHAT_QWEN25 ? "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
                                                     : NULL;
    if (added != NULL && !is_role(&m[0], "system"))
        TRY(chatml_turn(r, "system", span(added)));
    size_t question = last_question(m, n);
    for (size_t i = 0; i < n; i++)
        if (r->template == CHAT_QWEN3 && is_role(&m[i], "assistant"))
            TRY(qwen3_assistant(r, content(&m[i]), i > question, i == n - 1));
        else
            TRY(chatml_turn(r, m[i].role, content(&m[i])));
    if (!prompt)
        return 0;
    TRY(chatml_open(r, "assistant", span(""), 0));
    return r->template == CHAT_QWEN3 ? think_block(r, span("")) : 0;
}

/* ---- Llama 3 ---- */

/* The length of the white space character at the start of s, as Python's str.strip and so Jinja's trim see it; 0 = none. */
static size_t space_at(const char *s, size_t n)
{
    unsigned char c = n > 0 ? (unsigned char)s[0] : 'x', d = n > 1 ? (unsigned char)s[1] : 0, f = n > 2 ? (unsigned char)s[2] : 0;
    if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f))
        return 1;
    if (c == 0xc2 && (d == 0x85 || d == 0xa0))
        return 2;
    bool wide = (c == 0xe1 && d == 0x9a && f == 0x80) ||                                                         /* U+1680 */
                (c == 0xe2 && d == 0x80 && ((f >= 0x80 && f <= 0x8a) || f == 0xa8 || f == 0xa9 || f == 0xaf)) || /* U+2000.. */
                (c == 0xe2 && d == 0x81 && f == 0x9f) || (c == 0xe3 && d == 0x80 && f == 0x80); /* U+205F, U+3000 */
    return wide ? 3 : 0;
}

static struct span trim(struct span s)
{
    for (size_t k; (k = space_at(s.s, s.n)) > 0; s.n -= k)
        s.s += k;
    for (size_t k = 1; k <= 3 && k <= s.n;) {
        if (space_at(s.s + s.n - k, k) == k) {
            s.n -= k;
            k = 1;
        } else {
            k++;
        }
    }
    return s;
}

static int llama3_open(struct render *r, const char *role)
{
    TRY(put_token(r, "<|start_header_id|>", 0));
    TRY(put(r, role, span(""), 0));
    return put_token(r, "<|end_header_id|>", 0);
}

static int llama3_turn(struct render *r, const struct chat_message *m)
{
    struct span text = trim(content(m));
    int32_t weight = is_role(m, "assistant");
    TRY(llama3_open(r, m->role));
    if (weight) {
        TRY(put(r, "\n\n", span(""), 0));
        TRY(put(r, "", text, 1));
    } else {
        TRY(put(r, "\n\n", text, 0));
    }
    return put_token(r, "<|eot_id|>", weight);
}

static int render_llama3(struct render *r, const struct chat_message *m, size_t n, bool prompt)
{
    size_t i = 0;
    TRY(put_token(r, "<|begin_of_text|>", 0));
    if (r->template == CHAT_LLAMA31) {
        struct span system = span("");
        if (is_role(&m[0], "system"))
            system = trim(content(&m[i++]));
        TRY(llama3_open(r, "system"));
        TRY(put(r, "\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n", system, 0));
        TRY(put_token(r, "<|eot_id|>", 0));
    }
    for (; i < n; i++)
        TRY(llama3_turn(r, &m[i]));
    if (!prompt)
        return 0;
    TRY(llama3_open(r, "assistant"));
    return put(r, "\n\n", span(""), 0);
}

/* ---- */

static int render(struct render *r, const struct chat_message *m, size_t n, bool prompt)
{
    if (r->template == CHAT_NONE)
        return err_set(r->e, ERR_CONFIG,
                       "chat: there is no chat template, expected one for a conversation. Name one in data.template");
    if (n == 0)
        return err_set(r->e, ERR_DATA, "chat: the conversation has no messages, expected at least one");
    for (size_t i = 0; i < n; i++)
        if (m[i].role == NULL || !(is_role(&m[i], "system") || is_role(&m[i], "user") || is_role(&m[i], "assistant")))
            return err_set(r->e, ERR_DATA,
                           "chat: message %zu has the role '%.40s', expected system, user or assistant. Other roles, such as "
                           "those of tools, are not supported",
                           i + 1, m[i].role ? m[i].role : "");
    if (r->template == CHAT_LLAMA3 || r->template == CHAT_LLAMA31)
        return render_llama3(r, m, n, prompt);
    return render_chatml(r, m, n, prompt);
}

int chat_render(enum chat_template c, const struct tokenizer *t, const struct chat_message *m, size_t n, bool prompt,
                struct ids *tokens, struct ids *weights, struct err *e)
{
    struct render r = {c, t, tokens, weights, e};
    size_t n_tokens = tokens->n, n_weights = weights->n;
    if (n_tokens != n_weights)
        return err_set(e, ERR_INTERNAL, "chat: %zu tokens and %zu weights, expected as many of each", n_tokens, n_weights);
    if (render(&r, m, n, prompt) == 0)
        return 0;
    tokens->n = n_tokens;
    weights->n = n_weights;
    return -1;
}
