/* Conversions against definitions: value = (-1)^s 2^(e-15) (1 + m/1024) for f16; nearest of two neighbours, ties to even, for
 * bf16. */
#include "trainer/base/bf16.h"

#include "tests/check.h"

#if defined(__FLT16_MANT_DIG__) && defined(__GNUC__) && !defined(__clang__)
#define HAVE_FLOAT16 1
#endif

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static void test_f16(void)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float got = f16_to_f32((uint16_t)h);
        int exponent = (int)(h >> 10) & 31, mantissa = (int)h & 1023;
        if (exponent == 31 && mantissa != 0) {
            CHECK(isnan(got));
        } else {
            double want = exponent == 31  ? INFINITY
                          : exponent == 0 ? ldexp(mantissa, -24)
                                          : ldexp(1024 + mantissa, exponent - 25);
            if (h & 0x8000)
                want = -want;
            CHECK(bits_of(got) == bits_of((float)want));
        }
#ifdef HAVE_FLOAT16
        _Float16 half;
        uint16_t h16 = (uint16_t)h;
        memcpy(&half, &h16, 2);
        float reference = (float)half;
        CHECK(isnan(reference) ? isnan(got) : bits_of(reference) == bits_of(got));
#endif
    }
}

static double bf16_value(uint32_t h)
{
    /* One step beyond the largest finite value stands for infinity when rounding. */
    if ((h & 0x7fff) == 0x7f80)
        return h & 0x8000 ? -0x1p128 : 0x1p128;
    return from_bits(h << 16);
}

static void check_rounding(uint32_t u)
{
    bf16 got = bf16_from_f32(from_bits(u));
    if ((u & 0x7fffffff) > 0x7f800000) {
        CHECK(isnan(bf16_to_f32(got)));
        return;
    }
    uint32_t low = u >> 16, want = low;
    if ((u & 0x7fffffff) != 0x7f800000) {
        double v = from_bits(u), below = fabs(v - bf16_value(low)), above = fabs(bf16_value(low + 1) - v);
        want = below < above || (below == above && low % 2 == 0) ? low : low + 1;
    }
    if (got != want)
        fprintf(stderr, "%08x: ", u);
    CHECK_INT(got, want);
}

int main(void)
{
    test_f16();
    for (uint32_t h = 0; h < 65536; h++) {
        bf16 again = bf16_from_f32(bf16_to_f32((bf16)h));
        CHECK((h & 0x7fff) > 0x7f80 ? isnan(bf16_to_f32(again)) : again == h);
        static const uint32_t tails[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
        for (int i = 0; i < 6; i++)
            check_rounding(h << 16 | tails[i]);
    }
    for (uint64_t u = 0; u <= UINT32_MAX; u += 4099)
        check_rounding((uint32_t)u);
    CHECK_INT(dtype_size(DT_BF16), 2);
    CHECK_INT(dtype_size(DT_I32), 4);
    CHECK_STR(dtype_name(DT_F16), "f16");
    return check_done();
}
