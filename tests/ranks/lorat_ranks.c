/* The lorat program, one of whose ranks goes wrong as LORAT_RANK_FAULT says, "RANK:KIND":
 *
 *   seed         its job has another seed
 *   version      it takes itself for another lorat
 *   open:A=B     where it would open a file whose path ends with A it opens B, as when somebody replaces A at that moment
 *   never        it stands still before it has done anything
 *   die          it is killed there
 *   sum          every sum over ranks comes out with its last bit flipped in the last element
 *   gather       every gather comes out with the first words of rank 0 and rank 1 exchanged
 *   lost         every gather comes out as zeros
 *   hang         it never comes to a gather
 *   attention    its card says that it chose another attention
 *   stopped      it leaves as when a request to stop had found it at the end of loading
 *
 * Ranks are forks of one process and cannot differ of themselves, so three functions are wrapped by the linker (CMakeLists.txt). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/base/io.h"
#include "trainer/lorat_main.h"
#include "trainer/ranks_shared.h"
#include "trainer/train_internal.h"

static struct comm real; /* what the faulty rank's table was before */
static const char *kind; /* of this process's fault; NULL: it is sound */
static struct io_table files;

static bool is(const char *name) { return kind != NULL && strncmp(kind, name, strlen(name)) == 0; }

static void read_fault(int rank)
{
    const char *text = getenv("LORAT_RANK_FAULT");
    char *end;
    if (text != NULL && strtol(text, &end, 10) == rank && *end == ':')
        kind = end + 1;
}

/* The first words of both ranks' parts, exchanged. */
static int exchange_words(struct ops *o, char *all, int64_t bytes_each, struct err *e)
{
    uint32_t a, b;
    TRY(o->download(o, &a, all, sizeof a, e));
    TRY(o->download(o, &b, all + bytes_each, sizeof b, e));
    o->upload(o, all, &b, sizeof b);
    o->upload(o, all + bytes_each, &a, sizeof a);
    return o->sync(o, e);
}

static int bad_gather(struct comm *c, struct ops *o, int slot, void *dst, const void *shard, int64_t bytes_each, struct err *e)
{
    while (is("hang"))
        pause();
    TRY(real.gather(c, o, slot, dst, shard, bytes_each, e));
    o->fetch_wait(o, slot);
    TRY(o->sync(o, e));
    if (is("lost"))
        o->zero(o, dst, (size_t)(bytes_each * c->ranks));
    return is("gather") ? exchange_words(o, dst, bytes_each, e) : o->sync(o, e);
}

static int bad_sum(struct comm *c, struct ops *o, float *p, int64_t count, struct err *e)
{
    uint32_t bits;
    TRY(real.sum(c, o, p, count, e));
    TRY(o->download(o, &bits, p + count - 1, sizeof bits, e));
    bits ^= 1;
    o->upload(o, p + count - 1, &bits, sizeof bits);
    return o->sync(o, e);
}

static int bad_same(struct comm *c, const char *what, const void *data, size_t bytes, struct err *e)
{
    char other[64] = "";
    if (strcmp(what, "lorat") != 0 || bytes > sizeof other)
        return real.same(c, what, data, bytes, e);
    memcpy(other, data, bytes);
    other[0] ^= 1;
    return real.same(c, what, other, bytes, e);
}

static int bad_open(const char *path, int flags, mode_t mode)
{
    static char other[1024];
    size_t n = strlen(path), m = strcspn(kind + 5, "=");
    snprintf(other, sizeof other, "%s", kind + 5 + m + 1);
    bool hit = n >= m && strncmp(path + n - m, kind + 5, m) == 0;
    return io_libc.open(hit ? other : path, flags, mode);
}

static void spoil(struct comm *c)
{
    real = *c;
    if (is("sum"))
        c->sum = bad_sum;
    if (is("gather") || is("lost") || is("hang"))
        c->gather = bad_gather;
    if (is("version"))
        c->same = bad_same;
}

int __real_comm_local(struct ranks_shared *s, int rank, struct comm *out, struct err *e);
int __wrap_comm_local(struct ranks_shared *s, int rank, struct comm *out, struct err *e);
int __wrap_comm_local(struct ranks_shared *s, int rank, struct comm *out, struct err *e)
{
    read_fault(rank);
    TRY(__real_comm_local(s, rank, out, e));
    spoil(out);
    return 0;
}

int __real_comm_nccl(struct comm *c, struct ops *o, const struct cuda_nccl *table, double timeout_s, bool *there, struct err *e);
int __wrap_comm_nccl(struct comm *c, struct ops *o, const struct cuda_nccl *table, double timeout_s, bool *there, struct err *e);
int __wrap_comm_nccl(struct comm *c, struct ops *o, const struct cuda_nccl *table, double timeout_s, bool *there, struct err *e)
{
    TRY(__real_comm_nccl(c, o, table, timeout_s, there, e));
    if (*there)
        spoil(c);
    return 0;
}

static void bad_chosen(struct ops *o, struct buf *out) { buf_puts(out, "4/2/64 cudnn 92801"); }

int __real_run_open(struct run *r, const struct config *c, const struct train_options *t, const struct comm *comm,
                    const struct train_ranks *ranks, struct interconnect *link, struct err *e);
int __wrap_run_open(struct run *r, const struct config *c, const struct train_options *t, const struct comm *comm,
                    const struct train_ranks *ranks, struct interconnect *link, struct err *e);
int __wrap_run_open(struct run *r, const struct config *c, const struct train_options *t, const struct comm *comm,
                    const struct train_ranks *ranks, struct interconnect *link, struct err *e)
{
    static struct config mine;
    mine = *c;
    if (is("seed"))
        mine.seed++;
    if (is("die"))
        raise(SIGKILL);
    while (is("never"))
        pause();
    if (is("open:")) {
        files = io_libc;
        files.open = bad_open;
        io = &files;
    }
    TRY(__real_run_open(r, &mine, t, comm, ranks, link, e));
    if (is("attention"))
        r->job.ops->chosen = bad_chosen;
    if (is("stopped"))
        FAIL(e, ERR_STOPPED, "while the model was loading");
    return 0;
}

int main(int argc, char **argv) { return lorat_main(argc, argv); }
