/* compare.c - from the runs' folders to what is the same, what differs, and how sure that is. */
#include "trainer/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/mem.h"

/* ---- one run's measures ---- */

/* Tokens a second of the steps behind the warm-up that have a rate, in their order; owned by the caller. */
static int steady_rates(const struct compare_run *r, double **out, size_t *n_out, struct err *e)
{
    size_t warm = compare_warm(r->n_steps), n = 0;
    double *rates = mem_alloc(r->n_steps, sizeof *rates);
    if (rates == NULL)
        return mem_fail(e, "the rates of a run's steps", r->n_steps * sizeof *rates);
    for (size_t i = warm; i < r->n_steps; i++)
        if (r->steps[i].tok_s > 0)
            rates[n++] = r->steps[i].tok_s;
    *out = rates;
    *n_out = n;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int measure_rates(const struct compare_run *r, struct compare_measures *m, struct err *e)
{
    double *rates;
    TRY(steady_rates(r, &rates, &m->n_steady, e));
    m->tok_s = m->tok_s_10 = m->tok_s_90 = NAN;
    if (m->n_steady > 0) {
        qsort(rates, m->n_steady, sizeof *rates, by_value);
        m->tok_s = compare_quantile(rates, m->n_steady, 0.5);
        m->tok_s_10 = compare_quantile(rates, m->n_steady, 0.1);
        m->tok_s_90 = compare_quantile(rates, m->n_steady, 0.9);
    }
    mem_free(rates);
    return 0;
}

/* Means over the steps behind the warm-up; one step that lacks a field makes the mean NaN, that is: not recorded. */
static void measure_split(const struct compare_run *r, struct compare_measures *m)
{
    size_t warm = compare_warm(r->n_steps);
    double n = (double)(r->n_steps - warm), bytes = 0;
    for (size_t i = warm; i < r->n_steps; i++) {
        const struct compare_step *s = &r->steps[i];
        m->step_s += s->seconds / n;
        m->compute_s += s->compute_s / n;
        m->comm_s += s->comm_s / n;
        m->wait_s += s->wait_s / n;
        m->optim_s += s->optim_s / n;
        m->save_s += s->save_s / n;
        bytes += s->comm_bytes / n;
    }
    /* Every rank of an all-reduce sends and receives at least 2 (N-1)/N of the buffer (NCCL's "bus bandwidth"). */
    m->bus_rate = r->ranks > 1 && m->comm_s > 0 ? 2 * (r->ranks - 1) / r->ranks * bytes / m->comm_s : NAN;
}

static void measure_sums(const struct compare_run *r, struct compare_measures *m)
{
    double seconds = 0, tokens = 0;
    for (size_t i = 0; i < r->n_steps; i++) {
        m->comm_bytes += r->steps[i].comm_bytes;
        m->energy_j += r->steps[i].energy_j;
        seconds += r->steps[i].seconds;
        tokens += r->steps[i].tokens;
    }
    m->power_w = m->energy_j > 0 && seconds > 0 ? m->energy_j / seconds : NAN;
    m->tokens_joule = m->energy_j > 0 ? tokens / m->energy_j : NAN;
}

static int measure(const struct compare_run *r, struct compare_measures *m, struct err *e)
{
    *m = (struct compare_measures){.n_warm = compare_warm(r->n_steps), .final_eval = NAN, .best_eval = NAN};
    TRY(measure_rates(r, m, e));
    measure_split(r, m);
    measure_sums(r, m);
    m->final_loss = r->steps[r->n_steps - 1].loss;
    for (size_t i = 0; i < r->n_evals; i++) {
        m->final_eval = r->evals[i].loss;
        m->best_eval = fmin(m->best_eval, r->evals[i].loss); /* fmin passes over NaN */
    }
    return 0;
}

/* ---- two runs ---- */

static void compare_bits(const struct compare_run *a, const struct compare_run *b, struct compare_pair *p)
{
    p->adapters = a->adapter[0] != '\0' && b->adapter[0] != '\0';
    p->same_adapters = p->adapters && strcmp(a->adapter, b->adapter) == 0;
    p->differs_at = -1;
    for (size_t i = 0, j = 0; i < a->n_checkpoints && j < b->n_checkpoints;) {
        const struct compare_checkpoint *x = &a->checkpoints[i], *y = &b->checkpoints[j];
        i += x->step <= y->step;
        j += y->step <= x->step;
        if (x->step != y->step)
            continue;
        int k = 0, readable = 1;
        for (int f = 0; f < COMPARE_STATE_FILES; f++) /* pruned meanwhile, or damaged: no evidence */
            readable &= x->hex[f][0] != '\0' && y->hex[f][0] != '\0';
        if (!readable)
            continue;
        while (k < COMPARE_STATE_FILES && strcmp(x->hex[k], y->hex[k]) == 0)
            k++;
        p->n_states++;
        p->n_same_states += k == COMPARE_STATE_FILES;
        if (k < COMPARE_STATE_FILES && p->differs_at < 0) {
            p->differs_at = x->step;
            p->differs_file = compare_state_files[k];
        }
    }
}

static void note_distance(struct compare_loss *l, int64_t step, double a, double b)
{
    if (isnan(a) || isnan(b))
        return;
    l->n_common++;
    l->n_equal += a == b;
    if (!(fabs(a - b) <= l->distance)) {
        l->distance = fabs(a - b);
        l->at = step;
    }
}

static void compare_losses(const struct compare_run *a, const struct compare_run *b, struct compare_pair *p)
{
    p->train = p->eval = (struct compare_loss){.distance = NAN, .at = -1};
    for (size_t i = 0, j = 0; i < a->n_steps && j < b->n_steps;) {
        int64_t x = a->steps[i].step, y = b->steps[j].step;
        if (x == y)
            note_distance(&p->train, x, a->steps[i].loss, b->steps[j].loss);
        i += x <= y;
        j += y <= x;
    }
    for (size_t i = 0, j = 0; i < a->n_evals && j < b->n_evals;) {
        int64_t x = a->evals[i].step, y = b->evals[j].step;
        if (x == y)
            note_distance(&p->eval, x, a->evals[i].loss, b->evals[j].loss);
        i += x <= y;
        j += y <= x;
    }
}

static bool is_known(const char *identity) { return identity[0] != '\0' && strcmp(identity, "unknown") != 0; }

/* Is a token of one run as much work as a token of the other? When not, or when nobody can tell, why says so. */
static bool is_comparable(const struct compare_run *a, const struct compare_run *b, char *why, size_t size)
{
    const struct compare_run *lost = a->job == NULL ? a : b;
    why[0] = '\0';
    if (a->job == NULL || b->job == NULL)
        snprintf(why, size, "the job of %s is not recorded, so nobody can tell whether its tokens are the same work",
                 lost->label);
    else if (a->job->data.sequence_length != b->job->data.sequence_length)
        snprintf(why, size, "rows of %d and of %d tokens (data.sequence_length): a token of the longer one is more work",
                 a->job->data.sequence_length, b->job->data.sequence_length);
    else if (is_known(a->base) && is_known(b->base) && strcmp(a->base, b->base) != 0)
        snprintf(why, size, "another base model (model.path, by its weights): a token is another amount of work");
    else if (!(is_known(a->base) && is_known(b->base)) && strcmp(a->job->model.path, b->job->model.path) != 0)
        snprintf(why, size, "another model.path, and not both have a checkpoint that tells whether the weights are the same");
    return why[0] == '\0';
}

static bool has_other_data(const struct compare_run *a, const struct compare_run *b)
{
    if (is_known(a->dataset) && is_known(b->dataset))
        return strcmp(a->dataset, b->dataset) != 0;
    return a->job != NULL && b->job != NULL && strcmp(a->job->data.train, b->job->data.train) != 0;
}

static void count_key(void *arg, const char *key, const char *const *values) { *(int *)arg += strcmp(key, "name") != 0; }

/* One job on one machine with one lorat: what differs between such runs is noise, whatever an interval within a run says. */
static int is_repeat(const struct compare_run *a, const struct compare_run *b, bool *out, struct err *e)
{
    int differing = 0;
    *out = false;
    if (a->job == NULL || b->job == NULL || !a->summed || !b->summed || a->ranks != b->ranks ||
        strcmp(a->devices, b->devices) != 0 || strcmp(a->interconnect, b->interconnect) != 0 ||
        strcmp(a->precision, b->precision) != 0 || strcmp(a->version, b->version) != 0 ||
        strcmp(a->libraries, b->libraries) != 0 || has_other_data(a, b))
        return 0;
    TRY(config_differ((const struct config *const[]){a->job, b->job}, 2, count_key, &differing, e));
    *out = differing == 0;
    return 0;
}

/* Over every two runs, so that a repeat of any of them tells how quiet the machine was. */
static int measure_run_to_run(struct compare *c, struct err *e)
{
    c->run_to_run = NAN;
    for (int i = 0; i < c->n; i++)
        for (int k = i + 1; k < c->n; k++) {
            bool repeat;
            double x = c->of[i].tok_s, y = c->of[k].tok_s;
            TRY(is_repeat(&c->run[i], &c->run[k], &repeat, e));
            if (repeat && c->of[i].n_steady >= COMPARE_FEWEST && c->of[k].n_steady >= COMPARE_FEWEST)
                c->run_to_run = fmax(c->run_to_run, fmax(x, y) / fmin(x, y) - 1); /* fmax passes over NaN */
        }
    return 0;
}

static enum compare_verdict judge_with_repeats(const struct compare *c, const struct compare_interval *i, bool repeat)
{
    enum compare_verdict v = compare_judge(i);
    if (v == COMPARE_NO_DIFFERENCE)
        return v;
    if (repeat)
        return COMPARE_REPEAT;
    return fabs(i->difference) <= c->run_to_run ? COMPARE_NO_DIFFERENCE : v; /* false when it is NaN */
}

static int compare_speed(const struct compare *c, int k, struct compare_pair *p, struct err *e)
{
    const struct compare_run *a = &c->run[0], *b = &c->run[k];
    bool repeat;
    double *x = NULL, *y = NULL;
    size_t n_x, n_y;
    int rc = 0;
    p->interval = (struct compare_interval){NAN, NAN, NAN};
    if (!is_comparable(a, b, p->why, sizeof p->why)) {
        p->speed = COMPARE_INCOMPARABLE;
        return 0;
    }
    TRY_DONE(steady_rates(a, &x, &n_x, e));
    TRY_DONE(steady_rates(b, &y, &n_y, e));
    p->speed = COMPARE_TOO_FEW;
    if (n_x >= COMPARE_FEWEST && n_y >= COMPARE_FEWEST) {
        TRY_DONE(compare_bootstrap(x, n_x, y, n_y, &p->interval, e));
        TRY_DONE(is_repeat(a, b, &repeat, e));
        p->speed = judge_with_repeats(c, &p->interval, repeat);
    }
done:
    mem_free(x);
    mem_free(y);
    return rc;
}

/* ---- all of them ---- */

int compare_make(struct compare *c, struct err *e)
{
    for (int k = 0; k < c->n; k++)
        TRY(measure(&c->run[k], &c->of[k], e));
    TRY(measure_run_to_run(c, e));
    for (int k = 1; k < c->n; k++) {
        const struct compare_run *a = &c->run[0], *b = &c->run[k];
        struct compare_pair *p = &c->pair[k];
        *p = (struct compare_pair){0};
        compare_bits(a, b, p);
        compare_losses(a, b, p);
        p->other_data = has_other_data(a, b);
        TRY(compare_speed(c, k, p, e));
    }
    return 0;
}

/* Runs of one name in different places are told apart by a number. */
static void number_labels(struct compare *c)
{
    bool twice[COMPARE_MAX_RUNS] = {false};
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n; k++)
            twice[i] |= i != k && strcmp(c->run[i].label, c->run[k].label) == 0;
    for (int i = 0; i < c->n; i++)
        if (twice[i]) {
            size_t n = strlen(c->run[i].label);
            snprintf(c->run[i].label + (n < 58 ? n : 58), 6, " (%c)", (char)('1' + i));
        }
}

int compare_open(const char *const *dirs, int n, struct compare *out, struct err *e)
{
    *out = (struct compare){.price = NAN};
    if (n < 2 || n > COMPARE_MAX_RUNS)
        FAIL(e, ERR_USAGE, "compare: %d runs, expected 2 to %d", n, COMPARE_MAX_RUNS);
    for (int k = 0; k < n; k++) {
        out->n = k + 1;
        TRY(compare_read(dirs[k], &out->run[k], e));
    }
    number_labels(out);
    compare_hash(out->run, out->n);
    return compare_make(out, e);
}

void compare_free(struct compare *c)
{
    for (int k = 0; k < c->n; k++)
        compare_run_free(&c->run[k]);
    c->n = 0;
}
