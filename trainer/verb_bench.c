/* verb_bench.c - `lorat bench gemm | ops | step | comm | shape`: how fast this device does what a job of a known shape asks of it.
 * Nothing is downloaded and no dataset is opened: weights and tokens are seeded random numbers. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/bench.h"
#include "trainer/bench_shape.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"shape", "NAME",
     "the model: qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b, qwen3-14b, llama3-8b, llama2-7b, smollm2-135m or tiny (default qwen3-0.6b)", 0,
     false},
    {"device", "NAME", "auto (default), cpu or cuda", 0, false},
    {"threads", "N", "of the CPU, as compute.threads (default all)", 0, false},
    {"precision", "NAME", "auto (default), bf16 or f32", 0, false},
    {"seq", "N", "tokens of a row (default 2048)", 0, false},
    {"micro-batch", "N", "rows of a micro-batch (default 2)", 0, false},
    {"accumulation", "N", "micro-batches of a step (default 4)", 0, false},
    {"rank", "N", "LoRA's rank, on all linears (default 16)", 0, false},
    {"dropout", "P", "LoRA's dropout (default 0)", 0, false},
    {"recompute", "NAME", "auto (default), none, selective or full", 0, false},
    {"memory-limit", "SIZE", "as compute.memory_limit, for example 24GiB", 0, false},
    {"placement", "NAME", "step: resident (default), or host: the blocks stay in host memory; what fetching them takes alone is measured too", 0,
     false},
    {"document-length", "N", "step: tokens of a document: a number, full (a whole row, the default) or mix (seeded, 32 to a row)",
     0, false},
    {"steps", "N", "step: timed optimizer steps, after two that are not (default 10)", 0, false},
    {"seconds", "S", "time for one row, or for the products beside step (default 0.3)", 0, false},
    {"only", "TEXT", "gemm, ops: only rows with this in their name", 0, false},
    {"profile", NULL, "step: put the timed steps into a range named bench for Nsight Systems, and print the command", 0, false},
    {"ranks", "N", "comm: processes on the CPU (default 2 there)", 0, false},
    {"gpus", "LIST", "comm: cards, as in 0,1 (default all of one kind)", 0, false},
    {"interconnect", "NAME", "comm: auto (default), nvlink or pcie", 0, false},
    {"most", "MIB", "comm: the largest size, up to 256 (default 256)", 0, false},
    {"json", NULL, "a JSON object a row", 0, false},
};
static const struct option_table table = {
    .verb = "bench",
    .args = "gemm|ops|step|comm|shape",
    .about = "Measure this device at a model's own sizes, with random weights. gemm: every matrix product of a training step. "
             "ops: every other "
             "operation, its bytes and its share of the rate of a plain copy, and attention. step: whole optimizer steps, tokens "
             "a second, "
             "memory, and the share of the rate that the plain products reach in the same run. comm: sums and gathers between "
             "ranks, 64 KiB to 256 MiB, their results checked, and which way the bytes went. shape: measures nothing; the shape as a config.json.",
    .example = "lorat bench step --shape qwen3-8b --recompute full\nlorat bench ops --shape llama3-8b --only rmsnorm",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

/* An option that means nothing to a kind would let somebody believe that another model, card or placement was measured. What is not
 * here is for all kinds. */
static int check_options(const struct options *o, const char *kind, struct err *e)
{
    static const char model[] = "gemm, ops, step";
    static const struct {
        const char *option, *kinds;
    } belongs[] = {{"shape", "gemm, ops, step, shape"},
                   {"precision", model},
                   {"seq", model},
                   {"micro-batch", model},
                   {"accumulation", model},
                   {"rank", model},
                   {"dropout", model},
                   {"recompute", model},
                   {"memory-limit", model},
                   {"placement", "step"},
                   {"document-length", "step"},
                   {"steps", "step"},
                   {"profile", "step"},
                   {"only", "gemm, ops"},
                   {"seconds", "gemm, ops, step, comm"},
                   {"ranks", "comm"},
                   {"gpus", "comm"},
                   {"interconnect", "comm"},
                   {"most", "comm"}};
    for (size_t i = 0; i < sizeof belongs / sizeof belongs[0]; i++)
        if (options_given(o, belongs[i].option) && strstr(belongs[i].kinds, kind) == NULL)
            FAIL(e, ERR_USAGE, "lorat bench %s: found --%s, which is for %s, expected an option of %s. Leave it out%s", kind,
                 belongs[i].option, belongs[i].kinds, kind,
                 strcmp(belongs[i].option, "gpus") == 0 ? "; CUDA_VISIBLE_DEVICES chooses the card" : "");
    return 0;
}

/* The options as a job file, so that the job's own checks apply. */
static int make_job(struct bench *b, struct err *e)
{
    const struct options *o = b->options;
    int64_t micro = 2, accumulation = 4, seq = 2048, rank = 16;
    struct buf y = {0};
    TRY(options_i64(o, "micro-batch", 1, 4096, &micro, e));
    TRY(options_i64(o, "accumulation", 1, 4096, &accumulation, e));
    TRY(options_i64(o, "seq", 8, 131072, &seq, e));
    TRY(options_i64(o, "rank", 1, 1024, &rank, e));
    buf_printf(&y, "name: bench\nmodel: {path: none, placement: %s}\ndata: {train: none, sequence_length: %lld}\n",
               options_or(o, "placement", "resident"), (long long)seq);
    buf_printf(&y, "lora: {rank: %lld, dropout: %s}\n", (long long)rank, options_or(o, "dropout", "0"));
    buf_printf(&y, "train: {max_steps: 1000000, warmup_steps: 0, batch: %lld, micro_batch: %lld, learning_rate: 1e-5}\n",
               (long long)(micro * accumulation), (long long)micro);
    buf_printf(&y, "compute: {device: %s, precision: %s, recompute: %s, memory_limit: %s, threads: %s}\n",
               options_or(o, "device", "auto"), options_or(o, "precision", "auto"), options_or(o, "recompute", "auto"),
               options_or(o, "memory-limit", "null"), options_or(o, "threads", "null"));
    int rc = y.failed ? mem_fail(e, "a job", y.n) : config_parse(y.data, y.n, "lorat bench, as a job file", &b->c, e);
    if (rc != 0)
        e->code = ERR_USAGE;
    buf_free(&y);
    return rc;
}

static int read_options(struct bench *b, struct err *e)
{
    const struct options *o = b->options;
    int64_t document = 0;
    const char *length = options_or(o, "document-length", "full");
    b->shape = options_or(o, "shape", "qwen3-0.6b");
    b->json = options_given(o, "json");
    b->profile = options_given(o, "profile");
    b->steps = b->profile ? 3 : 10;
    b->budget_s = 0.3;
    TRY(bench_shape(b->shape, &b->facts, e));
    TRY(make_job(b, e));
    TRY(options_i64(o, "steps", 1, 1000000, &b->steps, e));
    if (options_given(o, "seconds") &&
        (!num_parse_f64(options_value(o, "seconds"), &b->budget_s) || !(b->budget_s >= 0 && b->budget_s <= 600)))
        FAIL(e, ERR_USAGE, "lorat bench: --seconds: found \"%.60s\", expected a number between 0 and 600",
             options_value(o, "seconds"));
    if (strcmp(length, "full") == 0)
        document = b->c.data.sequence_length;
    else if (strcmp(length, "mix") != 0)
        TRY(options_i64(o, "document-length", 2, b->c.data.sequence_length, &document, e));
    b->document = (int32_t)document;
    return 0;
}

static int open_bench(struct bench *b, struct err *e)
{
    TRY(read_options(b, e));
    TRY(lora_plan(&b->facts, &b->c, &b->lora, e));
    TRY(device_open(&b->c, &b->ops, &b->card, e));
    b->n = (int32_t)num_round_up((int64_t)b->c.train.micro_batch * b->c.data.sequence_length, BATCH_ROUND);
    b->head_chunk = plan_head_chunk(&b->facts, b->ops->act, b->n);
    if (!b->json)
        printf("%s on %s, %s: %d tokens a micro-batch (%d x %d), rank %d\n", b->shape, b->ops->device, dtype_name(b->ops->act),
               b->n, b->c.train.micro_batch, b->c.data.sequence_length, b->c.lora.rank);
    return 0;
}

static int print_shape(struct bench *b, struct err *e)
{
    struct buf text = {0};
    bench_shape_config(&b->facts, &text);
    int rc = text.failed ? mem_fail(e, "a config.json", text.n) : 0;
    if (rc == 0)
        fputs(text.data, stdout);
    buf_free(&text);
    return rc;
}

static int bench_one(struct bench *b, struct err *e)
{
    static const struct {
        const char *name;
        int (*run)(struct bench *b, struct err *e);
    } kinds[] = {{"gemm", bench_gemm}, {"ops", bench_ops}, {"step", bench_step}};
    const char *kind = b->options->args[0];
    TRY(check_options(b->options, kind, e));
    if (strcmp(kind, "comm") == 0) { /* no model, and each rank opens a device of its own */
        TRY(read_options(b, e));
        return bench_comm(b, e);
    }
    if (strcmp(kind, "shape") == 0) {
        TRY(read_options(b, e));
        return print_shape(b, e);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kind, kinds[i].name) != 0)
            continue;
        TRY(open_bench(b, e));
        return kinds[i].run(b, e);
    }
    FAIL(e, ERR_USAGE, "lorat bench: found %.60s, expected gemm, ops, step, comm or shape. `lorat bench --help` explains", kind);
}

int verb_bench(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    struct bench *b = mem_alloc(1, sizeof *b);
    if (rc == 0 && b == NULL)
        rc = mem_fail(e, "a measurement", sizeof *b);
    if (rc == 0) {
        b->options = &o;
        rc = bench_one(b, e);
    }
    if (b != NULL) {
        if (b->ops != NULL)
            b->ops->close(b->ops);
        lora_free(&b->lora);
        facts_free(&b->facts);
    }
    mem_free(b);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
