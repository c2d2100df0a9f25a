/* verb_runs.c - `lorat runs`: what runs/<name>/summary.json, metrics.jsonl and lock say about each run. Only reads. */
#include <stdio.h>
#include <string.h>

#include "checkpoints/run.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

enum { TAIL = 65536, PATH = 4096, MAX_SUMMARY = 1 << 20 };

struct run_row {
    char state[16];
    int64_t step, steps, tokens; /* -1 = not known */
    double loss, eval_loss;      /* < 0 = not known */
    double seconds;
};

static void take(const struct json *j, struct run_row *r)
{
    double v;
    json_i64(json_get(j, "step"), &r->step);
    json_i64(json_get(j, "steps"), &r->steps);
    json_i64(json_get(j, "tokens"), &r->tokens);
    if (json_f64(json_get(j, "loss"), &v))
        r->loss = v;
    if (json_f64(json_get(j, "eval_loss"), &v))
        r->eval_loss = v;
    if (json_f64(json_get(j, "seconds"), &v))
        r->seconds = v;
}

/* Nothing that a terminal would obey. */
static bool is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

enum summary { SUMMARY_NONE, SUMMARY_DAMAGED, SUMMARY_READ };

static enum summary read_summary(const char *dir, struct run_row *r)
{
    char path[PATH], *text;
    size_t n;
    struct json *j;
    snprintf(path, sizeof path, "%s/summary.json", dir);
    if (!io_exists(path))
        return SUMMARY_NONE;
    if (io_read_file(path, ERR_IO, MAX_SUMMARY, &text, &n, NULL) != 0)
        return SUMMARY_DAMAGED;
    bool ok = json_parse(text, n, path, ERR_STATE, &j, NULL) == 0;
    mem_free(text);
    if (!ok)
        return SUMMARY_DAMAGED;
    const char *state = json_string(json_get(j, "state"), NULL);
    snprintf(r->state, sizeof r->state, "%s", state != NULL && is_plain(state) ? state : "?");
    take(j, r);
    json_free(j);
    return SUMMARY_READ;
}

/* The last whole lines of metrics.jsonl; a line that is cut (a kill in the middle of a write) is passed over. */
static bool read_metrics(const char *dir, struct run_row *r)
{
    char path[PATH];
    int fd;
    int64_t size;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    if (io_open_regular(path, ERR_IO, &fd, &size, NULL) != 0)
        return false;
    size_t n = size > TAIL ? TAIL : (size_t)size;
    char *text = mem_alloc(n + 1, 1);
    bool ok = text != NULL && io_pread_all(fd, path, text, n, size - (int64_t)n, NULL) == 0;
    io->close(fd);
    char *line = text;
    if (ok && size > TAIL) {
        line = memchr(text, '\n', n);
        line = line != NULL ? line + 1 : text + n;
    }
    while (ok && line < text + n) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        struct json *j;
        if (end == NULL)
            break;
        if (json_parse(line, (size_t)(end - line), path, ERR_STATE, &j, NULL) == 0) {
            take(j, r);
            json_free(j);
        }
        line = end + 1;
    }
    mem_free(text);
    return ok;
}

/* False when the folder is not a run. */
static bool read_run(const char *dir, struct run_row *r)
{
    char path[PATH];
    *r = (struct run_row){.step = -1, .steps = -1, .tokens = -1, .loss = -1, .eval_loss = -1, .seconds = -1};
    bool running = run_is_locked(dir), metrics = read_metrics(dir, r);
    struct run_row summary = *r;
    enum summary found = read_summary(dir, &summary);
    bool summed = found == SUMMARY_READ;
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    /* A run that goes on after a summary has newer metrics; a run at rest is what its summary says. */
    if (summed && !(running && metrics))
        *r = summary;
    else if (summed)
        r->steps = summary.steps;
    if (running)
        snprintf(r->state, sizeof r->state, "running");
    else if (!summed)
        snprintf(r->state, sizeof r->state, found == SUMMARY_DAMAGED ? "damaged" : "interrupted");
    return running || metrics || found != SUMMARY_NONE || io_is_dir(path);
}

static const char *format_time(double s, char text[24])
{
    long long t = (long long)s;
    if (!(s >= 0 && s < 1e15))
        snprintf(text, 24, "-");
    else if (t < 60)
        snprintf(text, 24, "%llds", t);
    else if (t < 3600)
        snprintf(text, 24, "%lldm %02llds", t / 60, t % 60);
    else
        snprintf(text, 24, "%lldh %02lldm", t / 3600, t / 60 % 60);
    return text;
}

static const char *format_loss(double v, char text[24])
{
    snprintf(text, 24, v >= 0 ? "%.4f" : "-", v);
    return text;
}

static const char *format_count(int64_t n, char text[24])
{
    if (n < 0)
        snprintf(text, 24, "-");
    else if (n < 10000)
        snprintf(text, 24, "%lld", (long long)n);
    else if (n < 10000000)
        snprintf(text, 24, "%.1fk", (double)n / 1e3);
    else
        snprintf(text, 24, "%.1fM", (double)n / 1e6);
    return text;
}

static void print_run(int width, const char *name, const struct run_row *r)
{
    char steps[48] = "-", loss[24], eval[24], time[24], tokens[24];
    if (r->step >= 0 && r->steps >= 0)
        snprintf(steps, sizeof steps, "%lld/%lld", (long long)r->step, (long long)r->steps);
    else if (r->step >= 0)
        snprintf(steps, sizeof steps, "%lld", (long long)r->step);
    printf("%-*s  %-11s  %13s  %9s  %9s  %8s  %8s\n", width, name, r->state, steps, format_loss(r->loss, loss),
           format_loss(r->eval_loss, eval), format_count(r->tokens, tokens), format_time(r->seconds, time));
}

static int list_runs(const char *folder, struct err *e)
{
    char **names = NULL, dir[PATH - 32]; /* room for a file's name behind it */
    size_t n = 0;
    int width = 4, shown = 0;
    TRY(io_list(folder, &names, &n, e));
    for (size_t i = 0; i < n; i++)
        width = (int)strlen(names[i]) > width && strlen(names[i]) <= 40 ? (int)strlen(names[i]) : width;
    for (size_t i = 0; i < n; i++) {
        struct run_row r;
        if (!is_plain(names[i]) || snprintf(dir, sizeof dir, "%s/%s", folder, names[i]) >= (int)sizeof dir || !io_is_dir(dir) ||
            !read_run(dir, &r))
            continue;
        if (shown++ == 0)
            printf("%-*s  %-11s  %13s  %9s  %9s  %8s  %8s\n", width, "name", "state", "step", "loss", "eval loss", "tokens",
                   "time");
        print_run(width, names[i], &r);
    }
    io_list_free(names, n);
    if (shown == 0)
        printf("no runs in %s\n", folder);
    return 0;
}

int verb_runs(int argc, char **argv, struct err *e)
{
    static const struct option_table table = {
        .verb = "runs",
        .args = "[DIR]",
        .about = "List the runs in DIR (default: runs): their state (done, stopped, failed, running, interrupted when the "
                 "process died, or damaged when its summary.json cannot be read), "
                 "steps, last loss and evaluation loss, tokens seen and time.",
        .example = "lorat runs",
        .max_args = 1,
    };
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0 && o.n_args == 0 && !io_exists("runs"))
        printf("no runs in runs\n");
    else if (rc == 0)
        rc = list_runs(o.n_args > 0 ? o.args[0] : "runs", e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
