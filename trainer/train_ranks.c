#include "trainer/train_ranks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/plan.h"

/* What the asking process sends back. */
struct answer {
    int rc;
    struct err error;
    struct train_ranks ranks;
};

static void ask(const struct config *c, struct answer *a)
{
    struct cuda_card cards[DEVICE_MAX_CARDS];
    int n;
    a->rc = device_cards(c, cards, &n, &a->ranks.left_out, &a->error);
    if (a->rc != 0)
        return;
    a->ranks.n = n;
    a->ranks.cuda = true;
    memcpy(a->ranks.cards, cards, sizeof a->ranks.cards);
}

/* The driver must not be started in a process that forks later: another one asks. */
static int ask_apart(const struct config *c, struct answer *a, struct err *e)
{
    int ends[2], status;
    size_t got = 0;
    ssize_t n = 0;
    if (pipe(ends) != 0)
        return err_errno(e, ERR_DEVICE, errno, "asking for the cards");
    pid_t child = fork();
    if (child == 0) {
        struct err ignored;
        memset(a, 0, sizeof *a);
        ask(c, a);
        io_write_all(ends[1], "the answer", a, sizeof *a, &ignored);
        _exit(0);
    }
    int saved = errno;
    close(ends[1]);
    while (child > 0 && got < sizeof *a && ((n = read(ends[0], (char *)a + got, sizeof *a - got)) > 0 || (n < 0 && errno == EINTR)))
        got += n > 0 ? (size_t)n : 0;
    close(ends[0]);
    if (child < 0)
        return err_errno(e, ERR_DEVICE, saved, "asking for the cards");
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (got < sizeof *a)
        FAIL(e, ERR_DEVICE,
             "compute.gpus: the process that asked the driver for its cards ended early (%s %d), expected an answer. See what nvidia-smi "
             "says, or set compute.device: cpu",
             WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (a->rc != 0)
        *e = a->error;
    return a->rc;
}

int train_ranks_cuda(const struct config *c, struct err *e)
{
    if (c->compute.ranks > 1)
        FAIL(e, ERR_CONFIG,
             "compute.ranks: found %d, expected 1 on CUDA, where each card of compute.gpus has a rank. Remove it, or set "
             "compute.device: cpu",
             c->compute.ranks);
    return 0;
}

int train_ranks(const struct config *c, struct train_ranks *out, struct err *e)
{
    struct answer a;
    *out = (struct train_ranks){.n = c->compute.ranks};
    if (device_is_cpu(c)) {
        if (c->compute.gpus != 0 && c->compute.device == DEVICE_AUTO) /* hours on the CPU are not what was meant */
            FAIL(e, ERR_DEVICE,
                 "compute.gpus: names cards, and there is no sign of an NVIDIA card here, expected them. `lorat doctor` looks for them; to "
                 "run on the CPU set compute.device: cpu, and `lorat plan JOB --on 2x3090` plans for cards elsewhere");
        if (c->compute.gpus != 0)
            log_note("compute.gpus: names cards, and compute.device is cpu: they are not used");
        return 0;
    }
    TRY(train_ranks_cuda(c, e));
    TRY(ask_apart(c, &a, e));
    *out = a.ranks;
    if (c->compute.gpus != 0)
        return 0;
    while (c->train.batch % out->n != 0)
        out->n--;
    if (out->n < a.ranks.n)
        log_warn("train.batch: %d rows are no multiple of %d cards, so %d %s used", c->train.batch, a.ranks.n, out->n, out->n == 1 ? "is" : "are");
    return 0;
}

void train_ranks_job(const struct config *c, const struct train_ranks *r, int rank, struct config *out)
{
    *out = *c;
    if (r->cuda) {
        out->compute.gpus = 1u << r->cards[rank].index;
        return;
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->compute.threads == 0 && r->n > 1)
        out->compute.threads = cores > r->n ? (int32_t)(cores / r->n) : 1;
}

int train_ranks_join(struct comm *c, struct ops *o, double timeout_s, const char *what, struct err *e)
{
    const struct cuda_plugin *plugin;
    struct err why = {0};
    bool there;
    if (c->ranks == 1 || o->unified)
        return 0;
    TRY(plugin_cuda(&plugin, e));
    if (comm_nccl(c, o, plugin->nccl, timeout_s, &there, &why) != 0) {
        *e = why;
        return -1;
    }
    if (!there && c->rank == 0)
        log_warn("%s. %s go through the host's memory instead", why.text, what);
    return 0;
}

/* The first of the slowest and of the fastest. */
static void ends(const double *rate, int n, int *slowest, int *fastest)
{
    *slowest = *fastest = 0;
    for (int i = 1; i < n; i++) {
        if (rate[i] < rate[*slowest])
            *slowest = i;
        if (rate[i] > rate[*fastest])
            *fastest = i;
    }
}

int train_ranks_slowest(const struct train_ranks *r, struct comm *c, double measured, char *out, size_t size, struct err *e)
{
    double rate[DEVICE_MAX_CARDS];
    int slowest, fastest;
    bool known = true;
    for (int i = 0; i < r->n; i++) {
        rate[i] = plan_card_peak(r->cards[i].name);
        known = known && rate[i] > 0;
    }
    if (!known) {
        memset(rate, 0, sizeof rate);
        rate[c->rank] = measured;
        TRY(c->sum_host(c, rate, r->n, e));
    }
    ends(rate, r->n, &slowest, &fastest);
    out[0] = '\0';
    if (rate[slowest] > 0 && rate[slowest] < rate[fastest])
        snprintf(out, size, "card %d is the %s %s, %.3g against %.3g TFLOP/s", r->cards[slowest].index, r->n > 2 ? "slowest" : "slower",
                 known ? "by its maker's table" : "as measured now", 1e-12 * rate[slowest], 1e-12 * rate[fastest]);
    return 0;
}
