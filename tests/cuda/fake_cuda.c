/* fake_cuda.c - a stand-in for lorat_cuda.so, so that all of lorat around the plug-in is tested where there is no card.
 * $LORAT_FAKE_CUDA says how it misbehaves. Its cards are one of 24 GiB and, for "two", an older one beside it, for "pair" a second
 * of its kind, for "uneven" one of that kind that needs 100 MiB more beside a job; its backend is the CPU's, told apart by name and
 * with memory that the host may not read. Built with FAKE_NO_SYMBOL it has no entry point. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"
#include "trainer/base/log.h"

#define FAKE_GIB   ((int64_t)1 << 30)
#define FAKE_TUNED "fake card, fake library 1\n"

static const char *kind(void)
{
    const char *k = getenv("LORAT_FAKE_CUDA");
    return k != NULL ? k : "";
}
static bool is(const char *what) { return strcmp(kind(), what) == 0; }

/* "newer": another version of a library, whose attention is another one too. */
static void fake_versions(char *out, size_t size)
{
    snprintf(out, size, "CUDA 13.0, driver 13.0, cuBLAS %s", is("newer") ? "13.2.0" : "13.1.0");
}

static int fake_cards(struct cuda_card *out, int max, int *n, struct err *e)
{
    if (is("no-driver"))
        return err_set(e, ERR_DEVICE, "CUDA: the driver is of CUDA 12.4, expected 13.0 or later (R580). Update the driver");
    out[0] = (struct cuda_card){
        .index = 0, .name = "Fake RTX 3090", .major = 8, .minor = 6, .total = 24 * FAKE_GIB, .free = 23 * FAKE_GIB};
    *n = 1;
    if (is("old")) {
        snprintf(out[0].name, sizeof out[0].name, "Fake P40");
        out[0].major = 6;
        out[0].minor = 1;
    }
    if (is("full")) {
        out[0].free = FAKE_GIB / 64;
        snprintf(out[0].holder, sizeof out[0].holder, "python3 (pid 4711, 18.2 GiB)");
    }
    if (is("tight"))
        out[0].free = 480 << 20; /* 180 MiB beside the context */
    if ((is("pair") || is("uneven")) && max > 1) {
        out[1] = out[0];
        out[1].index = 1;
        *n = 2;
    }
    if (is("two") && max > 1) {
        out[1] = (struct cuda_card){
            .index = 1, .name = "Fake P40", .major = 6, .minor = 1, .total = 24 * FAKE_GIB, .free = 24 * FAKE_GIB};
        *n = 2;
    }
    return 0;
}

/* What a card of 24 GiB says once a context of 300 MiB stands on it; each alloc is counted. */
static int64_t fake_taken = 300 << 20;
static int (*cpu_alloc)(struct ops *o, size_t bytes, void **out, struct err *e);

static int fake_alloc(struct ops *o, size_t bytes, void **out, struct err *e)
{
    int rc = cpu_alloc(o, bytes, out, e);
    if (rc == 0)
        fake_taken += (int64_t)bytes + (is("greedy") ? 128 << 20 : 0);
    return rc;
}

static int fake_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e)
{
    struct cuda_card card[2];
    int n;
    if (fake_cards(card, 1, &n, e) != 0)
        return -1;
    *free_bytes = card[0].free > fake_taken ? card[0].free - fake_taken : 0;
    *total_bytes = card[0].total;
    return 0;
}

/* "slower": from tuning on, every wait takes long. */
static bool fake_slowed;
static int (*cpu_sync)(struct ops *o, struct err *e);
static int fake_sync(struct ops *o, struct err *e)
{
    if (fake_slowed)
        usleep(300000);
    return cpu_sync(o, e);
}

static int fake_tune(struct ops *o, void *scratch, size_t bytes, double budget_s, struct err *e)
{
    if (bytes < 1 || budget_s <= 0)
        return err_set(e, ERR_INTERNAL, "no scratch or no time");
    o->zero(o, scratch, bytes);
    fake_slowed = is("slower");
    return o->sync(o, e);
}
static int fake_tuned(struct ops *o, struct buf *out, struct err *e)
{
    buf_puts(out, FAKE_TUNED "64 64 64: 3\n");
    return out->failed ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}
static int fake_set_tuned(struct ops *o, const char *text, size_t n, struct err *e)
{
    size_t want = strlen(FAKE_TUNED);
    if (n < want || memcmp(text, FAKE_TUNED, want) != 0)
        return err_set(e, ERR_STATE, "made for another GPU");
    return 0;
}

/* Attention is chosen at the first call: "cudnn" and "newer" take that one, when the run does not keep another. */
static char fake_kept[96], fake_choice[96];
static void (*cpu_attention)(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                             const void *v);
static void fake_attention(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                           const void *v)
{
    snprintf(fake_choice, sizeof fake_choice, "%s",
             fake_kept[0] != '\0'             ? fake_kept
             : is("cudnn") || is("newer") ? "4/2/64 cudnn 92801"
                                          : "4/2/64 own");
    cpu_attention(o, a, out, lse, q, k, v);
}
/* "wish": as with LORAT_ATTENTION=mma, which is known before the first call. */
static void fake_chosen(struct ops *o, struct buf *out) { buf_puts(out, is("wish") ? "mma" : fake_choice); }
static void fake_set_chosen(struct ops *o, const char *text)
{
    snprintf(fake_kept, sizeof fake_kept, "%s", is("forgetful") ? "mma" : text);
    log_note("fake: keeps %s", text);
}

/* "waits": so many seconds for blocks of the base whenever it is asked. */
static double fake_waited(struct ops *o) { return is("waits") ? 0.25 : 0; }

static int fake_peer(int from, int to, bool *out, struct err *e)
{
    log_note("fake: asked whether card %d reaches card %d", from, to);
    *out = from != to;
    return 0;
}

static int fake_depth;
static void fake_mark(struct ops *o, const char *name)
{
    fake_depth += name != NULL ? 1 : -1;
    if (fake_depth < 0)
        abort(); /* a range that was never opened is closed */
}

static void (*cpu_close)(struct ops *o);
static void fake_close(struct ops *o)
{
    if (fake_depth != 0)
        abort(); /* a range is open at the end */
    cpu_close(o);
}

static int fake_open(int index, enum dtype act, struct ops **out, struct err *e)
{
    if (ops_cpu_open(act, 1, out, e) != 0)
        return -1;
    struct ops *o = *out;
    o->name = "cuda";
    snprintf(o->device, sizeof o->device, "Fake RTX 3090");
    log_note("fake: opened");
    o->unified = false;
    o->later_bytes = (is("uneven") && index == 1 ? 300 : 200) << 20;
    cpu_alloc = o->alloc;
    cpu_close = o->close;
    cpu_attention = o->attention_forward;
    o->attention_forward = fake_attention;
    o->alloc = fake_alloc;
    o->close = fake_close;
    o->memory = fake_memory;
    cpu_sync = o->sync;
    o->sync = fake_sync;
    o->tune = fake_tune;
    o->tuned = fake_tuned;
    o->set_tuned = fake_set_tuned;
    o->chosen = fake_chosen;
    o->set_chosen = fake_set_chosen;
    o->fetch_waited = fake_waited;
    o->mark = fake_mark;
    return 0;
}

static struct cuda_plugin plugin = {CUDA_PLUGIN_ABI, sizeof(struct ops), LORAT_VERSION, true,
                                    fake_versions,   fake_cards,         fake_open,      NULL,
                                    fake_peer,       log_forward};

#ifndef FAKE_NO_SYMBOL
__attribute__((visibility("default"))) const struct cuda_plugin *lorat_cuda_plugin(void)
{
    if (is("abi"))
        plugin.abi = CUDA_PLUGIN_ABI + 1;
    if (is("table"))
        plugin.ops_size -= 8;
    if (is("version"))
        plugin.version = "0.0.1";
    return &plugin;
}
#endif
