/* The names of the built-in chat templates, and recognising a model's own. */
#include "datasets/chat.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/buf.h"
#include "trainer/base/hash.h"
#include "trainer/base/nearest.h"

static const struct {
    const char *name, *adds;
} templates[] = {
#define X(id, name, adds) [id] = {name, adds},
    CHAT_TEMPLATES(X)
#undef X
};
enum { N_TEMPLATES = sizeof templates / sizeof *templates };

const char *chat_name(enum chat_template c) { return templates[c].name; }
const char *chat_adds(enum chat_template c) { return templates[c].adds; }

/* "none, chatml, ... or llama3.1" */
static const char *all_names(int from, char *text, size_t room)
{
    struct buf b = {0};
    for (int i = from; i < N_TEMPLATES; i++)
        buf_printf(&b, "%s%s", i == from ? "" : i == N_TEMPLATES - 1 ? " or " : ", ", templates[i].name);
    snprintf(text, room, "%s", b.data ? b.data : "");
    buf_free(&b);
    return text;
}

int chat_from_name(const char *name, enum chat_template *out, struct err *e)
{
    const char *names[N_TEMPLATES];
    char text[256];
    for (int i = 0; i < N_TEMPLATES; i++) {
        names[i] = templates[i].name;
        if (strcmp(name, templates[i].name) == 0) {
            *out = (enum chat_template)i;
            return 0;
        }
    }
    const char *nearest = nearest_word(name, names, N_TEMPLATES);
    if (nearest != NULL)
        return err_set(e, ERR_CONFIG, "template: '%s', expected %s. Did you mean '%s'?", name, all_names(0, text, sizeof text),
                       nearest);
    return err_set(e, ERR_CONFIG, "template: '%s', expected %s", name, all_names(0, text, sizeof text));
}

/* SHA-256 of the Jinja text without white space around it. */
static const struct {
    const char *hash;
    enum chat_template template;
} known[] = {
    {"153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", CHAT_CHATML},  /* the usual four lines */
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", CHAT_SMOLLM2}, /* SmolLM2-Instruct */
    {"55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", CHAT_QWEN25},  /* Qwen2.5-Instruct */
    {"87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5", CHAT_QWEN3},   /* Qwen3 */
    {"a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8",
     CHAT_QWEN3}, /* Qwen3, the revision that allows content to be absent */
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", CHAT_LLAMA3},  /* Meta-Llama-3-Instruct */
    {"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", CHAT_LLAMA31}, /* Llama-3.1-Instruct */
    {"d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f",
     CHAT_LLAMA31}, /* Llama-3.2-Instruct: today's date instead */
};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int chat_from_jinja(const char *jinja, size_t n, enum chat_template *out, struct err *e)
{
    if (jinja == NULL) {
        *out = CHAT_NONE;
        return 0;
    }
    while (n > 0 && is_space(jinja[n - 1]))
        n--;
    while (n > 0 && is_space(*jinja)) {
        jinja++;
        n--;
    }
    if (n == 0) {
        *out = CHAT_NONE;
        return 0;
    }
    uint8_t hash[HASH_BYTES];
    char hex[HASH_HEX], text[256];
    hash_bytes(jinja, n, hash);
    hash_hex(hash, hex);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].hash, hex) == 0) {
            *out = known[i].template;
            return 0;
        }
    return err_set(e, ERR_MODEL,
                   "chat template: the model's own has the hash %s, expected one that lorat knows. If the model was tuned "
                   "with one of the built-in templates, name it in data.template: %s",
                   hex, all_names(1, text, sizeof text));
}
