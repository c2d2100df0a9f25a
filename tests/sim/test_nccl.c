/* test_nccl.c - NCCL's place in the backend, on simulated cards: one rank, and two and three processes with a card each. Sums in rank
 * order with the same bits, gathers as fetches of a slot, both between operations that use the same memory. Also what stands before:
 * without NCCL there is a sentence. (The real library: scripts/gpu-check.sh runs the same with one rank on a card.) */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "tests/sim/control.h"

enum { COUNT = 10007, SHARD = 512 * 3, ROUNDS = 6 };

static float term(int rank, int round, int i) { return (rank % 2 ? -1.0f : 1.0f) * (float)((i * 7919 + rank * 104729 + round) % 1000) * (rank == 1 ? 1e4f : 1e-2f); }
static char letter(int rank, int round, int i) { return (char)(rank * 31 + round * 7 + i % 61); }

static void wait_done(const struct cuda_nccl *t, struct cuda_nccl_comm *n)
{
    struct err e = {0};
    bool done = false;
    while (!done && check_failures == 0)
        CHECK_OK(t->done(n, &done, &e), &e);
}

static void sums(struct ops *o, const struct cuda_nccl *t, struct cuda_nccl_comm *n, int ranks, int rank, float *p)
{
    static float host[COUNT], got[COUNT];
    struct err e = {0};
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            host[i] = term(rank, round, i);
        o->upload(o, p, host, sizeof host);
        CHECK_OK(t->sum(n, p, COUNT, &e), &e);
        if (round % 2)
            wait_done(t, n);
        CHECK_OK(o->download(o, got, p, sizeof got, &e), &e);
        size_t wrong = 0;
        for (int i = 0; i < COUNT; i++) {
            float want = term(0, round, i);
            for (int r = 1; r < ranks; r++)
                want += term(r, round, i);
            wrong += memcmp(&want, &got[i], sizeof want) != 0;
        }
        CHECK_INT(wrong, 0);
    }
}

static void gathers(struct ops *o, const struct cuda_nccl *t, struct cuda_nccl_comm *n, int ranks, int rank, char *shard, char *slots, char *out)
{
    static char host[SHARD], got[ROUNDS * 4 * SHARD];
    size_t each = SHARD, whole = (size_t)ranks * SHARD;
    struct err e = {0};
    for (int round = 0; round < ROUNDS; round++) { /* what is read of a slot is kept; the slot is filled anew two rounds on */
        for (int i = 0; i < SHARD; i++)
            host[i] = letter(rank, round, i);
        o->upload(o, shard, host, each);
        CHECK_OK(t->gather(n, round % FETCH_SLOTS, slots + (size_t)(round % FETCH_SLOTS) * whole, shard, each, &e), &e);
        o->fetch_wait(o, round % FETCH_SLOTS);
        o->copy_2d(o, out + (size_t)round * whole, (int)(whole / 4), slots + (size_t)(round % FETCH_SLOTS) * whole, (int)(whole / 4), 1, (int)(whole / 4));
    }
    CHECK_OK(o->download(o, got, out, ROUNDS * whole, &e), &e);
    size_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int r = 0; r < ranks; r++)
            for (int i = 0; i < SHARD; i++)
                wrong += got[(size_t)round * whole + (size_t)r * each + (size_t)i] != letter(r, round, i);
    CHECK_INT(wrong, 0);
}

static void as_rank(const char id[CUDA_NCCL_ID], int ranks, int rank)
{
    const struct cuda_plugin *plugin = lorat_cuda_plugin();
    struct cuda_nccl_comm *n = NULL;
    struct ops *o = NULL;
    struct err e = {0};
    void *p = NULL, *shard = NULL, *slots = NULL, *out = NULL;
    CHECK_OK(plugin->open(rank, DT_F32, &o, &e), &e);
    CHECK_OK(plugin->nccl->open(o, id, ranks, rank, &n, &e), &e);
    if (n == NULL)
        return;
    CHECK_OK(o->alloc(o, COUNT * sizeof(float), &p, &e), &e);
    CHECK_OK(o->alloc(o, SHARD, &shard, &e), &e);
    CHECK_OK(o->alloc(o, (size_t)ranks * FETCH_SLOTS * SHARD, &slots, &e), &e);
    CHECK_OK(o->alloc(o, (size_t)ranks * ROUNDS * SHARD, &out, &e), &e);
    sums(o, plugin->nccl, n, ranks, rank, p);
    gathers(o, plugin->nccl, n, ranks, rank, shard, slots, out);
    sums(o, plugin->nccl, n, ranks, rank, p);
    plugin->nccl->close(n);
    o->release(o, p);
    o->release(o, shard);
    o->release(o, slots);
    o->release(o, out);
    o->close(o);
    sim_finish();
}

/* Each rank is a process; the simulator begins in it. */
static void run(int ranks, const char *streams)
{
    char *id = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child[4];
    for (int rank = 0; rank < ranks; rank++)
        if ((child[rank] = fork()) == 0) {
            struct err e = {0};
            sim_set_streams(streams);
            if (rank == 0) {
                CHECK_OK(lorat_cuda_plugin()->nccl->id(id, &e), &e);
                __atomic_store_n(id + CUDA_NCCL_ID, 1, __ATOMIC_SEQ_CST);
            }
            while (__atomic_load_n(id + CUDA_NCCL_ID, __ATOMIC_SEQ_CST) == 0)
                usleep(100);
            as_rank(id, ranks, rank);
            _exit(check_failures > 0);
        }
    for (int rank = 0; rank < ranks; rank++) {
        int status = -1;
        waitpid(child[rank], &status, 0);
        CHECK_INT(status, 0);
    }
    munmap(id, 4096);
}

int main(void)
{
    setenv("LORAT_SIM_CARDS", "3090,3090,3090", 1);
    for (int ranks = 1; ranks <= 3; ranks++) {
        run(ranks, "lazy");
        run(ranks, "others");
        run(ranks, "mix:7");
    }
    if (fork() == 0) {
        char id[CUDA_NCCL_ID];
        struct err e = {0};
        setenv("LORAT_SIM_NCCL", "none", 1);
        CHECK_INT(lorat_cuda_plugin()->nccl->id(id, &e), -1);
        CHECK_INT(e.code, ERR_DEVICE);
        CHECK_HAS(e.text, "libnccl.so.2 is not there");
        _exit(check_failures > 0);
    }
    int status = -1;
    wait(&status);
    CHECK_INT(status, 0);
    return check_done();
}
