/* verb_data.c - `lorat data`: build, and what the three of them share. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/buf.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/nearest.h"
#include "trainer/base/num.h"
#include "trainer/base/stop.h"
#include "trainer/source.h"
#include "trainer/verb_data.h"
#include "trainer/verbs.h"

enum { MAX_INPUTS = 256 };

static const struct option_row rows[] = {
    {"input", "FILE", "a file of JSON lines (docs/data-format.md lists the forms of a line); may be repeated", 'i', true},
    {"output", "FILE", "the dataset to write, data/name.h5", 'o', false},
    {"model", "DIR", "the model folder or .gguf file whose tokenizer and chat template are used", 'm', false},
    {"template", "NAME",
     "a built-in chat template instead of the model's own; prompt and completion are then rendered with it too", 0, false},
    {"vocab", "N", "without --model: ids of {\"tokens\"} are checked to be below N", 0, false},
    {"validation", "SHARE", "share of documents set aside for validation, 5% or 0.05; default none", 0, false},
    {"seed", "N", "which documents are set aside; default 0", 0, false},
    {"replace", NULL, "replace an existing output", 0, false},
};
static const struct option_table table = {
    .verb = "data build",
    .args = "",
    .about = "Turn text into a tokenized, sealed HDF5 dataset. Lines are streamed: memory does not grow with the input.",
    .example = "lorat data build --model models/SmolLM2-135M-Instruct --input train.jsonl --validation 5% -o data/train.h5",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
};

int data_group(const char *name, enum dataset_group *out, struct err *e)
{
    if (strcmp(name, "train") == 0)
        *out = DATASET_TRAIN;
    else if (strcmp(name, "validation") == 0)
        *out = DATASET_VALIDATION;
    else
        FAIL(e, ERR_USAGE, "--group: \"%.60s\", expected train or validation", name);
    return 0;
}

static void warn_lines(const char *lines)
{
    for (const char *line = lines; line != NULL && *line != '\0';) {
        int n = (int)strcspn(line, "\n");
        log_warn("%.*s", n, line);
        line += n + (line[n] == '\n');
    }
}

void data_print_facts(const struct dataset_facts *f)
{
    static const char *const names[2] = {"train", "validation"};
    struct buf warnings = {0};
    for (int g = 0; g < 2; g++)
        if (f->group[g].present)
            printf("%-11s %lld documents, %lld tokens, %lld of them trained (%.1f %%), longest document %lld tokens\n", names[g],
                   (long long)f->group[g].documents, (long long)f->group[g].tokens, (long long)f->group[g].targets,
                   100.0 * (double)f->group[g].targets / (double)f->group[g].tokens, (long long)f->group[g].longest);
    printf("tokenizer   %s\ntemplate    %s\nvocabulary  %d (largest token %d)\nsource      %s\nseal        %s\n", f->tokenizer,
           f->template_name, f->vocab, f->max_token, f->source, f->seal);
    fflush(stdout);
    dataset_warnings(f, &warnings);
    warn_lines(warnings.data);
    buf_free(&warnings);
}

static int read_share(const char *text, double *out, struct err *e)
{
    char number[64];
    size_t n = strlen(text);
    bool percent = n > 0 && text[n - 1] == '%';
    snprintf(number, sizeof number, "%.*s", (int)(n - percent), text);
    if (n >= sizeof number || !num_parse_f64(number, out) || (*out /= percent ? 100 : 1, !(*out >= 0 && *out < 1)))
        FAIL(e, ERR_USAGE, "lorat data build: --validation: \"%.60s\", expected a share as 5%% or 0.05, below 1", text);
    return 0;
}

/* The tokenizer, template and end tokens of a model; closed by close_model. */
struct text_model {
    struct source source;
    bool open;
    struct tokenizer *tokenizer;
};

static int open_model(const struct options *o, struct text_model *m, struct build_options *b, struct err *e)
{
    const char *path = options_value(o, "model"), *name = options_value(o, "template");
    if (path == NULL) {
        if (name != NULL)
            FAIL(e, ERR_USAGE,
                 "lorat data build: --template: without --model, expected the model whose tokenizer the template is written in");
        return 0;
    }
    if (options_given(o, "vocab"))
        FAIL(e, ERR_USAGE, "lorat data build: --vocab: beside --model, expected one of them. The model has its own vocabulary");
    TRY(source_open(path, true, &m->source, e));
    m->open = true;
    TRY(source_tokenizer(&m->source, &m->tokenizer, e));
    if (m->tokenizer == NULL)
        FAIL(e, ERR_MODEL, "%s: no tokenizer.json, expected one beside config.json", path);
    TRY(source_template(&m->source, name != NULL ? name : "auto", &b->template, e));
    b->tokenizer = m->tokenizer;
    b->chat_pairs = name != NULL;
    b->vocab = m->source.facts.v;
    b->end_ids = m->source.facts.eos;
    b->n_end_ids = m->source.facts.n_eos;
    b->eos = m->source.facts.n_eos > 0 ? m->source.facts.eos[0] : -1;
    return 0;
}

static void close_model(struct text_model *m)
{
    tokenizer_close(m->tokenizer);
    if (m->open)
        source_close(&m->source);
}

static int read_build(const struct options *o, const char **inputs, struct build_options *b, struct err *e)
{
    int64_t seed = 0, vocab = 0;
    size_t n = options_count(o, "input");
    if (n == 0)
        FAIL(e, ERR_USAGE, "lorat data build: no --input, expected at least one file of JSON lines");
    if (n > MAX_INPUTS)
        FAIL(e, ERR_USAGE, "lorat data build: %zu inputs, expected at most %d", n, MAX_INPUTS);
    for (size_t i = 0; i < n; i++)
        inputs[i] = options_nth(o, "input", i);
    if ((b->output = options_value(o, "output")) == NULL)
        FAIL(e, ERR_USAGE, "lorat data build: no --output, expected the dataset to write, as in -o data/name.h5");
    if (options_given(o, "validation"))
        TRY(read_share(options_value(o, "validation"), &b->validation, e));
    TRY(options_i64(o, "seed", 0, INT64_MAX, &seed, e));
    TRY(options_i64(o, "vocab", 1, INT32_MAX, &vocab, e));
    b->inputs = inputs;
    b->n_inputs = (int)n;
    b->seed = (uint64_t)seed;
    b->vocab = (int32_t)vocab;
    b->replace = options_given(o, "replace");
    return 0;
}

static int run_build(const struct options *o, struct err *e)
{
    const char *inputs[MAX_INPUTS];
    struct build_options b = {.eos = -1};
    struct text_model m = {0};
    struct dataset_facts f;
    int rc = 0;
    TRY_DONE(read_build(o, inputs, &b, e));
    TRY_DONE(open_model(o, &m, &b, e));
    stop_install();
    TRY_DONE(dataset_build(&b, &f, e));
    printf("wrote       %s\n", b.output);
    data_print_facts(&f);
    if (b.tokenizer != NULL && b.template != CHAT_NONE)
        log_note("the template %s adds: %s", chat_name(b.template), chat_adds(b.template));
    warn_lines(f.notes);
done:
    close_model(&m);
    return rc;
}

int data_build(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0)
        rc = run_build(&o, e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}

static void print_help(void)
{
    printf("usage: lorat data build|show|info\n\n"
           "  build  turn text into a dataset\n"
           "  show   print documents and which of their tokens are trained\n"
           "  info   what is in a dataset, and what a sequence length does to it\n\n"
           "`lorat data build --help` explains one.\n");
}

int verb_data(int argc, char **argv, struct err *e)
{
    static const char *const names[3] = {"build", "show", "info"};
    static int (*const parts[3])(int, char **, struct err *) = {data_build, data_show, data_info};
    if (argc < 2)
        FAIL(e, ERR_USAGE, "lorat data: nothing to do, expected build, show or info. `lorat data --help` explains");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return 0;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(argv[1], names[i]) == 0)
            return parts[i](argc - 1, argv + 1, e);
    const char *near = nearest_word(argv[1], names, 3);
    if (near != NULL)
        FAIL(e, ERR_USAGE, "lorat data: \"%.60s\", did you mean %s?", argv[1], near);
    FAIL(e, ERR_USAGE, "lorat data: \"%.60s\", expected build, show or info", argv[1]);
}
