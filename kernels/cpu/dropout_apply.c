/* dropout_apply.c - the mask is generated VW counters at a time: lane l of a group of 4 VW elements makes the words of
 * elements 4l .. 4l+3. The formula is ops.h's. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

#include "trainer/base/rng.h"

enum { GROUP = 4 * VW };

/* rng_at(key, RNG_DROPOUT, a, b0 + lane, module) of VW lanes: words[w][lane]. */
INLINE void philox_lanes(uint64_t key, uint32_t a, uint32_t b0, uint32_t module, uint32_t words[4][VW])
{
    uint32_t c0[VW], c1[VW], c2[VW], c3[VW], k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int l = 0; l < VW; l++) {
        c0[l] = a;
        c1[l] = b0 + (uint32_t)l;
        c2[l] = module;
        c3[l] = RNG_DROPOUT;
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < VW; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c1[l] = (uint32_t)p1;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(words[0], c0, sizeof(c0));
    memcpy(words[1], c1, sizeof(c1));
    memcpy(words[2], c2, sizeof(c2));
    memcpy(words[3], c3, sizeof(c3));
}

INLINE void drop_row(void *y, const void *x, int64_t at, int32_t d, uint32_t key, const struct dropout *drop, bool accumulate,
                     bool half)
{
    uint64_t seed = dropout_key(drop);
    float scale = 1.0f / (1.0f - drop->p);
    for (int32_t j0 = 0; j0 < d; j0 += GROUP) {
        uint32_t words[4][VW];
        float factor[GROUP];
        philox_lanes(seed, key, (uint32_t)j0 / 4, drop->module, words);
        for (int l = 0; l < VW; l++)
            for (int w = 0; w < 4; w++)
                factor[4 * l + w] = (float)(int32_t)(words[w][l] >> 8) * 0x1p-24f >= drop->p ? scale : 0.0f;
        int32_t end = d - j0 < GROUP ? d - j0 : GROUP;
        for (int32_t j = 0; j < end; j += VW) {
            vf v = load_n(x, at + j0 + j, end - j, half) * load(factor, j, false);
            if (accumulate)
                v += load_n(y, at + j0 + j, end - j, half);
            store_n(y, at + j0 + j, end - j, v, half);
        }
    }
}

void CPU(dropout_apply)(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d,
                        const struct dropout *drop, bool accumulate)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool half = o->act == DT_BF16;
#pragma omp parallel for num_threads(c->threads) schedule(static) if ((int64_t)n * d > CPU_PARALLEL)
    for (int32_t i = 0; i < n; i++) {
        if (half)
            drop_row(y, x, (int64_t)i * d, d, keys[i], drop, accumulate, true);
        else
            drop_row(y, x, (int64_t)i * d, d, keys[i], drop, accumulate, false);
    }
}
