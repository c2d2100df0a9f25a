/* add.cu - y += x. Memory-bound: 3 accesses an element (6 bytes in BF16). A thread adds EACH chunks of 16 bytes, a block's width
 * apart, all loads before the first store. */
#include "kernels/cuda/rows.cuh"

enum { EACH = 2 };

template <typename T, bool WIDE> __global__ static void add_kernel(void *y, const void *x, int64_t count)
{
    enum { N = in_chunk<T>::n };
    int64_t first = ((int64_t)blockIdx.x * (EACH * ROW_BLOCK) + threadIdx.x) * N;
    struct chunk a[EACH], b[EACH];
#pragma unroll
    for (int u = 0; u < EACH; u++) {
        int64_t j = first + u * ROW_BLOCK * N;
        a[u] = chunk_load<T, WIDE>((const T *)y + j, count - j);
        b[u] = chunk_load<T, WIDE>((const T *)x + j, count - j);
    }
#pragma unroll
    for (int u = 0; u < EACH; u++) {
        float sum[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] = chunk_get<T>(a[u], i) + chunk_get<T>(b[u], i);
        int64_t j = first + u * ROW_BLOCK * N;
        chunk_store<T, WIDE>((T *)y + j, chunk_round<T>(sum), count - j);
    }
}

void cuda_add(struct ops *o, void *y, const void *x, int64_t count)
{
    size_t size = dtype_size(o->act);
    int n = chunk_of(o->act);
    int64_t whole = cuda_wide(size, {y, x}, {}) ? count - count % n : 0, per_block = (int64_t)EACH * ROW_BLOCK * n;
    cuda_launch(cuda_of(o), "add", dim3((unsigned)ceil_div(whole, per_block)), ROW_BLOCK, 0, KERNEL_OF(add_kernel, o->act, true), y, x,
                whole);
    cuda_launch(cuda_of(o), "add", dim3((unsigned)ceil_div(count - whole, per_block)), ROW_BLOCK, 0, KERNEL_OF(add_kernel, o->act, false),
                (char *)y + (size_t)whole * size, (const char *)x + (size_t)whole * size, count - whole);
}
