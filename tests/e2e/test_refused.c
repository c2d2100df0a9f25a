/* I4, I5 and exit codes at the program: what is missing or wrong is named in one sentence with the command that helps, before
 * anything is written. Several jobs one after another. P10: a job that does not fit is refused with numbers and advice; the
 * shipped 8B jobs fit a 24 GB card, planned from config.json alone. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

static void one_message(int code, const char *part)
{
    const char *first = strstr(e2e_out, "lorat: error: ");
    CHECK(first != NULL && strstr(first + 1, "lorat: error: ") == NULL);
    CHECK_HAS(e2e_out, part);
}

#define REFUSED(code, part, ...)                                                                                                 \
    do {                                                                                                                         \
        E2E_RUN(code, __VA_ARGS__);                                                                                              \
        one_message(code, part);                                                                                                 \
    } while (0)

static void test_paths(void)
{
    REFUSED(ERR_CONFIG, "none.yaml", "train none.yaml");
    REFUSED(ERR_CONFIG, "runs-of-mine", "train runs-of-mine");
    REFUSED(ERR_CONFIG, "learning_rate", "train job.yaml --set train.learning_rat=1");
    REFUSED(ERR_CONFIG, "train.batch", "train job.yaml --set train.batch=0");
    REFUSED(ERR_CONFIG, "data.sequence_length", "train job.yaml --set data.sequence_length=100000");
    REFUSED(ERR_MODEL, "models/none", "train job.yaml --set model.path=models/none");
    REFUSED(ERR_MODEL, "hf download Qwen/Qwen3-8B --local-dir models/Qwen3-8B",
            "train job.yaml --set model.path=models/Qwen3-8B");
    REFUSED(ERR_MODEL, "none.gguf", "train job.yaml --set model.path=models/none.gguf");
    REFUSED(ERR_MODEL, "empty", "train job.yaml --set model.path=empty");
    REFUSED(ERR_IO, "lorat data build --model ", "train job.yaml --set data.train=none.h5");
    CHECK_HAS(e2e_out, "-o none.h5");
    REFUSED(ERR_DATA, "d.jsonl", "train job.yaml --set data.train=d.jsonl");
    REFUSED(ERR_DATA, "empty", "train job.yaml --set data.train=empty");
    CHECK(mkfifo("fifo", 0666) == 0);
    REFUSED(ERR_DATA, "fifo", "train job.yaml --set data.train=fifo");
    REFUSED(ERR_CONFIG, "fifo", "train fifo");
    REFUSED(ERR_MODEL, "fifo", "train job.yaml --set model.path=fifo");
    if (geteuid() != 0) {
        CHECK(chmod("secret.yaml", 0) == 0);
        REFUSED(ERR_CONFIG, "secret.yaml", "train secret.yaml");
    }
    REFUSED(ERR_DATA, "vocabulary", "train job.yaml --set data.train=wide.h5");
    REFUSED(ERR_MODEL, "eval.prompts", "train job.yaml --set eval.prompts=[hello]");
    REFUSED(ERR_MODEL, "nowhere", "train job.yaml --set lora.start_from=nowhere");
    REFUSED(ERR_USAGE, "expected one of them", "train job.yaml --resume --fresh");
    REFUSED(ERR_USAGE, "did you mean `lorat train`", "trian job.yaml");
    REFUSED(ERR_USAGE, "did you mean --resume", "train job.yaml --resum");
    REFUSED(ERR_USAGE, "lorat verify", "verify job.yaml");
    REFUSED(ERR_IO, "runs/none", "export runs/none -o out");
    REFUSED(ERR_USAGE, "--model", "generate --prompt x");
    CHECK(!e2e_exists("runs/t/checkpoints"));
}

static void test_no_target(void)
{
    E2E_RUN(ERR_DATA, "data build --input blind.jsonl -o blind.h5 --vocab 96");
    CHECK(!e2e_exists("blind.h5"));
}

/* A typo in the second job stops both before the first begins; otherwise one after another, and the first failure ends it. */
static void test_several(void)
{
    e2e_job("one.yaml", "one", "tiny-llama3");
    e2e_job("two.yaml", "two", "tiny-qwen2");
    e2e_write("wrong.yaml", "name: wrong\nmodle:\n  path: x\n");
    REFUSED(ERR_CONFIG, "modle", "train one.yaml wrong.yaml");
    CHECK(!e2e_exists("runs/one"));
    E2E_RUN(0, "train one.yaml two.yaml --set train.max_steps=2");
    CHECK_HAS(e2e_out, "job 2 of 2: two.yaml");
    CHECK(e2e_exists("runs/one/adapter/adapter_model.safetensors") && e2e_exists("runs/two/adapter/adapter_model.safetensors"));
    REFUSED(ERR_STATE, "--resume", "train two.yaml one.yaml --set train.max_steps=2");
    E2E_RUN(75, "train one.yaml two.yaml --fresh --stop-after 1");
    CHECK(!e2e_exists("runs/two.old-1")); /* stopped: the second does not begin */
}

static void test_memory(void)
{
    char shape[700];
    REFUSED(ERR_DEVICE, "compute.memory_limit", "train job.yaml --set name=big --set compute.memory_limit=1MiB");
    CHECK_HAS(e2e_out, "MiB");
    CHECK(!e2e_exists("runs/big/checkpoints"));
    snprintf(shape, sizeof shape, "%s/shapes/Qwen3-8B", e2e_golden);
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 3090 --set model.path=%s", e2e_root, shape);
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 2x3090 --set model.path=%s", e2e_root, shape);
    snprintf(shape, sizeof shape, "%s/shapes/Llama-3.1-8B", e2e_golden);
    E2E_RUN(0, "plan %s/configs/llama8b.yaml --on 3090 --set model.path=%s", e2e_root, shape);
    E2E_RUN(0, "plan %s/configs/llama8b.yaml --on 4090 --set model.path=%s", e2e_root, shape);
    REFUSED(ERR_USAGE, "3090", "plan %s/configs/llama8b.yaml --on 3091 --set model.path=%s", e2e_root, shape);
    REFUSED(ERR_DEVICE, "GiB", "plan %s/configs/llama8b.yaml --on 3090 --set compute.precision=f32 --set model.path=%s", e2e_root,
            shape);
    CHECK(mkdir("70b", 0777) == 0);
    e2e_write(
        "70b/config.json",
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8192,\"intermediate_size\":28672,"
        "\"num_attention_heads\":64,\"num_key_value_heads\":8,\"num_hidden_layers\":80,\"vocab_size\":128256,\"hidden_act\":"
        "\"silu\","
        "\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-05,\"rope_theta\":500000.0,\"tie_word_embeddings\":false,"
        "\"torch_dtype\":\"bfloat16\",\"bos_token_id\":128000,\"eos_token_id\":128001}");
    REFUSED(ERR_DEVICE, "GiB", "plan %s/configs/llama8b.yaml --on 3090 --set model.path=70b", e2e_root);
    printf("%s", e2e_out);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    CHECK(mkdir("empty", 0777) == 0 && mkdir("runs-of-mine", 0777) == 0);
    e2e_write("secret.yaml", "name: x\n");
    e2e_write("blind.jsonl", "{\"tokens\": [1, 2, 3], \"loss\": [1, 0, 0]}\n{\"tokens\": [4, 5], \"loss\": [0, 0]}\n");
    e2e_dataset("wide.h5", 8, 300, 2);
    test_paths();
    test_no_target();
    test_several();
    test_memory();
    return e2e_end();
}
