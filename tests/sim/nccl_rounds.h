/* nccl_rounds.h - what NCCL's place in the backend must do: sums in rank order with the same bits, gathers as fetches of a slot,
 * both between operations that use the same memory. On simulated cards (test_nccl.c) and on real ones (tests/gpu/gpu_nccl.c).
 * With more than two ranks the order of a real NCCL's sums is its own: there only one and two are compared bit for bit. */
#ifndef LORAT_TESTS_NCCL_ROUNDS_H
#define LORAT_TESTS_NCCL_ROUNDS_H

#include "kernels/cuda/plugin.h"
#include "tests/check.h"

enum { NCCL_COUNT = 10007, NCCL_SHARD = 512 * 3, NCCL_ROUNDS = 6 };

static inline float nccl_term(int rank, int round, int i)
{
    return (rank % 2 ? -1.0f : 1.0f) * (float)((i * 7919 + rank * 104729 + round) % 1000) * (rank == 1 ? 1e4f : 1e-2f);
}
static inline char nccl_letter(int rank, int round, int i) { return (char)(rank * 31 + round * 7 + i % 61); }

static inline void nccl_wait_done(const struct cuda_nccl *t, struct cuda_nccl_comm *n)
{
    struct err e = {0};
    bool done = false;
    while (!done && check_failures == 0)
        CHECK_OK(t->done(n, &done, &e), &e);
}

static inline void nccl_sums(struct ops *o, const struct cuda_nccl *t, struct cuda_nccl_comm *n, int ranks, int rank, float *p)
{
    static float host[NCCL_COUNT], got[NCCL_COUNT];
    struct err e = {0};
    for (int round = 0; round < NCCL_ROUNDS; round++) {
        for (int i = 0; i < NCCL_COUNT; i++)
            host[i] = nccl_term(rank, round, i);
        o->upload(o, p, host, sizeof host);
        CHECK_OK(t->sum(n, p, NCCL_COUNT, &e), &e);
        if (round % 2)
            nccl_wait_done(t, n);
        CHECK_OK(o->download(o, got, p, sizeof got, &e), &e);
        size_t wrong = 0;
        for (int i = 0; i < NCCL_COUNT; i++) {
            float want = nccl_term(0, round, i);
            for (int r = 1; r < ranks; r++)
                want += nccl_term(r, round, i);
            wrong += memcmp(&want, &got[i], sizeof want) != 0;
        }
        CHECK_INT(wrong, 0);
    }
}

static inline void nccl_gathers(struct ops *o, const struct cuda_nccl *t, struct cuda_nccl_comm *n, int ranks, int rank,
                                char *shard, char *slots, char *out)
{
    static char host[NCCL_SHARD], got[NCCL_ROUNDS * 4 * NCCL_SHARD];
    size_t each = NCCL_SHARD, whole = (size_t)ranks * NCCL_SHARD;
    struct err e = {0};
    for (int round = 0; round < NCCL_ROUNDS;
         round++) { /* what is read of a slot is kept; the slot is filled anew two rounds on */
        for (int i = 0; i < NCCL_SHARD; i++)
            host[i] = nccl_letter(rank, round, i);
        o->upload(o, shard, host, each);
        CHECK_OK(t->gather(n, round % FETCH_SLOTS, slots + (size_t)(round % FETCH_SLOTS) * whole, shard, each, &e), &e);
        o->fetch_wait(o, round % FETCH_SLOTS);
        o->copy_2d(o, out + (size_t)round * whole, (int)(whole / 4), slots + (size_t)(round % FETCH_SLOTS) * whole,
                   (int)(whole / 4), 1, (int)(whole / 4));
    }
    CHECK_OK(o->download(o, got, out, NCCL_ROUNDS * whole, &e), &e);
    size_t wrong = 0;
    for (int round = 0; round < NCCL_ROUNDS; round++)
        for (int r = 0; r < ranks; r++)
            for (int i = 0; i < NCCL_SHARD; i++)
                wrong += got[(size_t)round * whole + (size_t)r * each + (size_t)i] != nccl_letter(r, round, i);
    CHECK_INT(wrong, 0);
}

/* One rank, on the card of its number. */
static inline void nccl_rounds(const struct cuda_plugin *plugin, const char id[CUDA_NCCL_ID], int ranks, int rank)
{
    struct cuda_nccl_comm *n = NULL;
    struct ops *o = NULL;
    struct err e = {0};
    void *p = NULL, *shard = NULL, *slots = NULL, *out = NULL;
    CHECK_OK(plugin->open(rank, DT_F32, &o, &e), &e);
    if (o == NULL)
        return;
    CHECK_OK(plugin->nccl->open(o, id, ranks, rank, &n, &e), &e);
    if (n == NULL)
        return;
    CHECK_OK(o->alloc(o, NCCL_COUNT * sizeof(float), &p, &e), &e);
    CHECK_OK(o->alloc(o, NCCL_SHARD, &shard, &e), &e);
    CHECK_OK(o->alloc(o, (size_t)ranks * FETCH_SLOTS * NCCL_SHARD, &slots, &e), &e);
    CHECK_OK(o->alloc(o, (size_t)ranks * NCCL_ROUNDS * NCCL_SHARD, &out, &e), &e);
    nccl_sums(o, plugin->nccl, n, ranks, rank, p);
    nccl_gathers(o, plugin->nccl, n, ranks, rank, shard, slots, out);
    nccl_sums(o, plugin->nccl, n, ranks, rank, p);
    plugin->nccl->close(n);
    o->release(o, p);
    o->release(o, shard);
    o->release(o, slots);
    o->release(o, out);
    o->close(o);
}

#endif
