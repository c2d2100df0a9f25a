/* rng.h - counter-based random numbers: a pure function of key and counter, so nothing has to be saved to resume.
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
#ifndef LORAT_RNG_H
#define LORAT_RNG_H

#include <stdint.h>

enum rng_purpose { RNG_INIT = 1, RNG_ORDER = 2, RNG_DROPOUT = 3, RNG_SAMPLE = 4, RNG_SPLIT = 5 };

struct rng4 {
    uint32_t v[4];
};
static inline struct rng4 rng_philox(uint64_t key, const uint32_t counter[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (struct rng4){{c0, c1, c2, c3}};
}
/* Four words for (seed, purpose, a, b, c). Same arguments, same words, on every machine and backend. */
static inline struct rng4 rng_at(uint64_t seed, enum rng_purpose purpose, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t counter[4] = {a, b, c, (uint32_t)purpose};
    return rng_philox(seed, counter);
}
/* 24 random bits as [0, 1). */
static inline float rng_unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* A seeded permutation of 0..n-1 evaluated one index at a time, no table: a 6-round Feistel network over the next even power
 * of two with cycle walking. The same result everywhere; n >= 1, i < n. */
uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i);

#endif
