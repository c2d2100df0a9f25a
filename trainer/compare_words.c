/* compare_words.c - the verdicts as sentences. They claim what was measured, and no more. */
#include <math.h>
#include <stdio.h>

#include "trainer/base/num.h"
#include "trainer/compare.h"

const char compare_method[] = "The interval is a moving-block bootstrap of the two medians behind the warm-up (docs/compare.md). "
                              "It speaks for these runs alone: "
                              "what changes from run to run shows only where a repeat of one of them is given too.";

bool compare_same_bits(const struct compare_pair *p)
{
    return p->same_adapters == p->adapters && p->n_same_states == p->n_states && (p->adapters || p->n_states > 0);
}

void compare_words_bits(const struct compare *c, int k, struct buf *out)
{
    const struct compare_pair *p = &c->pair[k];
    const char *states = p->n_states == 1 ? "checkpoint" : "checkpoints";
    if (!p->adapters && p->n_states == 0)
        buf_puts(out, "Bits: not compared, the runs have neither both an adapter nor a checkpoint of the same step.");
    else if (compare_same_bits(p) && p->n_states == 0)
        buf_puts(out, "Same bits: the adapters. No checkpoint of the same step was there.");
    else if (compare_same_bits(p))
        buf_printf(out, "Same bits: %sadapter, moments and counters at %zu common %s.",
                   p->adapters ? "the final adapter, and " : "", p->n_states, states);
    else if (p->differs_at >= 0)
        buf_printf(out, "Other bits: %zu of %zu common %s differ, the first at step %lld (%s)%s.", p->n_states - p->n_same_states,
                   p->n_states, states, (long long)p->differs_at, p->differs_file,
                   p->same_adapters ? ", but the final adapters are equal" : "");
    else
        buf_printf(out, "Other bits: the final adapters differ%s.",
                   p->n_states > 0 ? ", although every common checkpoint is equal" : "");
}

static void loss_part(const char *name, const struct compare_loss *l, const char *unit, struct buf *out)
{
    if (l->n_common == 0)
        buf_printf(out, "%s: no common %s", name, unit);
    else if (l->n_equal == l->n_common)
        buf_printf(out, "%s: no difference in loss at all %zu common %ss", name, l->n_common, unit);
    else
        buf_printf(out, "%s: up to %.3g apart (at step %lld; equal at %zu of %zu common %ss)", name, l->distance,
                   (long long)l->at, l->n_equal, l->n_common, unit);
}

void compare_words_loss(const struct compare *c, int k, struct buf *out)
{
    const struct compare_pair *p = &c->pair[k];
    double a = c->of[0].final_eval, b = c->of[k].final_eval;
    loss_part("Training", &p->train, "step", out);
    buf_puts(out, "; ");
    loss_part("evaluation", &p->eval, "evaluation", out);
    if (!isnan(a) && !isnan(b) && a != b)
        buf_printf(out, "; last evaluation %.4f against %.4f", b, a);
    buf_puts(out, ".");
    if (p->other_data)
        buf_puts(out, " The data differ, so the losses are not of the same text.");
    else if (p->eval.n_common > 0 && p->eval.n_equal < p->eval.n_common)
        buf_puts(out, " One run each: whether another seed would turn it is not known.");
}

void compare_words_speed(const struct compare *c, int k, struct buf *out)
{
    const struct compare_pair *p = &c->pair[k];
    const struct compare_interval *i = &p->interval;
    if (p->speed == COMPARE_INCOMPARABLE) {
        buf_printf(out, "Speed: no winner is named. %s.", p->why);
        return;
    }
    if (p->speed == COMPARE_TOO_FEW) {
        buf_printf(out, "Speed: too few steps for a verdict (%zu and %zu behind the warm-up, expected %d or more).",
                   c->of[0].n_steady, c->of[k].n_steady, COMPARE_FEWEST);
        return;
    }
    buf_puts(out, "Speed: ");
    if (p->speed == COMPARE_REPEAT)
        buf_puts(out, "no verdict, the same job on the same machine: what is seen here is what changes from run to run");
    else if (p->speed == COMPARE_NO_DIFFERENCE)
        buf_puts(out, "no difference beyond noise");
    else
        buf_puts(out, compare_verdict_name(p->speed));
    buf_printf(out, ": %+.1f %% tokens a second, 95 %% interval %+.1f to %+.1f %%.", 100 * i->difference, 100 * i->low,
               100 * i->high);
    if (p->speed != COMPARE_REPEAT && !isnan(c->run_to_run))
        buf_printf(out, " Runs of one job are up to %.1f %% apart here.", 100 * c->run_to_run);
    if (p->other_data)
        buf_puts(out, " The data differ: documents of other lengths alone change the speed.");
}

void compare_words_notes(const struct compare *c, int k, struct buf *out)
{
    const struct compare_run *r = &c->run[k];
    if (r->running)
        buf_printf(out, "%s: still running; this is how it stood when it was read.\n", r->label);
    if (r->n_damaged > 0)
        buf_printf(out, "%s: %zu line%s of metrics.jsonl cannot be read and %s left out.\n", r->label, r->n_damaged,
                   r->n_damaged == 1 ? "" : "s", r->n_damaged == 1 ? "was" : "were");
    if (r->n_rewritten > 0)
        buf_printf(out, "%s: resumed; %zu line%s from before %s replaced.\n", r->label, r->n_rewritten,
                   r->n_rewritten == 1 ? "" : "s", r->n_rewritten == 1 ? "was" : "were");
    if (!r->summed && !r->running)
        buf_printf(out, "%s: no summary.json, so the process did not leave in order; machine and memory are not known.\n",
                   r->label);
    if (r->job == NULL)
        buf_printf(out, "%s: the job cannot be read (%s).\n", r->label, r->job_error);
    if (isnan(c->of[k].compute_s))
        buf_printf(out, "%s: the time split is not recorded.\n", r->label);
}
