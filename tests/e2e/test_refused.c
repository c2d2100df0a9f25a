/* I4, I5 and exit codes at the program: what is missing or wrong is named in one sentence with the command that helps, before
 * anything is written. Several jobs one after another. P10: a job that does not fit is refused with numbers and advice; the
 * shipped 8B jobs fit a 24 GB card and those for two cards fit two, planned from config.json alone. */
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

/* MiB behind ", " and before " left" in the plan. */
static double left_mib(void)
{
    const char *at = strstr(e2e_out, " available, ");
    double n = at != NULL ? atof(at + strlen(" available, ")) : 0;
    return at != NULL && strstr(at, "GiB left") != NULL ? 1024 * n : n;
}

/* Lines of a job that are not comments, but for name and interconnect. */
static char *what_it_does(const char *job)
{
    char path[700], *text, *out, *to;
    snprintf(path, sizeof path, "%s/configs/%s", e2e_root, job);
    text = e2e_read(path, NULL);
    out = to = calloc(strlen(text) + 1, 1);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (line[0] != '#' && strncmp(line, "name:", 5) != 0 && strncmp(line, "  interconnect:", 15) != 0)
            to += sprintf(to, "%.*s\n", (int)strcspn(line, "#"), line);
    free(text);
    return out;
}

/* The jobs for two cards fit two 3090s with 300 MiB of each to spare, small and large; and what each says of the bridge. A pair of them
 * differs in nothing but its name and the way between the cards. */
static void test_two_cards(void)
{
    static const struct {
        const char *nvlink, *pcie, *shape, *larger, *says, *larger_says;
    } pairs[] = {{"qwen3-14b-2x3090-nvlink.yaml", "qwen3-14b-2x3090-pcie.yaml", "Qwen3-14B", "--set train.micro_batch=8",
                  "stops mattering at", "no difference"},
                 {"llama8b-2x3090-nvlink.yaml", "llama8b-2x3090-pcie.yaml", "Llama-3.1-8B",
                  "--set train.micro_batch=4 --set compute.recompute=full", "no difference", "no difference"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *one = what_it_does(pairs[i].nvlink), *other = what_it_does(pairs[i].pcie);
        CHECK(strlen(one) > 200);
        CHECK_STR(one, other);
        free(one);
        free(other);
        for (int way = 0; way < 2; way++)
            for (int large = 0; large < 2; large++) {
                E2E_RUN(0, "plan %s/configs/%s --on 2x3090 --set model.path=%s/shapes/%s %s", e2e_root,
                        way ? pairs[i].pcie : pairs[i].nvlink, e2e_golden, pairs[i].shape, large ? pairs[i].larger : "");
                CHECK_HAS(e2e_out, large ? pairs[i].larger_says : pairs[i].says);
                CHECK(left_mib() >= 300);
            }
        E2E_RUN(0, "config %s/configs/%s", e2e_root, pairs[i].nvlink);
        CHECK_HAS(e2e_out, "interconnect: nvlink");
        E2E_RUN(0, "config %s/configs/%s", e2e_root, pairs[i].pcie);
        CHECK_HAS(e2e_out, "interconnect: pcie");
    }
    /* auto leaves as much where it can; what the job names itself may be tighter; one card needs no such room. */
    E2E_RUN(0, "plan %s/configs/llama8b.yaml --on 2x3090 --set compute.memory_limit=23GiB --set model.path=%s/shapes/Llama-3.1-8B",
            e2e_root, e2e_golden);
    CHECK(left_mib() >= 300);
    CHECK_HAS(e2e_out, "data parallel");
    E2E_RUN(0, "plan %s/configs/llama8b.yaml --on 2x3090 --set compute.memory_limit=23GiB --set compute.recompute=none "
               "--set model.path=%s/shapes/Llama-3.1-8B", e2e_root, e2e_golden);
    CHECK(left_mib() > 0 && left_mib() < 300);
    E2E_RUN(0, "plan %s/configs/llama8b.yaml --on 3090 --set compute.memory_limit=22.6GiB --set model.path=%s/shapes/Llama-3.1-8B",
            e2e_root, e2e_golden);
    CHECK_HAS(e2e_out, "recompute none");
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 2x4090 --set model.path=%s/shapes/Qwen3-14B", e2e_root, e2e_golden);
    CHECK(strstr(e2e_out, "nvlink") == NULL && strstr(e2e_out, "bridge") == NULL); /* has no such thing */
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 3090 --set model.placement=host --set model.path=%s/shapes/Qwen3-14B", e2e_root,
            e2e_golden);
    CHECK_HAS(e2e_out, "copies from host memory");
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 2x4500-ada --set model.path=%s/shapes/Qwen3-8B", e2e_root, e2e_golden);
    CHECK_HAS(e2e_out, "time        unknown");
    CHECK(strstr(e2e_out, "links") == NULL);
    REFUSED(ERR_USAGE, "4500-ada, pro-4000, gb10, l40, h100, h200", "plan job.yaml --on 3091");
}

/* What a job says of its devices, and the cards of --on: refused as training there would refuse it, or said. */
static void test_cards_named(void)
{
    static const struct {
        const char *on, *set, *says;
        int code;
    } rows[] = {
        {"2x3090", "compute.gpus=[0]", "warning: compute.gpus: names 1 of the 2 cards of --on 2x3090", 0},
        {"3090", "compute.device=cpu", "warning: compute.device: cpu, and --on 3090", 0},
        {"2x3090", "compute.ranks=3", "compute.ranks: found 3, expected 1 on CUDA", ERR_CONFIG},
        {"3090", "compute.gpus=[0,1]", "compute.gpus: found 2 cards, expected at most the 1 of --on 3090", ERR_DEVICE},
        {"3090", "compute.interconnect=nvlink", "compute.interconnect: nvlink, and one card", ERR_CONFIG},
        {"2x4090", "compute.interconnect=nvlink", "no NVLink joins 2 x RTX 4090", ERR_DEVICE},
        {"3x3090", "train.batch=8", "expected a multiple of 3. Set it to 9, or take 2 with compute.gpus", ERR_CONFIG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        E2E_RUN(rows[i].code, "plan %s/configs/qwen3-8b.yaml --on %s --set %s --set model.path=%s/shapes/Qwen3-8B", e2e_root,
                rows[i].on, rows[i].set, e2e_golden);
        CHECK_HAS(e2e_out, rows[i].says);
    }
    /* Nothing to say where they go together. */
    E2E_RUN(0, "plan %s/configs/qwen3-8b.yaml --on 3090 --set compute.gpus=[1] --set model.path=%s/shapes/Qwen3-8B", e2e_root,
            e2e_golden);
    CHECK(strstr(e2e_out, "warning") == NULL);
    REFUSED(ERR_USAGE, "Did you mean 3090?", "plan job.yaml --on RTX-3091");
    E2E_RUN(0, "plan job.yaml --set compute.device=cpu --set compute.gpus=[0]");
    CHECK_HAS(e2e_out, "compute.gpus: names cards, and compute.device is cpu: they are not used");
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

/* What a process leaves that was stopped while the model was loading is no run: the same command begins. Anything more is one. */
static void test_not_begun(void)
{
    CHECK((mkdir("runs", 0777) == 0 || e2e_exists("runs")) && mkdir("runs/halted", 0777) == 0);
    e2e_write("runs/halted/lock", "4194304 here\n");
    e2e_write("runs/halted/.job.yaml.tmp-4194304", "name");
    E2E_RUN(75, "train job.yaml --set name=halted --stop-after 1");
    CHECK_INT(e2e_count_temporaries("runs/halted"), 0);
    REFUSED(ERR_STATE, "a run of this name exists", "train job.yaml --set name=halted");
    CHECK(mkdir("runs/noted", 0777) == 0);
    e2e_write("runs/noted/notes.txt", "mine\n");
    REFUSED(ERR_STATE, "a run of this name exists", "train job.yaml --set name=noted");
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
    test_two_cards();
    test_cards_named();
    test_not_begun();
    return e2e_end();
}
