/* rows.cuh - what the row and element-wise kernels share: chunks of 16 bytes, which thread has which part of a row, and sums over
 * the threads of a row.
 *
 * A chunk is the neighbouring elements of 16 bytes: 8 of BF16, 4 of F32. Who has which chunk follows from the shape alone, never from the
 * card, and is the same whether chunks are moved whole (WIDE) or element by element: both give the same bits. */
#ifndef LORAT_CUDA_ROWS_CUH
#define LORAT_CUDA_ROWS_CUH

#include "kernels/cuda/device.cuh"

/* For kernels that wait for a sum: at least this many blocks must fit an SM, or the compiler keeps floats where packed chunks would
 * do. Only where chunks are whole: the other path is for odd shapes. */
#define ROW_BOUNDS(wide, blocks) __launch_bounds__(ROW_BLOCK, (wide) ? (blocks) : 1)

/* The instance of a kernel template <T, WIDE> for an element type that is known only now. */
#define KERNEL_OF(kernel, type, wide)                                                                                                      \
    ((type) == DT_BF16 ? ((wide) ? kernel<bf16, true> : kernel<bf16, false>) : ((wide) ? kernel<float, true> : kernel<float, false>))
/* The same of a template <T, WIDE, A, B>. */
#define KERNEL_OF_4(kernel, type, wide, a, b)                                                                                              \
    ((type) == DT_BF16 ? ((wide) ? kernel<bf16, true, a, b> : kernel<bf16, false, a, b>)                                                   \
                       : ((wide) ? kernel<float, true, a, b> : kernel<float, false, a, b>))

#define LOG2_E 1.44269504088896341f
#define LN_2   0.693147180559945309f

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int chunk_of(enum dtype t) { return 16 / (int)dtype_size(t); }

/* ---- chunks ---- */

/* Kept as words: of 16-bit members the compiler makes moves and, at times, four small stores. */
struct alignas(16) chunk {
    uint32_t word[4];
};
template <typename T> struct in_chunk {
    static constexpr int n = 16 / (int)sizeof(T); /* elements of a chunk */
};

/* Element i; what chunk_round puts there. */
template <typename T> __device__ static inline float chunk_get(const struct chunk &x, int i)
{
    union {
        uint32_t u;
        float f;
    } both = {x.word[sizeof(T) == 4 ? i : i / 2]};
    if (sizeof(T) == 2)
        both.u = i % 2 ? both.u & 0xffff0000u : both.u << 16;
    return both.f;
}
template <typename T> __device__ static inline struct chunk chunk_round(const float *f)
{
    struct chunk x;
#pragma unroll
    for (int w = 0; w < 4; w++)
        if (sizeof(T) == 2) {
            x.word[w] = bf16_pair(f[2 * w], f[2 * w + 1]);
        } else {
            union {
                float f;
                uint32_t u;
            } both = {f[w]};
            x.word[w] = both.u;
        }
    return x;
}

/* The chunk at p, of which `left` elements are there: none is read when left <= 0, and WIDE rows hold whole chunks. What is not
 * there is zero. */
template <typename T, bool WIDE> __device__ static inline struct chunk chunk_load(const T *p, int64_t left)
{
    struct chunk x = {};
    if (WIDE) {
        if (left > 0)
            x = *(const struct chunk *)p;
    } else {
        float f[in_chunk<T>::n];
#pragma unroll
        for (int i = 0; i < in_chunk<T>::n; i++)
            f[i] = i < left ? to_float(p[i]) : 0;
        x = chunk_round<T>(f);
    }
    return x;
}
template <typename T, bool WIDE> __device__ static inline void chunk_store(T *p, const struct chunk &x, int64_t left)
{
    if (WIDE) {
        if (left > 0)
            *(struct chunk *)p = x;
    } else {
#pragma unroll
        for (int i = 0; i < in_chunk<T>::n; i++)
            if (i < left)
                p[i] = from_float<T>(chunk_get<T>(x, i));
    }
}

/* ---- rows side by side: 2^shift threads a row, the rest of the block on other rows ---- */

struct row_layout {
    dim3 grid; /* x: groups of rows, y: parts of a row */
    int shift;
};
/* The least shift, at most `most`, with 2^shift >= units. */
static inline int shift_for(int64_t units, int most)
{
    int s = 0;
    while (s < most && ((int64_t)1 << s) < units)
        s++;
    return s;
}
/* Blocks of ROW_BLOCK threads over `rows` rows of `units` units, `each` of them a thread at a time. */
static inline struct row_layout rows_over(int64_t rows, int64_t units, int each)
{
    const int64_t most_y = 65535;
    struct row_layout l;
    l.shift = shift_for(ceil_div(units, each), 8);
    int64_t parts = ceil_div(units, (int64_t)each << l.shift);
    l.grid = dim3((unsigned)ceil_div(rows, ROW_BLOCK >> l.shift), (unsigned)(parts < most_y ? parts : most_y));
    return l;
}
__device__ static inline int64_t row_of_thread(int shift) { return (int64_t)blockIdx.x * (ROW_BLOCK >> shift) + (threadIdx.x >> shift); }
__device__ static inline int thread_in_row(int shift) { return (int)threadIdx.x & ((1 << shift) - 1); }

/* x[0..N-1] summed over the 2^shift threads of each row, the same on all of them; a fixed tree. All threads of the block take
 * part. `shared` holds N floats a warp and is used once in a kernel: there is no barrier behind the last read. */
template <int N> __device__ static inline void row_sums(float *x, int shift, float *shared)
{
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2)
#pragma unroll
        for (int i = 0; i < N; i++)
            if (m < 1 << shift)
                x[i] += warp_xor(x[i], m);
    if (shift <= 5)
        return;
    if (LANE == 0)
#pragma unroll
        for (int i = 0; i < N; i++)
            shared[WARP_ID * N + i] = x[i];
    block_sync();
    int warps = 1 << (shift - 5), first = WARP_ID & ~(warps - 1);
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = shared[first * N + i];
        for (int w = 1; w < warps; w++)
            x[i] += shared[(first + w) * N + i];
    }
}

#endif
