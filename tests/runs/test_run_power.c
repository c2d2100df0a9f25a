/* The power goes at every file call of saves and prunes, and what was not synced is lost, empty or noise. What was reported as
 * saved is there; otherwise the one before is. */
#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"

enum scene { FIRST, NEW_STEP, SAME_STEP, AFTER_CUT, SCENES };

static void prepare(const char *run, enum scene scene)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(run, &e), &e);
    if (scene == FIRST)
        return;
    CHECK_OK(runs_save(run, 10, 1, &e), &e);
    CHECK_OK(runs_save(run, 20, 2, &e), &e);
    if (scene == AFTER_CUT)
        CHECK(rename(runs_path("%s/checkpoints/step-00000020", run), runs_path("%s/checkpoints/step-00000020.old", run)) == 0);
}

/* The code under test: a save or two, pruning after each. Returns how many were reported as saved. */
static int work(const char *run, enum scene scene)
{
    struct err e = {0};
    int64_t step = scene == SAME_STEP || scene == AFTER_CUT ? 20 : 30;
    if (runs_save(run, step, 3, &e) != 0)
        return 0;
    run_prune(run, 1, -1, &e);
    if (scene != FIRST && scene != SAME_STEP)
        return 1;
    if (runs_save(run, step + 1, 4, &e) != 0)
        return 1;
    run_prune(run, 1, -1, &e);
    return 2;
}

/* One cut; returns whether it came before the end of the work. */
static bool cut_at(const char *base, const char *run, enum scene scene, int n, enum fault_cut cut)
{
    struct err e = {0};
    int salt;
    prepare(run, scene);
    CHECK_OK(fault_power_begin(base, &e), &e);
    fault_install(FAULT_CRASH, n, 0);
    int saved = work(run, scene);
    bool hit = fault_hit();
    fault_remove();
    CHECK_OK(fault_power_cut(cut, &e), &e);

    int64_t step = runs_load(run, &salt, NULL), first = scene == SAME_STEP || scene == AFTER_CUT ? 20 : 30;
    bool before = scene == FIRST ? step == -1 : step == 20 && salt == 2;
    bool one = step == first && salt == 3, two = step == first + 1 && salt == 4;
    CHECK(two || (saved < 2 && one) || (saved < 1 && before));

    /* The run goes on in what was found. */
    CHECK_OK(run_prune(run, 2, -1, &e), &e);
    CHECK_INT(runs_count_temporaries(run), 0);
    CHECK_OK(runs_save(run, first + 1, 5, &e), &e);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), first + 1);
    CHECK_INT(salt, 5);
    CHECK_INT(runs_count_old(run), 0);
    if (check_failures > 0)
        fprintf(stderr, "scene %d, call %d, cut %d: %d saved, found step %d\n", scene, n, cut, saved, (int)step);
    return hit;
}

int main(void)
{
    char *base = runs_folder(), run[1100];
    int cuts = 0;
    snprintf(run, sizeof run, "%s/run", base);
    for (int scene = FIRST; scene < SCENES; scene++)
        for (int cut = FAULT_CUT_ROLLBACK; cut <= FAULT_CUT_GARBLED; cut++)
            for (int n = 1; check_failures == 0 && cut_at(base, run, (enum scene)scene, n, (enum fault_cut)cut); n++)
                cuts++;
    printf("%d cuts\n", cuts);
    CHECK(cuts > 500);
    runs_remove(base);
    return check_done();
}
