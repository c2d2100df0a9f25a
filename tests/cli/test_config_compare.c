/* What a resume says about a changed job. */
#include "tests/cli/config_test.h"
#include "trainer/config_table.h"

static struct config was, now;
static struct err e;

/* Compare MINIMAL with MINIMAL plus `change`; returns what config_compare returns. */
static int compare(const char *change, struct buf *said)
{
    char yaml[1024];
    snprintf(yaml, sizeof yaml, MINIMAL "%s", change);
    CHECK_OK(parse(MINIMAL, &was, &e), &e);
    CHECK_OK(parse(yaml, &now, &e), &e);
    memset(&e, 0, sizeof e);
    return config_compare(&was, &now, said, &e);
}

static void allowed(const char *change, const char *lines)
{
    struct buf said = {0};
    CHECK_INT(compare(change, &said), 0);
    CHECK_STR(said.n > 0 ? said.data : "", lines);
    buf_free(&said);
}

static void refused(const char *change, const char *message)
{
    struct buf said = {0};
    CHECK_INT(compare(change, &said), -1);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_STR(e.text, message);
    buf_free(&said);
}

static void test_messages(void)
{
    allowed("", "");
    allowed("lora: {targets: [q, k, v, o, gate, up, down]}\n", ""); /* the same, written differently */
    allowed("train: {epochs: 5}\n", "train.epochs: 3 -> 5\n");
    allowed("train: {micro_batch: 2, learning_rate: 1e-4}\neval: {every: 1h}\n",
            "train.micro_batch: auto -> 2\ntrain.learning_rate: 0.0002 -> 0.0001\neval.every: 100 -> 1h\n");
    refused("lora: {rank: 8}\n",
            "the job differs from the one this run began with in what would silently change the run: lora.rank: 16 -> 8. "
            "Put it back, or start anew with --fresh");
    refused("seed: 1\nlora: {alpha: 8}\ntrain: {epochs: 5}\n", "the job differs from the one this run began with in what would "
                                                               "silently change the run: seed: 42 -> 1; lora.alpha: 32 -> 8. "
                                                               "Put these back, or start anew with --fresh");
}

/* The class of every key, spelled out: changing one must be a decision, not a slip. */
static void test_classes(void)
{
    static const char *const refused_keys[] = {
        "seed",         "data.sequence_length", "data.packing",
        "data.shuffle", "data.too_long", "lora.rank",       "lora.alpha",           "lora.dropout",
        "lora.targets", "lora.scaling",  "lora.start_from", "train.batch",          "compute.precision"};
    static const char *const free_keys[] = {"data.allow_unsealed",  "train.micro_batch",   "compute.recompute", "compute.gpus",
                                            "model.placement",       "compute.ranks",       "compute.parallel",  "compute.interconnect",
                                            "compute.peer_timeout",
                                            "compute.memory_limit", "eval.every",          "eval.max_tokens",
                                            "eval.prompts",         "eval.answer_tokens",  "checkpoint.every",
                                            "checkpoint.keep",      "checkpoint.keep_best"};
    for (int i = 0; i < config_n_keys; i++) {
        enum config_resume want = RESUME_SAID;
        for (size_t k = 0; k < sizeof refused_keys / sizeof refused_keys[0]; k++)
            want = strcmp(config_keys[i].name, refused_keys[k]) == 0 ? RESUME_REFUSED : want;
        for (size_t k = 0; k < sizeof free_keys / sizeof free_keys[0]; k++)
            want = strcmp(config_keys[i].name, free_keys[k]) == 0 ? RESUME_FREE : want;
        if (config_keys[i].resume != want)
            fprintf(stderr, "%s\n", config_keys[i].name);
        CHECK_INT(config_keys[i].resume, want);
    }
}

/* Values so long that the message cannot hold them all. */
static void test_long(void)
{
    struct buf said = {0};
    CHECK_OK(parse(MINIMAL, &was, &e), &e);
    now = was;

    memset(now.lora.start_from, 's', CONFIG_TEXT - 1);
    now.lora.rank = 1;
    CHECK_INT(config_compare(&was, &now, &said, &e), -1);
    CHECK_HAS(e.text, "lora.rank");
    CHECK_HAS(e.text, "lora.start_from");
    CHECK_HAS(e.text, "--fresh");
    buf_free(&said);
}

int main(void)
{
    test_messages();
    test_classes();
    test_long();
    return check_done();
}
