/* attention_select.cu - our own attention or cuDNN's? For a class of shapes (query heads, key/value heads, head size):
 *
 *   1. Ours, unless it is BF16, head size 64 or 128, rows on 16 bytes, and the caller says q_len == k_len: generation is ours.
 *   2. $LORAT_ATTENTION=plain or mma: ours. =cudnn: cuDNN for all that rule 1 leaves, and a failure where it cannot.
 *   3. What the run's tuned table says, where it names the class: `lorat tune` measures both and takes the faster.
 *      So does what the run chose by rule 4 in an earlier process (set_chosen).
 *   4. Else cuDNN on compute capability 9.0 and later, when its self-test passes (attention_selftest.cu). Else ours, with a note that it
 *      is not there, or a warning that it failed. Ranks compare what they chose (trainer/choices.c).
 *
 * A table that says cuDNN where that is missing, another version or fails its self-test is an error (ERR_STATE), since other bits
 * would follow. Rule 4 times nothing: a timing that falls one way today and the other way tomorrow would change bits too.
 *
 * The decision is made at the first call of a class, and waits for the card then. The self-test's shape is that of the call, and a
 * resumed run may begin with another batch: that is why rule 3 keeps what was chosen. A plan that cannot be made later, for another
 * number of documents, is a failure rather than a silent change of kernel. */
#include "kernels/cuda/attention_select.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/lt.h"

extern "C" {
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
}

enum { MAX_CLASSES = 64, CUDNN_MAJOR_LEAST = 9 };
struct attention_class {
    int32_t heads, kv_heads, head_size;
    bool cudnn;
    struct attention call; /* the first, for tuning */
};
struct attention_select {
    struct attention_cudnn *cudnn; /* NULL: not used */
    char why[512];                 /* the last reason for ours */
    char kept[96];                 /* what an earlier process of the run chose by rule 4, in the table's words */
    struct attention_class classes[MAX_CLASSES];
    int n;
};

int attention_select_open(struct cuda *c, int major, int minor, struct err *e)
{
    struct err why = {};
    struct attention_select *s = (struct attention_select *)mem_alloc(1, sizeof(*s));
    if (!s)
        return mem_fail(e, "the choice of attention", sizeof(*s));
    c->select = s;
    bool wanted = c->attention == ATTENTION_CUDNN || (c->attention == ATTENTION_AUTO && major >= CUDNN_MAJOR_LEAST);
    if (c->ops.act != DT_BF16 || !wanted)
        return 0;
    if (attention_cudnn_open(c, major, minor, &s->cudnn, &why) == 0) {
        c->ops.later_bytes += (int64_t)1 << 30; /* its kernels, and the self-test for as long as it runs */
        return 0;
    }
    s->cudnn = NULL;
    if (c->attention == ATTENTION_CUDNN)
        FAIL(e, ERR_DEVICE, "LORAT_ATTENTION=cudnn: %s", why.text);
    snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1, why.text);
    log_note("attention: our own kernel; %s", s->why);
    return 0;
}

void attention_select_close(struct cuda *c)
{
    if (!c->select)
        return;
    attention_cudnn_close(c->select->cudnn);
    mem_free(c->select);
    c->select = NULL;
}

size_t attention_select_workspace(const struct cuda *c, const struct ops_dims *d)
{
    return c->select && c->select->cudnn ? attention_cudnn_workspace(c->select->cudnn, d) : 0;
}

const char *attention_select_why(const struct cuda *c) { return c->select ? c->select->why : ""; }

/* The table's words: "32/8/128 cudnn 92801 980/1234", comma between classes: heads, the choice, cuDNN's version (0: none),
 * microseconds of a forward and backward by cuDNN and by ours. False when the class is not named. */
static bool text_says(const char *text, const struct attention_class *k, bool *cudnn, long long *version)
{
    char want[64];
    size_t n = (size_t)snprintf(want, sizeof(want), "%d/%d/%d ", k->heads, k->kv_heads, k->head_size);
    for (const char *at = text; at && *at; at = strchr(at, ',')) {
        while (*at == ',' || *at == ' ')
            at++;
        if (strncmp(at, want, n) != 0)
            continue;
        char word[8] = "";
        *version = 0;
        if (sscanf(at + n, "%7s %lld", word, version) < 1)
            continue;
        *cudnn = strcmp(word, "cudnn") == 0;
        return true;
    }
    return false;
}

static bool table_says(const struct cuda *c, const struct attention_class *k, bool *cudnn, long long *version)
{
    return text_says(lt_attention(c), k, cudnn, version) || text_says(c->select->kept, k, cudnn, version);
}

/* Rule 3: the table says cuDNN, so it has to be the same one and fit. */
static bool keep_word(struct cuda *c, const struct attention *a, long long version)
{
    struct attention_select *s = c->select;
    struct err why = {};
    if (!s->cudnn)
        err_set(&why, ERR_DEVICE, "%s", s->why[0] ? s->why : "cuDNN is not used on this card");
    else if (attention_cudnn_version(s->cudnn) != version)
        err_set(&why, ERR_DEVICE, "cuDNN is version %lld", (long long)attention_cudnn_version(s->cudnn));
    else if (attention_selftest(c, s->cudnn, a, NULL, 0, NULL, &why) == 0)
        return true;
    cuda_fail(c, ERR_STATE,
              "attention: %s, expected what this run has worked with, cuDNN %lld: the bits would change. Begin anew with --fresh (a "
              "tuned run: after lorat tune), or set LORAT_ATTENTION=mma to go on with other bits",
              why.text, version);
    return false;
}

/* Rule 4, and the wish of rule 2. */
static bool try_out(struct cuda *c, const struct attention *a)
{
    struct attention_select *s = c->select;
    struct err why = {};
    if (!s->cudnn)
        return false;
    s->why[0] = '\0';
    if (attention_selftest(c, s->cudnn, a, NULL, 0, NULL, &why) == 0)
        return true;
    if (c->failed)
        return false;
    if (c->attention == ATTENTION_CUDNN)
        cuda_fail(c, ERR_DEVICE, "LORAT_ATTENTION=cudnn: %s, expected its self-test to pass. Set it to auto", why.text);
    snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1, why.text);
    log_warn("attention: our own kernel; %s", s->why);
    return false;
}

static bool decide(struct cuda *c, const struct attention *a)
{
    struct attention_select *s = c->select;
    bool cudnn = false;
    long long version = 0;
    for (int i = 0; i < s->n; i++)
        if (s->classes[i].heads == a->heads && s->classes[i].kv_heads == a->kv_heads && s->classes[i].head_size == a->head_size)
            return s->classes[i].cudnn;
    if (s->n == MAX_CLASSES)
        return false; /* a model has one; only tests have many */
    struct attention_class *k = &s->classes[s->n++];
    k->heads = a->heads;
    k->kv_heads = a->kv_heads;
    k->head_size = a->head_size;
    k->call = *a;
    if (c->attention == ATTENTION_AUTO && table_says(c, k, &cudnn, &version))
        k->cudnn = cudnn && keep_word(c, a, version);
    else
        k->cudnn = try_out(c, a);
    return k->cudnn && !c->failed;
}

void attention_select_chosen(struct ops *o, struct buf *out)
{
    const struct cuda *c = cuda_of(o);
    const struct attention_select *s = c->select;
    if (c->ops.act == DT_BF16 && (c->attention == ATTENTION_PLAIN || c->attention == ATTENTION_MMA))
        buf_puts(out, c->attention == ATTENTION_PLAIN ? "plain" : "mma");
    for (int i = 0; s && i < s->n; i++) {
        const struct attention_class *k = &s->classes[i];
        buf_printf(out, "%s%d/%d/%d %s", i > 0 ? ", " : "", k->heads, k->kv_heads, k->head_size, k->cudnn ? "cudnn" : "own");
        if (k->cudnn)
            buf_printf(out, " %lld", (long long)attention_cudnn_version(s->cudnn));
    }
}

void attention_select_set_chosen(struct ops *o, const char *text)
{
    struct attention_select *s = cuda_of(o)->select;
    if (s)
        snprintf(s->kept, sizeof(s->kept), "%s", text);
}

bool attention_select_cudnn(struct cuda *c, const struct attention *a, std::initializer_list<const void *> pointers)
{
    if (!c->select || c->failed || !a->square || c->attention == ATTENTION_PLAIN || c->attention == ATTENTION_MMA)
        return false;
    bool small = (int64_t)a->n * (a->ld_q > a->ld_k ? a->ld_q : a->ld_k) <= INT32_MAX && (int64_t)a->n * a->ld_v <= INT32_MAX;
    bool fit = c->ops.act == DT_BF16 && (a->head_size == 64 || a->head_size == 128) && a->scale > 0 && small && a->n > 1 &&
               cuda_wide(sizeof(bf16), pointers, {a->ld_q, a->ld_k, a->ld_v});
    return fit && decide(c, a);
}

void attention_select_forward(struct cuda *c, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                              const void *v)
{
    struct err e = {};
    if (!c->failed && attention_cudnn_forward(c->select->cudnn, a, out, lse, q, k, v, &e) != 0)
        cuda_fail(c, ERR_DEVICE, "%s. Set LORAT_ATTENTION=mma, and start afresh", e.text);
}

void attention_select_backward(struct cuda *c, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                               const void *out, const float *lse, const void *q, const void *k, const void *v)
{
    struct err e = {};
    if (!c->failed && attention_cudnn_backward(c->select->cudnn, a, dq, dk, dv, dout, out, lse, q, k, v, &e) != 0)
        cuda_fail(c, ERR_DEVICE, "%s. Set LORAT_ATTENTION=mma, and start afresh", e.text);
}

int attention_select_tune(struct cuda *c, void *scratch, size_t bytes, struct err *e)
{
    struct attention_select *s = c->select;
    char text[96] = "";
    size_t at = 0;
    if (!s || !s->cudnn || c->attention != ATTENTION_AUTO)
        return 0;
    for (int i = 0; i < s->n; i++) {
        struct attention_class *k = &s->classes[i];
        struct err why = {};
        float us[2] = {0, 0};
        if (bytes < attention_selftest_bytes(c, &k->call))
            continue; /* not measured: rule 4 decides */
        bool fit = attention_selftest(c, s->cudnn, &k->call, scratch, bytes, us, &why) == 0;
        TRY(cuda_check(&c->ops, e));
        k->cudnn = fit && us[SIDE_CUDNN] < us[SIDE_OWN];
        if (fit)
            snprintf(s->why, sizeof(s->why), "%s", k->cudnn ? "" : "it is faster than cuDNN's");
        else
            snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1, why.text);
        int n = snprintf(text + at, sizeof(text) - at, "%s%d/%d/%d %s %lld %.0f/%.0f", at ? ", " : "", k->heads, k->kv_heads,
                         k->head_size, k->cudnn ? "cudnn" : "own", (long long)attention_cudnn_version(s->cudnn),
                         (double)us[SIDE_CUDNN], (double)us[SIDE_OWN]);
        if (n < 0 || (size_t)n >= sizeof(text) - at) {
            text[at] = '\0'; /* the table holds a line of this length: a class that does not fit is decided by rule 4 */
            break;
        }
        at += (size_t)n;
    }
    lt_set_attention(c, text);
    return 0;
}
