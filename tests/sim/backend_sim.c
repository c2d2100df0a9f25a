/* backend_sim.c - runs ops_test on the CUDA backend over a simulated card: both activation types, and each of them with threads
 * and streams in several orders. All that the test downloads must have the same bits in each order. LORAT_SIM_ORDER and
 * LORAT_SIM_STREAMS, when set, choose one; the slow builds (tracked, sanitizers) run one. */
#include "kernels/cuda/plugin.h"
#include "tests/ops/harness.h"
#include "tests/sim/control.h"

static const struct {
    const char *threads, *streams;
} orders[] = {{"up", "lazy"}, {"down", "others"}, {"mix:1", "mix:1"}};
enum { ORDERS = 3 };

/* Digests of what was downloaded, one a call, of the first order; later ones are compared with them. */
static uint64_t *kept;
static size_t n_kept, n_now;
static int order_now, differing;
static struct ops real; /* the backend's own entries */

static uint64_t fnv(const unsigned char *p, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}
static void compare(const struct ops *o, const void *got, size_t bytes)
{
    uint64_t digest = fnv(got, bytes);
    if (order_now == 0) {
        kept = realloc(kept, (n_now + 1) * sizeof(*kept));
        kept[n_now] = digest;
        n_kept = n_now + 1;
    } else if ((n_now >= n_kept || kept[n_now] != digest) && differing++ == 0) {
        fprintf(stderr, "%s: download %zu, of %zu bytes, has other bits with threads in order %s and streams in order %s\n",
                o->device, n_now, bytes, orders[order_now].threads, orders[order_now].streams);
        check_failures++;
    }
    n_now++;
}
/* A failure that the backend has told of is no finding of the simulator's. */
static int told(int rc)
{
    if (rc != 0)
        sim_errors_told();
    return rc;
}
static int download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e)
{
    TRY(told(real.download(o, dst_host, src, bytes, e)));
    compare(o, dst_host, bytes);
    return 0;
}
static int alloc(struct ops *o, size_t bytes, void **out, struct err *e) { return told(real.alloc(o, bytes, out, e)); }
static int sync(struct ops *o, struct err *e) { return told(real.sync(o, e)); }
static int check(struct ops *o, struct err *e) { return told(real.check(o, e)); }

static int run_act(enum dtype act)
{
    struct ops *o = NULL;
    struct err e = {0};
    CHECK_OK(lorat_cuda_plugin()->open(0, act, &o, &e), &e);
    if (!o)
        return 1;
    real = *o;
    o->download = download;
    o->alloc = alloc;
    o->sync = sync;
    o->check = check;
    n_now = 0;
    test_seed(1);
    int failures = ops_test(o);
    test_workspace(o, NULL);
    o->close(o);
    return failures;
}

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

int main(void)
{
    bool chosen = getenv("LORAT_SIM_ORDER") || getenv("LORAT_SIM_STREAMS");
    int failures = 0, n = chosen || SANITIZED || sim_is_tracked() ? 1 : ORDERS;
    for (int bf = 0; bf < 2; bf++)
        for (order_now = 0; order_now < n; order_now++) {
            if (!chosen) {
                sim_set_order(orders[order_now].threads);
                sim_set_streams(orders[order_now].streams);
            }
            failures = run_act(bf ? DT_BF16 : DT_F32);
        }
    sim_finish();
    if (getenv("LORAT_SIM_REPORT"))
        sim_report(stdout);
    free(kept);
    check_failures += failures + test_failures();
    return check_done();
}
