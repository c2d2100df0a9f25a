/* rope.cu - the rotary embedding, in place.
 *
 * Memory-bound: 4 bytes an element in BF16, plus the table's row of 4 Q bytes a token, which is shared by the token's heads. A thread
 * has one chunk (8 BF16 pairs) of the first half of a head and the same of the second, keeps their angles in registers and turns
 * them in every head it steps over, EACH heads under way at a time (heads.cuh). */
#include "kernels/cuda/heads.cuh"

enum { EACH = 2 };

struct rope_args {
    void *x;
    const int32_t *positions;
    const float *table;
    int32_t ld, n, heads, half; /* half: Q / 2 */
    float sign;
    struct head_layout at;
};

template <typename T, bool WIDE> __global__ static void rope_kernel(struct rope_args a)
{
    enum { N = in_chunk<T>::n };
    struct head_place p = head_of_thread(a.at);
    if (p.token >= a.n)
        return;
    T *x = (T *)a.x + p.token * a.ld;
    const float *angles = a.table + (int64_t)a.positions[p.token] * a.half * 2;
    for (int32_t j = p.lane * N; j < a.half; j += N << a.at.lanes) {
        struct chunk turn[2 * N / 4]; /* cosine and sine by turns */
#pragma unroll
        for (int i = 0; i < 2 * N / 4; i++)
            turn[i] = chunk_load<float, WIDE>(angles + 2 * j + 4 * i, 2 * (a.half - j) - 4 * i);
        for (int32_t h0 = p.head; h0 < a.heads; h0 += EACH * p.step) {
            struct chunk low[EACH], high[EACH];
#pragma unroll
            for (int u = 0; u < EACH; u++) {
                int32_t h = h0 + u * p.step, left = h < a.heads ? a.half - j : 0;
                T *at = x + (int64_t)h * a.half * 2 + j;
                low[u] = chunk_load<T, WIDE>(at, left);
                high[u] = chunk_load<T, WIDE>(at + a.half, left);
            }
#pragma unroll
            for (int u = 0; u < EACH; u++) {
                int32_t h = h0 + u * p.step, left = h < a.heads ? a.half - j : 0;
                T *at = x + (int64_t)h * a.half * 2 + j;
                float first[N], second[N];
#pragma unroll
                for (int i = 0; i < N; i++) {
                    float l = chunk_get<T>(low[u], i), g = chunk_get<T>(high[u], i);
                    float cosine = chunk_get<float>(turn[i / 2], i % 2 * 2), sine = a.sign * chunk_get<float>(turn[i / 2], i % 2 * 2 + 1);
                    first[i] = l * cosine - g * sine;
                    second[i] = g * cosine + l * sine;
                }
                low[u] = chunk_round<T>(first);
                high[u] = chunk_round<T>(second);
                chunk_store<T, WIDE>(at, low[u], left);
                chunk_store<T, WIDE>(at + a.half, high[u], left);
            }
        }
    }
}

void cuda_rope(struct ops *o, void *x, int32_t ld_x, const int32_t *positions, const float *table, int32_t n, int32_t heads, int32_t q,
               bool backward)
{
    struct cuda *c = cuda_of(o);
    if (q % 2 != 0) {
        cuda_fail(c, ERR_INTERNAL, "rope: head size %d, expected an even number", q);
        return;
    }
    bool wide = cuda_wide(dtype_size(o->act), {x, table}, {ld_x, q / 2});
    struct rope_args a = {x, positions, table, ld_x, n, heads, q / 2, backward ? -1.0f : 1.0f, {}};
    a.at = heads_over(n, heads, ceil_div(q / 2, chunk_of(o->act)));
    cuda_launch(c, "rope", dim3(a.at.blocks), ROW_BLOCK, 0, KERNEL_OF(rope_kernel, o->act, wide), a);
}
