/* ranks.c - start the ranks, watch them, and say what happened. See ranks.h. */
#include "trainer/ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "trainer/base/clock.h"
#include "trainer/base/log.h"
#include "trainer/base/stop.h"
#include "trainer/preflight.h"
#include "trainer/ranks_shared.h"

#define TIMEOUT_S 30.0
#define GRACE_S 1.0 /* between "leave" and SIGKILL: together with the looks below, well under two seconds */
#define STUCK_S 5.0 /* after one rank has left on a request to stop */
#define LOOK_S 0.02

struct watch {
    const struct ranks_options *options;
    struct ranks_shared *s;
    size_t bytes;
    pid_t pid[RANKS_MAX]; /* 0: reaped */
    int64_t seen[RANKS_MAX]; /* progress at the last look that found it moved, and when that was */
    double moved[RANKS_MAX];
    double left;          /* when the others were told to leave; 0 = not yet */
    double stopped;       /* when the first rank left on a request to stop; 0 = not yet */
    bool killed;
};

static void child(struct ranks_shared *s, int rank, int (*body)(struct comm *, void *, struct err *), void *arg)
{
    struct rank_slot *me = &s->slot[rank];
    struct comm c = {0};
    struct err e = {0};
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* without its watcher a rank saves and leaves */
    if (rank > 0) {
        log_set_rank(rank);
        log_set_level(LOG_QUIET);
    }
    int rc = comm_local(s, rank, &c, &e);
    if (rc == 0)
        rc = body(&c, arg, &e);
    if (rc != 0) {
        int none = 0;
        if (e.code == ERR_OK)
            err_set(&e, ERR_INTERNAL, "rank %d failed without saying why", rank);
        /* A card's words do not say whose they are; a refusal of the whole job, before the work began, is everybody's. */
        const char *doing = atomic_load(&me->doing);
        if (e.code == ERR_DEVICE && strcmp(doing, "starting") != 0 && strstr(e.text, "rank ") == NULL)
            err_prefix(&e, "rank %d at step %lld (%s)", rank, (long long)atomic_load(&me->step), doing);
        me->error = e;
        if (e.code != ERR_PEER && e.code != ERR_STOPPED)
            atomic_compare_exchange_strong(&s->first_failed, &none, rank + 1);
    }
    atomic_store(&me->result, rc == 0 ? RANK_GOOD : RANK_FAILED);
    fflush(stdout);
    _exit(rc == 0 ? 0 : (int)e.code);
}

/* Tell the others; the first to be gone is remembered. */
static void leave(struct watch *w, int rank)
{
    int none = 0;
    atomic_compare_exchange_strong(&w->s->first_failed, &none, rank + 1);
    atomic_store(&w->s->leave, 1);
    if (w->left == 0)
        w->left = clock_s();
}

/* Rank k has ended with this wait status. A rank that died could not leave its words: the parent does. */
static void ended(struct watch *w, int k, int status)
{
    struct rank_slot *slot = &w->s->slot[k];
    w->pid[k] = 0;
    if (atomic_load(&slot->result) == RANK_RUNNING) {
        const char *doing = atomic_load(&slot->doing);
        long long step = (long long)atomic_load(&slot->step);
        int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        if (w->killed && sig == SIGKILL)
            err_set(&slot->error, ERR_PEER, "rank %d was ended at step %lld (%s)", k, step, doing);
        else if (sig != 0)
            err_set(&slot->error, ERR_PEER,
                    "rank %d was killed by signal %d (%s) at step %lld (%s), expected it to run on. %sThe last checkpoint is intact: --resume goes on from it",
                    k, sig, strsignal(sig), step, doing,
                    sig == SIGKILL ? "Where nobody did that, the kernel was out of memory (dmesg says so). " : "");
        else if (WEXITSTATUS(status) == ERR_STOPPED) /* a second signal: out at once */
            err_set(&slot->error, ERR_STOPPED, "rank %d left at once on a second signal; the last checkpoint is intact", k);
        else
            err_set(&slot->error, ERR_PEER, "rank %d ended with exit code %d at step %lld (%s), expected it to run on", k,
                    WEXITSTATUS(status), step, doing);
        atomic_store(&slot->result, RANK_FAILED);
    }
    if (atomic_load(&slot->result) != RANK_FAILED)
        return;
    if (slot->error.code != ERR_STOPPED)
        leave(w, k);
    else if (w->stopped == 0)
        w->stopped = clock_s();
}

static void reap(struct watch *w)
{
    for (int k = 0; k < w->s->ranks; k++) {
        int status;
        if (w->pid[k] != 0 && waitpid(w->pid[k], &status, WNOHANG) == w->pid[k])
            ended(w, k, status);
    }
}

/* Work that cannot report on itself: files are hashed at the start, and a disk may take its time for a checkpoint. */
static bool is_long(const char *doing) { return strcmp(doing, "starting") == 0 || strcmp(doing, "saving") == 0; }

static const char *what_now(const char *doing)
{
    if (strcmp(doing, PREFLIGHT_DOING) == 0)
        return ". " PREFLIGHT_ADVICE;
    if (strcmp(doing, "starting") == 0)
        return "; nothing was changed";
    return "; the last checkpoint is intact: --resume goes on from it";
}

/* A rank whose counter has stood still for too long is named and ended. */
static void look(struct watch *w)
{
    double now = clock_s(), timeout = w->options->timeout_s > 0 ? w->options->timeout_s : TIMEOUT_S;
    for (int k = 0; k < w->s->ranks; k++) {
        struct rank_slot *slot = &w->s->slot[k];
        int64_t progress = atomic_load(&slot->progress);
        double most = is_long(atomic_load(&slot->doing)) ? 10 * timeout : timeout;
        if (w->pid[k] == 0 || w->left != 0)
            continue;
        if (progress != w->seen[k]) {
            w->seen[k] = progress;
            w->moved[k] = now;
        } else if (now - w->moved[k] > most) {
            err_set(&slot->error, ERR_PEER,
                    "rank %d has not moved for %g s at step %lld (%s), expected progress. It was ended%s", k, most,
                    (long long)atomic_load(&slot->step), atomic_load(&slot->doing), what_now(atomic_load(&slot->doing)));
            atomic_store(&slot->result, RANK_FAILED);
            kill(w->pid[k], SIGKILL);
            leave(w, k);
        }
    }
}

/* A request to stop may catch one rank while it loads, and another when it is done with that and waits for the first. The others are
 * not killed as after a failure: they may be saving. But a second later whoever waits for a rank does so in vain, and who then stands
 * still waits for a card that does. */
static void look_stopped(struct watch *w)
{
    const struct err *words = NULL;
    double now = clock_s();
    if (w->stopped == 0 || now - w->stopped <= GRACE_S)
        return;
    atomic_store(&w->s->leave, 1);
    for (int k = 0; k < w->s->ranks; k++)
        if (atomic_load(&w->s->slot[k].result) == RANK_FAILED && w->s->slot[k].error.code == ERR_STOPPED)
            words = &w->s->slot[k].error;
    for (int k = 0; k < w->s->ranks && words != NULL; k++) {
        struct rank_slot *slot = &w->s->slot[k];
        bool stuck = now - w->stopped > STUCK_S && now - w->moved[k] > STUCK_S && strcmp(atomic_load(&slot->doing), "saving") != 0;
        if (w->pid[k] == 0 || !stuck || atomic_load(&slot->result) != RANK_RUNNING)
            continue;
        slot->error = *words;
        atomic_store(&slot->result, RANK_FAILED);
        kill(w->pid[k], SIGKILL);
    }
}

static bool any_left(const struct watch *w)
{
    for (int k = 0; k < w->s->ranks; k++)
        if (w->pid[k] != 0)
            return true;
    return false;
}

static void kill_all(struct watch *w)
{
    w->killed = true;
    for (int k = 0; k < w->s->ranks; k++)
        if (w->pid[k] != 0)
            kill(w->pid[k], SIGKILL);
}

static void watch(struct watch *w)
{
    while (any_left(w)) {
        int sig = stop_signal(), none = 0;
        if (sig != 0) /* the children may not have received it themselves */
            atomic_compare_exchange_strong(&w->s->stop, &none, sig);
        reap(w);
        look(w);
        look_stopped(w);
        if (w->left != 0 && !w->killed && clock_s() - w->left > GRACE_S)
            kill_all(w);
        if (any_left(w))
            nanosleep(&(struct timespec){0, (long)(LOOK_S * 1e9)}, NULL);
    }
}

/* What the run as a whole came to. */
static int verdict(const struct watch *w, struct err *e)
{
    const struct ranks_shared *s = w->s;
    int first = atomic_load(&s->first_failed) - 1, stopped = -1;
    if (first >= 0) {
        *e = s->slot[first].error;
        return -1;
    }
    for (int k = s->ranks - 1; k >= 0; k--)
        if (atomic_load(&s->slot[k].result) != RANK_GOOD)
            stopped = k;
    if (stopped < 0)
        return 0;
    *e = s->slot[stopped].error;
    return -1;
}

static int start(struct watch *w, int (*body)(struct comm *, void *, struct err *), void *arg, struct err *e)
{
    double now = clock_s();
    fflush(stdout);
    fflush(stderr);
    for (int k = 0; k < w->s->ranks; k++) {
        pid_t pid = fork();
        if (pid == 0)
            child(w->s, k, body, arg);
        if (pid < 0) {
            int saved = errno;
            kill_all(w);
            watch(w);
            return err_errno(e, ERR_PEER, saved, "starting rank %d of %d", k, w->s->ranks);
        }
        w->pid[k] = pid;
        w->moved[k] = now;
    }
    return 0;
}

int ranks_run(const struct ranks_options *o, int (*body)(struct comm *c, void *arg, struct err *e), void *arg, struct err *e)
{
    struct watch w = {.options = o};
    if (o->ranks < 1 || o->ranks > RANKS_MAX)
        FAIL(e, ERR_CONFIG, "compute.ranks: %d, expected 1 to %d", o->ranks, RANKS_MAX);
    w.bytes = sizeof *w.s + 2 * (size_t)o->ranks * RANKS_CHUNK * sizeof(float);
    w.s = mmap(NULL, w.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w.s == MAP_FAILED)
        return err_errno(e, ERR_PEER, errno, "the memory that %d ranks share, %zu bytes", o->ranks, w.bytes);
    w.s->ranks = o->ranks;
    for (int k = 0; k < o->ranks; k++) {
        atomic_store(&w.s->slot[k].result, RANK_RUNNING);
        atomic_store(&w.s->slot[k].doing, "starting");
    }
    int rc = start(&w, body, arg, e);
    if (rc == 0) {
        watch(&w);
        rc = verdict(&w, e);
    }
    munmap(w.s, w.bytes);
    return rc;
}
