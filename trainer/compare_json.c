/* compare_json.c - the comparison for a program. Null is "not recorded"; docs/compare.md describes the keys. */
#include <math.h>
#include <string.h>

#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/compare.h"

static void put_text(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, ", \"%s\": ", key);
    json_put_string(b, text, strlen(text));
}

static void put(struct buf *b, const char *key, double v)
{
    buf_printf(b, ", \"%s\": ", key);
    json_put_f64(b, v);
}

static void put_hash(struct buf *b, const char *key, const char *hex)
{
    buf_printf(b, hex[0] != '\0' ? ", \"%s\": \"%s\"" : ", \"%s\": null", key, hex);
}

static void put_measures(struct buf *b, const struct compare_measures *m, double price)
{
    buf_printf(b, ", \"warm_up_steps\": %zu, \"counted_steps\": %zu", m->n_warm, m->n_steady);
    put(b, "tok_s", m->tok_s);
    put(b, "tok_s_p10", m->tok_s_10);
    put(b, "tok_s_p90", m->tok_s_90);
    put(b, "step_s", m->step_s);
    put(b, "compute_s", m->compute_s);
    put(b, "comm_s", m->comm_s);
    put(b, "wait_s", m->wait_s);
    put(b, "optim_s", m->optim_s);
    put(b, "save_s", m->save_s);
    put(b, "comm_bytes", m->comm_bytes);
    put(b, "bus_bytes_s", m->bus_rate);
    put(b, "power_w", m->power_w);
    put(b, "tokens_joule", m->tokens_joule);
    put(b, "kwh", m->energy_j / 3.6e6);
    put(b, "cost", m->energy_j / 3.6e6 * price);
    put(b, "loss", m->final_loss);
    put(b, "eval_loss", m->final_eval);
    put(b, "eval_loss_best", m->best_eval);
}

static void put_run(struct buf *b, const struct compare *c, int k)
{
    const struct compare_run *r = &c->run[k];
    buf_printf(b, "%s    {\"label\": ", k > 0 ? ",\n" : "");
    json_put_string(b, r->label, strlen(r->label));
    put_text(b, "dir", r->dir);
    put_text(b, "state", r->running ? "running" : r->summed ? r->state : "interrupted");
    buf_printf(b, ", \"step\": %lld, \"steps\": ", (long long)r->steps[r->n_steps - 1].step);
    json_put_f64(b, r->planned_steps >= 0 ? (double)r->planned_steps : NAN);
    buf_printf(b, ", \"damaged_lines\": %zu, \"replaced_lines\": %zu", r->n_damaged, r->n_rewritten);
    put(b, "ranks", r->ranks);
    put_text(b, "devices", r->devices);
    put_text(b, "interconnect", r->interconnect);
    put_text(b, "precision", r->precision);
    put_text(b, "version", r->version);
    put_text(b, "libraries", r->libraries);
    put(b, "plan_bytes", r->plan_bytes);
    put(b, "device_bytes", r->device_bytes);
    put(b, "peak_bytes", r->peak_bytes);
    put_hash(b, "adapter_sha256", r->adapter);
    put_measures(b, &c->of[k], c->price);
    buf_puts(b, "}");
}

struct differences {
    const struct compare *c;
    struct buf *b;
    int n;
};

/* Values in the order of the runs; null for a run whose job is not known. */
static void put_difference(void *arg, const char *key, const char *const *values)
{
    struct differences *d = arg;
    if (strcmp(key, "name") == 0)
        return;
    buf_printf(d->b, "%s    {\"key\": \"%s\", \"values\": [", d->n++ > 0 ? ",\n" : "", key);
    for (int k = 0, job = 0; k < d->c->n; k++) {
        buf_puts(d->b, k > 0 ? ", " : "");
        if (d->c->run[k].job == NULL) {
            buf_puts(d->b, "null");
            continue;
        }
        json_put_string(d->b, values[job], strlen(values[job]));
        job++;
    }
    buf_puts(d->b, "]}");
}

static int put_jobs(struct buf *b, const struct compare *c, struct err *e)
{
    const struct config *jobs[COMPARE_MAX_RUNS];
    struct differences d = {.c = c, .b = b};
    int n = 0;
    for (int k = 0; k < c->n; k++)
        if (c->run[k].job != NULL)
            jobs[n++] = c->run[k].job;
    return config_differ(jobs, n, put_difference, &d, e);
}

static void put_loss(struct buf *b, const char *key, const struct compare_loss *l)
{
    buf_printf(b, ", \"%s\": {\"common\": %zu, \"equal\": %zu", key, l->n_common, l->n_equal);
    put(b, "distance", l->distance);
    buf_printf(b, ", \"step\": %lld}", (long long)l->at);
}

static void put_words(struct buf *b, const struct compare *c, int k)
{
    void (*const words[])(const struct compare *, int, struct buf *) = {compare_words_bits, compare_words_loss,
                                                                        compare_words_speed};
    buf_puts(b, ", \"words\": [");
    for (int i = 0; i < 3; i++) {
        struct buf text = {0};
        words[i](c, k, &text);
        buf_puts(b, i > 0 ? ", " : "");
        json_put_string(b, text.n > 0 ? text.data : "", text.n);
        b->failed |= text.failed;
        buf_free(&text);
    }
    buf_puts(b, "]");
}

static void put_pair(struct buf *b, const struct compare *c, int k)
{
    const struct compare_pair *p = &c->pair[k];
    buf_printf(b, "%s    {\"run\": %d, \"against\": 0, \"same_bits\": %s", k > 1 ? ",\n" : "", k,
               compare_same_bits(p)             ? "true"
               : p->adapters || p->n_states > 0 ? "false"
                                                : "null");
    buf_printf(b, ", \"common_checkpoints\": %zu, \"equal_checkpoints\": %zu", p->n_states, p->n_same_states);
    put_loss(b, "train_loss", &p->train);
    put_loss(b, "eval_loss", &p->eval);
    buf_printf(b, ", \"other_data\": %s", p->other_data ? "true" : "false");
    put_text(b, "speed", compare_verdict_name(p->speed));
    put(b, "difference", p->interval.difference);
    put(b, "low", p->interval.low);
    put(b, "high", p->interval.high);
    put_words(b, c, k);
    buf_puts(b, "}");
}

int compare_json(const struct compare *c, struct buf *out, struct err *e)
{
    buf_puts(out, "{\n  \"version\": 1,\n  \"runs\": [\n");
    for (int k = 0; k < c->n; k++)
        put_run(out, c, k);
    buf_puts(out, "\n  ],\n  \"job_differences\": [\n");
    TRY(put_jobs(out, c, e));
    buf_puts(out, "\n  ],\n  \"pairs\": [\n");
    for (int k = 1; k < c->n; k++)
        put_pair(out, c, k);
    buf_puts(out, "\n  ]");
    put(out, "run_to_run", c->run_to_run);
    put(out, "kwh_price", c->price);
    put_text(out, "currency", c->currency);
    put_text(out, "method", compare_method);
    buf_puts(out, "\n}\n");
    return out->failed ? mem_fail(e, "the comparison", out->n) : 0;
}
