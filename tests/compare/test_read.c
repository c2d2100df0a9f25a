/* Folders that are damaged, old, half or no run: what is read, what is said, what is refused. */
#include <unistd.h>

#include "tests/compare/compare_test.h"
#include "trainer/base/io.h"

static char dir[] = "/tmp/lorat-compare-XXXXXX";

static void parse(struct compare_run *r, const char *text, bool whole)
{
    struct err e = {0};
    *r = (struct compare_run){0};
    CHECK_OK(compare_read_metrics(text, strlen(text), whole, r, &e), &e);
}

static void test_lines(void)
{
    struct compare_run r;
    parse(&r, "", true);
    CHECK_INT(r.n_steps, 0);
    parse(&r,
          "{\"step\": 0, \"eval_loss\": 3}\n"
          "{\"step\": 1, \"loss\": 2.5, \"tokens\": 100, \"tok_s\": 50}\n"
          "not json\n"
          "\n"
          "[1]\n"
          "{\"step\": -1, \"loss\": 2}\n"
          "{\"step\": 1.5, \"loss\": 2}\n"
          "{\"step\": 0, \"loss\": 2}\n"
          "{\"step\": 2}\n"
          "{\"loss\": 2}\n"
          "{\"step\": 2, \"loss\": null, \"tokens\": 250, \"tok_s\": 50, \"skipped\": true}\n"
          "{\"step\": 3, \"loss\": \"x\", \"tokens\": 200, \"tok_s\": -7, \"seconds\": 1e999}\n",
          true);
    CHECK_INT(r.n_steps, 2);
    CHECK_INT(r.n_evals, 1);
    CHECK_INT(r.n_damaged, 8 + 1); /* 1e999 is no JSON number */
    compare_run_free(&r);
}

static void test_numbers(void)
{
    struct compare_run r;
    parse(&r,
          "{\"step\": 1, \"loss\": 2.5, \"tokens\": 100, \"tok_s\": 50}\n"
          "{\"step\": 2, \"loss\": null, \"tokens\": 250, \"tok_s\": 50}\n"
          "{\"step\": 3, \"loss\": \"x\", \"tokens\": 200, \"tok_s\": -7}\n"
          "{\"step\": 5, \"loss\": 1, \"tokens\": 300, \"tok_s\": 40}\n",
          true);
    CHECK_INT(r.n_steps, 4);
    CHECK_NEAR(r.steps[0].tokens, 100, 0);
    CHECK_NEAR(r.steps[0].seconds, 2, 0);
    CHECK_NEAR(r.steps[1].tokens, 150, 0);
    CHECK(isnan(r.steps[1].loss) && isnan(r.steps[2].loss) && isnan(r.steps[2].tok_s) && isnan(r.steps[2].tokens));
    CHECK(isnan(r.steps[3].tokens)); /* step 4 is missing */
    CHECK_NEAR(r.steps[3].tok_s, 40, 0);
    compare_run_free(&r);
}

/* Killed behind step 3, resumed at 1: its lines replace the old ones, also the evaluation of a step that is not there any more.
 */
static void test_resumed(void)
{
    struct compare_run r;
    parse(&r,
          "{\"step\": 1, \"loss\": 3, \"tokens\": 10}\n{\"step\": 2, \"loss\": 9, \"tokens\": 20}\n{\"step\": 2, \"eval_loss\": "
          "9}\n"
          "{\"step\": 3, \"loss\": 9, \"tokens\": 30}\n{\"step\": 2, \"loss\": 2, \"tokens\": 21}\n{\"step\": 2, \"eval_loss\": "
          "1}\n",
          true);
    CHECK_INT(r.n_steps, 2);
    CHECK_INT(r.n_evals, 1);
    CHECK_INT(r.n_rewritten, 3);
    CHECK_NEAR(r.steps[1].loss, 2, 0);
    CHECK_NEAR(r.evals[0].loss, 1, 0);
    compare_run_free(&r);
    parse(&r, "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"lo", false); /* a running process is in the middle of its line */
    CHECK_INT(r.n_steps, 1);
    CHECK_INT(r.n_damaged, 0);
    compare_run_free(&r);
    parse(&r, "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"lo", true);
    CHECK_INT(r.n_damaged, 1);
    compare_run_free(&r);
}

/* Cut at every byte, and every byte another: no crash, and never more steps than lines. */
static void test_mutations(void)
{
    struct buf b = {0};
    struct err e;
    struct compare_run r;
    lines_add(&b, 1, 4, 0.5, 3, false);
    for (size_t n = 0; n <= b.n; n++) {
        r = (struct compare_run){0};
        CHECK(compare_read_metrics(b.data, n, true, &r, &e) == 0 && r.n_steps <= 4);
        compare_run_free(&r);
    }
    for (size_t i = 0; i < b.n; i++) {
        char was = b.data[i];
        b.data[i] = (char)(was ^ (1 << i % 8));
        r = (struct compare_run){0};
        CHECK(compare_read_metrics(b.data, b.n, true, &r, &e) == 0 && r.n_steps <= 5);
        compare_run_free(&r);
        b.data[i] = was;
    }
    buf_free(&b);
}

static void write_file(const char *name, const char *text)
{
    struct err e = {0};
    CHECK_OK(io_write_file_atomic(name, text, strlen(text), &e), &e);
}

static void fails(const char *path, enum err_code code, const char *says)
{
    struct compare_run r;
    struct err e = {0};
    CHECK(compare_read(path, &r, &e) != 0);
    CHECK_INT(e.code, code);
    CHECK_HAS(e.text, says);
    compare_run_free(&r);
}

static void test_folders(void)
{
    struct err e = {0};
    struct compare_run r;
    char very_long[3000];
    CHECK_OK(io_mkdirs("empty", &e), &e);
    CHECK_OK(io_mkdirs("half/checkpoints/step-00000002", &e), &e);
    CHECK_OK(io_mkdirs("half/checkpoints/step-2", &e), &e);
    CHECK_OK(io_mkdirs("half/checkpoints/.tmp-step-00000003-1", &e), &e);
    CHECK_OK(io_mkdirs("odd/metrics.jsonl", &e), &e);
    write_file("file", "x");
    memset(very_long, 'x', sizeof very_long - 1);
    very_long[sizeof very_long - 1] = '\0';
    fails("missing", ERR_IO, "missing: is not there");
    fails("file", ERR_STATE, "file: is no run");
    fails("empty", ERR_STATE, "empty: is no run");
    fails("half", ERR_STATE, "half: no step was recorded");
    fails("odd", ERR_STATE, "metrics.jsonl");
    fails(very_long, ERR_USAGE, "a path of");
    write_file("half/metrics.jsonl", "garbage\nmore\n");
    fails("half", ERR_STATE, "no line of its log can be read");
    write_file("half/metrics.jsonl", "garbage\n{\"step\": 1, \"loss\": 2}\n");
    write_file("half/summary.json", "{\"state\": 5, \"devices\": \"x\", \"peak_bytes\": -1, \"steps\": \"many\"}");
    write_file("half/job.yaml", "name: \"\x1b[2J\"\nname: 1\n");
    CHECK_OK(compare_read("half///", &r, &e), &e);
    CHECK_STR(r.label, "half");
    CHECK_INT(r.n_damaged, 1);
    CHECK(r.job == NULL && r.job_error[0] != '\0' && strchr(r.job_error, '\x1b') == NULL);
    CHECK(r.summed && isnan(r.peak_bytes) && r.planned_steps == -1 && r.devices[0] == '\0');
    CHECK_INT(r.n_checkpoints, 1);
    compare_run_free(&r);
}

/* Two such folders still make a comparison; any allocation of it may fail. */
static void test_whole(void)
{
    static struct compare c;
    const char *dirs[] = {"half", "half"};
    struct err e = {0};
    struct buf b = {0};
    CHECK_OK(compare_open(dirs, 2, &c, &e), &e);
    CHECK_STR(c.run[0].label, "half (1)");
    CHECK_STR(c.run[1].label, "half (2)");
    CHECK_OK(compare_text(&c, &b, &e), &e);
    CHECK_HAS(b.data, "half (1): 1 line of metrics.jsonl cannot be read and was left out.");
    CHECK_HAS(b.data, "no winner is named");
    buf_clear(&b);
    CHECK_OK(compare_html(&c, &b, &e), &e);
    CHECK_HAS(b.data, "Not recorded.");
    buf_free(&b);
    compare_free(&c);
    int failed = 0;
    for (int64_t n = 1; n < 60; n++) {
        e = (struct err){0};
        mem_fail_at(n);
        int rc = compare_open(dirs, 2, &c, &e);
        mem_fail_at(0);
        CHECK(rc == 0 || e.text[0] != '\0');
        failed += rc != 0;
        compare_free(&c);
    }
    CHECK(failed > 0);
}

int main(void)
{
    struct err e = {0};
    if (mkdtemp(dir) == NULL || chdir(dir) != 0)
        CHECK_SKIP("no folder for temporary files");
    test_lines();
    test_numbers();
    test_resumed();
    test_mutations();
    test_folders();
    test_whole();
    CHECK(chdir("/") == 0);
    CHECK_OK(io_remove_tree(dir, &e), &e);
    return check_done();
}
