#include "trainer/base/rng.h"

static uint32_t round_function(uint64_t seed, uint64_t stream, uint32_t half, uint32_t round)
{
    uint32_t counter[4] = {half, round, (uint32_t)stream, (uint32_t)(stream >> 32)};
    return rng_philox(seed, counter).v[0];
}

uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i)
{
    enum { ROUNDS = 6 };
    if (n <= 1)
        return 0;
    int half_bits = (64 - __builtin_clzll(n - 1) + 1) / 2;
    uint32_t mask = half_bits == 32 ? UINT32_MAX : (UINT32_C(1) << half_bits) - 1;
    /* A network over 2^(2 half_bits) < 4 n values is a permutation of them; walking its cycle until below n makes it one of
     * 0..n-1. Fewer than four steps on average. */
    do {
        uint32_t left = (uint32_t)(i >> half_bits), right = (uint32_t)i & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            uint32_t next = left ^ (round_function(seed, stream, right, round) & mask);
            left = right;
            right = next;
        }
        i = (uint64_t)left << half_bits | right;
    } while (i >= n);
    return i;
}
