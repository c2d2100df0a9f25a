/* What a save leaves, what run_find makes of it, replacing a step, and moving a run aside. */
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

static void test_save_and_find(const char *run)
{
    struct err e = {0};
    int salt;
    char *rejected;
    CHECK_INT(runs_load(run, &salt, NULL), -1); /* no run yet */
    CHECK_OK(runs_save(run, 10, 1, &e), &e);
    CHECK_OK(runs_save(run, 100000000, 2, &e), &e); /* nine digits */
    CHECK_OK(runs_save(run, 20, 3, &e), &e);
    CHECK_INT(runs_load(run, &salt, &rejected), 100000000);
    CHECK_INT(salt, 2);
    CHECK(rejected == NULL);
    CHECK_INT(runs_count_temporaries(run), 0);
    CHECK_OK(run_verify(runs_path("%s/checkpoints/step-00000010", run), &e), &e);
    CHECK(run_verify(runs_path("%s/checkpoints/step-00000011", run), &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_HAS(e.text, "step-00000011");

    /* A folder under another step's name is not taken for that step. */
    CHECK(rename(runs_path("%s/checkpoints/step-00000020", run), runs_path("%s/checkpoints/step-200000000", run)) == 0);
    CHECK_INT(runs_load(run, &salt, &rejected), 100000000);
    CHECK_HAS(rejected, "step-200000000: manifest.json: step: found 20, expected 200000000");
    free(rejected);
}

static void test_replace(const char *run)
{
    struct err e = {0};
    int salt;
    char step[1200], old[1210];
    snprintf(step, sizeof step, "%s/checkpoints/step-00000005", run);
    snprintf(old, sizeof old, "%s.old", step);
    CHECK_OK(runs_save(run, 5, 1, &e), &e);
    CHECK_OK(runs_save(run, 5, 2, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 5);
    CHECK_INT(salt, 2);
    CHECK_INT(runs_count_steps(run), 1);
    CHECK_INT(runs_count_old(run), 0);
    CHECK_INT(runs_count_temporaries(run), 0);

    /* Cut off between the two renames: the displaced one is found, and the next save goes on from there. */
    CHECK(rename(step, old) == 0);
    CHECK_INT(runs_load(run, &salt, NULL), 5);
    CHECK_INT(salt, 2);
    CHECK_OK(runs_save(run, 5, 3, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 5);
    CHECK_INT(salt, 3);
    CHECK_INT(runs_count_old(run), 0);

    /* Cut off after them, then the new one was damaged: the displaced one is found, and stays while it is replaced again. */
    CHECK(rename(step, old) == 0);
    CHECK_OK(runs_save(run, 6, 9, &e), &e);
    CHECK(rename(runs_path("%s/checkpoints/step-00000006", run), step) == 0); /* of another step: does not verify */
    CHECK_INT(runs_load(run, &salt, NULL), 5);
    CHECK_INT(salt, 3);
    CHECK_OK(runs_save(run, 5, 4, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 5);
    CHECK_INT(salt, 4);
    CHECK_INT(runs_count_old(run), 0);
    CHECK_INT(runs_count_temporaries(run), 0);
}

static void test_refusals(const char *run)
{
    struct err e = {0};
    static const char *const bad[] = {"", "a/b", "..", ".hidden", "manifest.json", "a\nb"};
    struct run_piece piece = {"x", 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct run_file f = {bad[i], &piece, 1};
        CHECK(run_save(run, 1, &f, 1, &e) != 0);
        CHECK_INT(e.code, ERR_INTERNAL);
    }
    struct run_file twice[] = {{"a", &piece, 1}, {"a", &piece, 1}}, one = {"a", &piece, 1};
    CHECK(run_save(run, 1, twice, 2, &e) != 0);
    CHECK_HAS(e.text, "twice");
    CHECK(run_save(run, -1, &one, 1, &e) != 0);
    CHECK(!io_exists(runs_path("%s/checkpoints/step-00000001", run)));

    /* Something else under the checkpoint's name is left alone. */
    CHECK_OK(io_mkdirs(runs_path("%s/checkpoints", run), &e), &e);
    runs_write(runs_path("%s/checkpoints/step-00000007", run), "mine", 4);
    CHECK(run_save(run, 7, &one, 1, &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_HAS(e.text, "step-00000007");
    CHECK_INT(runs_count_temporaries(run), 0);
    int salt;
    char *rejected;
    runs_load(run, &salt, &rejected);
    CHECK_HAS(rejected, "step-00000007: not a folder");
    free(rejected);

    /* The run's folder is a file. */
    runs_write(runs_path("%s-file", run), "x", 1);
    CHECK(run_save(runs_path("%s-file", run), 1, &one, 1, &e) != 0);
    CHECK_INT(e.code, ERR_IO);
}

/* Leftovers of killed processes go, also of one that had our process id. */
static void test_leftovers(const char *run)
{
    struct err e = {0};
    int salt;
    char tmp[1200];
    snprintf(tmp, sizeof tmp, "%s/checkpoints/.tmp-step-00000008-%ld", run, (long)getpid());
    CHECK_OK(io_mkdirs(tmp, &e), &e);
    runs_write(runs_path("%s/weights.bin", tmp), "old", 3);
    CHECK_OK(io_mkdirs(runs_path("%s/checkpoints/.tmp-step-00000003-99999999", run), &e), &e);
    CHECK_OK(runs_save(run, 8, 1, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 8);
    CHECK_INT(runs_count_temporaries(run), 0);
}

/* Pieces around the size at which they are gathered: small rows, one large piece, a mix. */
static void test_large(const char *run)
{
    enum { N = (9 << 20) + 12345 };
    struct err e = {0};
    unsigned char *bytes = malloc(N);
    struct run_piece *rows = malloc(3001 * sizeof *rows);
    if (bytes == NULL || rows == NULL)
        exit(1);
    for (int i = 0; i < N; i++)
        bytes[i] = (unsigned char)(i % 251);
    for (int i = 0; i < 3000; i++)
        rows[i] = (struct run_piece){bytes + (size_t)i * 2999, 2999};
    rows[3000] = (struct run_piece){bytes + 3000 * 2999, N - 3000 * 2999};
    struct run_piece one = {bytes, N}, mix[] = {{bytes, 7}, {bytes + 7, N - 7 - 5}, {bytes + N - 5, 5}};
    struct run_file files[] = {{"rows", rows, 3001}, {"one", &one, 1}, {"mix", mix, 3}};
    CHECK_OK(run_save(run, 1, files, 3, &e), &e);
    CHECK_OK(run_verify(runs_path("%s/checkpoints/step-00000001", run), &e), &e);
    for (int i = 0; i < 3; i++) {
        char *back = NULL;
        size_t n = 0;
        CHECK_OK(io_read_file(runs_path("%s/checkpoints/step-00000001/%s", run, files[i].name), ERR_IO, N, &back, &n, &e), &e);
        CHECK_INT(n, N);
        CHECK(back != NULL && n == N && memcmp(back, bytes, N) == 0);
        mem_free(back);
    }
    free(rows);
    free(bytes);
}

static void test_move_aside(const char *run)
{
    struct err e = {0};
    char *moved = NULL;
    CHECK_OK(run_move_aside(runs_path("%s-none", run), &moved, &e), &e);
    CHECK(moved == NULL);
    for (int i = 1; i <= 3; i++) {
        CHECK_OK(runs_save(run, i, i, &e), &e);
        CHECK_OK(run_move_aside(i == 2 ? runs_path("%s//", run) : run, &moved, &e), &e);
        CHECK_STR(moved, runs_path("%s.old-%d", run, i));
        CHECK(!io_exists(run));
        int salt;
        CHECK_INT(runs_load(moved, &salt, NULL), i);
        mem_free(moved);
    }
}

int main(void)
{
    static void (*const tests[])(const char *) = {test_save_and_find, test_replace, test_refusals,
                                                  test_leftovers,     test_large,   test_move_aside};
    char *base = runs_folder(), run[1100];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        snprintf(run, sizeof run, "%s/run-%zu", base, i);
        tests[i](run);
    }
    runs_remove(base);
    return check_done();
}
