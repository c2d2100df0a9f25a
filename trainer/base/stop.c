#include "trainer/base/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "trainer/base/err.h"

/* One request may arrive as two signals: timeout(1) and process managers signal the process and then its group. */
enum { SAME_REQUEST_MS = 250 };

static _Atomic int stop_flag;           /* 0 or the signal */
static _Atomic int64_t first_signal_ms; /* 0 = none yet */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + 1;
}

/* Only async-signal-safe calls and lock-free atomics. */
static void on_signal(int sig)
{
    int64_t none = 0, now = now_ms();
    if (!atomic_compare_exchange_strong(&first_signal_ms, &none, now) && now - none >= SAME_REQUEST_MS)
        _exit(ERR_STOPPED);
    stop_request(sig);
}

void stop_install(void)
{
    static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, was;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 3; i++) {
        /* nohup and a shell's background jobs hand signals over as ignored, and that is the user's word too. */
        if (stopping[i] != SIGTERM && sigaction(stopping[i], NULL, &was) == 0 && was.sa_handler == SIG_IGN)
            continue;
        sigaction(stopping[i], &action, NULL);
    }
    /* A closed pipe or a file size limit shall be an error of the write, not the end. */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
}

bool stop_requested(void) { return stop_signal() != 0; }

int stop_signal(void) { return atomic_load_explicit(&stop_flag, memory_order_relaxed); }

void stop_request(int sig)
{
    int none = 0;
    atomic_compare_exchange_strong(&stop_flag, &none, sig);
}
