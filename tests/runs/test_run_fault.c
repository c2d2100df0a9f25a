/* Fail the n-th file call of a save and a prune, n = 1, 2, .. until all calls are through; then the n-th allocation. Whatever
 * fails: an older checkpoint loads, nothing half is left, and the next save works. */
#include <errno.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum scene { NEW_STEP, SAME_STEP, LEFTOVER, SCENES };

/* Steps 10 (salt 1) and 20 (salt 2); in LEFTOVER a replacement of 20 was cut off once, and a temporary lies there. */
static void prepare(const char *run, enum scene scene)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(run, &e), &e);
    CHECK_OK(runs_save(run, 10, 1, &e), &e);
    CHECK_OK(runs_save(run, 20, 2, &e), &e);
    if (scene != LEFTOVER)
        return;
    CHECK(rename(runs_path("%s/checkpoints/step-00000020", run), runs_path("%s/checkpoints/step-00000020.old", run)) == 0);
    CHECK_OK(runs_save(run, 21, 2, &e), &e);
    CHECK(rename(runs_path("%s/checkpoints/step-00000021", run), runs_path("%s/checkpoints/step-00000020", run)) == 0);
    CHECK_OK(io_mkdirs(runs_path("%s/checkpoints/.tmp-step-00000020-99999999", run), &e), &e);
    runs_write(runs_path("%s/checkpoints/.tmp-step-00000020-99999999/weights.bin", run), "half", 4);
}

static void check_after(const char *run, enum scene scene, int saved)
{
    struct err e = {0};
    int salt;
    int64_t step = runs_load(run, &salt, NULL), new_step = scene == NEW_STEP ? 30 : 20;
    if (saved == 0)
        CHECK(step == new_step && salt == 3);
    else /* the save may have failed after its rename, when the parent folder could not be synced */
        CHECK((step == 20 && salt == 2) || (step == new_step && salt == 3));
    CHECK_OK(runs_save(run, 40, 4, &e), &e);
    CHECK_OK(run_prune(run, 2, -1, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 40);
    CHECK_INT(runs_count_steps(run) + runs_count_old(run), 2);
    CHECK_INT(runs_count_temporaries(run), 0);
}

static int sweep(const char *run, enum scene scene, enum fault_kind kind, int errno_value)
{
    bool hit = true;
    int n = 0;
    while (hit && ++n < 10000) {
        struct err e = {0}, prune_e = {0};
        prepare(run, scene);
        int before = runs_count_temporaries(run);
        fault_install(kind, n, errno_value);
        int saved = runs_save(run, scene == NEW_STEP ? 30 : 20, 3, &e);
        bool in_save = fault_hit();
        int calls = (int)fault_remove();
        if (saved != 0) {
            CHECK(in_save);
            CHECK_INT(e.code, ERR_IO);
            CHECK_HAS(e.text, "is not saved");
            if (kind == FAULT_FULL)
                CHECK_HAS(e.text, "disk is full");
            if (scene != LEFTOVER)
                CHECK_INT(runs_count_temporaries(run), before);
        }
        hit = in_save;
        if (!in_save) { /* the rest of n falls into the prune */
            fault_install(kind, n - calls, errno_value);
            int pruned = run_prune(run, 1, -1, &prune_e);
            hit = fault_hit();
            fault_remove();
            CHECK(pruned == 0 || (hit && prune_e.code == ERR_IO));
        }
        check_after(run, scene, saved);
        if (check_failures > 0) {
            fprintf(stderr, "scene %d, kind %d, errno %d, call %d: %s\n", scene, kind, errno_value, n, e.text);
            return n;
        }
    }
    return n - 1;
}

/* Reading with an error in the middle: an older one is taken, and it is said why. */
static void test_find(const char *run)
{
    bool hit = true;
    prepare(run, NEW_STEP);
    for (int n = 1; hit && check_failures == 0; n++) {
        struct run_found f;
        struct err e = {0};
        fault_install(FAULT_ERRNO, n, EIO);
        int rc = run_find(run, &f, &e);
        hit = fault_hit();
        fault_remove();
        if (rc != 0)
            CHECK_INT(e.code, ERR_IO);
        else if (f.step == 10)
            CHECK_HAS(f.rejected, "step-00000020: ");
        else
            CHECK_INT(f.step, 20);
        if (rc == 0)
            run_found_free(&f);
    }
}

static int lock(const char *run, struct err *e)
{
    struct run_lock *l;
    TRY(run_lock_take(run, &l, e));
    run_lock_drop(l);
    return 0;
}
static int save(const char *run, struct err *e) { return runs_save(run, 20, 3, e); }
static int prune(const char *run, struct err *e) { return run_prune(run, 1, -1, e); }
static int find(const char *run, struct err *e)
{
    struct run_found f;
    TRY(run_find(run, &f, e));
    CHECK_INT(f.step, 20); /* never an older one because memory was short */
    run_found_free(&f);
    return 0;
}
static int aside(const char *run, struct err *e)
{
    char *moved;
    TRY(run_move_aside(run, &moved, e));
    CHECK(moved != NULL && rename(moved, run) == 0);
    mem_free(moved);
    return 0;
}

static void test_memory(const char *run)
{
    static int (*const calls[])(const char *, struct err *) = {save, prune, find, lock, aside};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int scene = NEW_STEP; scene < SCENES; scene++)
            for (int n = 1;; n++) {
                struct err e = {0};
                int salt;
                prepare(run, (enum scene)scene);
                mem_fail_at(n);
                int rc = calls[i](run, &e);
                bool hit = mem_count() >= n;
                mem_fail_at(0);
                if (rc != 0) {
                    CHECK(hit);
                    CHECK_INT(e.code, ERR_DEVICE);
                    CHECK_HAS(e.text, "out of memory");
                }
                if (rc != 0 && calls[i] == aside && !io_exists(run))
                    CHECK(rename(runs_path("%s.old-1", run), run) == 0);
                CHECK_INT(runs_load(run, &salt, NULL), 20);
                CHECK(rc == 0 || calls[i] != save || scene == LEFTOVER || runs_count_temporaries(run) == 0);
                if (check_failures > 0) {
                    fprintf(stderr, "call %zu, scene %d, allocation %d: %s\n", i, scene, n, e.text);
                    return;
                }
                if (!hit)
                    break;
            }
}

int main(void)
{
    static const int values[] = {ENOSPC, EIO, EINTR};
    char *base = runs_folder(), run[1100];
    int calls = 0;
    snprintf(run, sizeof run, "%s/run", base);
    for (int scene = NEW_STEP; scene < SCENES && check_failures == 0; scene++) {
        for (size_t i = 0; i < sizeof values / sizeof *values; i++)
            calls += sweep(run, (enum scene)scene, FAULT_ERRNO, values[i]);
        calls += sweep(run, (enum scene)scene, FAULT_SHORT, 0);
        calls += sweep(run, (enum scene)scene, FAULT_FULL, ENOSPC);
    }
    printf("%d failed calls\n", calls);
    CHECK(calls > 500);
    test_find(run);
    test_memory(run);
    runs_remove(base);
    return check_done();
}
