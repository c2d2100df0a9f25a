/* The flag, the second signal, and what nohup ignored. Each case in a child of its own, because the flag cannot be taken back. */
#include "trainer/base/stop.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/check.h"

static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0)
        ;
}

static int run(void (*body)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(check_failures == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void once(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    stop_install();
    CHECK(!stop_requested());
    CHECK_INT(stop_signal(), 0);
    raise(SIGTERM);
    CHECK(stop_requested());
    CHECK_INT(stop_signal(), SIGTERM);
    /* The same request seen again, and the first signal stays the answer. */
    for (int i = 0; i < 3; i++)
        raise(signals[i]);
    CHECK_INT(stop_signal(), SIGTERM);
}

static void twice(void)
{
    stop_install();
    raise(SIGINT);
    wait_ms(300);
    raise(SIGINT);
}

static void nohup(void)
{
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    stop_install();
    raise(SIGHUP);
    raise(SIGINT);
    CHECK(!stop_requested());
    raise(SIGTERM);
    CHECK(stop_requested());
}

static void hangup(void)
{
    signal(SIGHUP, SIG_DFL);
    stop_install();
    raise(SIGHUP);
    CHECK_INT(stop_signal(), SIGHUP);
}

static void broken_pipe(void)
{
    int ends[2];
    stop_install();
    CHECK_INT(pipe(ends), 0);
    close(ends[0]);
    CHECK_INT(write(ends[1], "x", 1), -1);
    raise(SIGXFSZ);
    CHECK(!stop_requested());
}

static void told(void)
{
    stop_request(SIGTERM);
    stop_request(SIGINT);
    CHECK_INT(stop_signal(), SIGTERM);
    /* Told by others is not a signal yet: the first own one does not end the process. */
    stop_install();
    wait_ms(300);
    raise(SIGINT);
}

int main(void)
{
    signal(SIGINT, SIG_DFL);
    CHECK_INT(run(once), 0);
    CHECK_INT(run(twice), 75);
    CHECK_INT(run(nohup), 0);
    CHECK_INT(run(hangup), 0);
    CHECK_INT(run(broken_pipe), 0);
    CHECK_INT(run(told), 0);
    return check_done();
}
