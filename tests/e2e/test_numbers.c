/* M4: a step that is not finite is skipped and changes no byte of the state; too many in a row end the run with exit code 11 and
 * a checkpoint from before. M6: a run overfits one batch. P11: resident memory and open descriptors stay flat over many steps
 * with saves and evaluations. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"
#include "trainer/base/json.h"

enum { POISON = 7, VOCAB = 300, WIDTH = 64 };

/* tiny-llama with NaN as the embedding of one token: whatever holds that token is not finite. */
static void poison(char *bytes, size_t n)
{
    uint64_t header = 0;
    struct json *j;
    int64_t begin = -1;
    memcpy(&header, bytes, 8);
    if (n < 8 + header || json_parse(bytes + 8, header, "header", ERR_MODEL, &j, NULL) != 0)
        return;
    const struct json *t = json_get(j, "model.embed_tokens.weight");
    if (json_i64(json_at(json_get(t, "data_offsets"), 0), &begin)) {
        CHECK_STR(json_text(json_get(t, "dtype"), NULL), "F32");
        float nan = NAN;
        memcpy(bytes + 8 + header + begin + (size_t)POISON * WIDTH * sizeof nan, &nan, sizeof nan);
        printf("poisoned\n");
    }
    json_free(j);
}

static void make_poisoned_base(void)
{
    static const char *const names[] = {"config.json",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00004.safetensors",
                                        "model-00002-of-00004.safetensors",
                                        "model-00003-of-00004.safetensors",
                                        "model-00004-of-00004.safetensors"};
    CHECK(mkdir("poisoned", 0777) == 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[700], to[128];
        size_t n;
        snprintf(from, sizeof from, "%s/tiny-llama/%s", e2e_golden, names[i]);
        snprintf(to, sizeof to, "poisoned/%s", names[i]);
        char *bytes = e2e_read(from, &n);
        FILE *f = fopen(to, "w");
        if (bytes == NULL || f == NULL) {
            CHECK(bytes != NULL && f != NULL);
            return;
        }
        if (i > 1)
            poison(bytes, n);
        CHECK(fwrite(bytes, 1, n, f) == n);
        fclose(f);
        free(bytes);
    }
}

/* Rows in the order of the file, two a step; steps from `first` to `last` (0-based) hold the poisoned token. */
static void make_poisoned_data(const char *path, int steps, int first, int last)
{
    struct buf b = {0};
    for (int row = 0; row < 2 * steps; row++) {
        bool bad = row / 2 >= first && row / 2 <= last && row % 2 == 1;
        buf_puts(&b, "{\"tokens\": [");
        for (int i = 0; i < 12; i++)
            buf_printf(&b, "%s%d", i > 0 ? ", " : "", bad && i == 5 ? POISON : 10 + (row * 31 + i * 17) % 280);
        buf_puts(&b, "]}\n");
    }
    e2e_write("p.jsonl", b.data);
    buf_free(&b);
    E2E_RUN(0, "data build --input p.jsonl -o %s --vocab %d", path, VOCAB);
}

static bool same_file(const char *run, int a, int b, const char *name)
{
    char x[256], y[256];
    snprintf(x, sizeof x, "runs/%s/checkpoints/step-%08d/%s", run, a, name);
    snprintf(y, sizeof y, "runs/%s/checkpoints/step-%08d/%s", run, b, name);
    return e2e_same(x, y);
}

static void test_not_finite(void)
{
    static const char set[] = "--set model.path=poisoned --set data.packing=false --set data.shuffle=false --set train.batch=2 "
                              "--set train.micro_batch=1 "
                              "--set train.max_steps=8 --set checkpoint.keep=20";
    make_poisoned_base();
    make_poisoned_data("one.h5", 8, 3, 4);
    E2E_RUN(0, "train job.yaml --set name=skips --set data.train=one.h5 %s", set);
    CHECK_HAS(e2e_out, "step 4: loss or gradient is not finite");
    CHECK_HAS(e2e_out, "step 5: loss or gradient is not finite");
    CHECK(strstr(e2e_out, "step 6: loss") == NULL);
    CHECK_NEAR(e2e_summary("skips", "skipped"), 2, 0);
    CHECK(!e2e_exists("runs/skips/checkpoints/step-00000004") && !e2e_exists("runs/skips/checkpoints/step-00000005"));
    CHECK(!same_file("skips", 3, 6, "adapter_model.safetensors") && !same_file("skips", 2, 3, "optimizer.safetensors"));
    /* Resumed among them: the same. */
    E2E_RUN(75, "train job.yaml --set name=again --set data.train=one.h5 %s --stop-after 4", set);
    CHECK(e2e_same("runs/skips/checkpoints/step-00000003/adapter_model.safetensors",
                   "runs/again/checkpoints/step-00000004/adapter_model.safetensors"));
    CHECK(e2e_same("runs/skips/checkpoints/step-00000003/optimizer.safetensors",
                   "runs/again/checkpoints/step-00000004/optimizer.safetensors"));
    E2E_RUN(0, "train job.yaml --set name=again --set data.train=one.h5 %s --resume", set);
    CHECK(e2e_same_state("skips", "again", 8));

    make_poisoned_data("all.h5", 8, 3, 7);
    E2E_RUN(ERR_DIVERGED, "train job.yaml --set name=gives-up --set data.train=all.h5 --set train.max_skipped=3 %s", set);
    CHECK_HAS(e2e_out, "3 steps in a row were not finite");
    bool rejected;
    int64_t last = e2e_found("gives-up", &rejected);
    CHECK(last >= 3 && last < 6 && !rejected);
    CHECK(same_file("gives-up", 3, (int)last, "adapter_model.safetensors") &&
          same_file("gives-up", 3, (int)last, "optimizer.safetensors"));
    CHECK(!e2e_exists("runs/gives-up/adapter"));
    char named[64];
    snprintf(named, sizeof named, "The last checkpoint is runs/gives-up/checkpoints/step-%08lld", (long long)last);
    CHECK_HAS(e2e_out, named);
}

static void test_overfit(void)
{
    e2e_dataset("few.h5", 4, 300, 3);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "fit-bf16" : "fit-f32", *precision = i ? "bf16" : "f32";
        E2E_RUN(0,
                "train job.yaml --quiet --set name=%s --set compute.precision=%s --set data.train=few.h5 --set lora.rank=16 "
                "--set lora.dropout=0 "
                "--set train.max_steps=150 --set train.learning_rate=1e-2 --set checkpoint.every=1000",
                name, precision);
        double loss = e2e_summary(name, "loss");
        printf("%s: loss of one batch after 150 steps: %.4g\n", name, loss);
        CHECK(loss < 0.05);
    }
}

struct look {
    int step, descriptors;
    long rss_kb;
};

static bool take_look(pid_t child, const char *log, struct look *l)
{
    char path[64], *text = e2e_read(log, NULL);
    *l = (struct look){0};
    for (const char *p = text; p != NULL && (p = strstr(p, "\"norm\"")) != NULL; p++)
        l->step++;
    free(text);
    snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return false;
    for (char line[256]; fgets(line, sizeof line, f) != NULL;)
        sscanf(line, "VmRSS: %ld", &l->rss_kb);
    fclose(f);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)child);
    DIR *d = opendir(path);
    if (d == NULL)
        return false;
    while (readdir(d) != NULL)
        l->descriptors++;
    closedir(d);
    return l->rss_kb > 0;
}

static void test_flat(void)
{
    enum { WARM = 120, STEPS = 500 };
    struct look l, early = {0}, late = {0};
    int status, looks = 0;
    e2e_job("flat.yaml", "flat", "tiny-llama3");
    e2e_dataset("d.h5", 600, 96, 4);
    pid_t child = e2e_start(&(struct e2e_how){0},
                            "train flat.yaml --quiet --set train.max_steps=%d --set train.batch=4 --set train.micro_batch=2 "
                            "--set checkpoint.every=10 --set eval.every=20",
                            STEPS);
    while (waitpid(child, &status, WNOHANG) == 0) {
        e2e_sleep(0.003);
        if (!take_look(child, "runs/flat/metrics.jsonl", &l) || l.step < 10 || l.step >= STEPS)
            continue;
        struct look *part = l.step < WARM ? &early : &late;
        part->rss_kb = l.rss_kb > part->rss_kb ? l.rss_kb : part->rss_kb;
        part->descriptors = l.descriptors > part->descriptors ? l.descriptors : part->descriptors;
        looks++;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    printf("steps 10 to %d: %ld kB, %d descriptors at most; later: %ld kB, %d (%d looks)\n", WARM, early.rss_kb,
           early.descriptors, late.rss_kb, late.descriptors, looks);
    CHECK(early.rss_kb > 0 && late.rss_kb > 0);
#ifndef __SANITIZE_ADDRESS__ /* it keeps what was freed for a while */
    if (getenv("LORAT_TEST_DEVICE") == NULL) /* so does a simulated card */
        CHECK(late.rss_kb - early.rss_kb < 1024);
#endif
    CHECK(late.descriptors <= early.descriptors + 4); /* a save that was looked at in its middle has up to four open */
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama");
    test_not_finite();
    test_overfit();
    test_flat();
    return e2e_end();
}
