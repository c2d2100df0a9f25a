/* head_norm.cu - RMSNorm over the Q elements of each head, forward and backward.
 *
 * Memory-bound: 4 bytes an element forward in BF16, 6 backward. A head of 128 in BF16 is 16 chunks of 16 bytes: 16 lanes have it,
 * one chunk each, and a thread has AT_ONCE heads of its token under way (heads.cuh). Larger heads, up to PARTS * 32 chunks, are
 * done one at a time with PARTS chunks a lane. Sums stay within a warp. */
#include "kernels/cuda/heads.cuh"

enum { AT_ONCE = 2, PARTS = 4 };

struct head_args {
    void *y; /* forward's y, backward's dx */
    const void *x, *w, *dy;
    int32_t ld_y, ld_x, ld_dy, n, heads, q;
    float eps;
    struct head_layout at;
};

/* EACH heads at a time, P chunks a lane. All lanes take part in the sums, whether their head is there or not. */
template <typename T, bool WIDE, int EACH, int P>
__global__ static void ROW_BOUNDS(WIDE, P == 1 ? 4 : 2) head_norm_forward_kernel(struct head_args a)
{
    enum { N = in_chunk<T>::n };
    struct head_place p = head_of_thread(a.at);
    const T *x = (const T *)a.x + p.token * a.ld_x;
    T *y = (T *)a.y + p.token * a.ld_y;
    int32_t lanes = N << a.at.lanes, j0 = p.lane * N;
    struct chunk w[P], s[EACH][P];
#pragma unroll
    for (int k = 0; k < P; k++)
        w[k] = chunk_load<T, WIDE>((const T *)a.w + j0 + k * lanes, a.q - j0 - k * lanes);
    for (int32_t h0 = 0; h0 < a.heads; h0 += EACH * p.step) {
        float squares[EACH] = {};
#pragma unroll
        for (int u = 0; u < EACH; u++)
#pragma unroll
            for (int k = 0; k < P; k++) {
                int32_t h = h0 + u * p.step + p.head, j = j0 + k * lanes;
                s[u][k] = chunk_load<T, WIDE>(x + (int64_t)h * a.q + j, p.token < a.n && h < a.heads ? a.q - j : 0);
            }
#pragma unroll
        for (int u = 0; u < EACH; u++)
#pragma unroll
            for (int k = 0; k < P; k++)
#pragma unroll
                for (int i = 0; i < N; i++)
                    squares[u] += chunk_get<T>(s[u][k], i) * chunk_get<T>(s[u][k], i);
        row_sums<EACH>(squares, a.at.lanes, NULL);
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t h = h0 + u * p.step + p.head;
            float r = inv_sqrt(squares[u] / (float)a.q + a.eps);
#pragma unroll
            for (int k = 0; k < P; k++) {
                int32_t j = j0 + k * lanes;
                float out[N];
#pragma unroll
                for (int i = 0; i < N; i++)
                    out[i] = chunk_get<T>(s[u][k], i) * r * chunk_get<T>(w[k], i);
                chunk_store<T, WIDE>(y + (int64_t)h * a.q + j, chunk_round<T>(out), p.token < a.n && h < a.heads ? a.q - j : 0);
            }
        }
    }
}

template <typename T, bool WIDE, int EACH, int P>
__global__ static void ROW_BOUNDS(WIDE, P == 1 ? 3 : 2) head_norm_backward_kernel(struct head_args a)
{
    enum { N = in_chunk<T>::n };
    struct head_place p = head_of_thread(a.at);
    const T *x = (const T *)a.x + p.token * a.ld_x, *dy = (const T *)a.dy + p.token * a.ld_dy;
    T *dx = (T *)a.y + p.token * a.ld_y;
    int32_t lanes = N << a.at.lanes, j0 = p.lane * N;
    struct chunk w[P], s[EACH][P], g[EACH][P];
#pragma unroll
    for (int k = 0; k < P; k++)
        w[k] = chunk_load<T, WIDE>((const T *)a.w + j0 + k * lanes, a.q - j0 - k * lanes);
    for (int32_t h0 = 0; h0 < a.heads; h0 += EACH * p.step) {
        float sums[2 * EACH] = {}; /* x^2 of each, then w dy x of each */
#pragma unroll
        for (int u = 0; u < EACH; u++)
#pragma unroll
            for (int k = 0; k < P; k++) {
                int32_t h = h0 + u * p.step + p.head, j = j0 + k * lanes, left = p.token < a.n && h < a.heads ? a.q - j : 0;
                s[u][k] = chunk_load<T, WIDE>(x + (int64_t)h * a.q + j, left);
                g[u][k] = chunk_load<T, WIDE>(dy + (int64_t)h * a.q + j, left);
            }
#pragma unroll
        for (int u = 0; u < EACH; u++)
#pragma unroll
            for (int k = 0; k < P; k++)
#pragma unroll
                for (int i = 0; i < N; i++) {
                    float xi = chunk_get<T>(s[u][k], i);
                    sums[u] += xi * xi;
                    sums[EACH + u] += xi * (chunk_get<T>(w[k], i) * chunk_get<T>(g[u][k], i));
                }
        row_sums<2 * EACH>(sums, a.at.lanes, NULL);
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            int32_t h = h0 + u * p.step + p.head;
            float r = inv_sqrt(sums[u] / (float)a.q + a.eps), back = r * r * r * (sums[EACH + u] / (float)a.q);
#pragma unroll
            for (int k = 0; k < P; k++) {
                int32_t j = j0 + k * lanes;
                float out[N];
#pragma unroll
                for (int i = 0; i < N; i++)
                    out[i] = chunk_get<T>(w[k], i) * chunk_get<T>(g[u][k], i) * r - chunk_get<T>(s[u][k], i) * back;
                chunk_store<T, WIDE>(dx + (int64_t)h * a.q + j, chunk_round<T>(out), p.token < a.n && h < a.heads ? a.q - j : 0);
            }
        }
    }
}

template <int EACH, int P> static auto pick(enum dtype t, bool wide, bool backward)
{
    return backward ? KERNEL_OF_4(head_norm_backward_kernel, t, wide, EACH, P) : KERNEL_OF_4(head_norm_forward_kernel, t, wide, EACH, P);
}
static void launch(struct cuda *c, const char *where, struct head_args a, bool backward)
{
    enum dtype t = c->ops.act;
    int64_t chunks = ceil_div(a.q, chunk_of(t));
    if (chunks > PARTS * WARP) {
        cuda_fail(c, ERR_INTERNAL, "%s: head size %d, expected at most %d", where, a.q, PARTS * WARP * chunk_of(t));
        return;
    }
    bool wide = cuda_wide(dtype_size(t), {a.y, a.x, a.w, a.dy}, {a.q, a.ld_y, a.ld_x, a.ld_dy});
    a.at = heads_over(a.n, a.heads, chunks);
    auto kernel = chunks <= WARP ? pick<AT_ONCE, 1>(t, wide, backward) : pick<1, PARTS>(t, wide, backward);
    cuda_launch(c, where, dim3(a.at.blocks), ROW_BLOCK, 0, kernel, a);
}

void cuda_head_norm_forward(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const void *w, int32_t n, int32_t heads,
                            int32_t q, float eps)
{
    launch(cuda_of(o), "head_norm_forward", {y, x, w, NULL, ld_y, ld_x, 0, n, heads, q, eps, {}}, false);
}

void cuda_head_norm_backward(struct ops *o, void *dx, int32_t ld_dx, const void *dy, int32_t ld_dy, const void *x, int32_t ld_x,
                             const void *w, int32_t n, int32_t heads, int32_t q, float eps)
{
    launch(cuda_of(o), "head_norm_backward", {dx, x, w, dy, ld_dx, ld_x, ld_dy, n, heads, q, eps, {}}, true);
}
