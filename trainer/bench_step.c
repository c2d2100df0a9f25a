/* bench_step.c - `lorat bench step`: whole optimizer steps of a model with random weights over packed random tokens. It plans,
 * allocates and steps by the very functions that `lorat train` uses; what is missing is the reading of a dataset. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/bench_data.h"
#include "trainer/comm.h"
#include "trainer/metrics.h"
#include "trainer/optim.h"
#include "trainer/placement.h"

enum { WARM_UP = 2 };
struct steps {
    struct bench *b;
    struct plan plan;
    struct plan_device device;
    struct model m;
    struct comm comm;
    struct batch *batches; /* (accumulation) */
    int32_t accumulation;
    int64_t done, updates;
    double *seconds; /* (b->steps) */
    double flop;     /* of the last step */
    double gemm_rate;
    double loss;
    double copy_s; /* what fetching the blocks of a step takes with nothing else to do; NaN when they are resident */
};

static int prepare(struct steps *s, struct err *e)
{
    struct bench *b = s->b;
    TRY(plan_here(b->ops, &b->card, &b->c, &b->facts, &s->device, e));
    TRY(plan_make(&b->c, &b->facts, &b->lora, b->ops, &s->device, 0, &s->plan, e));
    if (s->plan.arenas[ARENA_HOST].used > 0 && !b->ops->unified)
        TRY(placement_room(PLACEMENT_OF_BENCH, (int64_t)s->plan.arenas[ARENA_HOST].used, 1, "", e));
    comm_solo(&s->comm);
    s->accumulation = s->plan.accumulation;
    s->batches = mem_alloc((size_t)s->accumulation, sizeof *s->batches);
    s->seconds = mem_alloc((size_t)b->steps, sizeof *s->seconds);
    if (s->batches == NULL || s->seconds == NULL)
        return mem_fail(e, "a list of micro-batches", (size_t)s->accumulation * sizeof *s->batches);
    for (int32_t i = 0; i < s->accumulation; i++)
        TRY(bench_batch(b, (uint32_t)i, &s->batches[i], e));
    TRY(model_layout(&s->m, b->ops, &b->facts, &b->lora, &s->plan.shape, e));
    TRY(model_allocate(&s->m, e));
    return bench_weights(&s->m, e);
}

static int one_step(struct steps *s, struct err *e)
{
    struct optim_result r;
    s->m.flop = 0;
    model_zero_grads(&s->m);
    for (int32_t i = 0; i < s->accumulation; i++)
        TRY(model_accumulate(&s->m, &s->batches[i], s->done, e));
    TRY(optim_step(&s->m, &s->comm, &s->b->c, s->b->c.train.learning_rate, s->updates, &r, e));
    s->flop = s->m.flop;
    s->loss = r.loss;
    s->done++;
    s->updates += r.updated;
    if (!r.finite || !r.updated)
        FAIL(e, ERR_VERIFY,
             "bench step: the loss of step %lld is %g, expected a finite step. This device computes wrongly: run "
             "scripts/gpu-check.sh",
             (long long)s->done, r.loss);
    return 0;
}

/* One product of a block on the model's own weights and activations. */
struct yard {
    struct model *m;
    const struct weight *w;
    void *y, *x;
    int32_t n;
    bool backward;
};
static void run_yard(void *arg, int64_t i)
{
    const struct yard *y = arg;
    struct ops *o = y->m->o;
    if (y->backward)
        o->linear_backward(o, y->x, y->y, y->w, y->n, false);
    else
        o->linear_forward(o, y->y, y->x, y->w, NULL, y->n);
}

/* The yardstick: what the plain products of the step reach by themselves, forward or backward, whichever is faster; each shape
 * weighs as often as a step runs it. A second call can only raise it. Between steps the activations are scratch. */
static int measure_gemm(struct steps *s, struct err *e)
{
    struct model *m = &s->m;
    const struct frozen_block *b = &m->frozen.blocks[0];
    const struct layer_acts *t = &m->acts[0];
    int32_t n = m->shape.n, c = m->shape.head_chunk;
    struct yard yards[] = {{m, &b->qkv, t->qkv, t->n1, n, false},
                           {m, &b->o, m->tmp, t->o, n, false},
                           {m, &b->gate_up, t->gu, t->n2, n, false},
                           {m, &b->down, m->tmp, t->a, n, false},
                           {m, &m->frozen.head, m->logits, m->nf, c, false}};
    double flop = 0, seconds = 0;
    for (size_t i = 0; i < sizeof yards / sizeof yards[0]; i++) {
        struct yard *y = &yards[i];
        struct bench_time forward, backward;
        double times = y->w == &m->frozen.head ? (double)n / c : m->facts->l;
        bench_fill(m->o, y->x, m->o->act, (int64_t)y->n * y->w->in, -1, 1, 3);
        bench_fill(m->o, y->y, m->o->act, (int64_t)y->n * y->w->out, -1, 1, 4);
        TRY(bench_calls(m->o, run_yard, y, s->b->budget_s / 2, &forward, e));
        y->backward = true;
        TRY(bench_calls(m->o, run_yard, y, s->b->budget_s / 2, &backward, e));
        flop += times * 2.0 * y->n * y->w->out * y->w->in;
        seconds += times * (forward.best_s < backward.best_s ? forward.best_s : backward.best_s);
    }
    if (flop / seconds > s->gemm_rate)
        s->gemm_rate = flop / seconds;
    return 0;
}

static void walk(void *arg, int64_t i)
{
    struct frozen *w = arg;
    for (int32_t l = 0; l < w->facts->l; l++) {
        frozen_acquire(w, l);
        frozen_release(w, l);
    }
    for (int32_t l = w->facts->l - 1; l >= 0; l--) {
        frozen_acquire(w, l);
        frozen_release(w, l);
    }
}

/* The copies of a step without its computation, by the walk that the model itself makes. */
static int measure_copies(struct steps *s, struct err *e)
{
    struct bench_time t;
    s->copy_s = NAN;
    if (s->m.frozen.stream == NULL)
        return 0;
    TRY(bench_calls(s->m.o, walk, &s->m.frozen, s->b->budget_s, &t, e));
    s->copy_s = t.median_s * s->accumulation;
    return frozen_check(&s->m.frozen, e);
}

static void mark(struct steps *s, const char *name)
{
    if (s->b->profile && s->b->ops->mark != NULL)
        s->b->ops->mark(s->b->ops, name);
}

static int run_steps(struct steps *s, struct err *e)
{
    for (int i = 0; i < WARM_UP; i++)
        TRY(one_step(s, e));
    TRY(s->m.o->sync(s->m.o, e));
    mark(s, "bench");
    double last = metrics_now();
    for (int64_t i = 0; i < s->b->steps; i++) {
        TRY(one_step(s, e)); /* ends with the read-back that every step waits for; the update overlaps the next step */
        double now = metrics_now();
        s->seconds[i] = now - last;
        last = now;
    }
    mark(s, NULL);
    return s->m.o->sync(s->m.o, e);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Bytes of this process on the device, or resident on the CPU: now, which is the peak, since nothing is allocated after the
 * start. */
static int taken(const struct bench *b, double *out, struct err *e)
{
    int64_t left, total;
    *out = (double)metrics_peak_rss();
    if (b->ops->unified)
        return 0;
    TRY(b->ops->memory(b->ops, &left, &total, e));
    *out = (double)(b->card.free - left);
    return 0;
}

struct figures {
    double tokens, median, fastest, slowest, flop_s, peak, mfu, bytes;
};

static int figure(struct steps *s, struct figures *g, struct err *e)
{
    struct bench *b = s->b;
    qsort(s->seconds, (size_t)b->steps, sizeof s->seconds[0], ascending);
    *g = (struct figures){.tokens = (double)s->accumulation * b->c.train.micro_batch * b->c.data.sequence_length,
                          .median = (s->seconds[(b->steps - 1) / 2] + s->seconds[b->steps / 2]) / 2,
                          .fastest = s->seconds[0],
                          .slowest = s->seconds[b->steps - 1],
                          .peak = plan_card_peak(b->ops->device),
                          .mfu = NAN};
    g->flop_s = s->flop / g->median;
    if (g->peak > 0 && b->document > 0) /* of a mix, only the work that was done is counted */
        g->mfu = plan_flop(&b->facts, &b->lora, RECOMPUTE_NONE, b->document) * g->tokens / g->median / g->peak;
    return taken(b, &g->bytes, e);
}

static void print_text(const struct steps *s, const struct figures *g)
{
    const struct bench *b = s->b;
    char planned[32], reported[32];
    printf(
        "step      %.2f ms (median of %lld, %.2f to %.2f): %.0f tokens a second (%.0f to %.0f), recompute %s, %d micro-batches\n",
        1e3 * g->median, (long long)b->steps, 1e3 * g->fastest, 1e3 * g->slowest, g->tokens / g->median, g->tokens / g->slowest,
        g->tokens / g->fastest, plan_recompute_name(s->plan.recompute), s->accumulation);
    printf("work      %.3f GFLOP a token executed, %.2f TFLOP/s\n", s->flop / g->tokens / 1e9, g->flop_s / 1e12);
    printf("products  %.2f TFLOP/s by themselves in this run: the step reaches %.0f %% of it\n", s->gemm_rate / 1e12,
           100 * g->flop_s / s->gemm_rate);
    if (g->peak > 0)
        printf("peak      %.0f TFLOP/s by the card's table: HFU %.1f %%", g->peak / 1e12, 100 * g->flop_s / g->peak);
    if (isfinite(g->mfu))
        printf(", MFU %.1f %%", 100 * g->mfu);
    printf("%smemory    planned %s, %s %s\n", g->peak > 0 ? "\n" : "", num_format_bytes(planned, (uint64_t)s->plan.total_bytes),
           b->ops->unified ? "resident" : "the driver reports", num_format_bytes(reported, (uint64_t)g->bytes));
    if (isfinite(s->copy_s))
        printf("copies    %.2f ms for the blocks of a step by themselves; the base lies %s\n", 1e3 * s->copy_s, s->plan.base);
    printf("loss      %.4f after %lld steps (random tokens: ln V is %.4f)\n", s->loss, (long long)s->done, log(b->facts.v));
}

static int print_json(const struct steps *s, const struct figures *g, struct err *e)
{
    const struct bench *b = s->b;
    const struct {
        const char *key;
        double value;
    } all[] = {{"micro_batch", b->c.train.micro_batch},
               {"seq", b->c.data.sequence_length},
               {"accumulation", s->accumulation},
               {"rank", b->c.lora.rank},
               {"steps", (double)b->steps},
               {"ms", 1e3 * g->median},
               {"ms_min", 1e3 * g->fastest},
               {"ms_max", 1e3 * g->slowest},
               {"tok_s", g->tokens / g->median},
               {"gflop_token", s->flop / g->tokens / 1e9},
               {"tflop_s", g->flop_s / 1e12},
               {"gemm_tflop_s", s->gemm_rate / 1e12},
               {"gemm_share", g->flop_s / s->gemm_rate},
               {"hfu", g->peak > 0 ? g->flop_s / g->peak : NAN},
               {"mfu", g->mfu},
               {"planned_bytes", (double)s->plan.total_bytes},
               {"device_bytes", g->bytes},
               {"copy_ms", 1e3 * s->copy_s},
               {"loss", s->loss}};
    struct bench_row r;
    row_begin(&r, b, "step", plan_recompute_name(s->plan.recompute), 0);
    row_text(&r, "device", "%s", b->ops->device);
    row_text(&r, "precision", "%s", dtype_name(b->ops->act));
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        row_number(&r, all[i].key, "%.9g", all[i].value);
    return row_end(&r, e);
}

static int report(struct steps *s, struct err *e)
{
    struct figures g;
    TRY(figure(s, &g, e));
    if (s->b->json)
        return print_json(s, &g, e);
    print_text(s, &g);
    return 0;
}

static void say_profile(const struct bench *b)
{
    if (!b->profile || b->json)
        return;
    printf("profile   run this under Nsight Systems; it records the %lld timed steps:\n"
           "  nsys profile -c nvtx -p bench -e NSYS_NVTX_PROFILER_REGISTER_ONLY=0 -t cuda,nvtx -o step lorat bench step "
           "--profile --shape %s ...\n",
           (long long)b->steps, b->shape);
    if (b->ops->mark == NULL)
        printf("  (this device has no ranges: nothing is marked)\n");
    fflush(stdout);
}

int bench_step(struct bench *b, struct err *e)
{
    struct steps s = {.b = b};
    int rc = 0;
    say_profile(b);
    TRY_DONE(prepare(&s, e));
    TRY_DONE(measure_gemm(&s, e));
    TRY_DONE(run_steps(&s, e));
    TRY_DONE(measure_gemm(&s, e));
    TRY_DONE(measure_copies(&s, e));
    TRY_DONE(report(&s, e));
done:
    model_close(&s.m);
    for (int32_t i = 0; s.batches != NULL && i < s.accumulation; i++)
        bench_batch_free(&s.batches[i]);
    mem_free(s.batches);
    mem_free(s.seconds);
    return rc;
}
