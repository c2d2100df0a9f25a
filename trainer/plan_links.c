#include "trainer/plan_links.h"

#include <math.h>

/* n tokens through `flop_token` of products. */
static double compute_s(const struct plan_work *w, double flop_token) { return flop_token * (w->tokens + w->tokens_half) / w->flop_s; }

double plan_link_pass_s(const struct plan_work *w, double flop_token, double fetch_rate)
{
    double all = compute_s(w, flop_token), one = all / w->blocks, fetch = w->fetch_bytes / fetch_rate;
    return w->blocks <= PLAN_SLOTS || fetch <= one ? all : PLAN_SLOTS * one + (w->blocks - PLAN_SLOTS) * fetch;
}

double plan_link_sum_s(const struct plan_work *w, double rate) { return 2.0 * (w->ranks - 1) / w->ranks * w->sum_bytes / rate; }

double plan_link_step_s(const struct plan_work *w, double fetch_rate, double sum_rate)
{
    double pass = plan_link_pass_s(w, w->forward, fetch_rate) + compute_s(w, w->head) + plan_link_pass_s(w, w->backward, fetch_rate);
    return w->passes * pass + plan_link_sum_s(w, sum_rate);
}

double plan_link_tokens_s(const struct plan_work *w, double fetch_rate, double sum_rate)
{
    return (double)w->ranks * w->passes * w->tokens / plan_link_step_s(w, fetch_rate, sum_rate);
}

double plan_link_hidden(const struct plan_work *w, double fetch_rate)
{
    double least = fmin(w->forward, w->backward) / w->blocks;
    return w->blocks <= PLAN_SLOTS ? 0 : fmax(0, w->fetch_bytes / fetch_rate * w->flop_s / least - w->tokens_half);
}
