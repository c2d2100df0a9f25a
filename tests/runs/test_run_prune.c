/* What stays and what goes: counts, the newest verified one, also_keep, names that are not ours, links. */
#include <limits.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"

static bool has(const char *run, int step) { return io_exists(runs_path("%s/checkpoints/step-%08d", run, step)); }

static void fill(const char *run, int first, int last)
{
    struct err e = {0};
    for (int i = first; i <= last; i++)
        CHECK_OK(runs_save(run, i, i, &e), &e);
}

static void spoil(const char *run, int step) { runs_write(runs_path("%s/checkpoints/step-%08d/state.json", run, step), "x", 1); }

static void test_counts(const char *run)
{
    static const int keeps[] = {3, 2, 2, 1, 0, -1, INT_MIN};
    struct err e = {0};
    CHECK_OK(run_prune(run, 3, -1, &e), &e); /* no run */
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        fill(run, 1, 5);
        int keep = keeps[i] < 1 ? 1 : keeps[i];
        CHECK_OK(run_prune(run, keeps[i], -1, &e), &e);
        CHECK_INT(runs_count_steps(run), keep);
        for (int step = 1; step <= 5; step++)
            CHECK_INT(has(run, step), step > 5 - keep);
    }
    fill(run, 1, 5);
    CHECK_OK(run_prune(run, INT_MAX, -1, &e), &e);
    CHECK_INT(runs_count_steps(run), 5);
    CHECK_OK(run_prune(run, 2, 2, &e), &e);
    CHECK_INT(runs_count_steps(run), 3);
    CHECK(has(run, 2) && has(run, 4) && has(run, 5));
    CHECK_OK(run_prune(run, 2, 5, &e), &e); /* kept anyway */
    CHECK_INT(runs_count_steps(run), 2);
}

static void test_damaged(const char *run)
{
    struct err e = {0};
    int salt;
    fill(run, 1, 6);
    spoil(run, 6);
    spoil(run, 5);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK(has(run, 4)); /* the newest verified one */
    CHECK(has(run, 5) && has(run, 6));
    CHECK(!has(run, 3));
    CHECK_INT(runs_load(run, &salt, NULL), 4);
    /* Written again, the damaged ones are gone, and they count as usual. */
    fill(run, 5, 7);
    spoil(run, 6);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(runs_count_steps(run), 1);
    CHECK(has(run, 7));
}

static void test_foreign(const char *run)
{
    static const char *const folders[] = {
        "step-00000001-notes", "step-1",     "step-000000001", "best",         ".tmp-mine",
        ".tmp-step-00000001",  "checkpoint", ".tmp-step-1-5",  "step-00000009" /* without manifest */};
    static const char *const temporaries[] = {".tmp-step-00000001-5", ".tmp-drop-00000002-99999"};
    struct err e = {0};
    char path[1200];
    fill(run, 11, 14);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        CHECK_OK(io_mkdirs(runs_path("%s/checkpoints/%s", run, folders[i]), &e), &e);
        runs_write(runs_path("%s/checkpoints/%s/note.txt", run, folders[i]), "mine", 4);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(io_mkdirs(runs_path("%s/checkpoints/%s", run, temporaries[i]), &e), &e);
        runs_write(runs_path("%s/checkpoints/%s/weights.bin", run, temporaries[i]), "half", 4);
    }
    runs_write(runs_path("%s/checkpoints/step-00000003", run), "a file", 6);
    runs_write(runs_path("%s/checkpoints/.tmp-step-00000004-5", run), "a file", 6);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/%s/note.txt", run, folders[i]);
        if (!io_exists(path)) {
            fprintf(stderr, "removed: %s\n", path);
            check_failures++;
        }
    }
    for (size_t i = 0; i < 2; i++)
        CHECK(!io_exists(runs_path("%s/checkpoints/%s", run, temporaries[i])));
    CHECK(io_exists(runs_path("%s/checkpoints/step-00000003", run)));
    CHECK(io_exists(runs_path("%s/checkpoints/.tmp-step-00000004-5", run)));
    CHECK(has(run, 14) && !has(run, 13) && !has(run, 12) && !has(run, 11));
}

static void test_links(const char *run)
{
    struct err e = {0};
    char other[1100], text[1200];
    snprintf(other, sizeof other, "%s-other", run);
    fill(run, 11, 13);
    fill(other, 1, 3);
    /* whole checkpoints of another run, a temporary, and a file inside a checkpoint that goes */
    snprintf(text, sizeof text, "%s/checkpoints/step-00000001", other);
    CHECK(symlink(text, runs_path("%s/checkpoints/step-00000001", run)) == 0);
    CHECK(symlink(text, runs_path("%s/checkpoints/.tmp-step-00000001-5", run)) == 0);
    CHECK(symlink(text, runs_path("%s/checkpoints/step-00000011/inside", run)) == 0);
    snprintf(text, sizeof text, "%s/checkpoints/step-00000002/weights.bin", other);
    CHECK(symlink(text, runs_path("%s/checkpoints/step-00000012/inside", run)) == 0);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK(!has(run, 11) && !has(run, 12) && has(run, 13));
    for (int i = 1; i <= 3; i++)
        CHECK_OK(run_verify(runs_path("%s/checkpoints/step-%08d", other, i), &e), &e);
    struct stat st;
    CHECK(lstat(runs_path("%s/checkpoints/step-00000001", run), &st) == 0);

    /* the folder of checkpoints is itself a link */
    char linked[1100];
    snprintf(linked, sizeof linked, "%s-linked", run);
    CHECK_OK(io_mkdirs(linked, &e), &e);
    snprintf(text, sizeof text, "%s/checkpoints", other);
    CHECK(symlink(text, runs_path("%s/checkpoints", linked)) == 0);
    CHECK(run_prune(linked, 1, -1, &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_INT(runs_count_steps(other), 3);
    int salt;
    CHECK_INT(runs_load(linked, &salt, NULL), 3); /* reading through it is fine */
}

/* Leftovers of replacements that were cut off. */
static void test_displaced(const char *run)
{
    struct err e = {0};
    int salt;
    fill(run, 1, 3);
    CHECK(rename(runs_path("%s/checkpoints/step-00000003", run), runs_path("%s/checkpoints/step-00000003.old", run)) == 0);
    CHECK_OK(run_prune(run, 1, -1, &e), &e); /* it is the newest verified one */
    CHECK_INT(runs_load(run, &salt, NULL), 3);
    CHECK(!has(run, 2) && !has(run, 1));
    fill(run, 4, 4);
    CHECK(rename(runs_path("%s/checkpoints/step-00000004", run), runs_path("%s/checkpoints/step-00000003", run)) == 0);
    CHECK_OK(run_prune(run, 5, -1, &e), &e); /* step-3 does not verify: step-3.old stays */
    CHECK_INT(runs_load(run, &salt, NULL), 3);
    CHECK_INT(runs_count_old(run), 1);
    fill(run, 5, 5);
    CHECK(rename(runs_path("%s/checkpoints/step-00000005", run), runs_path("%s/checkpoints/step-00000005.old", run)) == 0);
    fill(run, 6, 6);
    CHECK_OK(runs_save(run, 6, 2, &e), &e);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(runs_count_old(run), 0);
    CHECK_INT(runs_count_steps(run), 1);
    CHECK_INT(runs_load(run, &salt, NULL), 6);
}

int main(void)
{
    static void (*const tests[])(const char *) = {test_counts, test_damaged, test_foreign, test_links, test_displaced};
    char *base = runs_folder(), run[1050];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        snprintf(run, sizeof run, "%s/run-%zu", base, i);
        tests[i](run);
    }
    runs_remove(base);
    return check_done();
}
