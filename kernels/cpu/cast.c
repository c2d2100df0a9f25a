/* cast.c - conversions between element types. */
#include "kernels/cpu/entries.h"
#include "kernels/cpu/vector.h"

enum { PART = 1 << 15 };

static void cast_part(void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t from, int64_t to)
{
    bool to_half = dst_type == DT_BF16;
    if (src_type == DT_F16) {
        for (int64_t i = from; i < to; i++) {
            float x = f16_to_f32(((const uint16_t *)src)[i]);
            if (to_half)
                ((bf16 *)dst)[i] = bf16_from_f32(x);
            else
                ((float *)dst)[i] = x;
        }
    } else if (src_type == DT_BF16) {
        for (int64_t i = from; i < to; i += VW)
            store_n(dst, i, to - i, load_n(src, i, to - i, true), to_half);
    } else {
        for (int64_t i = from; i < to; i += VW)
            store_n(dst, i, to - i, load_n(src, i, to - i, false), to_half);
    }
}

void CPU(cast)(struct ops *o, void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t count)
{
    struct cpu *c = cpu_of(o);
    if (c->failed)
        return;
    bool same = dst_type == src_type;
    if (!same && ((dst_type != DT_F32 && dst_type != DT_BF16) || src_type == DT_I32)) {
        cpu_fail(c, ERR_INTERNAL, "cast: %s to %s, expected f32, bf16 or f16 to f32 or bf16", dtype_name(src_type),
                 dtype_name(dst_type));
        return;
    }
    size_t size = dtype_size(src_type);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count > PART)
    for (int64_t i = 0; i < count; i += PART) {
        int64_t to = count - i < PART ? count : i + PART;
        if (same)
            memmove((char *)dst + (size_t)i * size, (const char *)src + (size_t)i * size, (size_t)(to - i) * size);
        else
            cast_part(dst, dst_type, src, src_type, i, to);
    }
}
