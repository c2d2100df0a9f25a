/* The trainable block and the counters: saved and loaded back bit for bit, padding zero; other shapes are refused by name. */
#include "trainer/state.h"

#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/mem.h"

enum { R = 3, PADDED = 16, D = 5, COUNT = 4 * PADDED * D };

static struct lora_module modules[] = {{.kind = LORA_Q, .in = D, .out = D, .a = 0, .b = PADDED * D},
                                       {.kind = LORA_V, .in = D, .out = D, .slot = 1, .a = 2 * PADDED * D, .b = 3 * PADDED * D}};
static struct lora lora = {.rank = R, .padded = PADDED, .scale = 2, .n_modules = 2, .modules = modules, .count = COUNT};

static bool is_padding(int i)
{
    int matrix = i / (PADDED * D), at = i % (PADDED * D);
    return matrix % 2 == 0 ? at / D >= R : at % PADDED >= R; /* A: rows behind r; B: columns behind r */
}

int main(void)
{
    struct err e = {0};
    static struct config c;
    static float saved[3][COUNT], loaded[3][COUNT];
    const char *yaml = "name: t\nmodel: {path: m}\ndata: {train: d}\nlora: {rank: 3, alpha: 6, targets: [q_proj, v_proj]}\n";
    CHECK_OK(config_parse(yaml, strlen(yaml), "job", &c, &e), &e);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < COUNT; i++) {
            saved[k][i] = is_padding(i) ? 0 : (float)(i + 1) / 3 * (k == 1 ? -1 : 1) * (i % 7 == 0 ? 1e-39f : 1);
            loaded[k][i] = 99;
        }
    struct run_block block = {saved[0], saved[1], saved[2]}, back = {loaded[0], loaded[1], loaded[2]};
    struct run_state s = {.step = 7,
                          .updates = 6,
                          .skipped = 1,
                          .skipped_in_row = 1,
                          .tokens = 1LL << 40,
                          .targets = 12345,
                          .best_loss = 1.0 / 3,
                          .best_step = 5,
                          .evaluated = 5,
                          .dataset = "ab",
                          .base = "cd",
                          .tokenizer = "unknown"};
    struct run_state t;
    memset(&t, 0, sizeof t);
    char *folder = runs_folder(), dir[1200], *job = NULL;
    CHECK_OK(state_save(folder, &lora, &c, &block, &s, &e), &e);
    snprintf(dir, sizeof dir, "%s/checkpoints/step-00000007", folder);
    CHECK_OK(run_verify(dir, &e), &e);
    CHECK_OK(state_load(dir, &lora, &back, &t, &job, &e), &e);
    CHECK(memcmp(saved, loaded, sizeof saved) == 0);
    CHECK_INT(t.step, 7);
    CHECK_INT(t.updates, 6);
    CHECK_INT(t.skipped, 1);
    CHECK_INT(t.skipped_in_row, 1);
    CHECK_INT(t.tokens, 1LL << 40);
    CHECK_INT(t.targets, 12345);
    CHECK_NEAR(t.best_loss, s.best_loss, 0);
    CHECK_INT(t.best_step, 5);
    CHECK_INT(t.evaluated, 5);
    CHECK_STR(t.dataset, "ab");
    CHECK_STR(t.base, "cd");
    CHECK_STR(t.tokenizer, "unknown");
    CHECK_HAS(job, "rank: 3");
    mem_free(job);

    /* another rank, a module too many, a module too few */
    lora.rank = 4;
    CHECK(state_load(dir, &lora, &back, &t, NULL, &e) != 0);
    CHECK_HAS(e.text, "q_proj.lora_A.weight");
    lora.rank = R;
    modules[1].kind = LORA_K;
    CHECK(state_load(dir, &lora, &back, &t, NULL, &e) != 0);
    CHECK_HAS(e.text, "k_proj.lora_A.weight");
    lora.n_modules = 1;
    CHECK(state_load(dir, &lora, &back, &t, NULL, &e) != 0);
    CHECK_HAS(e.text, "4 tensors, expected 2");
    runs_remove(folder);
    return check_done();
}
