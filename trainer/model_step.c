/* model_step.c - one micro-batch through the model: up to the device, forward, loss, backward. */
#include "trainer/model_internal.h"

#include <string.h>

#include "trainer/base/num.h"

/* The rows that carry loss, padded to whole tiles with rows that do not exist (-1, weight 0). */
static int32_t loss_rows(struct model *m, const struct batch *b)
{
    int32_t k = 0;
    for (int32_t i = 0; i < b->n_real; i++) {
        if (b->weights[i] == 0)
            continue;
        m->host.rows[k] = i;
        m->host.targets[k] = b->targets[i];
        m->host.weights[k++] = b->weights[i];
    }
    for (; k % BATCH_ROUND != 0; k++) {
        m->host.rows[k] = -1;
        m->host.targets[k] = 0;
        m->host.weights[k] = 0;
    }
    return k;
}

static int upload(struct model *m, const struct batch *b, struct err *e)
{
    struct ops *o = m->o;
    size_t n = (size_t)b->n, four = sizeof(int32_t);
    if (b->n > m->shape.n || b->n_spans > b->n + 1 || b->max_span > m->shape.n)
        FAIL(e, ERR_INTERNAL, "micro-batch of %d tokens in %d documents, planned for %d tokens", b->n, b->n_spans, m->shape.n);
    m->batch.n = b->n;
    m->batch.n_spans = b->n_spans;
    m->batch.max_span = b->max_span;
    m->batch.n_rows = loss_rows(m, b);
    o->upload(o, m->batch.tokens, b->tokens, n * four);
    o->upload(o, m->batch.positions, b->positions, n * four);
    o->upload(o, m->batch.keys, b->keys, n * four);
    o->upload(o, m->batch.spans, b->spans, (size_t)b->n_spans * sizeof *b->spans);
    size_t rows = (size_t)m->batch.n_rows;
    o->upload(o, m->batch.rows, m->host.rows, rows * four);
    o->upload(o, m->batch.targets, m->host.targets, rows * four);
    o->upload(o, m->batch.weights, m->host.weights, rows * four);
    return o->check(o, e);
}

/* FLOP of the scores and their use, forward: 4 Q per visible pair and query head. */
static double attention_flop(const struct model *m, const struct batch *b)
{
    double pairs = 0;
    for (int32_t i = 0; i < b->n_spans; i++)
        pairs += 0.5 * b->spans[i].q_len * (b->spans[i].q_len + 1.0);
    return 4.0 * pairs * m->facts->h * m->facts->q;
}

static void tick(struct model *m)
{
    if (m->tick != NULL)
        m->tick(m->tick_arg);
}

static void forward(struct model *m, const struct lora_step *s)
{
    const struct facts *f = m->facts;
    ops_mark(m->o, "forward");
    m->o->embed_forward(m->o, m->acts[0].x, &m->frozen.embed, m->batch.tokens, m->batch.n);
    for (int32_t l = 0; l < f->l; l++) {
        block_forward(m, s, l, STAGE_ALL, l == 0);
        tick(m);
    }
    ops_mark(m->o, NULL);
}

static struct lora_step lora_step_of(struct model *m, int64_t step, bool train)
{
    return (struct lora_step){.weights = m->t.work, .grads = train ? m->t.grads : NULL, .keys = m->batch.keys, .step = (uint32_t)step,
                              .train = train, .xd = m->xd, .dh = m->dh};
}

int model_accumulate(struct model *m, const struct batch *b, int64_t step, struct err *e)
{
    struct ops *o = m->o;
    int32_t last = m->facts->l - 1;
    int again = block_again(m->shape.recompute);
    struct lora_step s = lora_step_of(m, step, true);
    float *tail = m->t.grads + m->lora->count;
    TRY(upload(m, b, e));
    if (m->batch.n_rows == 0) { /* nothing is asked of the model: no loss, no gradient; other ranks may need our share of it */
        frozen_follow(&m->frozen, true);
        return frozen_check(&m->frozen, e);
    }
    forward(m, &s);
    o->weight_sum(o, tail + TAIL_WEIGHT, m->batch.weights, m->batch.n_rows);
    head_loss(m, tail + TAIL_LOSS, true);
    ops_mark(o, "backward");
    for (int32_t l = last; l >= 0; l--) {
        if (l != last) /* the last block's working set still stands */
            block_forward(m, &s, l, again, true);
        block_backward(m, &s, l);
        tick(m);
    }
    ops_mark(o, NULL);
    double runs = 1 + 2.5 + (m->shape.recompute == RECOMPUTE_FULL ? (double)last / m->facts->l : 0);
    m->flop += runs * m->facts->l * attention_flop(m, b);
    TRY(frozen_check(&m->frozen, e));
    return o->check(o, e);
}

int model_evaluate(struct model *m, const struct batch *b, double *loss, double *weight, struct err *e)
{
    struct ops *o = m->o;
    struct lora_step s = lora_step_of(m, 0, false);
    float got[2] = {0, 0};
    TRY(upload(m, b, e));
    *loss = *weight = 0;
    if (m->batch.n_rows == 0) {
        frozen_follow(&m->frozen, false);
        return frozen_check(&m->frozen, e);
    }
    o->zero(o, m->eval, sizeof got);
    forward(m, &s);
    o->weight_sum(o, m->eval + TAIL_WEIGHT, m->batch.weights, m->batch.n_rows);
    head_loss(m, m->eval + TAIL_LOSS, false);
    m->flop += m->facts->l * attention_flop(m, b);
    TRY(frozen_check(&m->frozen, e));
    TRY(o->download(o, got, m->eval, sizeof got, e));
    *loss = got[TAIL_LOSS];
    *weight = got[TAIL_WEIGHT];
    return 0;
}

int model_logits(struct model *m, const struct batch *b, const int32_t *rows, int32_t n_rows, float *logits, struct err *e)
{
    struct lora_step s = lora_step_of(m, 0, false);
    TRY(upload(m, b, e));
    m->o->upload(m->o, m->batch.rows, rows, (size_t)n_rows * sizeof *rows);
    forward(m, &s);
    TRY(frozen_check(&m->frozen, e));
    return head_logits(m, n_rows, logits, e);
}
