#include "trainer/optim.h"

#include <math.h>

#include "trainer/metrics.h"

double optim_rate(const struct config *c, int64_t step, int64_t total)
{
    double rate = c->train.learning_rate;
    int64_t warm = c->train.warmup_steps;
    if (step < warm)
        return rate * (double)(step + 1) / (double)warm;
    if (c->train.schedule == SCHEDULE_CONSTANT || total <= warm)
        return rate;
    double done = (double)(step - warm) / (double)(total - warm);
    if (done > 1)
        done = 1;
    return c->train.schedule == SCHEDULE_LINEAR ? rate * (1 - done) : rate * 0.5 * (1 + cos(M_PI * done));
}

static void update(struct model *m, const struct config *c, double rate, int64_t updates, const struct optim_result *r)
{
    double t = (double)(updates + 1), clip = 1;
    if (c->train.max_grad_norm > 0)
        clip = c->train.max_grad_norm / (r->norm + 1e-6);
    if (clip > 1)
        clip = 1;
    struct adamw a = {.lr = (float)rate,
                      .beta1 = c->train.beta1,
                      .beta2 = c->train.beta2,
                      .epsilon = (float)c->train.epsilon,
                      .weight_decay = (float)c->train.weight_decay,
                      .grad_scale = (float)(clip / r->weight),
                      .bias1 = (float)(1 - pow(c->train.beta1, t)),
                      .bias2 = (float)(1 - pow(c->train.beta2, t))};
    ops_mark(m->o, "optimizer");
    m->o->adamw_update(m->o, m->t.params, m->t.grads, m->t.m, m->t.v, m->lora->count, &a);
    model_refresh(m);
    ops_mark(m->o, NULL);
}

int optim_step(struct model *m, struct comm *comm, const struct config *c, double rate, int64_t updates, struct optim_result *out,
               struct err *e)
{
    int64_t count = m->lora->count;
    float *tail = m->t.grads + count, got[TAIL_USED];
    TRY(comm->sum(comm, m->o, m->t.grads, count + TAIL_SUMMED, e));
    m->o->grad_stats(m->o, tail + TAIL_SQUARES, m->t.grads, count);
    TRY(m->o->download(m->o, got, tail, sizeof got, e));
    *out = (struct optim_result){
        .weight = got[TAIL_WEIGHT], .stop = got[TAIL_STOP] != 0, .finite = true, .read_at = metrics_now()};
    if (out->weight == 0) /* no target token in the whole step: loss 0, nothing changes */
        return 0;
    out->loss = got[TAIL_LOSS] / out->weight;
    out->norm = sqrt((double)got[TAIL_SQUARES]) / out->weight;
    out->finite = got[TAIL_NOT_FINITE] == 0 && got[TAIL_SKIP] == 0 && isfinite(out->loss) && isfinite(out->norm);
    if (!out->finite)
        return 0;
    update(m, c, rate, updates, out);
    out->updated = true;
    return m->o->check(m->o, e);
}
