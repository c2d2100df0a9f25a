/* test_verb_bench.c LORAT [PLUGIN.so] - `lorat bench` runs to the end on the CPU, and with a plug-in on the simulated card: every
 * row is there, its numbers finite and positive. How fast anything is, is not looked at. Also the facts of the shapes against the
 * counts of docs (parameters of the block linears, the head, the adapter) and against the makers' files in tests/golden/shapes.
 */

#include "tests/check.h"
#include "tests/shell.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/bench_shape.h"
#include "trainer/config.h"
#include "trainer/lora.h"
#include "trainer/plan.h"

static const char *lorat, *device = "cpu";

/* Output and exit code of `lorat bench ARGUMENTS`. */
static int run(const char *arguments, char *out, size_t size)
{
    char command[512];
    snprintf(command, sizeof command, "%s bench %s --device %s --threads 1 2>&1", lorat, arguments, device);
    return shell(command, out, size);
}

static void positive(const struct json *row, const char *key, const char *line)
{
    double v = NAN;
    json_f64(json_get(row, key), &v);
    if (!(isfinite(v) && v > 0)) {
        fprintf(stderr, "%s: \"%s\" is %g, expected a positive number\n%s\n", device, key, v, line);
        check_failures++;
    }
}

/* Run with --json; every line has the keys, all positive; the names found are joined with commas. */
static void rows(const char *arguments, const char *const *keys, struct buf *names)
{
    static char out[1 << 16];
    char full[256];
    snprintf(full, sizeof full, "%s --shape tiny --seq 64 --micro-batch 1 --seconds 0 --json", arguments);
    int code = run(full, out, sizeof out);
    CHECK_INT(code, 0);
    for (char *line = strtok(out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        struct err e = {0};
        struct json *row = NULL;
        const char *name = NULL;
        CHECK_OK(json_parse(line, strlen(line), "a row", ERR_DATA, &row, &e), &e);
        if (row == NULL) {
            fprintf(stderr, "%s\n", line);
            return;
        }
        for (int i = 0; keys[i] != NULL; i++)
            positive(row, keys[i], line);
        name = json_string(json_get(row, "name"), NULL);
        buf_printf(names, ",%s", name != NULL ? name : "?");
        json_free(row);
    }
    buf_puts(names, ",");
}

static void test_ops(void)
{
    static const char *const wanted[] = {"device copy",
                                         "zero",
                                         "cast",
                                         "copy_2d",
                                         "gather_rows",
                                         "scatter_rows",
                                         "add",
                                         "embed_forward",
                                         "rmsnorm_forward",
                                         "rmsnorm_backward",
                                         "head_norm_forward",
                                         "head_norm_backward",
                                         "rope",
                                         "swiglu_forward",
                                         "swiglu_backward",
                                         "dropout_apply",
                                         "cross_entropy",
                                         "cross_entropy_backward",
                                         "argmax",
                                         "weight_sum",
                                         "grad_stats",
                                         "adamw_update",
                                         "attention_forward",
                                         "attention_backward"};
    static const char *const keys[] = {"us", NULL};
    struct buf names = {0};
    rows("ops", keys, &names);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        char part[64];
        snprintf(part, sizeof part, ",%s,", wanted[i]);
        CHECK_HAS(names.data, part);
    }
    buf_free(&names);
}

static void test_gemm(void)
{
    static const char *const keys[] = {"us", "m", "n", "k", "tflop_s", "best_share", "step_share", NULL};
    static const char *const wanted[] = {"qkv forward",   "o backward",          "gate_up forward", "down backward",
                                         "head forward",  "qkv h = x A'",        "gate y += h B'",  "down dh = dy B",
                                         "k dB += dy' h", "gate_up dA += dh' x", "o dx += dh A"};
    struct buf names = {0};
    rows("gemm", keys, &names);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        char part[64];
        snprintf(part, sizeof part, ",%s,", wanted[i]);
        CHECK_HAS(names.data, part);
    }
    buf_free(&names);
}

static void test_step(void)
{
    static const char *const keys[] = {"ms",           "ms_min",     "ms_max",        "tok_s",        "gflop_token", "tflop_s",
                                       "gemm_tflop_s", "gemm_share", "planned_bytes", "device_bytes", "loss",        NULL};
    static const char *const ways[] = {"step --accumulation 2 --steps 2 --recompute full",
                                       "step --accumulation 1 --steps 1 --recompute none --document-length mix --dropout 0.1"};
    for (size_t i = 0; i < 2; i++) {
        struct buf names = {0};
        rows(ways[i], keys, &names);
        CHECK_STR(names.data, i == 0 ? ",full," : ",none,");
        buf_free(&names);
    }
}

/* A base in host memory is the same base, and its copies are timed. */
static void test_host(void)
{
    static const char step[] =
        "step --shape tiny --seq 64 --micro-batch 1 --accumulation 2 --steps 1 --recompute full --seconds 0 --json";
    static const char *const keys[] = {"ms", "copy_ms", "tok_s", "loss", NULL};
    char out[2][4096], arguments[256];
    const char *loss[2];
    struct buf names = {0};
    rows("step --accumulation 1 --steps 1 --recompute full --placement host", keys, &names);
    buf_free(&names);
    for (int i = 0; i < 2; i++) {
        snprintf(arguments, sizeof arguments, "%s --placement %s", step, i == 0 ? "resident" : "host");
        CHECK_INT(run(arguments, out[i], sizeof out[i]), 0);
        loss[i] = strstr(out[i], "\"loss\"");
        CHECK(loss[i] != NULL);
    }
    CHECK(strstr(out[0], "copy_ms") == NULL); /* nothing is copied */
    if (loss[0] != NULL && loss[1] != NULL)
        CHECK_STR(loss[1], loss[0]);
}

static void test_refusals(void)
{
    static const struct {
        const char *arguments, *says;
        int code;
    } all[] = {{"step --shape lama3-8b", "Did you mean llama3-8b?", 2},
               {"speed", "expected gemm, ops, step, comm or shape", 2},
               {"ops --shape tiny --only nothing", "no operation of this name", 2},
               {"step --dropout 2", "lora.dropout", 2},
               {"step --placement disk", "model.placement", 2},
               {"gemm --gpus 1", "bench gemm: found --gpus, which is for comm, expected an option of gemm. Leave it out", 2},
               {"comm --placement host", "found --placement, which is for step", 2},
               {"comm --recompute full", "found --recompute, which is for gemm, ops, step", 2},
               {"shape --seconds 1", "found --seconds, which is for gemm, ops, step, comm", 2},
               {"step --only qkv", "found --only, which is for gemm, ops", 2},
               {"step --shape tiny --seq 64 --memory-limit 1MiB", "the job needs", 7}};
    char out[4096];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK_INT(run(all[i].arguments, out, sizeof out), all[i].code);
        CHECK_HAS(out, all[i].says);
    }
}

/* Against published counts: billions of block and head parameters, millions of the adapter's at r = 16. */
static void test_shapes(void)
{
    static const struct {
        const char *name;
        double blocks, head, adapter;
    } all[] = {{"qwen3-0.6b", 0.440, 0.156, 10.1},
               {"qwen3-1.7b", 1.409, 0.311, 17.4},
               {"qwen3-4b", 3.633, 0.389, 33.0},
               {"llama2-7b", 6.476, 0.131, 40.0},
               {"llama3-8b", 6.979, 0.525, 41.9}};
    static const char job[] = "name: a\nmodel: {path: a}\ndata: {train: a}\nlora: {rank: 16}\n";
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct err e = {0};
        struct facts f;
        struct config c;
        struct lora l;
        CHECK_OK(bench_shape(all[i].name, &f, &e), &e);
        CHECK_OK(config_parse(job, strlen(job), "a", &c, &e), &e);
        CHECK_OK(lora_plan(&f, &c, &l, &e), &e);
        CHECK_NEAR((double)facts_n_blocks(&f) / 1e9, all[i].blocks, 0.0006);
        CHECK_NEAR((double)facts_n_head(&f) / 1e9, all[i].head, 0.0006);
        CHECK_NEAR((double)l.n_parameters / 1e6, all[i].adapter, 0.06);
        lora_free(&l);
    }
}

/* What `lorat bench shape` prints reads as the maker's own file does. */
static void test_configs(void)
{
    static const char *const all[][2] = {
        {"qwen3-0.6b", "Qwen3-0.6B"}, {"qwen3-8b", "Qwen3-8B"}, {"qwen3-14b", "Qwen3-14B"}, {"smollm2-135m", "SmolLM2-135M"}};
    char out[4096], arguments[64], path[128];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct err e = {0};
        struct facts ours = {0}, theirs = {0};
        char *text = NULL;
        size_t n = 0;
        snprintf(arguments, sizeof arguments, "shape --shape %s", all[i][0]);
        CHECK_INT(run(arguments, out, sizeof out), 0);
        CHECK_OK(facts_from_hf(out, strlen(out), NULL, 0, all[i][0], &ours, &e), &e);
        snprintf(path, sizeof path, "tests/golden/shapes/%s/config.json", all[i][1]);
        CHECK_OK(io_read_file(path, ERR_MODEL, 1 << 20, &text, &n, &e), &e);
        if (text != NULL)
            CHECK_OK(facts_from_hf(text, n, NULL, 0, path, &theirs, &e), &e);
        CHECK_STR(ours.arch, theirs.arch);
        const int32_t a[] = {ours.l, ours.d, ours.f, ours.h, ours.k, ours.q, ours.v, ours.tied, ours.qk_norm, ours.qkv_bias},
                      b[] = {theirs.l, theirs.d, theirs.f,    theirs.h,       theirs.k,
                             theirs.q, theirs.v, theirs.tied, theirs.qk_norm, theirs.qkv_bias};
        for (size_t k = 0; k < sizeof a / sizeof a[0]; k++)
            CHECK_INT(a[k], b[k]);
        CHECK(ours.rope.kind == theirs.rope.kind && ours.rope.theta == theirs.rope.theta && ours.norm_eps == theirs.norm_eps);
        CHECK_INT(ours.context, theirs.context);
        mem_free(text);
        facts_free(&ours);
        facts_free(&theirs);
    }
}

/* The peak is known of the very cards of the table and of no relative of theirs. */
static void test_peaks(void)
{
    CHECK_NEAR(plan_card_peak("NVIDIA GeForce RTX 3090, 8.6"), 71e12, 1);
    CHECK_NEAR(plan_card_peak("NVIDIA H200, 9.0"), 989e12, 1);
    static const char *const others[] = {"NVIDIA GeForce RTX 3090 Ti, 8.6", "NVIDIA GeForce RTX 4090 Laptop GPU, 8.9",
                                         "NVIDIA L40S, 8.9", "NVIDIA H200 NVL, 9.0", "simulated card"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK(plan_card_peak(others[i]) == 0);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    lorat = argv[1];
    if (argc > 2) {
        setenv("LORAT_CUDA", argv[2], 1);
        device = "cuda";
    } else {
        test_shapes();
        test_configs();
        test_peaks();
        test_refusals();
    }
    test_ops();
    test_gemm();
    test_step();
    test_host();
    return check_done();
}
