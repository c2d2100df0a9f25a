/* compare_read.c - a run's folder as a struct compare_run. Whatever is missing or damaged is noted, not fatal, but for a folder
 * that is no run and a run without a step: there is nothing to compare then. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/run.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/compare.h"

enum { MAX_SMALL = 1 << 20, MAX_METRICS = 1 << 29 };

const char *const compare_state_files[COMPARE_STATE_FILES] = {"adapter_model.safetensors", "optimizer.safetensors", "state.json"};

/* A number from 0 on, or NaN. */
static double number(const struct json *j, const char *key)
{
    double v;
    return json_f64(json_get(j, key), &v) && v >= 0 && isfinite(v) ? v : NAN;
}

static void text(const struct json *j, char *out, size_t size)
{
    const char *s = json_text(j, NULL);
    snprintf(out, size, "%s", s != NULL ? s : "");
}

/* What a terminal would obey becomes '?'. */
static void make_plain(char *s)
{
    for (; *s != '\0'; s++)
        if (*s < 0x20 || *s > 0x7e)
            *s = '?';
}

/* ---- metrics.jsonl ---- */

/* Room for one more element of a list whose capacity is the next power of two. */
static int grow(void *list_pointer, size_t n, size_t size, struct err *e)
{
    void **list = list_pointer;
    if ((n & (n - 1)) != 0)
        return 0;
    void *more = mem_realloc(*list, n > 0 ? 2 * n : 1, size);
    if (more == NULL)
        return mem_fail(e, "a run's log", (n + 1) * size);
    *list = more;
    return 0;
}

/* A resumed process repeats steps: what stands from `step` on is replaced by what it now writes. */
static void drop_from(struct compare_run *r, int64_t step, int64_t eval)
{
    while (r->n_steps > 0 && r->steps[r->n_steps - 1].step >= step) {
        r->n_steps--;
        r->n_rewritten++;
    }
    while (r->n_evals > 0 && r->evals[r->n_evals - 1].step >= eval) {
        r->n_evals--;
        r->n_rewritten++;
    }
}

static int add_eval(struct compare_run *r, int64_t step, const struct json *j, struct err *e)
{
    struct compare_eval v = {.step = step, .loss = number(j, "eval_loss")};
    drop_from(r, step + 1, step);
    TRY(grow(&r->evals, r->n_evals, sizeof *r->evals, e));
    r->evals[r->n_evals++] = v;
    return 0;
}

static int add_step(struct compare_run *r, int64_t step, const struct json *j, double *total, struct err *e)
{
    struct compare_step s = {.step = step,
                             .loss = number(j, "loss"),
                             .tok_s = number(j, "tok_s"),
                             .seconds = number(j, "seconds"),
                             .compute_s = number(j, "compute_s"),
                             .comm_s = number(j, "comm_s"),
                             .wait_s = number(j, "wait_s"),
                             .optim_s = number(j, "optim_s"),
                             .save_s = number(j, "save_s"),
                             .comm_bytes = number(j, "comm_bytes"),
                             .energy_j = number(j, "energy_j"),
                             .tokens = NAN};
    double sum = number(j, "tokens");
    drop_from(r, step, step);
    /* "tokens" counts the whole run; the step's own are its growth, known when the step before is there. */
    if (step == 1)
        s.tokens = sum;
    else if (r->n_steps > 0 && r->steps[r->n_steps - 1].step == step - 1 && sum >= total[0])
        s.tokens = sum - total[0];
    if (isnan(s.seconds) && s.tok_s > 0)
        s.seconds = s.tokens / s.tok_s;
    if (s.tokens > 0 && s.seconds > 0)
        s.tok_s = s.tokens / s.seconds; /* the log rounds it */
    total[0] = sum;
    TRY(grow(&r->steps, r->n_steps, sizeof *r->steps, e));
    r->steps[r->n_steps++] = s;
    return 0;
}

static int add_line(struct compare_run *r, const char *line, size_t n, double *total, struct err *e)
{
    struct json *j;
    int64_t step;
    int rc = 0;
    if (json_parse(line, n, "metrics.jsonl", ERR_STATE, &j, NULL) != 0) {
        r->n_damaged++;
        return 0;
    }
    bool counted = json_i64(json_get(j, "step"), &step) && step >= 0;
    if (counted && json_get(j, "eval_loss") != NULL)
        rc = add_eval(r, step, j, e);
    else if (counted && step > 0 && json_get(j, "loss") != NULL)
        rc = add_step(r, step, j, total, e);
    else
        r->n_damaged++;
    json_free(j);
    return rc;
}

int compare_read_metrics(const char *lines, size_t n, bool whole, struct compare_run *out, struct err *e)
{
    double total = NAN;
    for (const char *line = lines, *end = lines + n; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (stop == NULL && !whole)
            return 0;
        stop = stop != NULL ? stop : end;
        TRY(add_line(out, line, (size_t)(stop - line), &total, e));
        line = stop + 1;
    }
    return 0;
}

static int read_metrics(struct compare_run *r, struct err *e)
{
    char path[COMPARE_PATH + 64], *lines;
    size_t n;
    snprintf(path, sizeof path, "%s/metrics.jsonl", r->dir);
    if (!io_exists(path))
        return 0;
    TRY(io_read_file(path, ERR_STATE, MAX_METRICS, &lines, &n, e));
    int rc = compare_read_metrics(lines, n, !r->running, r, e);
    mem_free(lines);
    return rc;
}

/* ---- the small files ---- */

static struct json *read_json(const char *dir, const char *name)
{
    char path[COMPARE_PATH + 96], *bytes;
    struct json *j = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (io_read_file(path, ERR_STATE, MAX_SMALL, &bytes, &n, NULL) != 0)
        return NULL;
    if (json_parse(bytes, n, path, ERR_STATE, &j, NULL) != 0)
        j = NULL;
    mem_free(bytes);
    return j;
}

static void read_summary(struct compare_run *r)
{
    struct json *j = read_json(r->dir, "summary.json");
    const struct json *devices = json_get(j, "devices");
    char device[sizeof r->devices], git[64];
    r->planned_steps = -1;
    r->ranks = number(j, "ranks");
    r->peak_bytes = number(j, "peak_bytes");
    r->plan_bytes = number(j, "plan_bytes");
    r->device_bytes = number(j, "device_bytes");
    r->total_s = number(j, "seconds");
    json_i64(json_get(j, "steps"), &r->planned_steps);
    text(json_get(j, "state"), r->state, sizeof r->state);
    text(json_get(j, "interconnect"), r->interconnect, sizeof r->interconnect);
    text(json_get(j, "precision"), r->precision, sizeof r->precision);
    text(json_get(j, "libraries"), r->libraries, sizeof r->libraries);
    text(json_get(j, "version"), r->version, 64);
    text(json_get(j, "git"), git, sizeof git);
    if (git[0] != '\0')
        snprintf(r->version + strlen(r->version), 68, " (%.60s)", git);
    for (size_t i = 0; i < json_length(devices); i++) {
        size_t n = strlen(r->devices);
        text(json_at(devices, i), device, sizeof device);
        snprintf(r->devices + n, sizeof r->devices - n, "%s%s", i > 0 ? "; " : "", device);
    }
    r->summed = j != NULL;
    json_free(j);
}

static void read_job(struct compare_run *r)
{
    char path[COMPARE_PATH + 64], *bytes;
    struct err e = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/job.yaml", r->dir);
    if (io_read_file(path, ERR_STATE, MAX_SMALL, &bytes, &n, &e) == 0) {
        r->job = mem_alloc(1, sizeof *r->job);
        if (r->job != NULL && config_parse(bytes, n, path, r->job, &e) != 0) {
            mem_free(r->job);
            r->job = NULL;
        }
        mem_free(bytes);
    }
    if (r->job == NULL)
        snprintf(r->job_error, sizeof r->job_error, "%.255s", e.text);
    make_plain(r->job_error);
}

/* ---- checkpoints ---- */

static bool checkpoint_step(const char *name, int64_t *step)
{
    size_t digits = strncmp(name, "step-", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
    if (digits < 8 || digits > 18 || name[5 + digits] != '\0')
        return false;
    *step = strtoll(name + 5, NULL, 10);
    return true;
}

static int by_step(const void *a, const void *b)
{
    const struct compare_checkpoint *x = a, *y = b;
    return x->step < y->step ? -1 : x->step > y->step;
}

static int list_checkpoints(struct compare_run *r, struct err *e)
{
    char path[COMPARE_PATH + 64], **names = NULL;
    size_t n = 0;
    int64_t step;
    int rc = 0;
    snprintf(path, sizeof path, "%s/checkpoints", r->dir);
    if (!io_is_dir(path))
        return 0;
    TRY(io_list(path, &names, &n, e));
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (!checkpoint_step(names[i], &step))
            continue;
        rc = grow(&r->checkpoints, r->n_checkpoints, sizeof *r->checkpoints, e);
        if (rc == 0)
            r->checkpoints[r->n_checkpoints++] = (struct compare_checkpoint){.step = step};
    }
    io_list_free(names, n);
    if (r->n_checkpoints > 1)
        qsort(r->checkpoints, r->n_checkpoints, sizeof *r->checkpoints, by_step);
    return rc;
}

static void read_identity(struct compare_run *r)
{
    char name[64];
    if (r->n_checkpoints == 0)
        return;
    snprintf(name, sizeof name, "checkpoints/step-%08lld/state.json", (long long)r->checkpoints[r->n_checkpoints - 1].step);
    struct json *j = read_json(r->dir, name);
    text(json_get(j, "base"), r->base, sizeof r->base);
    text(json_get(j, "dataset"), r->dataset, sizeof r->dataset);
    json_free(j);
}

static void hash_path(const char *path, char hex[HASH_HEX])
{
    uint8_t hash[HASH_BYTES];
    int fd;
    hex[0] = '\0';
    if (io_open_regular(path, ERR_STATE, &fd, NULL, NULL) != 0)
        return;
    if (hash_file(fd, path, 0, -1, hash, NULL) == 0)
        hash_hex(hash, hex);
    io->close(fd);
}

static bool has_step(const struct compare_run *r, int64_t step)
{
    struct compare_checkpoint key = {.step = step};
    return r->n_checkpoints > 0 && bsearch(&key, r->checkpoints, r->n_checkpoints, sizeof key, by_step) != NULL;
}

static void hash_checkpoint(const struct compare_run *r, struct compare_checkpoint *c)
{
    char path[COMPARE_PATH + 128];
    for (int i = 0; i < COMPARE_STATE_FILES; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-%08lld/%s", r->dir, (long long)c->step, compare_state_files[i]);
        hash_path(path, c->hex[i]);
    }
}

void compare_hash(struct compare_run *runs, int n)
{
    for (int k = 0; k < n; k++) {
        char path[COMPARE_PATH + 64];
        snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", runs[k].dir);
        hash_path(path, runs[k].adapter);
        for (size_t i = 0; i < runs[k].n_checkpoints; i++) {
            struct compare_checkpoint *c = &runs[k].checkpoints[i];
            /* Everything is compared with the first run. */
            for (int other = k == 0 ? 1 : 0; other < (k == 0 ? n : 1); other++)
                c->common |= has_step(&runs[other], c->step);
            if (c->common)
                hash_checkpoint(&runs[k], c);
        }
    }
}

/* ---- the whole folder ---- */

static bool is_run(const char *dir)
{
    static const char *const signs[] = {"metrics.jsonl", "summary.json", "checkpoints", "job.yaml"};
    char path[COMPARE_PATH + 64];
    int n = 0;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, signs[i]);
        n += io_exists(path);
    }
    return n > 0;
}

/* The folder's own name. */
static void set_label(struct compare_run *r)
{
    size_t n = strlen(r->dir);
    while (n > 1 && r->dir[n - 1] == '/')
        r->dir[--n] = '\0';
    const char *slash = strrchr(r->dir, '/');
    snprintf(r->label, sizeof r->label, "%.60s", slash != NULL && slash[1] != '\0' ? slash + 1 : r->dir);
    make_plain(r->label);
}

int compare_read(const char *dir, struct compare_run *out, struct err *e)
{
    *out = (struct compare_run){.planned_steps = -1};
    if (snprintf(out->dir, sizeof out->dir, "%s", dir) >= (int)sizeof out->dir)
        FAIL(e, ERR_USAGE, "%.60s...: a path of %zu bytes, expected fewer than %d", dir, strlen(dir), COMPARE_PATH);
    set_label(out);
    if (!io_exists(dir))
        FAIL(e, ERR_IO, "%s: is not there, expected a run's folder such as runs/quickstart. `lorat runs` lists the runs", dir);
    if (!io_is_dir(dir) || !is_run(out->dir))
        FAIL(e, ERR_STATE,
             "%s: is no run, expected a folder with metrics.jsonl, job.yaml and summary.json. `lorat runs` lists the runs", dir);
    out->running = run_is_locked(out->dir);
    TRY(read_metrics(out, e));
    if (out->n_steps == 0)
        FAIL(e, ERR_STATE, "%s: %s, expected at least one step in metrics.jsonl. Train it first", dir,
             out->n_damaged > 0 ? "no line of its log can be read" : "no step was recorded");
    read_summary(out);
    read_job(out);
    TRY(list_checkpoints(out, e));
    read_identity(out);
    return 0;
}

void compare_run_free(struct compare_run *r)
{
    mem_free(r->job);
    mem_free(r->steps);
    mem_free(r->evals);
    mem_free(r->checkpoints);
    *r = (struct compare_run){0};
}
