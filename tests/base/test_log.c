/* What arrives in a pipe, on a terminal of known width, and nowhere. Each case runs in a child whose stderr is that thing. */
#include "trainer/base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/check.h"

static char got[65536];

/* Runs body with stderr = fd, collects what comes out of `from`; returns the exit status. */
static int run(void (*body)(void), int fd, int from)
{
    size_t n = 0;
    ssize_t more;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        dup2(fd, STDERR_FILENO);
        close(fd);
        close(from);
        body();
        _exit(0);
    }
    close(fd);
    while ((more = read(from, got + n, sizeof got - 1 - n)) > 0)
        n += (size_t)more;
    got[n] = '\0';
    close(from);
    waitpid(child, &status, 0);
    return status;
}

static int in_pipe(void (*body)(void))
{
    int ends[2];
    if (pipe(ends) != 0)
        exit(1);
    return run(body, ends[1], ends[0]);
}

static int in_terminal(void (*body)(void), int columns)
{
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        CHECK_SKIP("no pseudo-terminals here");
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0)
        CHECK_SKIP("no pseudo-terminals here");
    ioctl(slave, TIOCSWINSZ, &size);
    return run(body, slave, master);
}

static void say(void)
{
    log_note("note %d", 1);
    log_progress(false, "step %d", 2);
    log_progress(false, "step %d", 3);
    log_warn("careful");
    log_progress(true, "step %d", 4);
    log_note("end");
}

static void say_quiet(void)
{
    log_set_level(LOG_QUIET);
    say();
}

static void say_wide(void)
{
    log_progress(false, "12345678\xc3\xa4\xc3\xb6 and much more than fits");
    log_progress(false, "\033[32m123456789012345\033[0m");
    log_progress(true, "two\nlines");
}

static void say_closed(void)
{
    signal(SIGPIPE, SIG_IGN);
    close(STDERR_FILENO);
    say();
}

static void say_long(void)
{
    char text[9000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_note("%s", text);
    log_progress(true, "%s", text);
}

static void start_closed(void)
{
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    log_start();
    int fd = open("/dev/null", O_RDONLY);
    log_note("to nobody");
    _exit(fd);
}

static void *chat(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_note("%s", (const char *)arg);
    return NULL;
}

static void say_threads(void)
{
    pthread_t threads[2];
    char a[] = "aaaaaaaaaaaaaaaa", b[] = "bbbbbbbbbbbbbbbb";
    pthread_create(&threads[0], NULL, chat, a);
    pthread_create(&threads[1], NULL, chat, b);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
}

static void test_pipe(void)
{
    CHECK_INT(in_pipe(say), 0);
    CHECK_STR(got, "note 1\nstep 2\nstep 3\nlorat: warning: careful\nstep 4\nend\n");
    CHECK_INT(in_pipe(say_quiet), 0);
    CHECK_STR(got, "lorat: warning: careful\n");
    CHECK_INT(in_pipe(say_long), 0);
    CHECK(got[strlen(got) - 1] == '\n');
    CHECK_INT(in_pipe(say_threads), 0);
    size_t lines = 0;
    for (char *rest = NULL, *line = strtok_r(got, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest), lines++)
        CHECK(strcmp(line, "aaaaaaaaaaaaaaaa") == 0 || strcmp(line, "bbbbbbbbbbbbbbbb") == 0);
    CHECK_INT(lines, 400);
}

/* A terminal turns \n into \r\n. */
static void test_terminal(void)
{
    setenv("TERM", "xterm", 1);
    setenv("NO_COLOR", "1", 1);
    CHECK_INT(in_terminal(say, 80), 0);
    CHECK_STR(got, "note 1\r\n\rstep 2\033[K\rstep 3\033[K\r\nlorat: warning: careful\r\n\rstep 4\033[K\r\nend\r\n");
    CHECK_INT(in_terminal(say_wide, 10), 0);
    CHECK_STR(got, "\r12345678\xc3\xa4\033[K\r\033[32m123456789\033[K\rtwo lines\033[K\r\n");
    unsetenv("NO_COLOR");
    CHECK_INT(in_terminal(say, 80), 0);
    CHECK_HAS(got, "\033[33mwarning:\033[0m careful");
    CHECK_INT(in_terminal(say_wide, 10), 0);
    CHECK_HAS(got, "\033[32m123456789\033[0m\033[K");
    setenv("TERM", "dumb", 1);
    CHECK_INT(in_terminal(say, 80), 0);
    CHECK_STR(got, "note 1\r\nstep 2\r\nstep 3\r\nlorat: warning: careful\r\nstep 4\r\nend\r\n");
}

int main(void)
{
    test_pipe();
    test_terminal();
    CHECK_INT(in_pipe(say_closed), 0);
    int status = in_pipe(start_closed);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) > STDERR_FILENO);

    /* A reader that has gone, and a full disk. */
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_INT(run(say, ends[1], -1), 0);
    int full = open("/dev/full", O_WRONLY);
    if (full >= 0)
        CHECK_INT(run(say, full, -1), 0);
    return check_done();
}
