#include "trainer/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "trainer/base/buf.h"

static struct {
    pthread_mutex_t lock;
    enum log_level level;
    int rank;
    bool standing; /* a progress line without its newline is on the terminal */
    void (*forward)(bool warning, const char *text); /* NULL: to the terminal */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_NORMAL};

void log_start(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

void log_set_level(enum log_level level)
{
    pthread_mutex_lock(&state.lock);
    state.level = level;
    pthread_mutex_unlock(&state.lock);
}

void log_set_rank(int rank)
{
    pthread_mutex_lock(&state.lock);
    state.rank = rank;
    pthread_mutex_unlock(&state.lock);
}

bool log_terminal(int fd) { return isatty(fd) == 1; }

static bool dumb(void)
{
    const char *term = getenv("TERM");
    return term == NULL || term[0] == '\0' || strcmp(term, "dumb") == 0;
}

bool log_colour(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    return (no_color == NULL || no_color[0] == '\0') && log_terminal(fd) && !dumb();
}

/* The one place that writes. Whatever goes wrong here is nobody's concern: the run matters, not its echo. */
static void put(const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        bytes += done;
        n -= (size_t)done;
    }
}

/* Lines go out in one write each, so that those of several processes do not interleave. */
static void put_line(const char *prefix, const char *text)
{
    struct buf line = {0};
    pthread_mutex_lock(&state.lock);
    if (state.standing)
        buf_puts(&line, "\n");
    state.standing = false;
    buf_puts(&line, prefix);
    buf_puts(&line, text);
    buf_puts(&line, "\n");
    if (!line.failed)
        put(line.data, line.n);
    pthread_mutex_unlock(&state.lock);
    buf_free(&line);
}

void log_forward(void (*line)(bool warning, const char *text)) { state.forward = line; }

void log_line(bool warning, const char *text)
{
    char prefix[64] = "", rank[24] = "";
    if (!warning && state.level < LOG_NORMAL)
        return;
    if (warning && state.rank > 0)
        snprintf(rank, sizeof rank, "[rank %d] ", state.rank);
    if (warning)
        snprintf(prefix, sizeof prefix, "%s%s", rank, log_colour(STDERR_FILENO) ? "lorat: \033[33mwarning:\033[0m " : "lorat: warning: ");
    put_line(prefix, text);
}

static void say(bool warning, const char *format, va_list args)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, args);
    (state.forward != NULL ? state.forward : log_line)(warning, text);
}

int log_output_done(struct err *e)
{
    errno = 0;
    bool failed = fflush(stdout) != 0;
    if (!failed && !ferror(stdout))
        return 0;
    if (!failed && fputc('\n', stdout) != EOF) /* an earlier write failed, and why is no longer known: once more */
        fflush(stdout);
    if (errno == EPIPE)
        return 0;
    return err_errno(e, ERR_IO, errno != 0 ? errno : EIO, "standard output: not all of what was printed could be written");
}

void log_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(false, format, args);
    va_end(args);
}

void log_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(true, format, args);
    va_end(args);
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2)
        return 80;
    return size.ws_col;
}

/* How many bytes of text fill at most `width` columns: UTF-8 sequences count one, escape sequences none. */
static size_t fitting(const char *text, int width)
{
    int columns = 0;
    size_t i = 0;
    while (text[i] != '\0') {
        if (text[i] == '\033' && text[i + 1] == '[') {
            i += 2;
            while (text[i] != '\0' && !(text[i] >= '@' && text[i] <= '~'))
                i++;
            i += text[i] != '\0';
            continue;
        }
        if (columns == width)
            break;
        columns++;
        i++;
        while (((unsigned char)text[i] & 0xc0) == 0x80)
            i++;
    }
    return i;
}

void log_progress(bool keep, const char *format, ...)
{
    char text[1024];
    struct buf line = {0};
    va_list args;
    if (state.level < LOG_NORMAL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; (p = strpbrk(p, "\r\n")) != NULL;)
        *p = ' ';

    bool redraw = log_terminal(STDERR_FILENO) && !dumb();
    pthread_mutex_lock(&state.lock);
    if (redraw) {
        /* A line that wraps cannot be redrawn with \r; the last column stays free, where terminals differ about wrapping. */
        size_t n = fitting(text, terminal_width() - 1);
        buf_puts(&line, "\r");
        buf_add(&line, text, n);
        buf_puts(&line, text[n] != '\0' && log_colour(STDERR_FILENO) ? "\033[0m\033[K" : "\033[K");
    } else {
        buf_puts(&line, text);
    }
    if (keep || !redraw)
        buf_puts(&line, "\n");
    state.standing = redraw && !keep;
    if (!line.failed)
        put(line.data, line.n);
    pthread_mutex_unlock(&state.lock);
    buf_free(&line);
}
