/* attention_delta.cu - delta = sum over a head of dout * out, which softmax's gradient subtracts. Eight threads a head, four
 * heads a warp, 16 bytes a thread and access where the rows allow it. Bound by memory: 2 reads of (n, H*Q); 2 FLOP an element. */
#include "kernels/cuda/attention.cuh"

enum { DELTA_BLOCK = 256, LANES = 8 };

/* E elements at a time: one, or as many as 16 bytes hold. */
template <typename T, int E>
__global__ void __launch_bounds__(DELTA_BLOCK)
    attention_delta_kernel(float *delta, const T *dout, const T *out, int64_t count, int32_t q)
{
    int64_t head = ((int64_t)blockIdx.x * DELTA_BLOCK + threadIdx.x) / LANES; /* of token head / H */
    float sum = 0;
    for (int32_t x = LANE % LANES * E; x < q && head < count; x += LANES * E)
        if (E == 1)
            sum += to_float(dout[head * q + x]) * to_float(out[head * q + x]);
        else {
            vec<T> d = vec_load(dout + head * q + x), o = vec_load(out + head * q + x);
            for (int i = 0; i < vec<T>::n; i++)
                sum += to_float(d.v[i]) * to_float(o.v[i]);
        }
    for (int m = 1; m < LANES; m *= 2)
        sum += warp_xor(sum, m);
    if (LANE % LANES == 0 && head < count)
        delta[head] = sum;
}

template <typename T>
static void queue(struct cuda *c, const struct attention *a, float *delta, const void *dout, const void *out)
{
    int64_t count = (int64_t)a->n * a->heads, per_block = DELTA_BLOCK / LANES;
    bool wide = cuda_wide(sizeof(T), {dout, out}, {a->head_size});
    cuda_launch(c, "attention_backward", dim3((unsigned)((count + per_block - 1) / per_block)), DELTA_BLOCK, 0,
                wide ? attention_delta_kernel<T, vec<T>::n> : attention_delta_kernel<T, 1>, delta, (const T *)dout,
                (const T *)out, count, a->head_size);
}

void attention_delta_queue(struct cuda *c, const struct attention *a, float *delta, const void *dout, const void *out)
{
    c->ops.act == DT_BF16 ? queue<bf16>(c, a, delta, dout, out) : queue<float>(c, a, delta, dout, out);
}
