#include "checkpoints/dequant.h"

#include <string.h>

int64_t tensor_type_block(enum tensor_type t)
{
    switch (t) {
#define X(name, text, block, bytes)                                                                                              \
    case name:                                                                                                                   \
        return block;
        TENSOR_TYPES(X)
#undef X
    }
    return 1;
}

int64_t tensor_type_block_bytes(enum tensor_type t)
{
    switch (t) {
#define X(name, text, block, bytes)                                                                                              \
    case name:                                                                                                                   \
        return bytes;
        TENSOR_TYPES(X)
#undef X
    }
    return 0;
}

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

/* 32 elements: F16 scale d, 32 signed bytes q; x = q d */
static void q8_0(const uint8_t *p, float *dst)
{
    float d = f16_to_f32(u16_at(p));
    const int8_t *q = (const int8_t *)(p + 2);
    for (int i = 0; i < 32; i++)
        dst[i] = (float)q[i] * d;
}

/* 32 elements: F16 scale d, 16 bytes; low nibbles are elements 0-15, high nibbles 16-31; x = (q - 8) d */
static void q4_0(const uint8_t *p, float *dst)
{
    float d = f16_to_f32(u16_at(p));
    p += 2;
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)((int)(p[i] & 15) - 8) * d;
        dst[i + 16] = (float)((int)(p[i] >> 4) - 8) * d;
    }
}

/* 32 elements: F16 scale d, F16 minimum m, nibbles as q4_0; x = q d + m, product and sum rounded one after the other */
static void q4_1(const uint8_t *p, float *dst)
{
    float d = f16_to_f32(u16_at(p)), m = f16_to_f32(u16_at(p + 2));
    p += 4;
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)(p[i] & 15) * d + m;
        dst[i + 16] = (float)(p[i] >> 4) * d + m;
    }
}

void dequant_f32(enum tensor_type t, const void *src, int64_t n, float *dst)
{
    const uint8_t *p = src;
    switch (t) {
    case TT_F32:
        memcpy(dst, p, (size_t)n * 4);
        break;
    case TT_F16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = f16_to_f32(u16_at(p + 2 * i));
        break;
    case TT_BF16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = bf16_to_f32(u16_at(p + 2 * i));
        break;
    case TT_Q8_0:
        for (int64_t i = 0; i < n; i += 32, p += 34)
            q8_0(p, dst + i);
        break;
    case TT_Q4_0:
        for (int64_t i = 0; i < n; i += 32, p += 18)
            q4_0(p, dst + i);
        break;
    case TT_Q4_1:
        for (int64_t i = 0; i < n; i += 32, p += 20)
            q4_1(p, dst + i);
        break;
    case TT_OTHER:
        break;
    }
}

void dequant_bf16(enum tensor_type t, const void *src, int64_t n, bf16 *dst)
{
    enum { CHUNK = 512 }; /* a multiple of every block; stays in the first-level cache */
    float f[CHUNK];
    if (t == TT_BF16) {
        memcpy(dst, src, (size_t)n * 2);
        return;
    }
    int64_t chunk_bytes = CHUNK / tensor_type_block(t) * tensor_type_block_bytes(t);
    const uint8_t *p = src;
    for (int64_t done = 0; done < n; done += CHUNK, p += chunk_bytes) {
        int64_t k = n - done < CHUNK ? n - done : CHUNK;
        dequant_f32(t, p, k, f);
        for (int64_t i = 0; i < k; i++)
            dst[done + i] = bf16_from_f32(f[i]);
    }
}

uint16_t f16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u)
        return sign | 0x7e00u;
    if (u >= 0x477ff000u) /* 65520, half way between the largest and what would be the next */
        return sign | 0x7c00u;
    if (u < 0x38800000u) { /* below 2^-14: beside 0.5 a float's last place is 2^-24, the subnormals' spacing */
        float x;
        memcpy(&x, &u, 4);
        x += 0.5f;
        memcpy(&u, &x, 4);
        return sign | (uint16_t)(u - 0x3f000000u);
    }
    u += 0xfffu + ((u >> 13) & 1u);
    return sign | (uint16_t)((u - 0x38000000u) >> 13);
}
