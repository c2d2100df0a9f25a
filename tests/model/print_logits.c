/* print_logits.c MODEL ADAPTER|- f32|bf16 ID... - logits of every position of one document, F32, row-major, on stdout: for
 * programs that hold lorat against others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/chat_model.h"
#include "trainer/state.h"

static int load(struct job *j, const char *model, const char *adapter, int32_t n, struct err *e)
{
    j->c.lora.rank = 1;
    j->c.lora.alpha = 1;
    j->c.compute.device = DEVICE_CPU;
    if (strcmp(adapter, "-") != 0)
        TRY(chat_adapter_config(adapter, &j->c, e));
    TRY(source_open(model, false, &j->source, e));
    TRY(lora_plan(&j->source.facts, &j->c, &j->lora, e));
    TRY(device_open(&j->c, &j->ops, &j->card, e));
    struct model_shape shape = {.n = n, .sequence_length = n, .positions = n, .head_chunk = n, .recompute = RECOMPUTE_FULL};
    TRY(model_layout(&j->model, j->ops, &j->source.facts, &j->lora, &shape, e));
    TRY(model_allocate(&j->model, e));
    TRY(model_load(&j->model, &j->source, NULL, NULL, e));
    if (strcmp(adapter, "-") == 0)
        return 0;
    float *params = calloc((size_t)j->lora.count, sizeof *params);
    int rc = state_load_adapter(adapter, &j->lora, &j->c, params, e);
    if (rc == 0)
        rc = model_set_params(&j->model, params, e);
    free(params);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct job j = {0};
    if (argc < 5) {
        fprintf(stderr, "usage: print_logits MODEL ADAPTER|- f32|bf16 ID...\n");
        return 2;
    }
    int32_t real = argc - 4, n = (real + BATCH_ROUND - 1) / BATCH_ROUND * BATCH_ROUND;
    size_t room = (size_t)n;
    int32_t *tokens = calloc(room, 4), *targets = calloc(room, 4), *positions = calloc(room, 4), *rows = calloc(room, 4);
    uint32_t *keys = calloc(room, 4);
    float *weights = calloc(room, 4);
    struct span spans[2] = {{0, real, 0, real}, {real, n - real, real, n - real}};
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = i < real ? atoi(argv[4 + i]) : 0;
        positions[i] = i < real ? i : i - real;
        rows[i] = i;
    }
    struct batch b = {.n = n,
                      .n_real = real,
                      .n_rows = 1,
                      .tokens = tokens,
                      .targets = targets,
                      .weights = weights,
                      .positions = positions,
                      .keys = keys,
                      .spans = spans,
                      .n_spans = n > real ? 2 : 1,
                      .max_span = real > n - real ? real : n - real};
    j.c.compute.precision = strcmp(argv[3], "bf16") == 0 ? PRECISION_BF16 : PRECISION_F32;
    int rc = load(&j, argv[1], argv[2], n, &e);
    size_t count = rc == 0 ? (size_t)real * (size_t)j.source.facts.v : 0;
    float *logits = malloc(count * sizeof *logits);
    if (rc == 0)
        rc = model_logits(&j.model, &b, rows, real, logits, &e);
    if (rc != 0)
        fprintf(stderr, "%s\n", e.text);
    else if (fwrite(logits, sizeof *logits, count, stdout) != count)
        rc = -1;
    free(logits);
    free(tokens);
    free(targets);
    free(positions);
    free(rows);
    free(keys);
    free(weights);
    job_close(&j);
    return rc == 0 ? 0 : 1;
}
