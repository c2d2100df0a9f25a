/* compare_rows.c - every row of the comparison's tables, once, for the terminal and the page. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/num.h"
#include "trainer/compare.h"

enum { VALUE = 300 };
struct rows {
    const struct compare *c;
    compare_row_fn each;
    void *arg;
    const char *section;
    char value[COMPARE_MAX_RUNS][VALUE];
};

static void emit(struct rows *t, const char *label)
{
    const char *values[COMPARE_MAX_RUNS];
    for (int k = 0; k < t->c->n; k++)
        values[k] = t->value[k][0] != '\0' ? t->value[k] : "-";
    t->each(t->arg, t->section, label, values);
    memset(t->value, 0, sizeof t->value);
}

/* Where a double lies in a struct of run k. */
#define EACH(t, field, format, scale)                                                                                            \
    do {                                                                                                                         \
        for (int k_ = 0; k_ < (t)->c->n; k_++)                                                                                   \
            if (!isnan((t)->c->field))                                                                                           \
                snprintf((t)->value[k_], VALUE, format, (t)->c->field *(scale));                                                 \
    } while (0)
#define EACH_TEXT(t, field)                                                                                                      \
    do {                                                                                                                         \
        for (int k_ = 0; k_ < (t)->c->n; k_++)                                                                                   \
            snprintf((t)->value[k_], VALUE, "%s", (t)->c->field);                                                                \
    } while (0)

static void bytes_text(char out[VALUE], double bytes)
{
    char text[32];
    if (bytes >= 0 && bytes < 9e18)
        snprintf(out, VALUE, "%s", num_format_bytes(text, (uint64_t)bytes));
}

static void job_row(void *arg, const char *key, const char *const *values)
{
    struct rows *t = arg;
    int job = 0;
    if (strcmp(key, "name") == 0)
        return;
    for (int k = 0; k < t->c->n; k++)
        if (t->c->run[k].job != NULL)
            snprintf(t->value[k], VALUE, "%s", values[job++]);
    emit(t, key);
}

static int job_rows(struct rows *t, struct err *e)
{
    const struct config *jobs[COMPARE_MAX_RUNS];
    int n = 0;
    for (int k = 0; k < t->c->n; k++)
        if (t->c->run[k].job != NULL)
            jobs[n++] = t->c->run[k].job;
    t->section = "What differs in the jobs";
    return config_differ(jobs, n, job_row, t, e);
}

static void run_rows(struct rows *t)
{
    t->section = "Runs";
    for (int k = 0; k < t->c->n; k++)
        snprintf(t->value[k], VALUE, "%.15s",
                 t->c->run[k].running  ? "running"
                 : t->c->run[k].summed ? t->c->run[k].state
                                       : "interrupted");
    emit(t, "state");
    for (int k = 0; k < t->c->n; k++) {
        const struct compare_run *r = &t->c->run[k];
        int n = snprintf(t->value[k], VALUE, "%lld", (long long)r->steps[r->n_steps - 1].step);
        if (r->planned_steps >= 0)
            snprintf(t->value[k] + n, (size_t)(VALUE - n), " of %lld", (long long)r->planned_steps);
    }
    emit(t, "steps");
    EACH_TEXT(t, run[k_].devices);
    emit(t, "device");
    EACH(t, run[k_].ranks, "%.0f", 1);
    emit(t, "ranks");
    for (int k = 0; k < t->c->n; k++)
        snprintf(t->value[k], VALUE, "%s", t->c->run[k].ranks == 1 ? "none: one rank" : t->c->run[k].interconnect);
    emit(t, "interconnect");
    EACH_TEXT(t, run[k_].precision);
    emit(t, "precision");
    EACH_TEXT(t, run[k_].version);
    emit(t, "lorat");
    EACH_TEXT(t, run[k_].libraries);
    emit(t, "libraries");
}

static void loss_rows(struct rows *t)
{
    t->section = "Loss";
    EACH(t, of[k_].final_loss, "%.4f", 1);
    emit(t, "last training loss");
    EACH(t, of[k_].final_eval, "%.4f", 1);
    emit(t, "last evaluation loss");
    EACH(t, of[k_].best_eval, "%.4f", 1);
    emit(t, "lowest evaluation loss");
}

static void speed_rows(struct rows *t)
{
    t->section = "Tokens a second";
    EACH(t, of[k_].tok_s, "%.1f", 1);
    emit(t, "median");
    EACH(t, of[k_].tok_s_10, "%.1f", 1);
    emit(t, "p10");
    EACH(t, of[k_].tok_s_90, "%.1f", 1);
    emit(t, "p90");
    for (int k = 0; k < t->c->n; k++)
        snprintf(t->value[k], VALUE, "%zu; the first %zu left out", t->c->of[k].n_steady, t->c->of[k].n_warm);
    emit(t, "steps counted");
}

/* Seconds a step with their share of step and saving together. */
static void split_row(struct rows *t, const char *label, size_t offset)
{
    for (int k = 0; k < t->c->n; k++) {
        const struct compare_measures *m = &t->c->of[k];
        double s = *(const double *)((const char *)m + offset), all = m->step_s + (isnan(m->save_s) ? 0 : m->save_s);
        if (!isnan(s))
            snprintf(t->value[k], VALUE, "%.4f s (%.1f %%)", s, all > 0 ? 100 * s / all : 0);
    }
    emit(t, label);
}

static void split_rows(struct rows *t)
{
    t->section = "Time of a step (mean)";
    split_row(t, "compute", offsetof(struct compare_measures, compute_s));
    split_row(t, "exposed communication", offsetof(struct compare_measures, comm_s));
    split_row(t, "data wait", offsetof(struct compare_measures, wait_s));
    split_row(t, "optimizer", offsetof(struct compare_measures, optim_s));
    split_row(t, "save", offsetof(struct compare_measures, save_s));
    for (int k = 0; k < t->c->n; k++)
        if (!isnan(t->c->of[k].step_s))
            snprintf(t->value[k], VALUE, "%.4f s", t->c->of[k].step_s);
    emit(t, "step without save");
}

static void comm_rows(struct rows *t)
{
    t->section = "Communication";
    for (int k = 0; k < t->c->n; k++)
        bytes_text(t->value[k], t->c->of[k].comm_bytes);
    emit(t, "summed over ranks");
    EACH(t, of[k_].bus_rate, "%.2f GB/s", 1e-9);
    for (int k = 0; k < t->c->n; k++)
        if (t->c->run[k].ranks == 1)
            snprintf(t->value[k], VALUE, "none: one rank");
    emit(t, "bus bandwidth");
}

static void energy_rows(struct rows *t)
{
    t->section = "Energy (of the steps)";
    EACH(t, of[k_].power_w, "%.1f W", 1);
    emit(t, "mean power");
    EACH(t, of[k_].tokens_joule, "%.4g", 1);
    emit(t, "tokens per joule");
    EACH(t, of[k_].energy_j, "%.4g kWh", 1 / 3.6e6);
    emit(t, "energy");
    if (isnan(t->c->price))
        return;
    for (int k = 0; k < t->c->n; k++)
        if (!isnan(t->c->of[k].energy_j))
            snprintf(t->value[k], VALUE, "%.4g %s", t->c->of[k].energy_j / 3.6e6 * t->c->price, t->c->currency);
    emit(t, "cost");
}

static void memory_rows(struct rows *t)
{
    t->section = "Memory";
    for (int k = 0; k < t->c->n; k++)
        bytes_text(t->value[k], t->c->run[k].plan_bytes);
    emit(t, "planned");
    for (int k = 0; k < t->c->n; k++)
        bytes_text(t->value[k], t->c->run[k].device_bytes);
    emit(t, "taken on the device");
    for (int k = 0; k < t->c->n; k++)
        bytes_text(t->value[k], t->c->run[k].peak_bytes);
    emit(t, "peak of the process");
}

int compare_rows(const struct compare *c, compare_row_fn each, void *arg, struct err *e)
{
    struct rows t = {.c = c, .each = each, .arg = arg};
    run_rows(&t);
    TRY(job_rows(&t, e));
    loss_rows(&t);
    speed_rows(&t);
    split_rows(&t);
    comm_rows(&t);
    energy_rows(&t);
    memory_rows(&t);
    return 0;
}
