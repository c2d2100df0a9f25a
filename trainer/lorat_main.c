#include "trainer/lorat_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/buf.h"
#include "trainer/base/log.h"
#include "trainer/base/nearest.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

#define X(name, function, prints, help) {name, function, prints, help},
const struct verb verbs[] = {VERB_LIST(X)};
#undef X
const int n_verbs = (int)(sizeof verbs / sizeof verbs[0]);

const struct verb *verb_find(const char *name, struct err *e)
{
    const char *names[sizeof verbs / sizeof verbs[0]];
    for (int i = 0; i < n_verbs; i++) {
        names[i] = verbs[i].name;
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    }
    const char *near = nearest_word(name, names, (size_t)n_verbs);
    if (near != NULL)
        err_set(e, ERR_USAGE, "%.60s: unknown verb, did you mean `lorat %s`?", name, near);
    else
        err_set(e, ERR_USAGE, "%.60s: unknown verb. `lorat --help` lists them", name);
    return NULL;
}

static void print_help(void)
{
    struct buf out = {0};
    buf_puts(&out, "lorat " LORAT_VERSION " - LoRA fine-tuning on one or two cards\n\nusage: lorat VERB [arguments]\n\nverbs:\n");
    for (int i = 0; i < n_verbs; i++)
        buf_printf(&out, "  %-10s %s\n", verbs[i].name, verbs[i].help);
    buf_puts(&out, "\n`lorat VERB --help` explains one.\n\nexit codes:\n");
#define X(name, code, text) buf_printf(&out, "  %3d  %s\n", code, text);
    ERR_LIST(X)
#undef X
    buf_puts(&out, "\nexample:\n  lorat config configs/quickstart.yaml\n  lorat train configs/quickstart.yaml\n");
    fputs(out.n > 0 ? out.data : "", stdout);
    buf_free(&out);
}

static int run_verb(int argc, char **argv, struct err *e)
{
    const struct verb *verb = verb_find(argv[0], e);
    if (verb == NULL)
        return -1;
    TRY(verb->run(argc, argv, e));
    return verb->prints ? log_output_done(e) : 0;
}

int verb_help(int argc, char **argv, struct err *e)
{
    static const struct option_table table = {.verb = "help",
                                              .args = "[VERB...]",
                                              .about = "Print the verbs and the exit codes, or the help of one verb.",
                                              .example = "lorat help train\nlorat help data build",
                                              .max_args = 2};
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0 && o.n_args > 0) {
        char *words[4] = {NULL};
        for (int i = 0; i < o.n_args; i++)
            words[i] = (char *)o.args[i];
        words[o.n_args] = (char *)"--help";
        rc = run_verb(o.n_args + 1, words, e);
    } else if (rc == 0) {
        print_help();
    }
    options_free(&o);
    return rc < 0 ? -1 : 0;
}

int lorat_main(int argc, char **argv)
{
    struct err e = {0};
    log_start();
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_help();
        return ERR_USAGE;
    }
    const char *word = argv[1];
    char *translated[] = {(char *)(strcmp(word, "--version") == 0 ? "version" : "help"), NULL};
    int rc;
    if (strcmp(word, "--version") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        rc = run_verb(1, translated, &e);
    else
        rc = run_verb(argc - 1, argv + 1, &e);
    fflush(stdout); /* of a verb whose product is elsewhere: a closed or full stdout is not an error */
    if (rc == 0)
        return 0;
    if (e.code == ERR_OK)
        err_set(&e, ERR_INTERNAL, "%s failed without saying why", argv[1]);
    for (char *c = e.text; *c != '\0'; c++) /* a file's words may be in it: nothing that a terminal would obey */
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "lorat: %s: %s\n", e.code == ERR_STOPPED ? "stopped" : "error", e.text);
    return (int)e.code;
}
