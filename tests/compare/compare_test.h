/* compare_test.h - synthetic runs: lines of a metrics.jsonl as this lorat or an older one writes them. */
#ifndef LORAT_TESTS_COMPARE_TEST_H
#define LORAT_TESTS_COMPARE_TEST_H

#include "tests/check.h"
#include "trainer/base/mem.h"
#include "trainer/compare.h"

/* Steps first..last of 1000 tokens each; a step takes `seconds`, 3 % more or less in turn. old: without the time split. */
static inline void lines_add(struct buf *b, int first, int last, double seconds, double loss, bool old)
{
    for (int i = first; i <= last; i++) {
        double s = seconds * (1 + 0.03 * (i % 3 - 1));
        buf_printf(b,
                   "{\"step\": %d, \"loss\": %.4f, \"norm\": 1, \"lr\": 1e-4, \"tokens\": %d, \"targets\": %d, \"tok_s\": %.1f",
                   i, loss - 0.001 * i, 1000 * i, 900 * i, 1000 / s);
        if (!old)
            buf_printf(
                b,
                ", \"seconds\": %.9f, \"compute_s\": %.9f, \"comm_s\": %.9f, \"wait_s\": 0, \"optim_s\": %.9f, \"save_s\": 0, "
                "\"comm_bytes\": 4000000, \"energy_j\": %.9f",
                s, 0.8 * s, 0.1 * s, 0.1 * s, 300 * s);
        buf_puts(b, ", \"time\": 0}\n");
    }
}

static inline void run_from(struct compare_run *r, const char *label, const struct buf *lines)
{
    struct err e = {0};
    *r = (struct compare_run){
        .planned_steps = -1, .ranks = NAN, .peak_bytes = NAN, .plan_bytes = NAN, .device_bytes = NAN, .total_s = NAN};
    snprintf(r->label, sizeof r->label, "%s", label);
    snprintf(r->dir, sizeof r->dir, "runs/%s", label);
    CHECK_OK(compare_read_metrics(lines->data, lines->n, true, r, &e), &e);
}

static inline struct config *job_of(const char *model, int sequence)
{
    struct config *c = mem_alloc(1, sizeof *c);
    struct err e = {0};
    char text[400];
    snprintf(text, sizeof text,
             "name: x\nmodel:\n  path: %s\ndata:\n  train: d.h5\n  sequence_length: %d\ntrain:\n  max_steps: 5\n", model,
             sequence);
    CHECK_OK(config_parse(text, strlen(text), "job", c, &e), &e);
    return c;
}

#endif
