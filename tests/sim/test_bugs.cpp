/* test_bugs.cpp - the simulator proves itself: each planted bug, small and of a kind that kernels and host code have, runs in a
 * child process and must fail with the expected sentence; the same without the bug must pass. */
#include "tests/sim/bugs.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/check.h"

/* Runs one bug in a child with its settings; its exit status, and what it wrote to stderr. */
static int run_child(const Bug &b, bool wrong, std::string *said)
{
    int ends[2], status = -1;
    char part[4096];
    if (pipe(ends) != 0)
        return -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        for (const char *name : {"LORAT_SIM_ORDER", "LORAT_SIM_STREAMS", "LORAT_SIM_FAIL", "LORAT_SIM_CARDS", "LORAT_SIM_UNINIT"})
            unsetenv(name);
        if (b.set)
            putenv((char *)b.set);
        alarm(60);
        b.run(wrong);
        sim_finish();
        exit(0);
    }
    close(ends[1]);
    said->clear();
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        said->append(part, (size_t)n);
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void prove(const Bug &b)
{
    std::string said;
    int right = run_child(b, false, &said);
    if (right != 0) {
        fprintf(stderr, "%s: the correct version ended with %d: %s\n", b.name, right, said.c_str());
        check_failures++;
    }
    int wrong = run_child(b, true, &said);
    if (wrong == 0 || wrong > 128 || said.find(b.sentence) == std::string::npos) {
        fprintf(stderr, "%s: the planted bug ended with %d, expected a failure that says '%s'. It said: %s\n", b.name, wrong,
                b.sentence, said.c_str());
        check_failures++;
    } else if (getenv("VERBOSE"))
        printf("%-40s %s", b.name, said.c_str());
}

int main(void)
{
    int n = 0;
    for (const Bug *b = kernel_bugs; b->name; b++, n++)
        prove(*b);
    for (const Bug *b = host_bugs; b->name; b++, n++)
        prove(*b);
    printf("%d planted bugs\n", n);
    CHECK(n >= 14);
    return check_done();
}
