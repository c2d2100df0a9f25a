/* lorat compare on real runs: equal ones, one that learned otherwise, one that cannot be compared, and everything that is no run.
 */
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/e2e/e2e.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"

static struct json *compare_json_of(const char *runs)
{
    struct json *j = NULL;
    struct err e = {0};
    E2E_RUN(0, "compare %s --json", runs);
    CHECK_OK(json_parse(e2e_out, strlen(e2e_out), "compare --json", ERR_STATE, &j, &e), &e);
    return j;
}

static void train(const char *name, const char *more)
{
    E2E_RUN(0, "train job.yaml --quiet --set name=%s --set train.max_steps=24 --set checkpoint.every=6 --set eval.every=6 %s",
            name, more);
}

static void test_same(void)
{
    struct json *j = compare_json_of("runs/a runs/b");
    const struct json *pair = json_at(json_get(j, "pairs"), 0), *differ = json_get(j, "job_differences");
    bool same = false;
    int64_t common = 0, equal = 0, steps = 0;
    CHECK(json_bool(json_get(pair, "same_bits"), &same) && same);
    CHECK(json_i64(json_get(json_get(pair, "train_loss"), "common"), &common) &&
          json_i64(json_get(json_get(pair, "train_loss"), "equal"), &equal));
    CHECK_INT(common, 24);
    CHECK_INT(equal, 24);
    CHECK(json_i64(json_get(pair, "common_checkpoints"), &steps) && steps >= 2);
    CHECK_INT(json_length(differ), 1);
    CHECK_STR(json_text(json_get(json_at(differ, 0), "key"), NULL), "compute.recompute");
    json_free(j);
    E2E_RUN(0, "compare runs/a runs/b");
    CHECK_HAS(e2e_out, "Same bits: the final adapter, and adapter, moments and counters at ");
    CHECK_HAS(e2e_out, "Training: no difference in loss at all 24 common steps");
    CHECK_HAS(e2e_out, "  compute.recompute         none");
    CHECK_HAS(e2e_out, "none: one rank");
}

/* What the run recorded: the parts of every step make the step, and nothing was summed over ranks. */
static void test_recorded(void)
{
    struct json *j = compare_json_of("runs/a runs/b");
    const struct json *a = json_at(json_get(j, "runs"), 0);
    double step = NAN, compute = NAN, comm = NAN, wait = NAN, optim = NAN, save = NAN, ranks = NAN, plan = NAN;
    CHECK(json_f64(json_get(a, "step_s"), &step) && json_f64(json_get(a, "compute_s"), &compute));
    CHECK(json_f64(json_get(a, "comm_s"), &comm) && json_f64(json_get(a, "wait_s"), &wait));
    CHECK(json_f64(json_get(a, "optim_s"), &optim) && json_f64(json_get(a, "save_s"), &save));
    CHECK(json_f64(json_get(a, "ranks"), &ranks) && json_f64(json_get(a, "plan_bytes"), &plan));
    CHECK_NEAR(compute + comm + wait + optim, step, 5e-6);
    CHECK(compute > 0 && optim > 0 && save > 0 && ranks == 1 && plan > 0);
    CHECK_NEAR(comm, 0, 0);
    CHECK_HAS(e2e_out, "\"interconnect\": \"\"");
    json_free(j);
}

static void test_other(void)
{
    struct json *j = compare_json_of("runs/a runs/c");
    const struct json *pair = json_at(json_get(j, "pairs"), 0);
    bool same = true;
    double distance = 0;
    CHECK(json_bool(json_get(pair, "same_bits"), &same) && !same);
    CHECK(json_f64(json_get(json_get(pair, "eval_loss"), "distance"), &distance) && distance > 0);
    json_free(j);
    E2E_RUN(0, "compare runs/a runs/c");
    CHECK_HAS(e2e_out, "Other bits: ");
    CHECK_HAS(e2e_out, "train.learning_rate");
    CHECK_HAS(e2e_out, "One run each");
    E2E_RUN(0, "compare runs/a runs/d");
    CHECK_HAS(e2e_out, "no winner is named. rows of 32 and of 24 tokens (data.sequence_length)");
}

static void test_page(void)
{
    char command[1400];
    E2E_RUN(0, "compare runs/a runs/b runs/c --html page.html --kwh 0.3 --currency EUR");
    const char *wrote = strstr(e2e_out, "\nwrote page.html");
    CHECK(wrote != NULL && strcmp(wrote, "\nwrote page.html\n") == 0); /* behind the table, not within */
    if (system("python3 -c '' 2>.said") != 0) {
        printf("the page is not parsed: there is no python3\n");
        return;
    }
    snprintf(command, sizeof command, "python3 %s/tests/compare/check_page.py page.html", e2e_root);
    CHECK_INT(system(command), 0);
    /* The check itself can fail. */
    size_t n;
    char *page = e2e_read("page.html", &n);
    char *at = strstr(page, "</figure>");
    memcpy(at, "</figurf>", 9);
    e2e_write("broken.html", page);
    snprintf(command, sizeof command, "python3 %s/tests/compare/check_page.py broken.html >.said", e2e_root);
    CHECK(system(command) != 0);
    free(page);
}

/* The newest line is cut, one is noise: counted, said, and the rest is compared. A run that is held is compared as it stands. */
static void test_damaged(void)
{
    struct err e = {0};
    struct run_lock *lock = NULL;
    size_t n;
    char *was = e2e_read("runs/b/metrics.jsonl", &n);
    FILE *f = fopen("runs/b/metrics.jsonl", "a");
    CHECK(f != NULL && fputs("\x01\x02noise\n{\"step\": 25, \"lo", f) >= 0 && fclose(f) == 0);
    E2E_RUN(0, "compare runs/a runs/b");
    CHECK_HAS(e2e_out, "b: 2 lines of metrics.jsonl cannot be read and were left out.");
    CHECK_HAS(e2e_out, "Training: no difference in loss at all 24 common steps");
    CHECK_OK(run_lock_take("runs/b", &lock, &e), &e);
    E2E_RUN(0, "compare runs/a runs/b");
    CHECK_HAS(e2e_out, "b: still running");
    CHECK_HAS(e2e_out, "b: 1 line of metrics.jsonl cannot be read and was left out.");
    run_lock_drop(lock);
    e2e_write("runs/b/metrics.jsonl", was);
    free(was);
    f = fopen("runs/b/adapter/adapter_model.safetensors", "r+");
    CHECK(f != NULL && fseek(f, -1, SEEK_END) == 0 && fputc('?', f) != EOF && fclose(f) == 0);
    E2E_RUN(0, "compare runs/a runs/b");
    CHECK_HAS(e2e_out, "Other bits: the final adapters differ, although every common checkpoint is equal.");
}

static void test_refused(void)
{
    E2E_RUN(2, "compare");
    E2E_RUN(2, "compare runs/a");
    E2E_RUN(2, "compare runs/a runs/a runs/a runs/a runs/a runs/a runs/a runs/a runs/a");
    E2E_RUN(2, "compare runs/a runs/c --kwh -1");
    E2E_RUN(2, "compare runs/a runs/c --kwh nan");
    E2E_RUN(2, "compare runs/a runs/c --currency EUR");
    E2E_RUN(2, "compare runs/a runs/c --kwh 1 --currency 'two words'");
    E2E_RUN(9, "compare runs/a runs/none");
    CHECK_HAS(e2e_out, "lorat: error: runs/none: is not there, expected a run's folder");
    E2E_RUN(6, "compare runs/a d.h5");
    E2E_RUN(6, "compare runs/a runs/a/adapter");
    CHECK_HAS(e2e_out, "is no run");
    E2E_RUN(9, "compare runs/a runs/c --html no/such/folder.html");
    E2E_RUN(75, "train job.yaml --quiet --set name=early --set train.max_steps=24 --stop-after 1");
    e2e_remove("runs/early/metrics.jsonl");
    E2E_RUN(6, "compare runs/a runs/early");
    CHECK_HAS(e2e_out, "runs/early: no step was recorded, expected at least one step");
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama");
    train("a", "--set compute.recompute=none");
    train("b", "--set compute.recompute=full");
    train("c", "--set compute.recompute=none --set train.learning_rate=3e-3");
    train("d", "--set compute.recompute=none --set data.sequence_length=24");
    test_same();
    test_recorded();
    test_other();
    test_page();
    test_damaged();
    test_refused();
    return e2e_end();
}
