/* bench_ops.c - what a training step of SmolLM2-135M spends where: each operation's time at its shapes, its rate, and the whole
 * step without recompute (30 layers). Arguments: tokens, threads, span length, f32|bf16. Run by hand; not a test. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/ops.h"

enum { D = 576, F = 1536, H = 9, K = 3, Q = 64, V = 49152, R = 16, QKV = 960, LAYERS = 30, CHUNK = 512 };

static struct ops *o;
static int n = 1024, span_length = 1024;
static double budget_s = 0.15;
static double product_ms, other_ms, attention_ms;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *device(size_t bytes)
{
    struct err e;
    void *p = NULL;
    if (o->alloc(o, bytes, &p, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return p;
}

static void *numbers(int64_t count, enum dtype type, float scale)
{
    void *p = device((size_t)count * dtype_size(type)), *host = malloc((size_t)count * 4);
    uint32_t s = 12345;
    for (int64_t i = 0; i < count; i++) {
        s = s * 1664525u + 1013904223u;
        float x = ((float)(s >> 8) * 0x1p-23f - 1) * scale;
        if (type == DT_BF16)
            ((bf16 *)host)[i] = bf16_from_f32(x);
        else
            ((float *)host)[i] = x;
    }
    o->upload(o, p, host, (size_t)count * dtype_size(type));
    free(host);
    return p;
}

/* The best of repeated calls, in ms. */
#define BEST(ms, call)                                                   \
    do {                                                                 \
        struct err e_;                                                   \
        double from_, start_ = now_s(), best_ = 1e9;                     \
        for (int r_ = 0; r_ < 3 || now_s() - start_ < budget_s; r_++) {  \
            from_ = now_s();                                             \
            call;                                                        \
            if (o->sync(o, &e_) != 0) {                                  \
                fprintf(stderr, "%s\n", e_.text);                        \
                exit(1);                                                 \
            }                                                            \
            double t_ = now_s() - from_;                                 \
            best_ = t_ < best_ ? t_ : best_;                             \
        }                                                                \
        ms = best_ * 1e3;                                                \
    } while (0)

static void line(const char *name, double ms, double flop, double bytes, double times, double *sum)
{
    printf("%-34s %9.3f ms", name, ms);
    if (flop > 0)
        printf(" %8.1f GFLOP/s", flop / ms / 1e6);
    if (bytes > 0)
        printf(" %8.1f GB/s   ", bytes / ms / 1e6);
    printf(" x %5.1f = %8.2f ms\n", times, ms * times);
    *sum += ms * times;
}

static void bench_products(void)
{
    static const struct {
        const char *name;
        int out, in;
    } linear[] = {{"qkv", QKV, D}, {"o", D, D}, {"gate+up", 2 * F, D}, {"down", D, F}};
    for (size_t i = 0; i < 4; i++) {
        int out = linear[i].out, in = linear[i].in;
        void *x = numbers((int64_t)n * in, o->act, 1), *y = numbers((int64_t)n * out, o->act, 1);
        struct weight w = {numbers((int64_t)out * in, o->act, 1), o->act, out, in};
        char name[64];
        double ms, first = now_s();
        o->linear_forward(o, y, x, &w, NULL, n);
        first = now_s() - first;
        BEST(ms, o->linear_forward(o, y, x, &w, NULL, n));
        snprintf(name, sizeof(name), "%s forward (first %.1f ms)", linear[i].name, first * 1e3);
        line(name, ms, 2.0 * n * out * in, 0, LAYERS, &product_ms);
        first = now_s();
        o->linear_backward(o, x, y, &w, n, false);
        first = now_s() - first;
        BEST(ms, o->linear_backward(o, x, y, &w, n, false));
        snprintf(name, sizeof(name), "%s backward (first %.1f ms)", linear[i].name, first * 1e3);
        line(name, ms, 2.0 * n * out * in, 0, LAYERS, &product_ms);
        o->release(o, x);
        o->release(o, y);
        o->release(o, (void *)(uintptr_t)w.data);
    }
    void *x = numbers((int64_t)CHUNK * D, o->act, 1), *y = numbers((int64_t)CHUNK * V, o->act, 1);
    struct weight w = {numbers((int64_t)V * D, o->act, 1), o->act, V, D};
    double ms;
    BEST(ms, o->linear_forward(o, y, x, &w, NULL, CHUNK));
    line("head forward", ms, 2.0 * CHUNK * V * D, 0, n / (double)CHUNK, &product_ms);
    BEST(ms, o->linear_backward(o, x, y, &w, CHUNK, false));
    line("head backward", ms, 2.0 * CHUNK * V * D, 0, n / (double)CHUNK, &product_ms);
}

/* One adapter product of m x cols x k; n tokens are whichever of them is 0. */
static void skinny(const char *name, int m, int cols, int k, bool ta, bool tb, bool accumulate, enum dtype c_type, double times)
{
    struct gemm g = {.m = m ? m : n, .n = cols ? cols : n, .k = k ? k : n, .trans_a = ta, .trans_b = tb, .accumulate = accumulate,
                     .a_type = o->act, .b_type = o->act, .c_type = c_type, .alpha = 1};
    g.lda = ta ? g.m : g.k;
    g.ldb = tb ? g.k : g.n;
    g.ldc = g.n;
    void *a = numbers((int64_t)g.m * g.k, o->act, 0.1f), *b = numbers((int64_t)g.k * g.n, o->act, 0.1f);
    void *c = numbers((int64_t)g.m * g.n, c_type, 1);
    double ms;
    char full[64];
    g.a = a;
    g.b = b;
    g.c = c;
    BEST(ms, o->gemm(o, &g));
    snprintf(full, sizeof(full), "%s %dx%dx%d", name, g.m, g.n, g.k);
    line(full, ms, 2.0 * g.m * g.n * g.k, 0, times, &product_ms);
    o->release(o, a);
    o->release(o, b);
    o->release(o, c);
}

static void bench_adapters(void)
{
    enum dtype act = o->act;
    skinny("t = x A^T (q,k,v)", 0, 3 * R, D, false, true, false, act, LAYERS);
    skinny("t = x A^T (gate,up)", 0, 2 * R, D, false, true, false, act, LAYERS);
    skinny("t = x A^T (o)", 0, R, D, false, true, false, act, LAYERS);
    skinny("t = x A^T (down)", 0, R, F, false, true, false, act, LAYERS);
    skinny("y += t B^T", 0, D, R, false, true, true, act, 3 * LAYERS);
    skinny("y += t B^T (gate, up)", 0, F, R, false, true, true, act, 2 * LAYERS);
    skinny("dt = dy B", 0, R, D, false, false, false, act, 3 * LAYERS);
    skinny("dt = dy B (gate, up)", 0, R, F, false, false, false, act, 2 * LAYERS);
    skinny("dB += dy^T t", D, R, 0, true, false, true, DT_F32, 3 * LAYERS);
    skinny("dB += dy^T t (gate, up)", F, R, 0, true, false, true, DT_F32, 2 * LAYERS);
    skinny("dA += dt^T x (q,k,v)", 3 * R, D, 0, true, false, true, DT_F32, LAYERS);
    skinny("dA += dt^T x (gate,up)", 2 * R, D, 0, true, false, true, DT_F32, LAYERS);
    skinny("dA += dt^T x (o)", R, D, 0, true, false, true, DT_F32, LAYERS);
    skinny("dA += dt^T x (down)", R, F, 0, true, false, true, DT_F32, LAYERS);
    skinny("dx += dt A (q,k,v)", 0, D, 3 * R, false, false, true, act, LAYERS);
    skinny("dx += dt A (gate,up)", 0, D, 2 * R, false, false, true, act, LAYERS);
    skinny("dx += dt A (o)", 0, D, R, false, false, true, act, LAYERS);
    skinny("dx += dt A (down)", 0, F, R, false, false, true, act, LAYERS);
}

static void bench_attention(void)
{
    int n_spans = (n + span_length - 1) / span_length;
    struct span *spans = malloc((size_t)n_spans * sizeof(*spans)), *on_device = device((size_t)n_spans * sizeof(*spans));
    double pairs = 0, ms;
    for (int i = 0; i < n_spans; i++) {
        int from = i * span_length, length = n - from < span_length ? n - from : span_length;
        spans[i] = (struct span){from, length, from, length};
        pairs += 0.5 * length * (length + 1.0);
    }
    o->upload(o, on_device, spans, (size_t)n_spans * sizeof(*spans));
    struct attention a = {n, H, K, Q, QKV, QKV, QKV, 0.125f, on_device, n_spans, span_length, true};
    size_t size = dtype_size(o->act);
    char *qkv = numbers((int64_t)n * QKV, o->act, 2), *dqkv = device((size_t)n * QKV * size);
    void *out = numbers((int64_t)n * D, o->act, 1), *dout = numbers((int64_t)n * D, o->act, 1);
    float *lse = device((size_t)n * H * 4), *delta = device((size_t)n * H * 4);
    size_t at_k = (size_t)H * Q * size, at_v = (size_t)(H + K) * Q * size;
    BEST(ms, o->attention_forward(o, &a, out, lse, qkv, qkv + at_k, qkv + at_v));
    line("attention_forward", ms, pairs * H * Q * 4, 0, LAYERS, &attention_ms);
    BEST(ms, o->attention_backward(o, &a, dqkv, dqkv + at_k, dqkv + at_v, dout, out, lse, qkv, qkv + at_k, qkv + at_v, delta));
    line("attention_backward", ms, pairs * H * Q * 10, 0, LAYERS, &attention_ms);
    int32_t *positions = device((size_t)n * 4);
    for (int i = 0; i < n; i++)
        o->upload(o, positions + i, &(int32_t){i % span_length}, 4);
    float *table = numbers((int64_t)n * Q, DT_F32, 1);
    BEST(ms, o->rope(o, qkv, QKV, positions, table, n, H + K, Q, false));
    line("rope", ms, 0, 2.0 * n * (H + K) * Q * (double)size, 2 * LAYERS, &other_ms);
}

static void bench_rows(void)
{
    size_t size = dtype_size(o->act);
    void *x = numbers((int64_t)n * D, o->act, 1), *y = numbers((int64_t)n * D, o->act, 1), *z = numbers((int64_t)n * D, o->act, 1);
    void *w = numbers(D, o->act, 1), *gu = numbers((int64_t)n * 2 * F, o->act, 2), *a = numbers((int64_t)n * F, o->act, 1);
    double ms, rows = (double)n * D * (double)size, wide = (double)n * F * (double)size;
    BEST(ms, o->rmsnorm_forward(o, y, z, x, z, w, n, D, 1e-5f));
    line("rmsnorm_forward", ms, 0, 4 * rows, 2 * LAYERS, &other_ms);
    BEST(ms, o->rmsnorm_backward(o, y, z, x, w, n, D, 1e-5f));
    line("rmsnorm_backward", ms, 0, 4 * rows, 2 * LAYERS, &other_ms);
    BEST(ms, o->swiglu_forward(o, a, gu, n, F));
    line("swiglu_forward", ms, 0, 3 * wide, LAYERS, &other_ms);
    BEST(ms, o->swiglu_backward(o, gu, a, gu, n, F));
    line("swiglu_backward", ms, 0, 5 * wide, LAYERS, &other_ms);
    BEST(ms, o->add(o, y, x, (int64_t)n * D));
    line("add", ms, 0, 3 * rows, LAYERS, &other_ms);
    uint32_t *keys = device((size_t)n * 4);
    o->zero(o, keys, (size_t)n * 4);
    struct dropout drop = {1, 2, 3, 0.1f};
    BEST(ms, o->dropout_apply(o, y, x, keys, n, D, &drop, false));
    double spare = 0;
    line("dropout_apply (not in the sum)", ms, 0, 2 * rows, 1, &spare);
    struct weight embedding = {numbers((int64_t)V * D, o->act, 1), o->act, V, D};
    int32_t n_tokens = n > CHUNK ? n : CHUNK, *tokens = device((size_t)n_tokens * 4);
    for (int i = 0; i < n_tokens; i++)
        o->upload(o, tokens + i, &(int32_t){(int32_t)((i * 7919L) % V)}, 4);
    BEST(ms, o->embed_forward(o, x, &embedding, tokens, n));
    line("embed_forward", ms, 0, 2 * rows, 1, &other_ms);
    void *logits = numbers((int64_t)CHUNK * V, o->act, 4);
    float *weights = numbers(CHUNK, DT_F32, 1), *loss = device(256);
    o->zero(o, loss, 256);
    BEST(ms, o->cross_entropy(o, loss, NULL, logits, V, tokens, weights, CHUNK, V, true));
    line("cross_entropy", ms, 0, 2.0 * CHUNK * V * (double)size, n / (double)CHUNK, &other_ms);
    BEST(ms, o->argmax(o, tokens, logits, V, 8, V));
    line("argmax of 8 (not in the sum)", ms, 0, 8.0 * V * (double)size, 1, &spare);
}

static void bench_update(void)
{
    int64_t count = 4884480; /* all linears at r = 16 */
    float *p = numbers(count, DT_F32, 1), *g = numbers(count, DT_F32, 1), *m = numbers(count, DT_F32, 1);
    float *v = device((size_t)count * 4), *stats = device(256);
    bf16 *working = device((size_t)count * 4);
    struct adamw a = {.lr = 1e-4f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .weight_decay = 0, .grad_scale = 1, .bias1 = 0.1f,
                      .bias2 = 0.001f};
    double ms;
    o->zero(o, v, (size_t)count * 4);
    BEST(ms, o->grad_stats(o, stats, g, count));
    line("grad_stats", ms, 0, 4.0 * (double)count, 1, &other_ms);
    BEST(ms, o->adamw_update(o, p, g, m, v, count, &a));
    line("adamw_update", ms, 0, 28.0 * (double)count, 1, &other_ms);
    BEST(ms, o->cast(o, working, o->act, p, DT_F32, count));
    line("cast", ms, 0, (4.0 + (double)dtype_size(o->act)) * (double)count, 1, &other_ms);
    BEST(ms, o->zero(o, g, (size_t)count * 4));
    line("zero", ms, 0, 4.0 * (double)count, 1, &other_ms);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    int threads = argc > 2 ? atoi(argv[2]) : 0;
    n = argc > 1 ? atoi(argv[1]) : n;
    span_length = argc > 3 ? atoi(argv[3]) : n;
    if (n <= 0 || span_length <= 0 || ops_cpu_open(argc > 4 && strcmp(argv[4], "f32") == 0 ? DT_F32 : DT_BF16, threads, &o, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    struct ops_dims dims = {.n = n, .max_span = span_length, .d = D, .f = F, .h = H, .k = K, .q = Q, .v = V, .r = 3 * R,
                            .head_chunk = CHUNK};
    double from = now_s();
    size_t bytes = o->workspace_bytes(o, &dims);
    printf("%s, %s, %d tokens in spans of %d, workspace %.1f MB (sized in %.0f ms)\n", o->device, dtype_name(o->act), n, span_length,
           (double)bytes / 1e6, (now_s() - from) * 1e3);
    o->set_workspace(o, device(bytes), bytes);
    bench_products();
    double base_ms = product_ms;
    bench_adapters();
    double adapter_ms = product_ms - base_ms;
    bench_attention();
    bench_rows();
    bench_update();
    double all = product_ms + attention_ms + other_ms;
    printf("a step: %.0f ms: base products %.1f %%, adapter products %.1f %%, attention %.1f %%, the rest %.1f %%; %.0f tokens/s\n", all,
           100 * base_ms / all, 100 * adapter_ms / all, 100 * attention_ms / all, 100 * other_ms / all, n / all * 1e3);
    o->close(o);
    return 0;
}
