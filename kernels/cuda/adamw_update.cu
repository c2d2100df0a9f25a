/* adamw_update.cu - element by element. Memory-bound: 28 bytes an element (p, g, m, v read; p, m, v written). A thread has 4
 * elements: four 16-byte loads under way and, with 1,536 threads an SM, enough of them. The square root and the one division
 * are exact: there is time for them. */
#include "kernels/cuda/rows.cuh"

struct adamw_args {
    float *p, *m, *v;
    const float *g;
    int64_t count;
    float beta1, rest1, beta2, rest2; /* rest: 1 - beta, rounded once */
    float lr, epsilon, weight_decay, grad_scale, unbias1, unbias2; /* unbias: 1 / bias */
};

template <bool WIDE> __global__ static void adamw_kernel(struct adamw_args a)
{
    int64_t j = ((int64_t)blockIdx.x * ROW_BLOCK + threadIdx.x) * 4, left = a.count - j;
    struct chunk ps = chunk_load<float, WIDE>(a.p + j, left), gs = chunk_load<float, WIDE>(a.g + j, left);
    struct chunk ms = chunk_load<float, WIDE>(a.m + j, left), vs = chunk_load<float, WIDE>(a.v + j, left);
    float p[4], m[4], v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float g = chunk_get<float>(gs, i) * a.grad_scale, was = chunk_get<float>(ps, i);
        m[i] = a.beta1 * chunk_get<float>(ms, i) + a.rest1 * g;
        v[i] = a.beta2 * chunk_get<float>(vs, i) + a.rest2 * g * g;
        p[i] = was - a.lr * (a.weight_decay * was + m[i] * a.unbias1 / (sqrtf(v[i] * a.unbias2) + a.epsilon));
    }
    chunk_store<float, WIDE>(a.p + j, chunk_round<float>(p), left);
    chunk_store<float, WIDE>(a.m + j, chunk_round<float>(m), left);
    chunk_store<float, WIDE>(a.v + j, chunk_round<float>(v), left);
}

void cuda_adamw_update(struct ops *o, float *p, const float *g, float *m, float *v, int64_t count, const struct adamw *s)
{
    struct adamw_args a = {};
    a.p = p, a.m = m, a.v = v, a.g = g;
    a.beta1 = (float)s->beta1, a.rest1 = (float)(1.0 - s->beta1), a.beta2 = (float)s->beta2, a.rest2 = (float)(1.0 - s->beta2);
    a.lr = s->lr, a.epsilon = s->epsilon, a.weight_decay = s->weight_decay, a.grad_scale = s->grad_scale;
    a.unbias1 = 1.0f / s->bias1, a.unbias2 = 1.0f / s->bias2;
    int64_t whole = cuda_wide(1, {p, g, m, v}, {}) ? count - count % 4 : 0;
    a.count = whole;
    cuda_launch(cuda_of(o), "adamw_update", dim3((unsigned)ceil_div(whole, 4 * ROW_BLOCK)), ROW_BLOCK, 0, adamw_kernel<true>, a);
    a.p += whole, a.m += whole, a.v += whole, a.g += whole, a.count = count - whole;
    cuda_launch(cuda_of(o), "adamw_update", dim3((unsigned)ceil_div(count - whole, 4 * ROW_BLOCK)), ROW_BLOCK, 0, adamw_kernel<false>, a);
}
