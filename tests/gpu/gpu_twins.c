/* gpu_twins.c CARD.so TWIN.so [--spoiled] - every wrapper of kernels/cuda/device.cuh: what the first build of twins.cu gives (a
 * card) against the second (the simulator's host twins), over many seeded inputs. --spoiled: one bit of what the first gives is
 * turned, and every wrapper must be found to differ. */
#include <dlfcn.h>

#include "kernels/plugin.h"
#include "tests/check.h"
#include "tests/gpu/twins.h"
#include "trainer/base/bf16.h"
#include "trainer/base/rng.h"

enum { MOST_WORDS = 128 * 17 };

static const struct twin_case {
    const char *name;
    enum twin_input input;
    enum twin_compare compare;
    double tolerance;
    int in, out, threads;
} cases[] = {
#define X(name, input, compare, tolerance, in, out, warps) {#name, input, compare, tolerance, in, out, 32 * (warps)},
    TWIN_LIST(X)
#undef X
};

static twins_run_fn load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    twins_run_fn run = library != NULL ? (twins_run_fn)dlsym(library, TWINS_SYMBOL) : NULL;
    if (run == NULL) {
        const char *why = dlerror();
        fprintf(stderr, "%s: cannot be loaded (%s)\n", path, why != NULL ? why : "no " TWINS_SYMBOL);
        exit(1);
    }
    return run;
}

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static float number(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t input_word(enum twin_input kind, uint32_t round, uint32_t i)
{
    struct rng4 r = rng_at(3, RNG_SAMPLE, round, i, (uint32_t)kind);
    float a = rng_unit(r.v[0]), b = rng_unit(r.v[1]);
    static const uint32_t special[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0u, 0x80000000u};
    switch (kind) {
    case IN_FLOATS:
        return r.v[2] % 32 == 0 ? special[r.v[3] % 5] : bits(180 * a - 160);
    case IN_POSITIVE:
        return 0x00800000u + r.v[0] % (0x5d800000u - 0x00800000u);
    case IN_INTEGERS:
        return (uint32_t)bf16_from_f32((float)(int)(17 * a) - 8) << 16 | bf16_from_f32((float)(int)(17 * b) - 8);
    case IN_FRACTIONS:
        return (uint32_t)bf16_from_f32(2 * a - 1) << 16 | bf16_from_f32(2 * b - 1);
    case IN_WORDS:
        break;
    }
    return r.v[0];
}

static bool same_half(uint32_t a, uint32_t b)
{
    bool nan_a = (a & 0x7fff) > 0x7f80, nan_b = (b & 0x7fff) > 0x7f80;
    return nan_a || nan_b ? nan_a && nan_b : a == b;
}

static bool same(const struct twin_case *c, uint32_t got, uint32_t want)
{
    float g = number(got), w = number(want);
    switch (c->compare) {
    case SAME_BITS:
        return got == want;
    case SAME_BF16:
        return same_half(got & 0xffff, want & 0xffff) && same_half(got >> 16, want >> 16);
    case NEAR_RATIO:
        if (isnan(g) || isnan(w) || isinf(g) || isinf(w))
            return (isnan(g) && isnan(w)) || g == w;
        return (fabsf(g) < 0x1p-126f && fabsf(w) < 0x1p-126f) || fabs((double)g - w) <= c->tolerance * fabs((double)w) + 0x1p-149;
    case NEAR_SUM:
        return fabs((double)g - w) <= c->tolerance;
    }
    return false;
}

/* How many words differ; says the first. */
static int differences(const struct twin_case *c, int which, twins_run_fn card, twins_run_fn twin, uint32_t round, bool spoiled)
{
    static uint32_t in[MOST_WORDS], got[MOST_WORDS], want[MOST_WORDS];
    size_t n_in = (size_t)(c->threads * c->in), n_out = (size_t)(c->threads * c->out);
    int differ = 0;
    for (size_t i = 0; i < n_in; i++)
        in[i] = input_word(c->input, round, (uint32_t)i);
    memset(got, 0, sizeof got);
    memset(want, 0, sizeof want);
    const char *why = card(which, in, n_in, got, n_out, c->threads), *other = twin(which, in, n_in, want, n_out, c->threads);
    if (why != NULL || other != NULL) {
        fprintf(stderr, "%s: %s\n", c->name, why != NULL ? why : other);
        return 1;
    }
    if (spoiled)
        got[n_out - 1] ^= 0x00400040u; /* seen by every comparison */
    for (size_t i = 0; i < n_out; i++)
        if (!same(c, got[i], want[i]) && differ++ == 0)
            fprintf(stderr, "%s: thread %zu, word %zu is %08x (%.9g), expected %08x (%.9g), round %u\n", c->name,
                    i / (size_t)c->out, i % (size_t)c->out, got[i], number(got[i]), want[i], number(want[i]), round);
    return differ;
}

int main(int argc, char **argv)
{
    bool spoiled = argc == 4 && strcmp(argv[3], "--spoiled") == 0;
    if (argc != 3 && !spoiled)
        return 2;
    if (!plugin_card_present() && strcmp(argv[1], argv[2]) != 0)
        CHECK_SKIP("no NVIDIA card");
    twins_run_fn card = load(argv[1]), twin = load(argv[2]);
    uint32_t rounds = spoiled ? 1 : 64;
    for (int which = 0; which < TWIN_COUNT; which++) {
        int differ = 0;
        for (uint32_t round = 0; round < rounds && differ == 0; round++)
            differ = differences(&cases[which], which, card, twin, round, spoiled);
        CHECK((differ > 0) == spoiled);
    }
    printf("%d wrappers, %u rounds each\n", TWIN_COUNT, rounds);
    return check_done();
}
