/* twins.h - what gpu_twins.c asks of the two builds of twins.cu: one for a card (nvcc), one for the simulator (its host twins).
 */
#ifndef LORAT_TESTS_TWINS_H
#define LORAT_TESTS_TWINS_H

#include <stddef.h>
#include <stdint.h>

/* What the inputs are, one 32-bit word each. */
enum twin_input {
    IN_WORDS,     /* any bits */
    IN_FLOATS,    /* F32 in -160..20, some infinities and NaNs */
    IN_POSITIVE,  /* F32 from the smallest normal number to 2^60 */
    IN_INTEGERS,  /* pairs of BF16 integers in -8..8: products and sums are exact whatever their order */
    IN_FRACTIONS, /* pairs of BF16 in -1..1 */
};
/* How results are compared, one 32-bit word each. */
enum twin_compare {
    SAME_BITS,
    SAME_BF16,  /* as pairs of BF16; any NaN equals any NaN */
    NEAR_RATIO, /* as F32: within tolerance x the value; NaN equals NaN; both below the smallest normal number are equal */
    NEAR_SUM,   /* as F32: within tolerance */
};
/* X(name, input, compare, tolerance, input words a thread, output words a thread, warps). Tolerances: device.cuh for the
 * approximate functions; a matrix product adds 17 numbers below 1 in an order of its own, each addition within 2^-23 of a sum
 * below 17. */
#define TWIN_LIST(X)                                                                                                             \
    X(shared_aligned, IN_WORDS, SAME_BITS, 0, 1, 1, 2)                                                                           \
    X(shuffles, IN_WORDS, SAME_BITS, 0, 2, 17, 2)                                                                                \
    X(ballot, IN_WORDS, SAME_BITS, 0, 1, 1, 2)                                                                                   \
    X(atomics, IN_WORDS, SAME_BITS, 0, 1, 2, 4)                                                                                  \
    X(async_copy, IN_WORDS, SAME_BITS, 0, 8, 8, 4)                                                                               \
    X(ldmatrix, IN_WORDS, SAME_BITS, 0, 4, 12, 1)                                                                                \
    X(mma_exact, IN_INTEGERS, SAME_BITS, 0, 10, 4, 1)                                                                            \
    X(mma_near, IN_FRACTIONS, NEAR_SUM, 17.0 * 17.0 / 8388608.0, 10, 4, 1)                                                       \
    X(exp2_fast, IN_FLOATS, NEAR_RATIO, 1.0 / 2097152.0, 1, 1, 4)                                                                \
    X(inv_sqrt, IN_POSITIVE, NEAR_RATIO, 1.0 / 4194304.0, 1, 1, 4)                                                               \
    X(bf16_round, IN_WORDS, SAME_BF16, 0, 1, 1, 4)                                                                               \
    X(bf16_pair, IN_WORDS, SAME_BF16, 0, 2, 1, 4)                                                                                \
    X(reductions, IN_FRACTIONS, SAME_BITS, 0, 1, 4, 4)

enum twin {
#define X(name, input, compare, tolerance, in, out, warps) TWIN_##name,
    TWIN_LIST(X)
#undef X
        TWIN_COUNT
};
/* One block of twin `which`: in (threads x its input words), out (threads x its output words), both host memory. NULL, or why
 * not. */
typedef const char *(*twins_run_fn)(int which, const uint32_t *in, size_t in_words, uint32_t *out, size_t out_words, int threads);
#define TWINS_SYMBOL "twins_run"

#endif
