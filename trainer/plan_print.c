#include <math.h>
#include <stdio.h>

#include "trainer/base/num.h"
#include "trainer/machine.h"
#include "trainer/plan.h"

static void row(struct buf *out, const char *name, uint64_t bytes)
{
    char text[32];
    buf_printf(out, "    %-28s %12s\n", name, num_format_bytes(text, bytes));
}

static void duration(struct buf *out, double s)
{
    if (s < 120)
        buf_printf(out, "%.0f s", s);
    else if (s < 7200)
        buf_printf(out, "%.0f min", s / 60);
    else
        buf_printf(out, "%.1f h", s / 3600);
}

static void print_time(const struct plan *p, int64_t steps, int64_t tokens, struct buf *out)
{
    buf_printf(out, "  work        %.2f GFLOP a token (%.2f without recomputation)\n", p->flop_token / 1e9, p->flop_token_min / 1e9);
    if (p->tokens_s <= 0) {
        buf_puts(out, "  time        unknown: neither a maker's figure nor a measurement gives this device's rate\n");
        return;
    }
    buf_printf(out, "  time        about %.0f tokens a second%s (estimate from the rate of large products)", p->tokens_s,
               p->device.cards > 1 && p->device.cuda ? ", computing alone" : "");
    if (tokens > 0) {
        buf_printf(out, "; %lld steps, %lld tokens: about ", (long long)steps, (long long)tokens);
        duration(out, (double)tokens / p->tokens_s);
    } else {
        buf_puts(out, "; a million tokens: about ");
        duration(out, 1e6 / p->tokens_s);
    }
    buf_puts(out, "\n");
}

/* A time that may be milliseconds or minutes, in three digits. */
static const char *brief(char out[32], double s)
{
    if (s < 1)
        snprintf(out, 32, "%.3g ms", 1e3 * s);
    else
        snprintf(out, 32, "%.*f s", s < 10 ? 2 : 1, s);
    return out;
}

/* One way: its rate, the step, and what it means. */
static void print_way(const struct plan *p, const struct config *c, const char *name, double rate, double fetch_rate, double sum_rate,
                      struct buf *out)
{
    char step[32], sum[32], gb[16] = "-";
    const struct plan_work *w = &p->work;
    if (isfinite(rate))
        snprintf(gb, sizeof gb, "%.1f", rate / 1e9);
    buf_printf(out, "    %-28s %6s %9s %9.0f", name, gb, brief(step, plan_link_step_s(w, fetch_rate, sum_rate)),
               plan_link_tokens_s(w, fetch_rate, sum_rate));
    if (!isfinite(rate))
        buf_puts(out, "\n");
    else if (w->fetch_bytes > 0) {
        double hidden = plan_link_hidden(w, fetch_rate);
        buf_printf(out, "   %.0f (micro_batch %.0f)\n", hidden, fmax(1, ceil(hidden / c->data.sequence_length)));
    } else
        buf_printf(out, "   %s\n", brief(sum, plan_link_sum_s(w, sum_rate)));
}

/* What the bridge is worth against the fastest way without it that such cards have of themselves. */
static void print_bridge(const struct plan *p, const struct config *c, double copies, struct buf *out)
{
    const struct plan_ways *y = &p->device.ways;
    const struct plan_work *w = &p->work;
    bool sharded = p->shape.place.kind == FROZEN_SHARDED;
    if (y->nvlink == 0 || y->staged == 0)
        return;
    double with = plan_link_step_s(w, sharded ? y->nvlink : copies, y->nvlink);
    double without = plan_link_step_s(w, sharded ? y->staged : copies, y->staged);
    buf_printf(out, "    the bridge is worth %.2f times %s at %d tokens a pass%s", without / with, machine_way_name(WAY_HOST), w->tokens,
               without / with < 1.02 ? ": no difference" : "");
    if (sharded && w->tokens < plan_link_hidden(w, y->staged))
        buf_printf(out, "; it stops mattering at %.0f (micro_batch %.0f)", plan_link_hidden(w, y->staged),
                   ceil(plan_link_hidden(w, y->staged) / c->data.sequence_length));
    buf_puts(out, "\n");
}

static void print_links(const struct plan *p, const struct config *c, struct buf *out)
{
    const struct plan_ways *y = &p->device.ways;
    const struct plan_work *w = &p->work;
    const struct {
        enum machine_way way;
        double rate;
    } pair[] = {{WAY_NVLINK, y->nvlink}, {WAY_PEER, y->peer}, {WAY_HOST, y->staged}};
    bool host = p->shape.place.kind == FROZEN_HOST, two = p->device.cards == 2;
    double copies = host && y->host > 0 ? y->host : INFINITY;
    if (p->tokens_s <= 0 || (!two && !isfinite(copies)) || p->device.cards > 2 || y->staged + y->peer + y->nvlink + y->host == 0)
        return;
    buf_printf(out, "  %-30s %6s %9s %9s   %s\n", "links", "GB/s", "a step", "tokens/s",
               w->fetch_bytes > 0 ? "tokens a pass that hide the copies" : "of it the sum");
    print_way(p, c, "computing alone", INFINITY, INFINITY, INFINITY, out);
    if (isfinite(copies) && !two)
        print_way(p, c, "copies from host memory", copies, copies, INFINITY, out);
    for (size_t i = 0; two && i < sizeof pair / sizeof *pair; i++)
        if (pair[i].rate > 0)
            print_way(p, c, machine_way_name(pair[i].way), pair[i].rate, host ? copies : pair[i].rate, pair[i].rate, out);
    if (two)
        print_bridge(p, c, copies, out);
}

void plan_print(const struct plan *p, const struct config *c, const struct facts *f, int64_t steps, int64_t tokens, struct buf *out)
{
    char text[32], left[32];
    buf_printf(out, "plan for \"%s\" on %s\n", c->name, p->device.name);
    buf_printf(out, "  model       %s, %d layers, width %d, feed-forward %d, %d heads (%d key/value) of %d, vocabulary %d: %.3g B parameters\n",
               f->arch, f->l, f->d, f->f, f->h, f->k, f->q, f->v, (double)facts_n_total(f) / 1e9);
    buf_printf(out, "  adapter     rank %d: %.2f M parameters\n", c->lora.rank, (double)p->parameters / 1e6);
    buf_printf(out, "  numbers     %s\n", p->device.act == DT_BF16 ? "bf16, sums in f32" : "f32");
    buf_printf(out, "  batch       %d rows of %d tokens a step: %d x micro_batch %d%s, recompute %s\n", c->train.batch,
               c->data.sequence_length, p->accumulation, p->micro_batch, p->device.cards > 1 ? " on each card" : "",
               plan_recompute_name(p->recompute));
    if (p->device.cards > 1 || p->shape.place.kind != FROZEN_RESIDENT)
        buf_printf(out, "  base        %s\n", p->base);
    buf_puts(out, "  memory\n");
    for (int i = 0; i < ARENAS; i++) {
        if (p->arenas[i].used == 0)
            continue;
        buf_printf(out, "  %-30s %12s\n", p->arenas[i].name, num_format_bytes(text, p->arenas[i].used));
        for (int j = 0; j < p->arenas[i].n_parts; j++)
            row(out, p->arenas[i].parts[j].name, p->arenas[i].parts[j].bytes);
    }
    if (!p->device.cuda)
        buf_printf(out, "  %-30s %12s\n", "dataset reader", num_format_bytes(text, (uint64_t)p->loader_bytes));
    buf_printf(out, "  %-30s %12s\n", p->device.cuda ? "context and libraries" : "program and libraries",
               num_format_bytes(text, (uint64_t)p->device.reserve));
    buf_printf(out, "  %-30s %12s of %s available, %s left\n", "sum", num_format_bytes(text, (uint64_t)p->total_bytes),
               num_format_bytes(left, (uint64_t)p->device.available),
               num_format_bytes((char[32]){0}, (uint64_t)(p->device.available - p->total_bytes)));
    print_time(p, steps, tokens, out);
    print_links(p, c, out);
}
