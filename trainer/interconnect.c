/* interconnect.c - the settings into the environment, and counters and log out of the run. See interconnect.h. */
#include "trainer/interconnect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"

enum { MOST_LOG = 4 << 20 };

static void set_all(const struct interconnect_setting *s, int n, bool speak)
{
    for (int i = 0; i < n; i++) {
        const char *was = getenv(s[i].name);
        if (was != NULL && !s[i].forced)
            continue;
        if (was != NULL && strcmp(was, s[i].value) != 0 && speak)
            log_warn("%s=%.40s in the environment contradicts compute.interconnect; %s is used", s[i].name, was, s[i].value);
        setenv(s[i].name, s[i].value, 1);
    }
}

/* NCCL's log into memory, unless the user wants one for himself. */
static int open_log(void)
{
    char path[32];
    if (getenv("NCCL_DEBUG") != NULL || getenv("NCCL_DEBUG_FILE") != NULL)
        return -1;
    int fd = memfd_create("nccl-log", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    setenv("NCCL_DEBUG", "INFO", 1);
    setenv("NCCL_DEBUG_SUBSYS", "INIT,GRAPH", 0);
    setenv("NCCL_DEBUG_FILE", path, 1);
    return fd;
}

static int prepare(struct interconnect *x, struct comm *comm, struct err *e)
{
    struct machine *m = x->machine;
    struct interconnect_setting settings[INTERCONNECT_MAX_SETTINGS];
    int cards[DEVICE_MAX_CARDS];
    for (int i = 0; i < x->ranks->n; i++)
        cards[i] = x->ranks->cards[i].index;
    if (comm->rank == 0)
        machine_read(m);
    TRY(comm->share(comm, m, sizeof *m, e));
    TRY(interconnect_check(m, cards, x->ranks->n, x->want, e));
    set_all(settings, interconnect_settings(m, cards, x->ranks->n, x->want, settings), comm->rank == 0);
    x->log = open_log();
    if (comm->rank == 0)
        x->links = links_open();
    return 0;
}

int interconnect_open(struct interconnect *x, const struct train_ranks *ranks, enum cfg_interconnect want, struct comm *comm, struct err *e)
{
    *x = (struct interconnect){.want = want, .log = -1};
    if (!ranks->cuda && want != INTERCONNECT_AUTO)
        FAIL(e, ERR_CONFIG, "compute.interconnect: %s, and the job runs on the CPU, expected auto", want == INTERCONNECT_NVLINK ? "nvlink" : "pcie");
    if (!ranks->cuda || (ranks->n < 2 && want == INTERCONNECT_AUTO))
        return 0;
    x->ranks = ranks;
    if ((x->machine = mem_alloc(1, sizeof *x->machine)) == NULL)
        return mem_fail(e, "the machine's description", sizeof *x->machine);
    return prepare(x, comm, e);
}

static bool read_counters(struct interconnect *x, uint64_t sent[LINKS_MAX_CARDS])
{
    uint64_t received;
    for (int i = 0; x->links != NULL && i < x->ranks->n; i++)
        if (!links_bytes(x->links, x->ranks->cards[i].pci, &sent[i], &received))
            return false;
    return x->links != NULL;
}

void interconnect_start(struct interconnect *x)
{
    x->counted = x->ranks != NULL && read_counters(x, x->sent);
}

static void read_log(const struct interconnect *x, struct interconnect_log *out)
{
    struct stat st;
    struct err ignored;
    *out = (struct interconnect_log){0};
    if (x->log < 0 || io->fstat(x->log, &st) != 0 || st.st_size <= 0)
        return;
    size_t n = st.st_size < MOST_LOG ? (size_t)st.st_size : MOST_LOG;
    char *text = mem_alloc(n, 1);
    if (text != NULL && io_pread_all(x->log, "NCCL's log", text, n, 0, &ignored) == 0)
        interconnect_read_log(text, n, out);
    mem_free(text);
}

const char *interconnect_end(struct interconnect *x, int n_ranks, int64_t bytes)
{
    struct interconnect_seen seen = {.ranks = n_ranks, .collective = bytes > 0 ? (uint64_t)bytes : 0};
    uint64_t now[LINKS_MAX_CARDS];
    char proof[200];
    if (n_ranks < 2)
        return "";
    if (x->ranks == NULL)
        return "shared memory";
    seen.counted = x->counted && read_counters(x, now);
    for (int i = 0; seen.counted && i < x->ranks->n; i++)
        if (now[i] - x->sent[i] > seen.nvlink)
            seen.nvlink = now[i] - x->sent[i];
    read_log(x, &seen.log);
    enum machine_way way = interconnect_verdict(&seen, proof);
    log_note("links    %s; %s", machine_way_name(way), proof);
    if (x->want == INTERCONNECT_NVLINK && way != WAY_NVLINK)
        log_warn("compute.interconnect: nvlink was asked for, and that the bytes went that way is not proven: %s", proof);
    if (x->want == INTERCONNECT_PCIE && way == WAY_NVLINK)
        log_warn("compute.interconnect: pcie was asked for, and the bytes went over NVLink: %s", proof);
    return machine_way_name(way);
}

void interconnect_close(struct interconnect *x)
{
    links_close(x->links);
    if (x->log > 0)
        io->close(x->log);
    mem_free(x->machine);
    *x = (struct interconnect){.log = -1};
}
