/* Reading a file of unknown origin in a child process, where a crash of libhdf5 does no harm. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datasets/store.h"
#include "trainer/base/io.h"

struct probe_answer {
    int rc;
    struct err err;
};

static void probe_child(int to, int (*work)(void *, void *, struct err *), void *arg, void *result, size_t n_result, int seconds)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        signal(crashes[i], SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm((unsigned)seconds);
    struct probe_answer answer = {0};
    answer.rc = work(arg, result, &answer.err);
    if (io_write_all(to, "a pipe", &answer, sizeof answer, NULL) != 0 || io_write_all(to, "a pipe", result, n_result, NULL) != 0)
        _exit(1);
    _exit(0);
}

static bool read_answer(int from, void *out, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = io->read(from, (char *)out + got, n - got);
        if (k <= 0 && !(k < 0 && errno == EINTR))
            return false;
        got += k > 0 ? (size_t)k : 0;
    }
    return true;
}

int store_probe(const char *path, int (*work)(void *, void *, struct err *), void *arg, void *result, size_t n_result,
                int seconds, struct err *e)
{
    int pipes[2], status = 0;
    struct probe_answer answer;
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return err_errno(e, ERR_INTERNAL, errno, "%s: no pipe for a child process", path);
    if (store_library_hold(e) != 0) { /* held over the fork, so that the child finds the library between two calls */
        close(pipes[0]);
        close(pipes[1]);
        return -1;
    }
    pid_t child = fork();
    store_library_release();
    if (child == 0)
        probe_child(pipes[1], work, arg, result, n_result, seconds);
    close(pipes[1]);
    bool answered = child > 0 && read_answer(pipes[0], &answer, sizeof answer) && read_answer(pipes[0], result, n_result);
    close(pipes[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child < 0)
        return err_errno(e, ERR_INTERNAL, errno, "%s: no child process to probe it in", path);
    if (!answered && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        FAIL(e, ERR_DATA, "%s: reading it took more than %d s in HDF5, expected a dataset. Build it again", path, seconds);
    if (!answered && WIFSIGNALED(status))
        FAIL(e, ERR_DATA, "%s: reading it crashes HDF5 (%s), expected a dataset. Build it again", path,
             strsignal(WTERMSIG(status)));
    if (!answered)
        FAIL(e, ERR_DATA, "%s: reading it failed in a child process, expected a dataset. Build it again", path);
    if (answer.rc != 0) {
        if (e != NULL)
            *e = answer.err;
        return -1;
    }
    return 0;
}
