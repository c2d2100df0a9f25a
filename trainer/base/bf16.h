/* bf16.h - the two element types of activations and weights, and conversions (round to nearest even, NaN stays NaN). */
#ifndef LORAT_BF16_H
#define LORAT_BF16_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DT_F32, DT_BF16, DT_F16, DT_I32, DT_COUNT };
static inline size_t dtype_size(enum dtype t) { return t == DT_BF16 || t == DT_F16 ? 2 : 4; }
static inline const char *dtype_name(enum dtype t)
{
    return t == DT_F32 ? "f32" : t == DT_BF16 ? "bf16" : t == DT_F16 ? "f16" : "i32";
}

typedef uint16_t bf16;

static inline float bf16_to_f32(bf16 h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline bf16 bf16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (bf16)((u >> 16) | 0x40u);
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 1023u, u;
    float f;
    if (exp == 31)
        u = sign | 0x7f800000u | (man << 13);
    else if (exp != 0)
        u = sign | ((exp + 112u) << 23) | (man << 13);
    else {
        f = (float)man * 0x1p-24f; /* subnormal or zero, exact */
        return (sign != 0) ? -f : f;
    }
    memcpy(&f, &u, 4);
    return f;
}

#endif
