/* One process a run: a second one is refused by name, a killed one leaves no obstacle. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/mem.h"

static int wait_for(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

/* In a process of its own: 0 = locked, otherwise the error's code; the message comes back in text. */
static int take_elsewhere(const char *run, char text[1024])
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = {0};
        struct run_lock *l;
        int rc = run_lock_take(run, &l, &e) == 0 ? 0 : (int)e.code;
        _exit(write(ends[1], e.text, sizeof e.text) == sizeof e.text ? rc : 99);
    }
    close(ends[1]);
    CHECK_INT(read(ends[0], text, 1024), 1024);
    close(ends[0]);
    int status = wait_for(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool lock_closes_on_exec(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *entry;
    bool found = false, closes = true;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char target[1200];
        ssize_t n = readlink(runs_path("/proc/self/fd/%s", entry->d_name), target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (n > 5 && strcmp(target + n - 5, "/lock") == 0) {
            found = true;
            closes = closes && (fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC);
        }
    }
    if (d != NULL)
        closedir(d);
    return found && closes;
}

static void test_killed(const char *run)
{
    struct err e = {0};
    struct run_lock *l = NULL;
    int ends[2];
    char c, text[1024], pid_text[32];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool good = run_lock_take(run, &l, &e) == 0;
        if (write(ends[1], good ? "y" : "n", 1) == 1)
            pause();
        _exit(1);
    }
    CHECK(read(ends[0], &c, 1) == 1 && c == 'y');
    snprintf(pid_text, sizeof pid_text, "process %ld ", (long)pid);
    CHECK(run_lock_take(run, &l, &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK_HAS(e.text, pid_text);
    CHECK(l == NULL);
    kill(pid, SIGKILL);
    wait_for(pid);
    CHECK_OK(run_lock_take(run, &l, &e), &e); /* its text is still in the file */
    CHECK_INT(take_elsewhere(run, text), ERR_STATE);
    snprintf(pid_text, sizeof pid_text, "process %ld on ", (long)getpid());
    CHECK_HAS(text, pid_text);
    run_lock_drop(l);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    struct err e = {0};
    struct run_lock *l = NULL, *second = NULL;
    char *base = runs_folder(), run[1100], text[1024];
    snprintf(run, sizeof run, "%s/deep/run", base);
    CHECK_OK(run_lock_take(run, &l, &e), &e); /* makes the run's folder */
    CHECK(lock_closes_on_exec());
    CHECK(run_lock_take(run, &second, &e) != 0); /* twice in one process, too */
    CHECK_INT(take_elsewhere(run, text), ERR_STATE);
    CHECK_HAS(text, "/lock: held by process");

    /* Checkpoints are saved under the lock, and it outlives them. */
    CHECK_OK(runs_save(run, 1, 1, &e), &e);
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(take_elsewhere(run, text), ERR_STATE);

    /* A run that is worked on is not moved aside; a free one is, and the new one of the same name is free. */
    char *moved = NULL;
    CHECK(run_move_aside(run, &moved, &e) != 0);
    CHECK_INT(e.code, ERR_STATE);
    CHECK(moved == NULL);
    run_lock_drop(l);
    CHECK_OK(run_move_aside(run, &moved, &e), &e);
    CHECK_OK(run_lock_take(run, &second, &e), &e);
    CHECK_INT(take_elsewhere(moved != NULL ? moved : "", text), 0);
    CHECK_INT(take_elsewhere(run, text), ERR_STATE);
    run_lock_drop(second);
    CHECK_INT(take_elsewhere(run, text), 0);
    mem_free(moved);
    run_lock_drop(NULL);
    test_killed(run);
    runs_write(runs_path("%s/file", base), "x", 1);
    CHECK(run_lock_take(runs_path("%s/file", base), &l, &e) != 0);
    CHECK_INT(e.code, ERR_IO);
    runs_remove(base);
    return check_done();
}
