/* A job file's values arrive where they belong; defaults; every way to write a value; the files in configs/. */
#include "tests/cli/config_test.h"
#include "trainer/base/io.h"

static struct config c;
static struct err e;

static void test_defaults(void)
{
    CHECK_OK(parse(MINIMAL, &c, &e), &e);
    CHECK_STR(c.name, "n");
    CHECK_STR(c.model.path, "m");
    CHECK_STR(c.data.train, "d");
    CHECK_STR(c.data.tmpl, "auto");
    CHECK_INT(c.seed, 42);
    CHECK_INT(c.data.sequence_length, 2048);
    CHECK(c.data.packing && c.data.shuffle && !c.data.allow_unsealed);
    CHECK_INT(c.data.too_long, CFG_TOO_LONG_AUTO);
    CHECK_INT(c.lora.rank, 16);
    CHECK_NEAR(c.lora.alpha, 32, 0);
    CHECK_NEAR(c.lora.dropout, 0, 0);
    CHECK_INT(c.lora.targets, 0x7f);
    CHECK_INT(c.lora.scaling, SCALING_STANDARD);
    CHECK_STR(c.lora.start_from, "");
    CHECK_NEAR(c.train.epochs, 3, 0);
    CHECK_INT(c.train.max_steps, 0);
    CHECK_INT(c.train.batch, 8);
    CHECK_INT(c.train.micro_batch, 0);
    CHECK_NEAR(c.train.learning_rate, 2e-4, 0);
    CHECK_INT(c.train.schedule, SCHEDULE_COSINE);
    CHECK_INT(c.train.warmup_steps, 10);
    CHECK_NEAR(c.train.beta1, 0.9, 0);
    CHECK_NEAR(c.train.beta2, 0.999, 0);
    CHECK_NEAR(c.train.epsilon, 1e-8, 0);
    CHECK_NEAR(c.train.max_grad_norm, 1, 0);
    CHECK_INT(c.train.max_skipped, 10);
    CHECK_INT(c.compute.device, DEVICE_AUTO);
    CHECK_INT(c.compute.precision, PRECISION_AUTO);
    CHECK_INT(c.compute.recompute, RECOMPUTE_AUTO);
    CHECK_INT(c.compute.memory_limit, 0);
    CHECK_INT(c.compute.threads, 0);
    CHECK_INT(c.eval.every.steps, 100);
    CHECK_INT(c.eval.n_prompts, 0);
    CHECK_INT(c.eval.answer_tokens, 64);
    CHECK_INT(c.checkpoint.every.steps, 0);
    CHECK_NEAR(c.checkpoint.every.seconds, 600, 0);
    CHECK_INT(c.checkpoint.keep, 3);
    CHECK(!c.checkpoint.keep_best);
}

static void test_all_keys(void)
{
    static const char yaml[] =
        "\xef\xbb\xbf# a byte order mark and CRLF, as an editor on Windows writes them\r\n"
        "name: a.b_c-1\r\nseed: 7\r\n"
        "model:\r\n  path: 'models/a b'\r\n"
        "data: {train: d.h5, template: qwen3, sequence_length: 4096, packing: false, shuffle: false, too_long: drop, "
        "allow_unsealed: true}\n"
        "lora: {rank: 8, alpha: 16.5, dropout: 0.05, targets: [q, v_proj, down], scaling: rslora, start_from: runs/x/adapter}\n"
        "train: {epochs: 0.5, max_steps: 100, batch: 12, micro_batch: 3, learning_rate: 1e-4, schedule: linear, warmup_steps: "
        "0,\n"
        "        weight_decay: 0.01, beta1: .8, beta2: 9.9e-1, epsilon: 1.0E-6, max_grad_norm: 0, max_skipped: 1}\n"
        "compute: {device: cpu, precision: f32, recompute: selective, memory_limit: 22GiB, threads: 2}\n"
        "eval: {every: 1.5h, max_tokens: 1000, prompts: [\"Who are you?\", 'it''s', \"\\u00e9\\n\"], answer_tokens: 5}\n"
        "checkpoint: {every: 30s, keep: 1, keep_best: true}\n";
    CHECK_OK(parse(yaml, &c, &e), &e);
    CHECK_STR(c.name, "a.b_c-1");
    CHECK_STR(c.model.path, "models/a b");
    CHECK_STR(c.data.tmpl, "qwen3");
    CHECK(!c.data.packing && !c.data.shuffle && c.data.allow_unsealed);
    CHECK_INT(c.data.too_long, CFG_TOO_LONG_DROP);
    CHECK_INT(c.lora.targets, 1 | 4 | 64);
    CHECK_INT(c.lora.scaling, SCALING_RSLORA);
    CHECK_STR(c.lora.start_from, "runs/x/adapter");
    CHECK_NEAR(c.lora.alpha, 16.5, 0);
    CHECK_NEAR(c.train.epochs, 0.5, 0);
    CHECK_INT(c.train.max_steps, 100);
    CHECK_INT(c.train.micro_batch, 3);
    CHECK_NEAR(c.train.learning_rate, 1e-4, 0);
    CHECK_INT(c.train.schedule, SCHEDULE_LINEAR);
    CHECK_NEAR(c.train.beta1, 0.8, 0);
    CHECK_NEAR(c.train.beta2, 0.99, 0);
    CHECK_NEAR(c.train.epsilon, 1e-6, 0);
    CHECK_INT(c.compute.device, DEVICE_CPU);
    CHECK_INT(c.compute.precision, PRECISION_F32);
    CHECK_INT(c.compute.recompute, RECOMPUTE_SELECTIVE);
    CHECK_INT(c.compute.memory_limit, INT64_C(22) << 30);
    CHECK_INT(c.compute.threads, 2);
    CHECK_INT(c.eval.every.steps, 0);
    CHECK_NEAR(c.eval.every.seconds, 5400, 0);
    CHECK_INT(c.eval.max_tokens, 1000);
    CHECK_INT(c.eval.n_prompts, 3);
    CHECK_STR(c.eval.prompts[1], "it's");
    CHECK_STR(c.eval.prompts[2], "\xc3\xa9\n");
    CHECK_NEAR(c.checkpoint.every.seconds, 30, 0);
    CHECK(c.checkpoint.keep_best);
}

/* One key at a time: the YAML line in its section, and whether it is accepted. */
static void test_targets(void)
{
    static const struct {
        const char *text;
        uint32_t bits;
    } rows[] = {{"all-linear", 0x7f}, {"attention", 0x0f},  {"mlp", 0x70},
                {"[q_proj]", 1},      {"[gate, up]", 0x30}, {"[q, k, v, o, gate, up, down]", 0x7f}};
    char yaml[256];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(yaml, sizeof yaml, MINIMAL "lora: {targets: %s}\n", rows[i].text);
        CHECK_OK(parse(yaml, &c, &e), &e);
        CHECK_INT(c.lora.targets, rows[i].bits);
    }
    CHECK_STR(config_target_name(0), "q_proj");
    CHECK_STR(config_target_name(6), "down_proj");
    CHECK(config_target_name(7) == NULL && config_target_name(-1) == NULL);
}

static void test_epochs_and_steps(void)
{
    CHECK_OK(parse(MINIMAL "train: {max_steps: 5}\n", &c, &e), &e);
    CHECK_NEAR(c.train.epochs, 0, 0); /* the default gives way */
    CHECK_OK(parse(MINIMAL "train: {max_steps: 5, epochs: 2}\n", &c, &e), &e);
    CHECK_NEAR(c.train.epochs, 2, 0);
    CHECK_OK(parse(MINIMAL "eval: {every: null}\ncheckpoint: {every: ~}\ntrain:\n", &c, &e), &e); /* an empty section is fine */
    CHECK(c.eval.every.steps == 0 && !(c.eval.every.seconds > 0));
    CHECK(c.checkpoint.every.steps == 0 && !(c.checkpoint.every.seconds > 0));
}

static void test_shipped_jobs(void)
{
    char **names, path[512];
    size_t n, jobs = 0;
    CHECK_OK(io_list("configs", &names, &n, &e), &e);
    for (size_t i = 0; i < n; i++) {
        if (strstr(names[i], ".yaml") == NULL)
            continue;
        snprintf(path, sizeof path, "configs/%s", names[i]);
        CHECK_OK(config_load(path, NULL, 0, &c, &e), &e);
        jobs++;
    }
    CHECK(jobs >= 3);
    io_list_free(names, n);
}

int main(void)
{
    test_defaults();
    test_all_keys();
    test_targets();
    test_epochs_and_steps();
    test_shipped_jobs();
    return check_done();
}
