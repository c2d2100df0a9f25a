#include <math.h>
#include <stdio.h>

#include "trainer/base/num.h"
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
    buf_printf(out, "  time        about %.0f tokens a second", p->tokens_s);
    if (p->way != WAY_UNKNOWN)
        buf_printf(out, " by %s", machine_way_name(p->way));
    else if (p->device.cards > 1 && p->device.cuda)
        buf_puts(out, ", computing alone");
    buf_puts(out, " (estimate from the rate of large products)");
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

static void print_row(const struct plan *p, const struct plan_row *r, struct buf *out)
{
    char step[32], sum[32], gb[16] = "-";
    if (isfinite(r->rate))
        snprintf(gb, sizeof gb, "%.1f", r->rate / 1e9);
    buf_printf(out, "    %-28s %6s %9s %9.0f", r->name, gb, brief(step, r->step_s), r->tokens_s);
    if (!isfinite(r->rate))
        buf_puts(out, "\n");
    else if (p->work.fetch_bytes > 0)
        buf_printf(out, "   %.0f (micro_batch %.0f)\n", r->hidden, r->hidden_rows);
    else
        buf_printf(out, "   %s\n", brief(sum, r->sum_s));
}

static void print_links(const struct plan *p, struct buf *out)
{
    struct plan_row rows[PLAN_ROWS];
    struct plan_bridge bridge;
    int n = plan_rows(p, rows);
    if (n > 0)
        buf_printf(out, "  %-30s %6s %9s %9s   %s\n", "links", "GB/s", "a step", "tokens/s",
                   p->work.fetch_bytes > 0 ? "tokens a pass that hide the copies" : "of it the sum");
    for (int i = 0; i < n; i++)
        print_row(p, &rows[i], out);
    if (!plan_bridge(p, &bridge))
        return;
    buf_printf(out, "    the bridge is worth %.2f times %s at %d tokens a pass%s", bridge.worth, machine_way_name(WAY_HOST),
               p->work.tokens, bridge.worth < 1.02 ? ": no difference" : "");
    if (p->work.tokens < bridge.until)
        buf_printf(out, "; it stops mattering at %.0f (micro_batch %.0f)", bridge.until, plan_rows_of(p, bridge.until));
    buf_puts(out, "\n");
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
               c->data.sequence_length, p->accumulation, p->micro_batch, p->device.cards <= 1 ? "" : p->device.cuda ? " on each card" : " on each rank",
               plan_recompute_name(p->recompute));
    if (p->device.cards > 1 || p->shape.place.kind != FROZEN_RESIDENT)
        buf_printf(out, "  base        %s\n", p->base);
    buf_printf(out, "  memory%s\n", p->device.cards <= 1 ? "" : p->device.cuda ? " of each card" : " of each rank");
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
    print_links(p, out);
}
