/* R1: N steps straight = k steps, a new process, N - k, for every k, with accumulation, mid-epoch, mid-warm-up, dropout, packing
 * and shuffle: same bytes; the same by `lorat verify resume`. R2: two runs, same bytes. Every recompute policy, same bytes at a
 * fixed micro-batch. R4: a changed job is refused by every changed key, or said. R5: another dataset under the same name, another
 * base: refused. */
#include <sys/stat.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

enum { STEPS = 7 };

/* 21 documents in packed rows of 32 tokens are 3 to 4 steps of 4 rows: the run crosses an epoch's end. */
static void test_every_k(const char *settings)
{
    e2e_remove("runs");
    E2E_RUN(0, "train job.yaml --quiet --set name=a --set train.max_steps=%d %s", STEPS, settings);
    E2E_RUN(0, "train job.yaml --quiet --set name=b --set train.max_steps=%d %s", STEPS, settings);
    CHECK(e2e_same_state("a", "b", STEPS));
    for (int k = 1; k < STEPS; k++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", k);
        E2E_RUN(75, "train job.yaml --quiet --set name=%s --set train.max_steps=%d %s --stop-after %d", name, STEPS, settings, k);
        E2E_RUN(0, "train job.yaml --set name=%s --set train.max_steps=%d %s --resume", name, STEPS, settings);
        char said[64];
        snprintf(said, sizeof said, "resuming runs/%s at step %d of %d", name, k, STEPS);
        CHECK_HAS(e2e_out, said);
        if (!e2e_same_state("a", name, STEPS)) {
            fprintf(stderr, "resumed at step %d: other bytes (%s)\n", k, settings);
            check_failures++;
        }
    }
}

/* Every step its own process, and one more stop at a step that has just been evaluated. */
static void test_step_by_step(void)
{
    int code = 75;
    for (int k = 1; k <= STEPS && code == 75; k++)
        code =
            e2e_run("train job.yaml --quiet --set name=each --set train.max_steps=%d --set eval.every=2 --resume --stop-after %d",
                    STEPS, k);
    CHECK_INT(code, 0);
    E2E_RUN(0, "train job.yaml --quiet --set name=straight --set train.max_steps=%d --set eval.every=2", STEPS);
    CHECK(e2e_same_state("straight", "each", STEPS));
}

/* auto goes on with the rows at a time that the steps before were made with, and ends in the bytes of a run that always had them. */
static void test_auto(void)
{
    E2E_RUN(0, "train job.yaml --set name=chosen --set train.max_steps=1 --set train.micro_batch=auto");
    CHECK_HAS(e2e_out, "steps of 4 rows (1 x 4)");
    E2E_RUN(0, "train job.yaml --quiet --set name=ones --set train.max_steps=%d --set train.micro_batch=1", STEPS);
    E2E_RUN(75, "train job.yaml --quiet --set name=kept --set train.max_steps=%d --set train.micro_batch=1 --stop-after 3", STEPS);
    E2E_RUN(0, "train job.yaml --set name=kept --set train.max_steps=%d --set train.micro_batch=auto --resume", STEPS);
    CHECK_HAS(e2e_out, "steps of 4 rows (4 x 1)");
    CHECK(strstr(e2e_out, "may round otherwise") == NULL);
    CHECK(e2e_same_state("ones", "kept", STEPS));
}

static void test_verify(void)
{
    E2E_RUN(0, "verify resume job.yaml --steps 4 --stop 1");
    CHECK_HAS(e2e_out, "proven: 4 steps straight and 1 + 3 steps in two processes end in the same bytes.");
    CHECK(!e2e_exists("runs/t.verify-straight"));
}

static void test_recompute(const char *model)
{
    static const char *const policies[] = {"none", "selective", "full"};
    char path[700];
    snprintf(path, sizeof path, "%s/%s", e2e_golden, model);
    for (int i = 0; i < 3; i++) {
        e2e_remove("runs");
        for (int j = 0; j < 3; j++)
            E2E_RUN(0,
                    "train job.yaml --quiet --set name=%s --set compute.recompute=%s --set model.path=%s --set train.max_steps=3 "
                    "--set compute.precision=%s",
                    policies[j], policies[j], path, i == 1 ? "bf16" : "f32");
        CHECK(e2e_same_state("none", "selective", 3));
        CHECK(e2e_same_state("none", "full", 3));
        if (i == 1)
            break;
    }
}

static void test_changed(void)
{
    e2e_remove("runs");
    E2E_RUN(75, "train job.yaml --quiet --stop-after 2");
    E2E_RUN(ERR_STATE, "train job.yaml --resume --set lora.rank=8 --set seed=7 --set train.batch=8");
    CHECK_HAS(e2e_out, "lora.rank");
    CHECK_HAS(e2e_out, "seed");
    CHECK_HAS(e2e_out, "train.batch");
    E2E_RUN(ERR_STATE, "train job.yaml --resume --set lora.alpha=8 --set data.packing=false");
    CHECK_HAS(e2e_out, "lora.alpha");
    CHECK_HAS(e2e_out, "data.packing");
    E2E_RUN(ERR_STATE, "train job.yaml");
    CHECK_HAS(e2e_out, "--resume");
    CHECK_HAS(e2e_out, "--fresh");
    /* Another dataset, another base under the same name. */
    CHECK(rename("d.h5", "keep.h5") == 0);
    e2e_dataset("d.h5", 24, 96, 5);
    E2E_RUN(ERR_STATE, "train job.yaml --resume");
    CHECK_HAS(e2e_out, "another dataset");
    CHECK(rename("keep.h5", "d.h5") == 0);
    bool rejected;
    CHECK_INT(e2e_found("t", &rejected), 2);
    /* Said and allowed. */
    E2E_RUN(0, "train job.yaml --resume --set train.max_steps=4 --set train.learning_rate=5e-4");
    CHECK_HAS(e2e_out, "resumed with a changed job");
    CHECK_HAS(e2e_out, "train.learning_rate");
    CHECK_HAS(e2e_out, "train.max_steps");
    CHECK_INT(e2e_found("t", &rejected), 4);
    E2E_RUN(75, "train job.yaml --fresh --stop-after 1");
    CHECK(e2e_exists("runs/t.old-1/checkpoints/step-00000004"));
}

static void copy(const char *name)
{
    char from[700], to[128];
    size_t n;
    snprintf(from, sizeof from, "%s/tiny-llama3/%s", e2e_golden, name);
    snprintf(to, sizeof to, "base/%s", name);
    char *bytes = e2e_read(from, &n);
    FILE *f = fopen(to, "w");
    CHECK(bytes != NULL && f != NULL && fwrite(bytes, 1, n, f) == n);
    if (f != NULL)
        fclose(f);
    free(bytes);
}

static void test_other_base(void)
{
    CHECK(mkdir("base", 0777) == 0);
    copy("config.json");
    copy("model.safetensors");
    E2E_RUN(75, "train job.yaml --set model.path=base --set name=based --stop-after 1");
    FILE *f = fopen("base/model.safetensors", "r+");
    CHECK(f != NULL && fseek(f, -3, SEEK_END) == 0);
    if (f == NULL)
        return;
    int byte = fgetc(f);
    CHECK(fseek(f, -3, SEEK_END) == 0 && fputc(byte ^ 1, f) != EOF);
    fclose(f);
    E2E_RUN(ERR_STATE, "train job.yaml --set model.path=base --set name=based --resume");
    CHECK_HAS(e2e_out, "another base model");
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    test_every_k("--set train.micro_batch=1 --set train.warmup_steps=4");
    test_every_k("--set compute.precision=bf16 --set train.schedule=linear --set train.weight_decay=0.1");
    test_step_by_step();
    test_auto();
    test_verify();
    test_recompute("tiny-llama");
    test_recompute("tiny-qwen3");
    test_changed();
    test_other_base();
    return e2e_end();
}
