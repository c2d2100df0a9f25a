/* K4, K7 at the program: a newest checkpoint with a flipped bit, a cut file or a zeroed tail is named, the one before is used,
 * and the run ends in the same bytes; when none verifies the run is not silently begun anew. The best checkpoint is kept beside
 * the newest; a run that is done and resumed stays what it was. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

static void flip(const char *path)
{
    FILE *f = fopen(path, "r+");
    CHECK(f != NULL && fseek(f, -40, SEEK_END) == 0);
    if (f == NULL)
        return;
    int byte = fgetc(f);
    CHECK(fseek(f, -40, SEEK_END) == 0 && fputc(byte ^ 4, f) != EOF);
    fclose(f);
}

static void zero_tail(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0 && truncate(path, st.st_size / 2) == 0 && truncate(path, st.st_size) == 0);
}

static void cut(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0 && truncate(path, st.st_size - 1) == 0);
}

static void test_damaged(void)
{
    static const char *const files[] = {"adapter_model.safetensors", "optimizer.safetensors", "state.json", "manifest.json",
                                        "job.yaml"};
    static void (*const ways[])(const char *) = {flip, zero_tail, cut};
    bool rejected;
    E2E_RUN(0, "train job.yaml --quiet --set name=ref");
    for (int i = 0; i < 5; i++) {
        char path[256];
        e2e_remove("runs/t");
        E2E_RUN(75, "train job.yaml --quiet --stop-after 4");
        snprintf(path, sizeof path, "runs/t/checkpoints/step-00000004/%s", files[i]);
        ways[i % 3](path);
        CHECK_INT(e2e_found("t", &rejected), 3);
        CHECK(rejected);
        E2E_RUN(0, "train job.yaml --resume");
        CHECK_HAS(e2e_out, "lorat: warning: runs/t: refused, the newest good one is used");
        CHECK_HAS(e2e_out, "step-00000004: ");
        CHECK_HAS(e2e_out, files[i]);
        CHECK_HAS(e2e_out, "resuming runs/t at step 3 of 6");
        CHECK(e2e_same_state("ref", "t", 6));
        CHECK_INT(e2e_count_temporaries("runs/t"), 0);
    }
}

static void test_all_damaged(void)
{
    e2e_remove("runs/t");
    E2E_RUN(75, "train job.yaml --quiet --stop-after 2");
    flip("runs/t/checkpoints/step-00000001/state.json");
    flip("runs/t/checkpoints/step-00000002/state.json");
    E2E_RUN(ERR_STATE, "train job.yaml --resume");
    CHECK_HAS(e2e_out, "none of its checkpoints verifies");
    CHECK_HAS(e2e_out, "step-00000002: ");
    CHECK(e2e_exists("runs/t/checkpoints/step-00000001/state.json"));
    E2E_RUN(ERR_STATE, "export runs/t -o out");
    E2E_RUN(0, "train job.yaml --fresh");
    CHECK(e2e_same_state("ref", "t", 6));
    CHECK(e2e_exists("runs/t.old-1/checkpoints/step-00000002/state.json"));
}

static void test_kept(void)
{
    char *state, *at;
    E2E_RUN(0,
            "train job.yaml --quiet --set name=best --set checkpoint.keep=1 --set checkpoint.keep_best=true --set eval.every=1 "
            "--set train.learning_rate=0.2 --set train.max_steps=12");
    state = e2e_read("runs/best/checkpoints/step-00000012/state.json", NULL);
    at = state != NULL ? strstr(state, "\"best_step\": ") : NULL;
    long best = at != NULL ? atol(at + strlen("\"best_step\": ")) : -1;
    CHECK(best >= 0);
    for (long k = 1; k <= 12; k++) {
        char path[128];
        snprintf(path, sizeof path, "runs/best/checkpoints/step-%08ld", k);
        CHECK_INT(e2e_exists(path), k == best || k == 12);
    }
    free(state);
    E2E_RUN(0, "train job.yaml --quiet --set name=done");
    E2E_RUN(0, "train job.yaml --quiet --set name=done --resume");
    CHECK(e2e_same_state("ref", "done", 6));
    CHECK(e2e_same("runs/ref/adapter/adapter_model.safetensors", "runs/done/adapter/adapter_model.safetensors"));
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    test_damaged();
    test_all_damaged();
    test_kept();
    return e2e_end();
}
