/* nccl.cpp - NCCL of the simulated cards: ranks are processes of this machine, as they are for lorat, and meet in a memory file of the
 * first one's, which is named by the identifier. Takes the place of kernels/cuda/nccl_load.cu.
 *
 * An operation has two halves. What a rank gives is written to the file when the call is made, once everything queued before it on the
 * stream has run; what it gets is read in the operation's turn on the stream, as late as everything else here. So neither a call nor a
 * query waits for another rank, a result is never there too early, and ranks that make the same calls in the same order always get on.
 *
 *   the file   | SimMeeting | operation 0: part of rank 0, of rank 1, ... | operation 1: ... |      read parts are given back
 *
 * Sums go in rank order. LORAT_SIM_NCCL=none: the library is not there. */
#include "kernels/cuda/nccl_load.h"
#include "tests/sim/sim.h"

#include <atomic>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

enum { MEETING_BYTES = 1 << 16, WAIT_S = 120 };
struct SimMeeting {
    std::atomic<int> joined;
    std::atomic<int64_t> given[SIM_MAX_CARDS], taken[SIM_MAX_CARDS]; /* operations of a rank */
};
struct SimNccl {
    int fd, ranks, rank;
    SimMeeting *meeting;
    int64_t calls, at;              /* operations so far; where the next one's parts begin in the file */
    std::vector<int64_t> begin;     /* of each operation */
    int64_t freed;                  /* operations whose parts were given back */
};

/* Until `reached`, or the test ends with a finding: what a real card would do is hang. */
static void wait_for(const char *what, const SimNccl *n, const std::atomic<int64_t> *count, int64_t reached)
{
    for (int64_t turn = 0; count->load() < reached; turn++) {
        if (turn > 1000)
            nanosleep((const struct timespec[]){{0, 100000}}, nullptr);
        if (turn > (int64_t)WAIT_S * 8000)
            sim_die("NCCL: %s: rank %d waits for another rank for more than %d s", what, n->rank, WAIT_S);
    }
}

/* ---- the library's functions ---- */

static int version(int *out) { return *out = 22809, NCCL_OK; }
static const char *error_string(int rc) { return rc == NCCL_OK ? "no error" : "unhandled system error"; }
static const char *last_error(void *) { return ""; }
static int async_error(void *, int *rc) { return *rc = NCCL_OK; }

static int id(struct nccl_id *out)
{
    int fd = memfd_create("lorat-sim-nccl", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, MEETING_BYTES) != 0)
        return 2;
    memset(out, 0, sizeof *out);
    snprintf(out->bytes, sizeof out->bytes, "/proc/%d/fd/%d", (int)getpid(), fd);
    return NCCL_OK;
}

static int open_comm(void **comm, int ranks, struct nccl_id which, int rank)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    int fd = open(which.bytes, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(nullptr, MEETING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED || ranks > SIM_MAX_CARDS)
        return 2;
    SimNccl *n = new SimNccl{fd, ranks, rank, (SimMeeting *)p, 0, MEETING_BYTES, {}, 0};
    n->meeting->joined++;
    for (int64_t turn = 0; n->meeting->joined.load() < ranks; turn++) {
        nanosleep((const struct timespec[]){{0, 100000}}, nullptr);
        if (turn > (int64_t)WAIT_S * 8000)
            sim_die("NCCL: rank %d is alone for more than %d s, expected %d ranks", rank, WAIT_S, ranks);
    }
    *comm = n;
    return NCCL_OK;
}
static int close_comm(void *comm)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    SimNccl *n = (SimNccl *)comm;
    sim_run_all();
    munmap(n->meeting, MEETING_BYTES);
    close(n->fd);
    delete n;
    return NCCL_OK;
}

static void transfer(const SimNccl *n, bool write, void *p, size_t bytes, int64_t at)
{
    for (size_t done = 0; done < bytes;) {
        char *from = (char *)p + done;
        ssize_t got = write ? pwrite(n->fd, from, bytes - done, at + (int64_t)done) : pread(n->fd, from, bytes - done, at + (int64_t)done);
        if (got <= 0 && errno != EINTR)
            sim_die("NCCL: the ranks' memory file: %s", strerror(errno));
        done += got > 0 ? (size_t)got : 0;
    }
}

/* Give back the parts that every rank has read. */
static void forget_read(SimNccl *n)
{
    int64_t all = n->calls;
    for (int r = 0; r < n->ranks; r++)
        all = n->meeting->taken[r].load() < all ? n->meeting->taken[r].load() : all;
    if (all > n->freed && all < (int64_t)n->begin.size())
        fallocate(n->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, n->begin[(size_t)n->freed], n->begin[(size_t)all] - n->begin[(size_t)n->freed]);
    if (all < (int64_t)n->begin.size())
        n->freed = all;
}

/* The first half: what this rank gives, `bytes` of src. Returns the operation's number, or -1 after an error of the card. */
static int64_t give(SimNccl *n, const void *src, size_t bytes, cudaStream_t stream)
{
    std::vector<char> part(bytes);
    sim_check_range("source", src, bytes, sim_device());
    cudaError_t rc = sim_queue(stream, "NCCL", [&] {
        if (sim_track.read)
            sim_track.read(src, bytes, -1);
        memcpy(part.data(), src, bytes);
    });
    if (rc != cudaSuccess || sim_wait(stream) != cudaSuccess)
        return -1;
    int64_t mine = n->calls++;
    n->begin.push_back(n->at);
    transfer(n, true, part.data(), bytes, n->at + n->rank * (int64_t)bytes);
    n->at += n->ranks * (int64_t)bytes;
    n->meeting->given[n->rank].store(mine + 1);
    forget_read(n);
    return mine;
}
/* Within the second half: rank r's part, once it is there. */
static void take(SimNccl *n, int64_t call, int r, size_t bytes, std::vector<char> *part)
{
    wait_for("an operation", n, &n->meeting->given[r], call + 1);
    part->resize(bytes);
    transfer(n, false, part->data(), bytes, n->begin[(size_t)call] + r * (int64_t)bytes);
}

/* Has every rank given its part? */
static bool all_given(const SimNccl *n, int64_t call)
{
    for (int r = 0; r < n->ranks; r++)
        if (n->meeting->given[r].load() <= call)
            return false;
    return true;
}

static int all_reduce(const void *src, void *dst, size_t count, int type, int op, void *comm, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    SimNccl *n = (SimNccl *)comm;
    size_t bytes = count * sizeof(float);
    if (type != NCCL_FLOAT32 || op != NCCL_SUM)
        return 4;
    sim_check_range("destination", dst, bytes, sim_device());
    int64_t call = give(n, src, bytes, stream);
    if (call < 0)
        return 1;
    return sim_queue(stream, "ncclAllReduce", [=] {
               std::vector<char> part;
               std::vector<float> sum(count);
               for (int r = 0; r < n->ranks; r++) {
                   take(n, call, r, bytes, &part);
                   for (size_t i = 0; i < count; i++) {
                       float v;
                       memcpy(&v, part.data() + i * sizeof v, sizeof v);
                       sum[i] = r == 0 ? v : sum[i] + v;
                   }
               }
               memcpy(dst, sum.data(), bytes);
               if (sim_track.write)
                   sim_track.write(dst, bytes, -1);
               n->meeting->taken[n->rank].store(call + 1);
           }, cudaSuccess, [=] { return all_given(n, call); }) == cudaSuccess
               ? NCCL_OK
               : 1;
}

static int all_gather(const void *src, void *dst, size_t count_each, int type, void *comm, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> hold(sim_lock());
    SimNccl *n = (SimNccl *)comm;
    if (type != NCCL_UINT8)
        return 4;
    sim_check_range("destination", dst, count_each * (size_t)n->ranks, sim_device());
    int64_t call = give(n, src, count_each, stream);
    if (call < 0)
        return 1;
    return sim_queue(stream, "ncclAllGather", [=] {
               std::vector<char> part;
               for (int r = 0; r < n->ranks; r++) {
                   take(n, call, r, count_each, &part);
                   memcpy((char *)dst + (size_t)r * count_each, part.data(), count_each);
               }
               if (sim_track.write)
                   sim_track.write(dst, count_each * (size_t)n->ranks, -1);
               n->meeting->taken[n->rank].store(call + 1);
           }, cudaSuccess, [=] { return all_given(n, call); }) == cudaSuccess
               ? NCCL_OK
               : 1;
}

const struct nccl_api *nccl_load(struct err *e)
{
    static const struct nccl_api api = {version, error_string, last_error, id, open_comm, close_comm, async_error, all_reduce, all_gather};
    const char *text = getenv("LORAT_SIM_NCCL");
    if (text && strcmp(text, "none") == 0) {
        err_set(e, ERR_DEVICE, "NCCL: libnccl.so.2 is not there, expected it for several cards");
        return nullptr;
    }
    return &api;
}
