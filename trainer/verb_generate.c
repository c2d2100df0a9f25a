/* verb_generate.c - `lorat generate`: answers of a base model, with or without an adapter. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/stop.h"
#include "trainer/chat_model.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"model", "PATH", "the base model: a Hugging Face folder or a .gguf file", 0, false},
    {"adapter", "DIR", "an adapter folder (adapter_config.json and adapter_model.safetensors): a run's adapter/, a checkpoint, or PEFT's", 0, false},
    {"prompt", "TEXT", "what the user says; may be repeated", 0, true},
    {"prompts", "FILE", "prompts from a file, one a line", 0, false},
    {"system", "TEXT", "a system turn before the prompt", 0, false},
    {"max-new", "N", "most new tokens of an answer (default 128)", 0, false},
    {"template", "NAME", "chat template: auto (the model's own, the default), a built-in, or none (the prompt is the text itself)", 0, false},
    {"device", "NAME", "auto (default), cpu or cuda", 0, false},
    {"precision", "NAME", "auto (default), bf16 or f32", 0, false},
    {"placement", "NAME", "where the base lies: auto (default: host when a card has no room for it), resident or host (as model.placement of a job)", 0, false},
    {"threads", "N", "CPU threads (default: all)", 0, false},
    {"json", NULL, "one JSON object a line: {\"prompt\", \"answer\", \"ended\"}", 0, false},
};
static const struct option_table table = {
    .verb = "generate",
    .args = "",
    .about = "Answer prompts, greedily, with the model's chat template and a key/value cache. Several prompts are answered side by side.",
    .example = "lorat generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --adapter runs/quickstart/adapter --prompt \"Why is the sky blue?\"",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
};

struct prompts {
    const char **text; /* list owned; texts borrowed from the command line or from `file` */
    int n;
    char *file;
};

static int add(struct prompts *p, const char *text, struct err *e)
{
    const char **more = mem_realloc(p->text, (size_t)p->n + 1, sizeof *more);
    if (more == NULL)
        return mem_fail(e, "the prompts", ((size_t)p->n + 1) * sizeof *more);
    p->text = more;
    p->text[p->n++] = text;
    return 0;
}

static int read_prompts(const struct options *o, struct prompts *p, struct err *e)
{
    const char *path = options_value(o, "prompts");
    size_t n;
    for (size_t i = 0; options_nth(o, "prompt", i) != NULL; i++)
        TRY(add(p, options_nth(o, "prompt", i), e));
    if (path != NULL) {
        TRY(io_read_file(path, ERR_IO, 16 << 20, &p->file, &n, e));
        char *rest = p->file;
        for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
            size_t length = strcspn(line, "\r");
            line[length] = '\0';
            if (length > 0)
                TRY(add(p, line, e));
        }
    }
    if (p->n == 0)
        FAIL(e, ERR_USAGE, "lorat generate: found no prompt, expected --prompt TEXT or --prompts FILE with at least one line");
    return 0;
}

/* The place of an option's word in a list whose order is the enum's; the first when it is not given. */
static int pick(const struct options *o, const char *name, const char *const *words, int n, int *out, struct err *e)
{
    const char *word = options_value(o, name);
    *out = 0;
    if (word == NULL)
        return 0;
    while (*out < n && strcmp(words[*out], word) != 0)
        ++*out;
    if (*out == n)
        FAIL(e, ERR_USAGE, "--%s %s: unknown, expected %s, %s or %s", name, word, words[0], words[1], words[2]);
    return 0;
}

static int read_options(const struct options *o, struct chat_options *c, struct err *e)
{
    int64_t max_new = 128, threads = 0;
    static const char *const devices[] = {"auto", "cpu", "cuda"}, *const precisions[] = {"auto", "bf16", "f32"},
                             *const placements[] = {"auto", "resident", "host"};
    int device, precision, placement;
    TRY(options_i64(o, "max-new", 1, 1 << 20, &max_new, e));
    TRY(options_i64(o, "threads", 0, 1024, &threads, e));
    TRY(pick(o, "device", devices, 3, &device, e));
    TRY(pick(o, "precision", precisions, 3, &precision, e));
    TRY(pick(o, "placement", placements, 3, &placement, e));
    *c = (struct chat_options){.model = options_value(o, "model"), .adapter = options_value(o, "adapter"), .system = options_value(o, "system"),
                               .tmpl = options_value(o, "template") ? options_value(o, "template") : "auto", .threads = (int32_t)threads,
                               .max_new = (int32_t)max_new, .device = (enum cfg_device)device,
                               .precision = (enum cfg_precision)precision, .placement = (enum chat_placement)placement};
    if (c->model == NULL)
        FAIL(e, ERR_USAGE, "lorat generate: found no --model, expected a model folder or a .gguf file");
    return 0;
}

struct stream {
    const struct chat_model *m;
};
static int write_token(void *arg, int prompt, int32_t id, struct err *e)
{
    const struct stream *s = arg;
    size_t n;
    const char *bytes = tokenizer_token(s->m->job.tokenizer, id, &n);
    if (bytes != NULL)
        fwrite(bytes, 1, n, stdout);
    fflush(stdout);
    if (stop_requested())
        FAIL(e, ERR_STOPPED, "before the answer was complete");
    return 0;
}
static int watch_stop(void *arg, int prompt, int32_t id, struct err *e)
{
    if (stop_requested())
        FAIL(e, ERR_STOPPED, "before the answers were complete");
    return 0;
}

static void print_answer(const struct chat_model *m, int i, bool json)
{
    struct buf text = {0}, line = {0};
    chat_model_text(m, i, &text);
    if (json) {
        buf_puts(&line, "{\"prompt\": ");
        json_put_string(&line, m->prompts[i].text, strlen(m->prompts[i].text));
        buf_puts(&line, ", \"answer\": ");
        json_put_string(&line, text.n > 0 ? text.data : "", text.n);
        buf_printf(&line, ", \"ended\": %s}\n", m->list[i].ended ? "true" : "false");
    } else
        buf_printf(&line, "> %s\n%s\n\n", m->prompts[i].text, text.n > 0 ? text.data : "");
    if (!line.failed)
        fputs(line.data, stdout);
    buf_free(&text);
    buf_free(&line);
}

static int answer(const struct options *o, struct chat_model *m, struct prompts *p, struct err *e)
{
    struct chat_options c;
    struct stream s = {m};
    bool json = options_given(o, "json");
    TRY(read_options(o, &c, e));
    TRY(read_prompts(o, p, e));
    stop_install();
    TRY(chat_model_open(m, &c, p->text, p->n, e));
    if (p->n == 1 && !json) {
        TRY(chat_model_answer(m, write_token, &s, e));
        fputs("\n", stdout);
        return 0;
    }
    TRY(chat_model_answer(m, watch_stop, NULL, e));
    for (int i = 0; i < p->n; i++)
        print_answer(m, i, json);
    return 0;
}

int verb_generate(int argc, char **argv, struct err *e)
{
    struct options o;
    struct prompts p = {0};
    int rc = options_read(&table, argc, argv, &o, e);
    struct chat_model *m = mem_alloc(1, sizeof *m);
    if (rc == 0)
        rc = m == NULL ? mem_fail(e, "the model", sizeof *m) : answer(&o, m, &p, e);
    if (m != NULL)
        chat_model_close(m);
    mem_free(m);
    mem_free(p.text);
    mem_free(p.file);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
