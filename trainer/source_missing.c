#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "trainer/base/buf.h"
#include "trainer/source_internal.h"

/* Where a model's name lives. `exclude`: a second copy of the weights that need not be fetched. `gated`: a licence is asked for
 * first. */
static const struct {
    const char *organisation, *name, *exclude;
    bool gated;
} known[] = {
    {"HuggingFaceTB", "SmolLM2-135M", NULL, false},
    {"HuggingFaceTB", "SmolLM2-135M-Instruct", NULL, false},
    {"HuggingFaceTB", "SmolLM2-360M", NULL, false},
    {"HuggingFaceTB", "SmolLM2-360M-Instruct", NULL, false},
    {"HuggingFaceTB", "SmolLM2-1.7B", NULL, false},
    {"HuggingFaceTB", "SmolLM2-1.7B-Instruct", NULL, false},
    {"Qwen", "Qwen2.5-0.5B", NULL, false},
    {"Qwen", "Qwen2.5-0.5B-Instruct", NULL, false},
    {"Qwen", "Qwen2.5-1.5B", NULL, false},
    {"Qwen", "Qwen2.5-1.5B-Instruct", NULL, false},
    {"Qwen", "Qwen2.5-3B", NULL, false},
    {"Qwen", "Qwen2.5-3B-Instruct", NULL, false},
    {"Qwen", "Qwen2.5-7B", NULL, false},
    {"Qwen", "Qwen2.5-7B-Instruct", NULL, false},
    {"Qwen", "Qwen2.5-14B", NULL, false},
    {"Qwen", "Qwen2.5-14B-Instruct", NULL, false},
    {"Qwen", "Qwen3-0.6B", NULL, false},
    {"Qwen", "Qwen3-0.6B-Base", NULL, false},
    {"Qwen", "Qwen3-1.7B", NULL, false},
    {"Qwen", "Qwen3-1.7B-Base", NULL, false},
    {"Qwen", "Qwen3-4B", NULL, false},
    {"Qwen", "Qwen3-4B-Base", NULL, false},
    {"Qwen", "Qwen3-8B", NULL, false},
    {"Qwen", "Qwen3-8B-Base", NULL, false},
    {"Qwen", "Qwen3-14B", NULL, false},
    {"Qwen", "Qwen3-14B-Base", NULL, false},
    {"meta-llama", "Llama-3.1-8B", "original/*", true},
    {"meta-llama", "Llama-3.1-8B-Instruct", "original/*", true},
    {"meta-llama", "Llama-3.2-1B", "original/*", true},
    {"meta-llama", "Llama-3.2-1B-Instruct", "original/*", true},
    {"meta-llama", "Llama-3.2-3B", "original/*", true},
    {"meta-llama", "Llama-3.2-3B-Instruct", "original/*", true},
    {"meta-llama", "Meta-Llama-3-8B", "original/*", true},
    {"meta-llama", "Meta-Llama-3-8B-Instruct", "original/*", true},
    {"mistralai", "Mistral-7B-v0.3", "consolidated*", true},
    {"mistralai", "Mistral-7B-Instruct-v0.3", "consolidated*", true},
};

/* A word of a shell command, quoted when it needs to be. */
static void put_word(struct buf *b, const char *word)
{
    bool plain = word[0] != '\0';
    for (const char *p = word; *p; p++)
        plain = plain && (isalnum((unsigned char)*p) || strchr("_-./:@%+,=~", *p) != NULL);
    if (plain) {
        buf_puts(b, word);
        return;
    }
    buf_puts(b, "'");
    for (const char *p = word; *p; p++)
        if (*p == '\'')
            buf_puts(b, "'\\''");
        else
            buf_add(b, p, 1);
    buf_puts(b, "'");
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

/* "models/Qwen3-8B/" -> "models/Qwen3-8B", and the last part of it. */
static const char *last_part(const char *path, char trimmed[SOURCE_MAX_PATH])
{
    snprintf(trimmed, SOURCE_MAX_PATH, "%s", path);
    for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--)
        trimmed[n - 1] = '\0';
    char *slash = strrchr(trimmed, '/');
    return slash == NULL ? trimmed : slash + 1;
}

int source_add_command(const char *path, struct err *e)
{
    char folder[SOURCE_MAX_PATH];
    const char *name = last_part(path, folder);
    const char *exclude = "original/*";
    bool gated = false;
    struct buf b = {0};
    buf_puts(&b, "hf download ");
    if (ends_in(name, ".gguf")) {
        buf_puts(&b, "ORG/NAME-GGUF ");
        put_word(&b, name);
        if (name == folder)
            snprintf(folder, sizeof folder, ".");
        else
            folder[name - folder - 1 > 0 ? name - folder - 1 : 1] = '\0';
        exclude = NULL;
    } else {
        size_t i = 0, n = sizeof known / sizeof known[0];
        while (i < n && strcasecmp(name, known[i].name) != 0)
            i++;
        if (i < n) {
            buf_printf(&b, "%s/%s", known[i].organisation, known[i].name);
            exclude = known[i].exclude;
            gated = known[i].gated;
        } else
            buf_puts(&b, "ORG/NAME");
    }
    if (exclude != NULL)
        buf_printf(&b, " --exclude \"%s\"", exclude);
    buf_puts(&b, " --local-dir ");
    put_word(&b, folder);
    if (gated)
        buf_puts(&b, "\n(if it is refused: accept the licence on the model's page, then: hf auth login)");
    if (e != NULL && b.data != NULL && !b.failed) {
        size_t n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, ". Fetch it with:\n%s", b.data);
    }
    buf_free(&b);
    return -1;
}

int source_missing(const char *path, struct err *e)
{
    char shown[300];
    snprintf(shown, sizeof shown, "%.*s%s", 250, path, strlen(path) > 250 ? "..." : "");
    err_set(e, ERR_MODEL,
            "%s: there is nothing here, expected a model: a folder with config.json and safetensors files, or a .gguf file",
            shown);
    return source_add_command(path, e);
}
