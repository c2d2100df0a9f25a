/* Every way a job file can be wrong, with the sentence the user gets. */
#include <time.h>

#include "tests/cli/config_test.h"

static struct config c;
static struct err e;

/* %HEAD stands for the three required keys (3 lines). A message that ends with a space is a beginning: the rest is libyaml's. */
static const struct {
    const char *yaml, *message;
} rows[] = {
    /* not a job */
    {"", "job.yaml: empty, expected a job with at least name, model.path and data.train. See configs/quickstart.yaml"},
    {"# nothing\n", "job.yaml: empty, expected a job with at least name, model.path and data.train. See configs/quickstart.yaml"},
    {"- a\n", "job.yaml:1:1: found a list, expected keys with values such as `name: first`. See configs/quickstart.yaml"},
    {"hello\n", "job.yaml:1:1: found plain text, expected keys with values such as `name: first`. See configs/quickstart.yaml"},
    {"name: n\n", "job.yaml: model.path: missing, expected a value: every job needs name, model.path and data.train"},
    {"model: {path: m}\ndata: {train: d}\n",
     "job.yaml: name: missing, expected a value: every job needs name, model.path and data.train"},
    {"name: n\nmodel: {path: m}\n",
     "job.yaml: data.train: missing, expected a value: every job needs name, model.path and data.train"},
    /* syntax */
    {"name: [a\n", "job.yaml:2:1: not valid YAML: "},
    {"name: a\n\tseed: 1\n", "job.yaml:2:1: not valid YAML: "},
    {"name: \"a\n", "job.yaml:2:1: not valid YAML: "},
    /* unknown keys, with the nearest */
    {"%HEAD"
     "tarin: {}\n",
     "job.yaml:4:1: tarin: unknown key, did you mean train?"},
    {"%HEAD"
     "train:\n  learning_rat: 1\n",
     "job.yaml:5:3: train.learning_rat: unknown key, did you mean train.learning_rate?"},
    {"%HEAD"
     "train: {epoch: 1}\n",
     "job.yaml:4:9: train.epoch: unknown key, did you mean train.epochs?"},
    {"%HEAD"
     "learning_rate: 1\n",
     "job.yaml:4:1: learning_rate: unknown key, did you mean train.learning_rate?"},
    {"%HEAD"
     "train: {rank: 1}\n",
     "job.yaml:4:9: train.rank: unknown key, did you mean lora.rank?"},
    {"%HEAD"
     "train: {lr: 1}\n",
     "job.yaml:4:9: train.lr: unknown key, did you mean train.learning_rate?"},
    {"%HEAD"
     "lora_r: 1\n",
     "job.yaml:4:1: lora_r: unknown key, did you mean lora.rank?"},
    {"%HEAD"
     "train.epochs: 1\n",
     "job.yaml:4:1: train.epochs: unknown key, did you mean train.epochs?"},
    {"%HEAD"
     "zzzzzz: 1\n",
     "job.yaml:4:1: zzzzzz: unknown key, expected name, seed, model, data, lora, train, compute, eval or checkpoint"},
    {"%HEAD"
     "lora: {zzzzzz: 1}\n",
     "job.yaml:4:8: lora.zzzzzz: unknown key, expected rank, alpha, dropout, targets, scaling or start_from"},
    {"%HEAD"
     "<<: {name: a}\n",
     "job.yaml:4:1: <<: unknown key, expected name, seed, model, data, lora, train, compute, eval or checkpoint"},
    {"%HEAD"
     "\"\": 1\n",
     "job.yaml:4:1: : unknown key, expected name, seed, model, data, lora, train, compute, eval or checkpoint"},
    /* duplicates */
    {"%HEAD"
     "seed: 1\nseed: 2\n",
     "job.yaml:5:1: found \"seed\" a second time (first in line 4), expected each key once. Remove one"},
    {"%HEAD"
     "train: {batch: 1, batch: 1}\n",
     "job.yaml:4:19: found \"batch\" a second time (first in line 4), expected each key once. Remove one"},
    {"%HEAD"
     "data: {}\n",
     "job.yaml:4:1: found \"data\" a second time (first in line 3), expected each key once. Remove one"},
    /* what YAML can do and a job must not */
    {"%HEAD"
     "seed: &a 1\n",
     "job.yaml:4:7: found the anchor &a, expected a plain value. Write each value where it is used"},
    {"%HEAD"
     "seed: *a\n",
     "job.yaml:4:7: found the alias *a, expected a value. Write each value where it is used"},
    {"%HEAD"
     "*a : 1\n",
     "job.yaml:4:1: found the alias *a, expected a key. Write it out"},
    {"%HEAD"
     "train: &t {}\n",
     "job.yaml:4:8: found the anchor &t, expected a plain value. Write each value where it is used"},
    {"%HEAD"
     "seed: !!int 1\n",
     "job.yaml:4:7: found the tag tag:yaml.org,2002:int, expected a value without a tag. Remove it"},
    {"%HEAD"
     "train: !x {}\n",
     "job.yaml:4:8: found the tag !x, expected a value without a tag. Remove it"},
    {"%HEAD"
     "? [a]\n: 1\n",
     "job.yaml:4:3: found a list or mapping as a key, expected a word"},
    {"%HEAD"
     "---\nname: b\n",
     "job.yaml:4:1: found a second document, expected one. Put each job in its own file"},
    {"%YAML 1.1\n---\nname: a\n", "job.yaml:1:1: found a % directive, expected none. Remove the line"},
    {"%TAG ! tag:x,2000:\n---\nname: a\n", "job.yaml:1:1: found a % directive, expected none. Remove the line"},
    {"%HEAD"
     "eval: {prompts: [[[a]]]}\n",
     "job.yaml:4:19: found a list inside 4 others, expected at most 4 levels"},
    /* bytes */
    {"name: \"\xff\"\n", "job.yaml:1:8: found the byte 0xff, expected UTF-8 text. Save the file as UTF-8"},
    {"name: a\n# \xc0\xaf\n", "job.yaml:2:3: found the byte 0xc0, expected UTF-8 text. Save the file as UTF-8"},
    {"name: a\n# \xed\xa0\x80\n", "job.yaml:2:3: found the byte 0xed, expected UTF-8 text. Save the file as UTF-8"},
    {"\xff\xfe"
     "n",
     "job.yaml:1:1: found the byte 0xff, expected UTF-8 text. Save the file as UTF-8"},
    {"name: a\x01\n", "job.yaml:1:8: found the control character U+0001, expected text. Remove it"},
    {"name: \xc2\x80\n", "job.yaml:1:7: found the control character U+0080, expected text. Remove it"},
    {"%HEAD"
     "eval: {prompts: [\"a\\0b\"]}\n",
     "job.yaml:4:18: found a NUL character in a text, expected none. Remove it"},
    /* sections */
    {"%HEAD"
     "train: 3\n",
     "job.yaml:4:8: train: found \"3\", expected its keys, indented below it"},
    {"%HEAD"
     "train: [a]\n",
     "job.yaml:4:8: train: found a list, expected its keys, indented below it"},
    /* numbers */
    {"%HEAD"
     "train:\n  learning_rate: abc\n",
     "job.yaml:5:18: train.learning_rate: found \"abc\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: 20}\n",
     "job.yaml:4:24: train.learning_rate: found \"20\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: -1}\n",
     "job.yaml:4:24: train.learning_rate: found \"-1\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: .nan}\n",
     "job.yaml:4:24: train.learning_rate: found \".nan\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: 1e999}\n",
     "job.yaml:4:24: train.learning_rate: found \"1e999\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: 0x1}\n",
     "job.yaml:4:24: train.learning_rate: found \"0x1\", expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: \"1e-4\"}\n",
     "job.yaml:4:24: train.learning_rate: found \"1e-4\", expected a number between 0 and 10. Remove the quotes."},
    {"%HEAD"
     "train: {learning_rate: null}\n",
     "job.yaml:4:24: train.learning_rate: found null, expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: }\n",
     "job.yaml:4:24: train.learning_rate: found nothing, expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: [1]}\n",
     "job.yaml:4:24: train.learning_rate: found a list, expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: {a: 1}}\n",
     "job.yaml:4:24: train.learning_rate: found a mapping, expected a number between 0 and 10."},
    {"%HEAD"
     "train: {learning_rate: true}\n",
     "job.yaml:4:24: train.learning_rate: found \"true\", expected a number between 0 and 10."},
    {"%HEAD"
     "lora: {rank: 0}\n",
     "job.yaml:4:14: lora.rank: found \"0\", expected a whole number between 1 and 1024."},
    {"%HEAD"
     "lora: {rank: 1025}\n",
     "job.yaml:4:14: lora.rank: found \"1025\", expected a whole number between 1 and 1024."},
    {"%HEAD"
     "lora: {rank: 16.0}\n",
     "job.yaml:4:14: lora.rank: found \"16.0\", expected a whole number between 1 and 1024."},
    {"%HEAD"
     "lora: {rank: 99999999999999999999}\n",
     "job.yaml:4:14: lora.rank: found \"99999999999999999999\", expected a whole number between 1 and 1024."},
    {"%HEAD"
     "lora: {rank: 010}\n",
     "job.yaml:4:14: lora.rank: found \"010\", expected a whole number between 1 and 1024. Remove the leading zero: some readers "
     "take "
     "it for an octal number."},
    {"%HEAD"
     "seed: 1_000\n",
     "job.yaml:4:7: seed: found \"1_000\", expected a whole number between 0 and 9007199254740991. Remove the underscores."},
    {"%HEAD"
     "lora: {dropout: 1.0}\n",
     "job.yaml:4:17: lora.dropout: found \"1.0\", expected a number between 0 and 0.95."},
    {"%HEAD"
     "train: {epsilon: 0}\n",
     "job.yaml:4:18: train.epsilon: found \"0\", expected a number between 1.0e-16 and 1."},
    {"%HEAD"
     "train: {epochs: 0}\n",
     "job.yaml:4:17: train.epochs: found \"0\", expected a number between 0.001 and 100000, or null."},
    {"%HEAD"
     "train: {micro_batch: null}\n",
     "job.yaml:4:22: train.micro_batch: found null, expected a whole number between 1 and 65536, or auto."},
    {"%HEAD"
     "train: {max_steps: auto}\n",
     "job.yaml:4:20: train.max_steps: found \"auto\", expected a whole number between 1 and 1000000000, or null."},
    /* true and false */
    {"%HEAD"
     "data: {train: d}\n",
     "job.yaml:4:1: found \"data\" a second time (first in line 3), expected each key once. Remove one"},
    {"%HEAD"
     "checkpoint: {keep_best: yes}\n",
     "job.yaml:4:25: checkpoint.keep_best: found \"yes\", expected true or false. YAML versions read this word differently: "
     "write true."},
    {"%HEAD"
     "checkpoint: {keep_best: Off}\n",
     "job.yaml:4:25: checkpoint.keep_best: found \"Off\", expected true or false. YAML versions read this word differently: "
     "write false."},
    {"%HEAD"
     "checkpoint: {keep_best: True}\n",
     "job.yaml:4:25: checkpoint.keep_best: found \"True\", expected true or false. YAML versions read this word differently: "
     "write true."},
    {"%HEAD"
     "checkpoint: {keep_best: 1}\n",
     "job.yaml:4:25: checkpoint.keep_best: found \"1\", expected true or false."},
    {"%HEAD"
     "checkpoint: {keep_best: \"true\"}\n",
     "job.yaml:4:25: checkpoint.keep_best: found \"true\", expected true or false. Remove the quotes."},
    /* choices */
    {"%HEAD"
     "train: {schedule: cosin}\n",
     "job.yaml:4:19: train.schedule: found \"cosin\", expected cosine, linear or constant. Did you mean cosine?"},
    {"%HEAD"
     "compute: {device: gpu0}\n",
     "job.yaml:4:19: compute.device: found \"gpu0\", expected auto, cpu or cuda. Did you mean cpu?"},
    {"%HEAD"
     "compute: {device: tpu-v4-pod}\n",
     "job.yaml:4:19: compute.device: found \"tpu-v4-pod\", expected auto, cpu or cuda."},
    {"%HEAD"
     "compute: {precision: [bf16]}\n",
     "job.yaml:4:22: compute.precision: found a list, expected auto, bf16 or f32."},
    {"name: n\nmodel: {path: m}\ndata: {train: d, template: qwen}\n",
     "job.yaml:3:28: data.template: found \"qwen\", expected auto, none, "},
    /* text */
    {"name: 2024\n", "job.yaml:1:7: name: found \"2024\", expected 1 to 127 letters, digits, '.', '_' or '-', a letter or digit "
                     "first. Without quotes it is "
                     "a number: put it in quotes if you mean the text."},
    {"name: no\n", "job.yaml:1:7: name: found \"no\", expected 1 to 127 letters, digits, '.', '_' or '-', a letter or digit "
                   "first. Without quotes it is "
                   "a true-or-false value: put it in quotes if you mean the text."},
    {"name: a/b\n", "job.yaml:1:7: name: found \"a/b\", expected 1 to 127 letters, digits, '.', '_' or '-', a letter or digit "
                    "first. It becomes the "
                    "folder runs/<name>/."},
    {"name: ..\n", "job.yaml:1:7: name: found \"..\", expected 1 to 127 letters, digits, '.', '_' or '-', a letter or digit "
                   "first. It becomes the "
                   "folder runs/<name>/."},
    {"name: \"\"\n",
     "job.yaml:1:7: name: found \"\", expected 1 to 127 letters, digits, '.', '_' or '-', a letter or digit first."},
    {"model: {path: null}\n", "job.yaml:1:15: model.path: found null, expected text of 1 to 1023 bytes."},
    {"model: {path: [a]}\n", "job.yaml:1:15: model.path: found a list, expected text of 1 to 1023 bytes."},
    /* sizes, times, targets, prompts */
    {"%HEAD"
     "compute: {memory_limit: 24XB}\n",
     "job.yaml:4:25: compute.memory_limit: found \"24XB\", expected a size such as 22GiB, from 1MiB to 1024TiB, or null."},
    {"%HEAD"
     "compute: {memory_limit: 24}\n",
     "job.yaml:4:25: compute.memory_limit: found \"24\", expected a size such as 22GiB, from 1MiB to 1024TiB, or null."},
    {"%HEAD"
     "eval: {every: 10m}\n",
     "job.yaml:4:15: eval.every: found \"10m\", expected a number of steps, or a time such as 30s, 10min or 1h, or null. For "
     "minutes "
     "write min."},
    {"%HEAD"
     "eval: {every: 0}\n",
     "job.yaml:4:15: eval.every: found \"0\", expected a number of steps, or a time such as 30s, 10min or 1h, or null. Write "
     "null for "
     "never."},
    {"%HEAD"
     "eval: {every: -5}\n",
     "job.yaml:4:15: eval.every: found \"-5\", expected a number of steps, or a time such as 30s, 10min or 1h, or null."},
    {"%HEAD"
     "eval: {every: 0s}\n",
     "job.yaml:4:15: eval.every: found \"0s\", expected a number of steps, or a time such as 30s, 10min or 1h, or null."},
    {"%HEAD"
     "lora: {targets: q}\n",
     "job.yaml:4:17: lora.targets: found \"q\", expected all-linear, attention, mlp, or a list of q_proj, k_proj, v_proj, "
     "o_proj, "
     "gate_proj, up_proj and down_proj. For one module write a list: [q]."},
    {"%HEAD"
     "lora: {targets: all-liner}\n",
     "job.yaml:4:17: lora.targets: found \"all-liner\", expected all-linear, attention, mlp, or a list of q_proj, k_proj, "
     "v_proj, o_proj, "
     "gate_proj, up_proj and down_proj. Did you mean all-linear?"},
    {"%HEAD"
     "lora: {targets: []}\n",
     "job.yaml:4:17: lora.targets: found a list, expected all-linear, attention, mlp, or a list of q_proj, k_proj, v_proj, "
     "o_proj, "
     "gate_proj, up_proj and down_proj. The list is empty."},
    {"%HEAD"
     "lora: {targets: [q_prj]}\n",
     "job.yaml:4:18: lora.targets: found \"q_prj\", expected all-linear, attention, mlp, or a list of q_proj, k_proj, v_proj, "
     "o_proj, "
     "gate_proj, up_proj and down_proj. Did you mean q_proj?"},
    {"%HEAD"
     "lora: {targets: [q, q_proj]}\n",
     "job.yaml:4:21: lora.targets: found \"q_proj\", expected all-linear, attention, mlp, or a list of q_proj, k_proj, v_proj, "
     "o_proj, "
     "gate_proj, up_proj and down_proj. It stands twice in the list."},
    {"%HEAD"
     "compute: {gpus: 1}\n",
     "job.yaml:4:17: compute.gpus: found \"1\", expected a list of different cards, each 0 to 15, such as [1], or auto. For one card write a list, as in [1]."},
    {"%HEAD"
     "compute: {gpus: []}\n",
     "job.yaml:4:17: compute.gpus: found a list, expected a list of different cards, each 0 to 15, such as [1], or auto. The list is empty."},
    {"%HEAD"
     "compute: {gpus: [16]}\n",
     "job.yaml:4:18: compute.gpus: found \"16\", expected a list of different cards, each 0 to 15, such as [1], or auto."},
    {"%HEAD"
     "compute: {gpus: [2, 2]}\n",
     "job.yaml:4:21: compute.gpus: found \"2\", expected a list of different cards, each 0 to 15, such as [1], or auto. It stands twice in the list."},
    {"%HEAD"
     "compute: {gpus: all}\n",
     "job.yaml:4:17: compute.gpus: found \"all\", expected a list of different cards, each 0 to 15, such as [1], or auto."},
    {"%HEAD"
     "eval: {prompts: hello}\n",
     "job.yaml:4:17: eval.prompts: found \"hello\", expected a list of at most 32 texts of 1 to 1023 bytes. For one prompt write "
     "a list: "
     "[\"...\"]."},
    {"%HEAD"
     "eval: {prompts: [1]}\n",
     "job.yaml:4:18: eval.prompts: found \"1\", expected a list of at most 32 texts of 1 to 1023 bytes. Without quotes it is a "
     "number: put "
     "it in quotes if you mean the text."},
    /* what spans keys */
    {"%HEAD"
     "train: {batch: 8, micro_batch: 3}\n",
     "job.yaml:4:32: train.micro_batch: found 3, expected a divisor of train.batch (8). The nearest is 2; auto chooses one"},
    {"%HEAD"
     "train: {batch: 8, micro_batch: 9}\n",
     "job.yaml:4:32: train.micro_batch: found 9, expected a divisor of train.batch (8). The nearest is 8; auto chooses one"},
    {"%HEAD"
     "train: {epochs: null}\n",
     "job.yaml:4:17: train.epochs: found null and no train.max_steps, expected one of the two. Set train.epochs or "
     "train.max_steps"},
    {"name: n\nmodel: {path: m}\ndata: {train: d, sequence_length: 1048576}\ntrain: {batch: 2048}\n",
     "job.yaml:4:16: train.batch: found 2048 rows of 1048576 tokens, expected less than 2147483648 tokens in one step. Lower one "
     "of them"},
};

static void test_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char yaml[2048];
        bool head = strncmp(rows[i].yaml, "%HEAD", 5) == 0;
        snprintf(yaml, sizeof yaml, "%s%s", head ? MINIMAL : "", rows[i].yaml + (head ? 5 : 0));
        int rc = parse(yaml, &c, &e);
        if (rc != -1 || e.code != ERR_CONFIG)
            fprintf(stderr, "row %zu:\n%s\n", i, yaml);
        CHECK_INT(rc, -1);
        CHECK_INT(e.code, ERR_CONFIG);
        size_t n = strlen(rows[i].message);
        if (rows[i].message[n - 1] == ' ')
            e.text[n] = '\0';
        CHECK_STR(e.text, rows[i].message);
    }
}

/* A text of n repetitions; refused within a second with a message that has `part`. */
static void refuse_repeated(const char *head, const char *piece, size_t n, const char *part)
{
    size_t len = strlen(piece), n_head = strlen(head);
    char *yaml = malloc(n_head + n * len + 1);
    memcpy(yaml, head, n_head + 1);
    for (size_t i = 0; i < n; i++)
        memcpy(yaml + n_head + i * len, piece, len);
    clock_t start = clock();
    memset(&e, 0, sizeof e);
    CHECK_INT(config_parse(yaml, n_head + n * len, "job.yaml", &c, &e), -1);
    CHECK_INT(e.code, ERR_CONFIG);
    CHECK_HAS(e.text, part);
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 1);
    free(yaml);
}

static void test_large(void)
{
    refuse_repeated("a: ", "[", 1000, "at most 4 levels");
    refuse_repeated("", "[", 1000000, "at most 4 levels");
    refuse_repeated("", "- ", 500000, "at most 4 levels");
    refuse_repeated("a: ", "{b: ", 1000, "at most 4 levels");
    refuse_repeated("", "? ", 500000, "as a key");
    refuse_repeated("eval: {prompts: [", "a,", 500000, "more than 4096 values");
    refuse_repeated("name: ", "x", 1000000, "expected 1 to 127 letters");
    refuse_repeated("", "#", (1 << 20) + 1, "found 1048577 bytes, expected at most 1048576");
    refuse_repeated("a: &b", " &b", 300000, "anchor");
    refuse_repeated("", " ", 1000000, "empty, expected a job");
    refuse_repeated("name: \"", "\\n", 500000, "not valid YAML");
    refuse_repeated(MINIMAL "eval: {prompts: [", "p,", 33, "did not find expected");
}

int main(void)
{
    test_rows();
    test_large();
    return check_done();
}
