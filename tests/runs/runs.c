#include "tests/runs/runs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum { WEIGHTS = 5000 };

const char *runs_path(const char *format, ...)
{
    static char texts[8][1024];
    static int next;
    char *text = texts[next++ % 8];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof texts[0], format, args);
    va_end(args);
    return text;
}

char *runs_folder(void)
{
    const char *base = getenv("TMPDIR");
    if (base == NULL || base[0] == 0) /* the sweeps make some 100,000 syncs, which cost nothing in memory */
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    char *folder = malloc(1024);
    if (folder == NULL)
        exit(1);
    snprintf(folder, 1024, "%s/lorat-runs-XXXXXX", base);
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        exit(1);
    }
    return folder;
}

void runs_remove(char *folder)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(folder, &e), &e);
    free(folder);
}

void runs_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || (n > 0 && fwrite(bytes, n, 1, f) != 1) || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void fill(unsigned char *bytes, int64_t step, int salt)
{
    for (int i = 0; i < WEIGHTS; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256 + step * 31 + salt * 101);
}

int runs_save(const char *run, int64_t step, int salt, struct err *e)
{
    unsigned char weights[WEIGHTS];
    char state[128];
    fill(weights, step, salt);
    int n = snprintf(state, sizeof state, "{\"step\": %" PRId64 ", \"salt\": %d}\n", step, salt);
    struct run_piece state_piece = {state, (size_t)n};
    struct run_piece pieces[] = {{weights, 1}, {weights + 1, 0}, {weights + 1, 1234}, {weights + 1235, WEIGHTS - 1235}};
    struct run_file files[] = {{"state.json", &state_piece, 1}, {"weights.bin", pieces, 4}, {"empty.bin", NULL, 0}};
    return run_save(run, step, files, 3, e);
}

int64_t runs_load(const char *run, int *salt, char **rejected)
{
    struct err e = {0};
    struct run_found f;
    unsigned char weights[WEIGHTS];
    *salt = -1;
    if (rejected != NULL)
        *rejected = NULL;
    if (run_find(run, &f, &e) != 0) {
        fprintf(stderr, "run_find: %s\n", e.text);
        check_failures++;
        return -2;
    }
    if (rejected != NULL && f.rejected != NULL)
        *rejected = strdup(f.rejected);
    int64_t step = f.step, said = -1;
    if (f.dir != NULL) {
        char *bytes = NULL;
        size_t n = 0;
        CHECK_OK(io_read_file(runs_path("%s/state.json", f.dir), ERR_IO, 1000, &bytes, &n, &e), &e);
        CHECK_INT(sscanf(bytes != NULL ? bytes : "", "{\"step\": %" SCNd64 ", \"salt\": %d}", &said, salt), 2);
        CHECK_INT(said, step);
        mem_free(bytes);
        bytes = NULL;
        CHECK_OK(io_read_file(runs_path("%s/weights.bin", f.dir), ERR_IO, 10000, &bytes, &n, &e), &e);
        fill(weights, step, *salt);
        CHECK_INT(n, WEIGHTS);
        CHECK(bytes != NULL && n == WEIGHTS && memcmp(bytes, weights, WEIGHTS) == 0);
        mem_free(bytes);
    } else {
        CHECK_INT(step, -1);
    }
    run_found_free(&f);
    return step;
}

static int count(const char *run, const char *head, const char *tail)
{
    struct err e = {0};
    char **names = NULL;
    size_t n = 0;
    int found = 0;
    const char *dir = runs_path("%s/checkpoints", run);
    if (!io_exists(dir))
        return 0;
    CHECK_OK(io_list(dir, &names, &n, &e), &e);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]), end = strlen(tail);
        found += strncmp(names[i], head, strlen(head)) == 0 && length >= end && strcmp(names[i] + length - end, tail) == 0;
    }
    io_list_free(names, n);
    return found;
}

int runs_count_old(const char *run) { return count(run, "step-", ".old"); }
int runs_count_steps(const char *run) { return count(run, "step-", "") - runs_count_old(run); }
int runs_count_temporaries(const char *run) { return count(run, ".tmp-", ""); }
