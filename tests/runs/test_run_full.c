/* A disk that is really full: a limit on file sizes, and a small file system where one can be mounted. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"

static void test_limit(const char *run)
{
    struct err e = {0};
    int salt;
    struct rlimit was, small;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(runs_save(run, 1, 1, &e), &e);
    CHECK(getrlimit(RLIMIT_FSIZE, &was) == 0);
    small = was;
    small.rlim_cur = 3000; /* weights.bin has 5000 bytes: a short write, then EFBIG */
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    int rc = runs_save(run, 2, 2, &e);
    CHECK(setrlimit(RLIMIT_FSIZE, &was) == 0);
    CHECK(rc != 0);
    CHECK_INT(e.code, ERR_IO);
    CHECK_HAS(e.text, "weights.bin");
    CHECK_HAS(e.text, strerror(EFBIG));
    CHECK_INT(runs_count_temporaries(run), 0);
    CHECK_INT(runs_load(run, &salt, NULL), 1);
    CHECK_OK(runs_save(run, 2, 3, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 2);
}

/* Save until it is full; then again with the old ones removed. */
static void fill_up(const char *run)
{
    struct err e = {0};
    int salt, last = 0, full = 0;
    for (int step = 1; step <= 200 && full < 3; step++) {
        if (runs_save(run, step, step, &e) == 0) {
            last = step;
            continue;
        }
        full++;
        CHECK_INT(e.code, ERR_IO);
        CHECK_HAS(e.text, "disk is full");
        CHECK_INT(runs_count_temporaries(run), 0);
        CHECK_INT(runs_load(run, &salt, NULL), last);
        /* the same step again is what a resumed run saves: the old one must stay until the new one is there */
        CHECK(last == 0 || runs_save(run, last, last, &e) != 0);
        CHECK_INT(runs_load(run, &salt, NULL), last);
    }
    CHECK_INT(full, 3);
    CHECK(last > 0);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_OK(runs_save(run, 1000, 1, &e), &e);
    CHECK_INT(runs_load(run, &salt, NULL), 1000);
}

/* In a child with its own view of mounts, so that nothing is left behind. 0, 1 = failed, 77 = no mount. */
static int small_disk(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("lorat-test", dir, "tmpfs", 0, "size=96k") != 0)
            _exit(77);
        char run[1200];
        snprintf(run, sizeof run, "%s/run", dir);
        fill_up(run);
        _exit(check_failures != 0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void)
{
    struct err e = {0};
    char *base = runs_folder(), path[1100];
    snprintf(path, sizeof path, "%s/run", base);
    test_limit(path);
    snprintf(path, sizeof path, "%s/disk", base);
    CHECK_OK(io_mkdirs(path, &e), &e);
    int rc = small_disk(path);
    if (rc == 77)
        printf("a small file system cannot be mounted here (needs root): that part is left out\n");
    else
        CHECK_INT(rc, 0);
    runs_remove(base);
    return check_done();
}
