/* verb_verify.c - `lorat verify resume JOB`: the claim "resumed = uninterrupted, bit for bit", proven on the user's own job and machine. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trainer/base/hash.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/verb_job.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    SET_ROW,
    {"steps", "N", "length of the straight run (default 4)", 0, false},
    {"stop", "K", "where the other run is stopped and resumed in a new process (default N/2)", 0, false},
    {"keep", NULL, "keep the two runs (runs/<name>.verify-straight and .verify-resumed)", 0, false},
};
static const struct option_table table = {
    .verb = "verify resume",
    .args = "JOB",
    .about = "Train N steps straight; train K steps, stop, and go on to N in a new process; compare the two states byte by byte. Each run is a process of "
             "its own; evaluation and prompts of the job are left out.",
    .example = "lorat verify resume configs/quickstart.yaml --steps 6",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

struct verify {
    const struct options *o;
    struct config c;
    int64_t n, k;
    char straight[160], resumed[160]; /* names of the two runs */
    char log[192];                    /* what they say on stderr */
};

/* `lorat train JOB ... --stop-after steps` under another name, in a new process, its output in the run's log. */
static int train_process(struct verify *v, const char *name, int64_t steps, bool resume, struct err *e)
{
    char set_name[192], stop[32];
    size_t sets = options_count(v->o, "set");
    const char **args = mem_alloc(sets * 2 + 24, sizeof *args);
    int n = 0, status = 0;
    if (args == NULL)
        return mem_fail(e, "a command line", sets * sizeof *args);
    snprintf(set_name, sizeof set_name, "name=%s", name);
    snprintf(stop, sizeof stop, "%lld", (long long)steps);
    const char *fixed[] = {"lorat", "train", v->o->args[0], "--quiet", "--stop-after", stop};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        args[n++] = fixed[i];
    for (size_t i = 0; i < sets; i++) {
        args[n++] = "--set";
        args[n++] = options_nth(v->o, "set", i);
    }
    const char *ours[] = {"--set", set_name, "--set", "eval.prompts=[]", "--set", "eval.max_tokens=1", "--set", "eval.every=1000000"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        args[n++] = ours[i];
    args[n++] = resume ? "--resume" : "--fresh";
    args[n] = NULL;
    pid_t child = fork();
    if (child == 0) {
        int log = open(v->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log >= 0)
            dup2(log, 2);
        execv("/proc/self/exe", (char *const *)args);
        _exit(127);
    }
    mem_free(args);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return err_set(e, ERR_INTERNAL, "lorat verify: a process could not be started");
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code != 0 && code != ERR_STOPPED)
        FAIL(e, ERR_VERIFY, "lorat verify: the run %s left with code %d, expected 75 (stopped at step %lld). What it said is in %s", name, code,
             (long long)steps, v->log);
    return 0;
}

static int hash_state(const char *name, int64_t step, const char *file, char hex[HASH_HEX], struct err *e)
{
    char path[384];
    uint8_t hash[HASH_BYTES];
    int fd;
    snprintf(path, sizeof path, "runs/%s/checkpoints/step-%08lld/%s", name, (long long)step, file);
    TRY(io_open_regular(path, ERR_VERIFY, &fd, NULL, e));
    int rc = hash_file(fd, path, 0, -1, hash, e);
    io->close(fd);
    hash_hex(hash, hex);
    return rc;
}

static int compare(struct verify *v, struct err *e)
{
    static const struct {
        const char *file, *what;
    } parts[] = {{"adapter_model.safetensors", "the adapter"}, {"optimizer.safetensors", "both moments of AdamW"}, {"state.json", "the counters"}};
    int differ = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char a[HASH_HEX], b[HASH_HEX];
        TRY(hash_state(v->straight, v->n, parts[i].file, a, e));
        TRY(hash_state(v->resumed, v->n, parts[i].file, b, e));
        bool same = strcmp(a, b) == 0;
        differ += !same;
        printf("  %-27s straight %.16s  resumed %.16s  %s\n", parts[i].file, a, b, same ? "same bytes" : "DIFFERENT");
    }
    if (differ > 0)
        FAIL(e, ERR_VERIFY, "%s: %d of 3 files differ after %lld steps, expected the same bytes. The two runs were kept under runs/ for a look", v->c.name,
             differ, (long long)v->n);
    printf("proven: %lld steps straight and %lld + %lld steps in two processes end in the same bytes.\n", (long long)v->n, (long long)v->k,
           (long long)(v->n - v->k));
    return 0;
}

static int remove_runs(struct verify *v, struct err *e)
{
    char path[192];
    if (options_given(v->o, "keep"))
        return 0;
    io->unlink(v->log);
    snprintf(path, sizeof path, "runs/%s", v->straight);
    TRY(io_remove_tree(path, e));
    snprintf(path, sizeof path, "runs/%s", v->resumed);
    return io_remove_tree(path, e);
}

static int verify_resume(struct verify *v, struct err *e)
{
    v->n = 4;
    TRY(options_i64(v->o, "steps", 2, INT64_MAX, &v->n, e));
    v->k = v->n / 2;
    TRY(options_i64(v->o, "stop", 1, v->n - 1, &v->k, e));
    TRY(verb_job(v->o, v->o->args[0], &v->c, e));
    snprintf(v->straight, sizeof v->straight, "%s.verify-straight", v->c.name);
    snprintf(v->resumed, sizeof v->resumed, "%s.verify-resumed", v->c.name);
    snprintf(v->log, sizeof v->log, "runs/%s.verify.log", v->c.name);
    TRY(io_mkdirs("runs", e));
    io->unlink(v->log);
    printf("verify resume: %s, %lld steps straight against %lld, a new process, %lld\n", v->c.name, (long long)v->n, (long long)v->k,
           (long long)(v->n - v->k));
    fflush(stdout);
    TRY(train_process(v, v->straight, v->n, false, e));
    TRY(train_process(v, v->resumed, v->k, false, e));
    TRY(train_process(v, v->resumed, v->n, true, e));
    TRY(compare(v, e));
    return remove_runs(v, e);
}

int verb_verify(int argc, char **argv, struct err *e)
{
    struct options o;
    int skip = 1;
    if (argc < 2 || strcmp(argv[1], "resume") != 0) {
        bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        if (!help)
            FAIL(e, ERR_USAGE, "lorat verify: found %s, expected `lorat verify resume JOB`. Did you mean resume?", argc < 2 ? "nothing" : argv[1]);
        skip = 0;
    }
    int rc = options_read(&table, argc - skip, argv + skip, &o, e);
    struct verify *v = mem_alloc(1, sizeof *v);
    if (rc == 0) {
        if (v != NULL)
            v->o = &o;
        rc = v == NULL ? mem_fail(e, "a job", sizeof *v) : verify_resume(v, e);
    }
    mem_free(v);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
