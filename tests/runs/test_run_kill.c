/* kill -9 at the n-th file call of a process that saves, saves again and prunes, n = 1, 2, ..; each process goes on from what the
 * one before left. What it reported as saved before its death is never lost. */
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "tests/runs/runs.h"

struct report {
    int64_t step;
    int salt;
};

static void tell(int fd, int64_t step, int salt)
{
    struct report r = {step, salt};
    if (write(fd, &r, sizeof r) != sizeof r)
        _exit(3);
}

/* Saves three steps after `from`, the second of them twice; pruning at the start, as a run does, and after each save. */
static void child(const char *run, struct report from, int n, int fd)
{
    struct err e = {0};
    static const int steps[] = {1, 2, 2, 3};
    if (run_prune(run, 2, -1, &e) != 0)
        _exit(2);
    fault_install(FAULT_KILL, n, 0);
    for (int i = 0; i < 4; i++) {
        if (runs_save(run, from.step + steps[i], from.salt + i + 1, &e) != 0 || run_prune(run, 2, -1, &e) != 0) {
            fprintf(stderr, "%s\n", e.text);
            _exit(2);
        }
        tell(fd, from.step + steps[i], from.salt + i + 1);
    }
    _exit(0);
}

int main(void)
{
    char *base = runs_folder(), run[1100];
    struct report last = {0, 0};
    int killed = 0, ended = 0;
    snprintf(run, sizeof run, "%s/run", base);
    for (int n = 1; ended == 0 && n < 5000 && check_failures == 0; n++) {
        int ends[2], status = 0;
        if (pipe(ends) != 0)
            return 1;
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            child(run, last, n, ends[1]);
        }
        close(ends[1]);
        struct report r, said = last;
        while (read(ends[0], &r, sizeof r) == sizeof r)
            said = r;
        close(ends[0]);
        CHECK(waitpid(pid, &status, 0) == pid);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == 9;
        ended += WIFEXITED(status);
        CHECK(!WIFEXITED(status) || WEXITSTATUS(status) == 0);

        int salt;
        int64_t step = runs_load(run, &salt, NULL);
        if (said.step > 0 || step >= 0)
            CHECK(step > said.step || (step == said.step && salt >= said.salt));
        if (check_failures > 0)
            fprintf(stderr, "call %d: said step %lld salt %d, found %lld salt %d\n", n, (long long)said.step, said.salt,
                    (long long)step, salt);
        last = step < 0 ? (struct report){0, 0} : (struct report){step, salt};
    }
    printf("%d killed\n", killed);
    CHECK_INT(ended, 1);
    CHECK(killed >= 200);
    struct err e = {0};
    CHECK_OK(run_prune(run, 1, -1, &e), &e);
    CHECK_INT(runs_count_temporaries(run), 0);
    CHECK_INT(runs_count_steps(run), 1);
    CHECK_INT(runs_count_old(run), 0);
    runs_remove(base);
    return check_done();
}
