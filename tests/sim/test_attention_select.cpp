/* test_attention_select.cpp - which attention is used: the simulator's cuDNN is opened with one fault after the other, and each
 * is refused with its sentence while our own kernels do the work; a good one is used. Also the run's table of tuned choices, and
 * the offsets and lengths that cuDNN is given. */
#include "kernels/cuda/attention_select.h"
#include "kernels/cuda/lt.h"
#include "tests/check.h"
#include "tests/sim/fake_cudnn.h"

extern "C" {
#include "trainer/base/log.h"
}

enum { N = 192, HEADS = 4, KV_HEADS = 2, SIZE = 64, HQ = HEADS * SIZE, KQ = KV_HEADS * SIZE, LD = HQ + 2 * KQ, SPANS = 3 };
static const struct span spans[SPANS] = {{0, 100, 0, 100}, {100, 27, 100, 27}, {127, 65, 127, 65}};

/* One backend with a batch on it, and what it computed. */
struct job {
    struct ops *o;
    char *block, *workspace;
    bf16 *qkv, *dqkv, *out, *dout; /* device */
    float *lse, *delta;
    struct span *spans;
    bf16 got_out[N * HQ], got_dqkv[N * LD];
};

static void open_job(struct job *j, const char *cudnn, int major, const char *path)
{
    struct err e = {};
    setenv("LORAT_SIM_CUDNN", cudnn, 1);
    setenv("LORAT_ATTENTION", "auto", 1);
    CHECK_OK(lorat_cuda_plugin()->open(0, DT_BF16, &j->o, &e), &e);
    struct cuda *c = cuda_of(j->o);
    /* The simulated card is an RTX 3090; here it stands for others. */
    attention_select_close(c);
    c->attention = strcmp(path, "cudnn") == 0 ? ATTENTION_CUDNN : ATTENTION_AUTO;
    int rc = attention_select_open(c, major, 0, &e);
    if (rc != 0)
        cuda_fail(c, e.code, "%s", e.text);
    struct ops_dims d = {N, N, HQ, 64, HEADS, KV_HEADS, SIZE, 64, 16, 64};
    size_t bytes = j->o->workspace_bytes(j->o, &d);
    CHECK_OK(j->o->alloc(j->o, bytes, (void **)&j->workspace, &e), &e);
    j->o->set_workspace(j->o, j->workspace, bytes);
    CHECK_OK(j->o->alloc(j->o,
                         (size_t)N * (2 * LD + 2 * HQ) * sizeof(bf16) + 2 * (size_t)N * HEADS * sizeof(float) + sizeof(spans),
                         (void **)&j->block, &e),
             &e);
    j->qkv = (bf16 *)j->block;
    j->dqkv = j->qkv + N * LD;
    j->out = j->dqkv + N * LD;
    j->dout = j->out + N * HQ;
    j->lse = (float *)(j->dout + N * HQ);
    j->delta = j->lse + N * HEADS;
    j->spans = (struct span *)(j->delta + N * HEADS);
}

static void upload(struct job *j)
{
    static bf16 host[N * (LD + HQ)];
    for (int i = 0; i < N * (LD + HQ); i++)
        host[i] = bf16_from_f32((float)((i * 7919) % 2001 - 1000) / 1000.0f);
    j->o->upload(j->o, j->qkv, host, sizeof(bf16) * N * LD);
    j->o->upload(j->o, j->dout, host + N * LD, sizeof(bf16) * N * HQ);
    j->o->upload(j->o, j->spans, spans, sizeof(spans));
}

static struct attention attention_of(const struct job *j)
{
    struct attention a = {};
    a.n = N;
    a.heads = HEADS;
    a.kv_heads = KV_HEADS;
    a.head_size = SIZE;
    a.ld_q = a.ld_k = a.ld_v = LD;
    a.scale = 0.125f;
    a.spans = j->spans;
    a.n_spans = SPANS;
    a.max_span = 100;
    a.square = true;
    return a;
}

/* A forward and a backward; -1 with the backend's failure. */
static int step(struct job *j, bool square, struct err *e)
{
    struct attention a = attention_of(j);
    a.square = square;
    upload(j);
    j->o->attention_forward(j->o, &a, j->out, j->lse, j->qkv, j->qkv + HQ, j->qkv + HQ + KQ);
    j->o->attention_backward(j->o, &a, j->dqkv, j->dqkv + HQ, j->dqkv + HQ + KQ, j->dout, j->out, j->lse, j->qkv, j->qkv + HQ,
                             j->qkv + HQ + KQ, j->delta);
    TRY(j->o->download(j->o, j->got_out, j->out, sizeof(j->got_out), e));
    return j->o->download(j->o, j->got_dqkv, j->dqkv, sizeof(j->got_dqkv), e);
}

static void close_job(struct job *j)
{
    j->o->release(j->o, j->block);
    j->o->release(j->o, j->workspace);
    j->o->close(j->o);
}

static bool same(const struct job *a, const struct job *b)
{
    return memcmp(a->got_out, b->got_out, sizeof(a->got_out)) == 0 && memcmp(a->got_dqkv, b->got_dqkv, sizeof(a->got_dqkv)) == 0;
}

static struct job own, cudnn, j; /* ours' results, a good cuDNN's, the one at hand */

/* Expects cuDNN's results where `why` is NULL, else ours and a reason that contains it. */
static void check_choice(const char *mode, int major, const char *why)
{
    struct err e = {};
    open_job(&j, mode, major, "auto");
    CHECK_OK(step(&j, true, &e), &e);
    CHECK_OK(step(&j, true, &e), &e); /* decided once, and again the same */
    CHECK(same(&j, why ? &own : &cudnn));
    CHECK_HAS(attention_select_why(cuda_of(j.o)), why ? why : "");
    if (!why)
        CHECK_STR(attention_select_why(cuda_of(j.o)), "");
    close_job(&j);
}

static void choices(void)
{
    struct err e = {};
    open_job(&own, "good", 8, "auto");
    int before = fake_cudnn_calls();
    CHECK_OK(step(&own, true, &e), &e);
    CHECK_INT(fake_cudnn_calls(), before); /* below 9.0 it is not asked */
    open_job(&cudnn, "good", 9, "auto");
    CHECK_OK(step(&cudnn, true, &e), &e);
    CHECK_INT(fake_cudnn_calls() - before, 6); /* twice in the self-test, once for us */
    CHECK(!same(&own, &cudnn));                /* another kernel: what follows can tell them apart */

    check_choice("good", 9, NULL);
    check_choice("good", 12, NULL);
    check_choice("absent", 9, "cannot open shared object file");
    check_choice("old", 9, "version 9.17.1, expected 9.18.1");
    check_choice("no-plan", 9, "no plan");
    check_choice("bits", 9, "forward gave other bits the second time");
    check_choice("bits-backward", 9, "backward gave other bits the second time");
    check_choice("wrong", 9, "dv differs from ours by");
    check_choice("wrong-a-little", 9, "of its norm, expected at most");
    check_choice("unwritten", 9, "dk differs from ours by nan");
    check_choice("wrong-lse", 9, "log-sum-exp");

    before = fake_cudnn_calls(); /* spans that need not be square are ours */
    CHECK_OK(step(&cudnn, false, &e), &e);
    CHECK(same(&own, &cudnn));
    CHECK_INT(fake_cudnn_calls(), before);
    close_job(&cudnn);
}

/* $LORAT_ATTENTION=cudnn is a wish that fails where it cannot be met. */
static void wishes(void)
{
    struct err e = {};
    open_job(&j, "good", 8, "cudnn");
    int before = fake_cudnn_calls();
    CHECK_OK(step(&j, true, &e), &e);
    CHECK(fake_cudnn_calls() > before);
    close_job(&j);
    const char *modes[] = {"absent", "bits"},
               *words[] = {"LORAT_ATTENTION=cudnn: cuDNN: libcudnn", "LORAT_ATTENTION=cudnn: cuDNN's forward gave other bits"};
    for (int i = 0; i < 2; i++) {
        open_job(&j, modes[i], 9, "cudnn");
        CHECK(step(&j, true, &e) != 0);
        CHECK_INT(e.code, ERR_DEVICE);
        CHECK_HAS(e.text, words[i]);
        close_job(&j);
    }
}

static void check_table(const char *text, const char *mode, int major, const struct job *want, const char *failure)
{
    struct err e = {};
    open_job(&j, mode, major, "auto");
    lt_set_attention(cuda_of(j.o), text);
    int rc = step(&j, true, &e);
    if (failure) {
        CHECK(rc != 0);
        CHECK_INT(e.code, ERR_STATE);
        CHECK_HAS(e.text, failure);
    } else {
        CHECK_OK(rc, &e);
        CHECK(same(&j, want));
    }
    close_job(&j);
}

static void tables(void)
{
    struct err e = {};
    struct job kept;
    open_job(&kept, "good", 9, "auto");
    CHECK_OK(step(&kept, true, &e), &e);
    check_table("4/2/64 own 92801 20/10", "good", 9, &own, NULL);
    check_table("4/2/64 own 92801 20/10", "absent", 9, &own, NULL);
    check_table("8/2/64 own 92801 20/10, 4/2/64 cudnn 92801 10/20", "good", 9, &kept, NULL);
    check_table("8/2/64 own 92801 20/10", "good", 9, &kept, NULL); /* another class: the rule without a table */
    check_table("4/2/64 cudnn 92700 10/20", "good", 9, NULL, "version 92801");
    check_table("4/2/64 cudnn 92801 10/20", "absent", 9, NULL, "cannot open shared object file");
    check_table("4/2/64 cudnn 92801 10/20", "bits", 9, NULL, "other bits the second time");
    check_table("4/2/64 cudnn 92801 10/20", "good", 8, NULL, "not used on this card");

    /* What tuning writes is what a later process does. */
    static char scratch_text[96];
    void *scratch;
    const size_t bytes = (size_t)4 << 20;
    CHECK_OK(kept.o->alloc(kept.o, bytes, &scratch, &e), &e);
    CHECK_OK(attention_select_tune(cuda_of(kept.o), scratch, bytes, &e), &e);
    snprintf(scratch_text, sizeof(scratch_text), "%s", lt_attention(cuda_of(kept.o)));
    CHECK_HAS(scratch_text, "4/2/64 ");
    CHECK_HAS(scratch_text, " 92801 ");
    CHECK_OK(step(&kept, true, &e), &e);
    check_table(scratch_text, "good", 9, &kept, NULL);
    CHECK_OK(attention_select_tune(cuda_of(kept.o), scratch, 100, &e),
             &e); /* too little to measure in: no word about the class */
    CHECK_STR(lt_attention(cuda_of(kept.o)), "");
    kept.o->release(kept.o, scratch);
    close_job(&kept);
}

/* What a process chose by itself, as it tells it; and what a later one of the same run does with those words. */
static const char *chosen_text(struct job *of)
{
    static struct buf text;
    buf_clear(&text);
    of->o->chosen(of->o, &text);
    return text.n > 0 ? text.data : "";
}

static void check_kept(const char *text, const char *mode, int major, const struct job *want, const char *failure)
{
    struct err e = {};
    open_job(&j, mode, major, "auto");
    j.o->set_chosen(j.o, text);
    int rc = step(&j, true, &e);
    if (failure) {
        CHECK(rc != 0);
        CHECK_INT(e.code, ERR_STATE);
        CHECK_HAS(e.text, failure);
        CHECK_HAS(e.text, "LORAT_ATTENTION=mma to go on");
    } else {
        CHECK_OK(rc, &e);
        CHECK(same(&j, want));
    }
    close_job(&j);
}

static void kept_choices(void)
{
    struct err e = {};
    static struct job good;
    char text[96];
    open_job(&good, "good", 9, "auto");
    CHECK_STR(chosen_text(&good), ""); /* nothing before the first call */
    CHECK_OK(step(&good, true, &e), &e);
    CHECK_STR(chosen_text(&good), "4/2/64 cudnn 92801");
    snprintf(text, sizeof(text), "%s", chosen_text(&good));
    check_kept(text, "good", 9, &good, NULL);
    check_kept(text, "bits", 9, NULL, "other bits the second time"); /* never another kernel without a word */
    check_kept(text, "absent", 9, NULL, "cannot open shared object file");
    check_kept("4/2/64 cudnn 92700", "good", 9, NULL, "version 92801");
    check_kept("4/2/64 own", "good", 9, &own, NULL); /* where rule 4 would take cuDNN */
    check_kept("8/2/64 own", "good", 9, &good, NULL);
    check_kept("none", "good", 9, &good, NULL);
    check_kept("mma", "good", 9, &good, NULL);

    open_job(&j, "wrong", 9, "auto");
    CHECK_OK(step(&j, true, &e), &e);
    CHECK_STR(chosen_text(&j), "4/2/64 own");
    cuda_of(j.o)->attention = ATTENTION_MMA;
    CHECK_HAS(chosen_text(&j), "mma");
    close_job(&j);
    open_job(&j, "good", 9, "auto");
    lt_set_attention(cuda_of(j.o), "4/2/64 own 92801 20/10"); /* a tuned table comes before what was kept */
    j.o->set_chosen(j.o, "4/2/64 cudnn 92801");
    CHECK_OK(step(&j, true, &e), &e);
    CHECK(same(&j, &own));
    close_job(&j);
    close_job(&good);
}

static void ragged(void)
{
    struct err e = {};
    struct attention a;
    struct attention_cudnn_plan p;
    open_job(&j, "good", 9, "auto");
    upload(&j);
    a = attention_of(&j);
    p = attention_cudnn_plan_of(&a);
    CHECK_INT(p.documents, 8);
    CHECK_INT(p.longest, 512);
    CHECK_INT(p.tokens, 1024);
    int32_t stride = ragged_stride(p.documents), host[RAGGED_PARTS * 64], *device;
    CHECK_INT(stride, 64);
    CHECK_INT(ragged_stride(64), 128);
    CHECK_INT(ragged_bytes(p.documents), sizeof(host));
    CHECK_OK(j.o->alloc(j.o, sizeof(host), (void **)&device, &e), &e);
    j.o->zero(j.o, device, sizeof(host));
    attention_ragged_queue(cuda_of(j.o), "test", &a, p.documents, device);
    CHECK_OK(j.o->download(j.o, host, device, sizeof(host), &e), &e);
    const int32_t starts[9] = {0, 100, 127, N, N, N, N, N, N}, lengths[8] = {100, 27, 65, 0, 0, 0, 0, 0};
    const int32_t rows[RAGGED_PARTS] = {0, LD, LD, LD, HQ, HEADS, KQ};
    for (int i = 0; i < 9; i++)
        for (int part = RAGGED_Q; part < RAGGED_PARTS; part++)
            CHECK_INT(host[part * stride + i], starts[i] * rows[part]);
    for (int i = 0; i < 8; i++)
        CHECK_INT(host[RAGGED_LENGTHS * stride + i], lengths[i]);
    j.o->release(j.o, device);
    close_job(&j);
}

int main(void)
{
    log_set_level(LOG_QUIET);
    choices();
    wishes();
    tables();
    kept_choices();
    ragged();
    close_job(&own);
    return check_done();
}
