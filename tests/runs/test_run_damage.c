/* A flipped bit, a truncation, a zeroed tail or a missing file, in every file of a checkpoint: refused by the file's name, and
 * the older checkpoint is taken. */
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum damage { FLIP, CUT, EMPTY, ZERO_TAIL, LONGER, GONE, FOLDER, FIFO, DAMAGES };

static void damage(const char *path, const char *bytes, size_t n, enum damage d, size_t at)
{
    char *copy = malloc(n + 2);
    if (copy == NULL)
        exit(1);
    memcpy(copy, bytes, n);
    copy[n] = 0;
    if (d == FLIP)
        copy[at / 8] = (char)(copy[at / 8] ^ 1 << at % 8);
    if (d == ZERO_TAIL)
        memset(copy + n - n / 3 - 1, 0, n / 3 + 1);
    if (d == GONE || d == FOLDER || d == FIFO)
        CHECK(unlink(path) == 0);
    if (d == FOLDER)
        CHECK(mkdir(path, 0755) == 0);
    if (d == FIFO)
        CHECK(mkfifo(path, 0644) == 0);
    if (d == FLIP || d == ZERO_TAIL)
        runs_write(path, copy, n);
    if (d == CUT || d == EMPTY || d == LONGER)
        runs_write(path, copy, d == CUT ? n - 1 : d == EMPTY ? 0 : n + 1);
    free(copy);
}

static void check_refused(const char *run, const char *name)
{
    int salt;
    char *rejected, line[300];
    CHECK_INT(runs_load(run, &salt, &rejected), 11);
    CHECK_INT(salt, 1);
    CHECK_HAS(rejected, "step-00000012: ");
    snprintf(line, sizeof line, "%s", name);
    CHECK_HAS(rejected, line);
    free(rejected);
}

int main(void)
{
    static const char *const names[] = {"weights.bin", "state.json", "empty.bin", "manifest.json"};
    struct err e = {0};
    char *base = runs_folder(), run[1024], path[1200];
    snprintf(run, sizeof run, "%s/run", base);
    CHECK_OK(runs_save(run, 11, 1, &e), &e);
    CHECK_OK(runs_save(run, 12, 2, &e), &e);
    for (int i = 0; i < 4; i++) {
        char *bytes = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/checkpoints/step-00000012/%s", run, names[i]);
        CHECK_OK(io_read_file(path, ERR_IO, 100000, &bytes, &n, &e), &e);
        for (int d = FLIP; d < DAMAGES; d++) {
            if (n == 0 && (d == FLIP || d == CUT || d == EMPTY || d == ZERO_TAIL))
                continue;
            /* every bit of a byte, bytes apart by a prime */
            size_t step = d == FLIP ? 8 * 97 + 1 : 8 * n + 1;
            for (size_t at = 0; at < 8 * n + (n == 0); at += step) {
                damage(path, bytes, n, (enum damage)d, at);
                check_refused(run, names[i]);
                if (d == FOLDER)
                    CHECK(rmdir(path) == 0);
                if (d == FIFO)
                    CHECK(unlink(path) == 0);
                runs_write(path, bytes, n);
            }
        }
        mem_free(bytes);
    }
    int salt;
    char *rejected;
    CHECK_INT(runs_load(run, &salt, &rejected), 12); /* all restored */
    CHECK(rejected == NULL);

    /* All refused: none is found, every one is named, none is removed. */
    runs_write(runs_path("%s/checkpoints/step-00000012/weights.bin", run), "x", 1);
    runs_write(runs_path("%s/checkpoints/step-00000011/manifest.json", run), "{", 1);
    CHECK_INT(runs_load(run, &salt, &rejected), -1);
    CHECK_HAS(rejected, "step-00000012: weights.bin: found 1 bytes, expected 5000\n");
    CHECK_HAS(rejected, "step-00000011: manifest.json");
    free(rejected);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(runs_count_steps(run), 2);
    runs_remove(base);
    return check_done();
}
