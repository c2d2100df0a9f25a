/* reference.c - see reference.h. Written to be read, not to be fast. */
#include "tests/ops/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/rng.h"

double ref_round(double x, enum dtype t) { return t == DT_BF16 ? bf16_to_f32(bf16_from_f32((float)x)) : (float)x; }

void ref_gemm(const struct ref_gemm *g, const double *a, const double *b, double *c)
{
    for (int i = 0; i < g->m; i++)
        for (int j = 0; j < g->n; j++) {
            double sum = 0;
            for (int p = 0; p < g->k; p++)
                sum += (g->trans_a ? a[(size_t)p * g->lda + i] : a[(size_t)i * g->lda + p]) *
                       (g->trans_b ? b[(size_t)j * g->ldb + p] : b[(size_t)p * g->ldb + j]);
            double *out = &c[(size_t)i * g->ldc + j];
            *out = g->alpha * sum + (g->accumulate ? *out : 0);
        }
}

void ref_linear_forward(double *y, const double *x, const double *w, const double *bias, int n, int out, int in)
{
    ref_gemm(&(struct ref_gemm){n, out, in, in, in, out, false, true, false, 1}, x, w, y);
    for (int i = 0; bias && i < n; i++)
        for (int j = 0; j < out; j++)
            y[(size_t)i * out + j] += bias[j];
}

void ref_linear_backward(double *dx, const double *dy, const double *w, int n, int out, int in, bool accumulate)
{
    ref_gemm(&(struct ref_gemm){n, in, out, out, in, in, false, false, accumulate, 1}, dy, w, dx);
}

static double inverse_rms(const double *x, int d, double eps)
{
    double squares = 0;
    for (int j = 0; j < d; j++)
        squares += x[j] * x[j];
    return 1 / sqrt(squares / d + eps);
}

void ref_rmsnorm_forward(double *y, double *sum, const double *x, const double *delta, const double *w, int n, int d, double eps,
                         enum dtype act)
{
    double *s = malloc((size_t)d * sizeof(double));
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < d; j++)
            s[j] = delta ? ref_round(x[(size_t)i * d + j] + delta[(size_t)i * d + j], act) : x[(size_t)i * d + j];
        double r = inverse_rms(s, d, eps);
        for (int j = 0; j < d; j++) {
            if (sum)
                sum[(size_t)i * d + j] = s[j];
            y[(size_t)i * d + j] = s[j] * r * w[j];
        }
    }
    free(s);
}

/* dx = (or +=) r (w dy - x r^2 mean(w dy x)) of one row. */
static void norm_backward_row(double *dx, const double *dy, const double *x, const double *w, int d, double eps, bool accumulate)
{
    double r = inverse_rms(x, d, eps), mean = 0;
    double *g = malloc((size_t)d * sizeof(double));
    for (int j = 0; j < d; j++)
        mean += w[j] * dy[j] * x[j] / d;
    for (int j = 0; j < d; j++)
        g[j] = r * (w[j] * dy[j] - x[j] * r * r * mean);
    for (int j = 0; j < d; j++)
        dx[j] = g[j] + (accumulate ? dx[j] : 0);
    free(g);
}

void ref_rmsnorm_backward(double *dx, const double *dy, const double *x, const double *w, int n, int d, double eps)
{
    for (int i = 0; i < n; i++)
        norm_backward_row(dx + (size_t)i * d, dy + (size_t)i * d, x + (size_t)i * d, w, d, eps, true);
}

void ref_head_norm_forward(double *y, int ld_y, const double *x, int ld_x, const double *w, int n, int heads, int q, double eps)
{
    for (int i = 0; i < n; i++)
        for (int h = 0; h < heads; h++) {
            const double *from = x + (size_t)i * ld_x + h * q;
            double r = inverse_rms(from, q, eps);
            for (int j = 0; j < q; j++)
                y[(size_t)i * ld_y + h * q + j] = from[j] * r * w[j];
        }
}

void ref_head_norm_backward(double *dx, int ld_dx, const double *dy, int ld_dy, const double *x, int ld_x, const double *w, int n,
                            int heads, int q, double eps)
{
    for (int i = 0; i < n; i++)
        for (int h = 0; h < heads; h++)
            norm_backward_row(dx + (size_t)i * ld_dx + h * q, dy + (size_t)i * ld_dy + h * q, x + (size_t)i * ld_x + h * q, w, q,
                              eps, false);
}

void ref_rope(double *x, int ld_x, const int32_t *positions, const double *table, int n, int heads, int q, bool backward)
{
    for (int i = 0; i < n; i++)
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < q / 2; j++) {
                const double *angle = table + ((size_t)positions[i] * (q / 2) + j) * 2;
                double c = angle[0], s = backward ? -angle[1] : angle[1];
                double *a = &x[(size_t)i * ld_x + h * q + j], *b = a + q / 2, a0 = *a, b0 = *b;
                *a = a0 * c - b0 * s;
                *b = b0 * c + a0 * s;
            }
}

/* p (k_len) = softmax of query i of the span and head; returns log-sum-exp. */
static double probabilities(const struct ref_attention *a, const struct span *s, int i, int h, const double *q, const double *k,
                            double *p)
{
    int seen = s->k_len - s->q_len + i + 1, kv = h / (a->heads / a->kv_heads);
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < seen; j++) {
        p[j] = 0;
        for (int x = 0; x < a->q; x++)
            p[j] += a->scale * q[(size_t)(s->q0 + i) * a->ld_q + h * a->q + x] * k[(size_t)(s->k0 + j) * a->ld_k + kv * a->q + x];
        top = p[j] > top ? p[j] : top;
    }
    for (int j = 0; j < seen; j++)
        sum += exp(p[j] - top);
    for (int j = 0; j < seen; j++)
        p[j] = exp(p[j] - top) / sum;
    return top + log(sum);
}

void ref_attention_forward(const struct ref_attention *a, double *out, double *lse, const double *q, const double *k,
                           const double *v)
{
    for (int n = 0; n < a->n_spans; n++) {
        const struct span *s = &a->spans[n];
        double *p = malloc((size_t)s->k_len * sizeof(double));
        for (int i = 0; i < s->q_len; i++)
            for (int h = 0; h < a->heads; h++) {
                double *to = out + ((size_t)(s->q0 + i) * a->heads + h) * a->q, l = probabilities(a, s, i, h, q, k, p);
                if (lse)
                    lse[(size_t)(s->q0 + i) * a->heads + h] = l;
                for (int x = 0; x < a->q; x++) {
                    to[x] = 0;
                    for (int j = 0; j < s->k_len - s->q_len + i + 1; j++)
                        to[x] += p[j] * v[(size_t)(s->k0 + j) * a->ld_v + h / (a->heads / a->kv_heads) * a->q + x];
                }
            }
        free(p);
    }
}

void ref_attention_backward(const struct ref_attention *a, double *dq, double *dk, double *dv, const double *dout, const double *q,
                            const double *k, const double *v)
{
    int group = a->heads / a->kv_heads;
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < a->heads * a->q; j++) {
            dq[(size_t)i * a->ld_q + j] = 0;
            if (j < a->kv_heads * a->q)
                dk[(size_t)i * a->ld_k + j] = dv[(size_t)i * a->ld_v + j] = 0;
        }
    for (int n = 0; n < a->n_spans; n++) {
        const struct span *s = &a->spans[n];
        double *p = malloc((size_t)s->k_len * 2 * sizeof(double)), *dp = p + s->k_len;
        for (int i = 0; i < s->q_len; i++)
            for (int h = 0; h < a->heads; h++) {
                const double *d = dout + ((size_t)(s->q0 + i) * a->heads + h) * a->q;
                size_t at_q = (size_t)(s->q0 + i) * a->ld_q + (size_t)h * a->q;
                int seen = s->k_len - s->q_len + i + 1, kv = h / group;
                double delta = 0;
                probabilities(a, s, i, h, q, k, p);
                for (int j = 0; j < seen; j++) {
                    dp[j] = 0;
                    for (int x = 0; x < a->q; x++)
                        dp[j] += d[x] * v[(size_t)(s->k0 + j) * a->ld_v + kv * a->q + x];
                    delta += p[j] * dp[j];
                }
                for (int j = 0; j < seen; j++) {
                    double ds = p[j] * (dp[j] - delta) * a->scale;
                    size_t at_k = (size_t)(s->k0 + j) * a->ld_k + (size_t)kv * a->q;
                    size_t at_v = (size_t)(s->k0 + j) * a->ld_v + (size_t)kv * a->q;
                    for (int x = 0; x < a->q; x++) {
                        dq[at_q + x] += ds * k[at_k + x];
                        dk[at_k + x] += ds * q[at_q + x];
                        dv[at_v + x] += p[j] * d[x];
                    }
                }
            }
        free(p);
    }
}

void ref_swiglu_forward(double *a, const double *gu, int n, int f)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < f; j++) {
            double g = gu[(size_t)i * 2 * f + j], u = gu[(size_t)i * 2 * f + f + j];
            a[(size_t)i * f + j] = g / (1 + exp(-g)) * u;
        }
}

void ref_swiglu_backward(double *dgu, const double *da, const double *gu, int n, int f)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < f; j++) {
            double g = gu[(size_t)i * 2 * f + j], u = gu[(size_t)i * 2 * f + f + j], s = 1 / (1 + exp(-g));
            double d = da[(size_t)i * f + j];
            dgu[(size_t)i * 2 * f + j] = d * u * (s + g * s * (1 - s));
            dgu[(size_t)i * 2 * f + f + j] = d * g * s;
        }
}

void ref_dropout(double *y, const double *x, const uint32_t *keys, int n, int d, const struct dropout *drop, bool accumulate)
{
    uint64_t key = drop->seed ^ (uint64_t)drop->step * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < d; j++) {
            uint32_t word = rng_at(key, RNG_DROPOUT, keys[i], (uint32_t)j / 4, drop->module).v[j % 4];
            double kept = rng_unit(word) >= drop->p ? x[(size_t)i * d + j] / (1 - (double)drop->p) : 0;
            y[(size_t)i * d + j] = kept + (accumulate ? y[(size_t)i * d + j] : 0);
        }
}

void ref_cross_entropy(double *loss, double *nll, double *logits, int ld_v, const int32_t *targets, const double *weights, int n,
                       int v, bool backward)
{
    for (int i = 0; i < n; i++) {
        double *x = logits + (size_t)i * ld_v, top = -INFINITY, sum = 0;
        if (weights[i] == 0) {
            nll[i] = 0;
            for (int j = 0; backward && j < ld_v; j++)
                x[j] = 0;
            continue;
        }
        for (int j = 0; j < v; j++)
            top = x[j] > top ? x[j] : top;
        for (int j = 0; j < v; j++)
            sum += exp(x[j] - top);
        nll[i] = top + log(sum) - x[targets[i]];
        *loss += weights[i] * nll[i];
        for (int j = 0; backward && j < ld_v; j++)
            x[j] = j < v ? weights[i] * (exp(x[j] - top) / sum - (j == targets[i])) : 0;
    }
}

void ref_adamw(double *p, const double *g, double *m, double *v, int64_t count, const struct adamw *a)
{
    for (int64_t i = 0; i < count; i++) {
        double gi = g[i] * a->grad_scale;
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * gi;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * gi * gi;
        p[i] -= a->lr * (a->weight_decay * p[i] + (m[i] / a->bias1) / (sqrt(v[i] / a->bias2) + a->epsilon));
    }
}
