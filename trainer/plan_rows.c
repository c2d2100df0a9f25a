/* plan_rows.c - the ways that a plan's bytes can take, each with what it costs: a row of the table that `lorat plan` prints, and
 * of its JSON. */
#include <math.h>

#include "trainer/plan.h"

static struct plan_row row_of(const struct plan *p, const char *name, double rate, double fetch_rate, double sum_rate)
{
    const struct plan_work *w = &p->work;
    double hidden = isfinite(rate) ? plan_link_hidden(w, fetch_rate) : 0;
    return (struct plan_row){.name = name,
                             .rate = rate,
                             .step_s = plan_link_step_s(w, fetch_rate, sum_rate),
                             .tokens_s = plan_link_tokens_s(w, fetch_rate, sum_rate),
                             .sum_s = plan_link_sum_s(w, sum_rate),
                             .hidden = hidden,
                             .hidden_rows = plan_rows_of(p, hidden)};
}

double plan_rows_of(const struct plan *p, double tokens)
{
    double rows = fmax(1, ceil(tokens / p->shape.sequence_length));
    int each = p->micro_batch * p->accumulation;
    while (rows < each && each % (int)rows != 0)
        rows++;
    return rows;
}

int plan_rows(const struct plan *p, struct plan_row out[PLAN_ROWS])
{
    static const enum machine_way pair[] = {WAY_NVLINK, WAY_PEER, WAY_HOST};
    const struct plan_ways *y = &p->device.ways;
    bool host = p->shape.place.kind == FROZEN_HOST, several = p->device.cards > 1;
    double copies = host && y->host > 0 ? y->host : INFINITY;
    int n = 0;
    if (p->tokens_s <= 0 || (!several && !isfinite(copies)) || y->staged + y->peer + y->nvlink + y->host == 0)
        return 0;
    out[n++] = row_of(p, "computing alone", INFINITY, INFINITY, INFINITY);
    if (isfinite(copies) && !several)
        out[n++] = row_of(p, "copies from host memory", copies, copies, INFINITY);
    for (size_t i = 0; several && i < sizeof pair / sizeof *pair; i++) {
        double rate = plan_ways_rate(y, pair[i]);
        if (rate > 0)
            out[n++] = row_of(p, machine_way_name(pair[i]), rate, host ? copies : rate, rate);
    }
    return n;
}

bool plan_bridge(const struct plan *p, struct plan_bridge *out)
{
    const struct plan_ways *y = &p->device.ways;
    const struct plan_work *w = &p->work;
    bool sharded = p->shape.place.kind == FROZEN_SHARDED;
    double copies = p->shape.place.kind == FROZEN_HOST && y->host > 0 ? y->host : INFINITY;
    if (p->tokens_s <= 0 || p->device.cards < 2 || y->nvlink == 0 || y->staged == 0)
        return false;
    double with = plan_link_step_s(w, sharded ? y->nvlink : copies, y->nvlink);
    double without = plan_link_step_s(w, sharded ? y->staged : copies, y->staged);
    *out = (struct plan_bridge){.worth = without / with, .until = sharded ? plan_link_hidden(w, y->staged) : 0};
    return true;
}
