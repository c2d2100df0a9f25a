/* gpu_repeat.c SHAPE [--tokens N] [--bf16] [--only TEXT] - M9: each product and each other operation of a training step at a
 * model's own sizes, three times from the same numbers: alone, alone again, and beside a second backend that keeps the same card
 * busy with products. Every byte that the operation may have touched must be the same each time. Walks the lists of `lorat
 * bench`. */
#include "kernels/plugin.h"
#include "tests/check.h"
#include "trainer/base/hash.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/bench.h"
#include "trainer/bench_shape.h"

enum { BUSY_N = 1024, BUSY_CALLS = 8 };
/* The other stream. */
static struct busy {
    struct ops *o;
    char *memory;
    void *workspace;
    int32_t n;
} busy;

static void busy_open(const struct cuda_plugin *plugin, int32_t n)
{
    struct err e = {0};
    size_t cells = (size_t)n * (size_t)n, bytes;
    struct ops_dims d = {.n = n, .max_span = 64, .d = n, .f = n, .h = 1, .k = 1, .q = 64, .v = n, .r = 16, .head_chunk = 64};
    busy.n = n;
    CHECK_OK(plugin->open(0, DT_BF16, &busy.o, &e), &e);
    CHECK_OK(busy.o->alloc(busy.o, 3 * cells * 2, (void **)&busy.memory, &e), &e);
    bytes = busy.o->workspace_bytes(busy.o, &d);
    CHECK_OK(busy.o->alloc(busy.o, bytes, &busy.workspace, &e), &e);
    busy.o->set_workspace(busy.o, busy.workspace, bytes);
    bench_fill(busy.o, busy.memory, DT_BF16, (int64_t)(3 * cells), -1, 1, 9);
}

static void busy_queue(void)
{
    size_t bytes = (size_t)busy.n * (size_t)busy.n * 2;
    struct weight w = {busy.memory + 2 * bytes, DT_BF16, busy.n, busy.n};
    for (int i = 0; i < BUSY_CALLS; i++)
        busy.o->linear_forward(busy.o, busy.memory, busy.memory + bytes, &w, NULL, busy.n);
}

static void busy_close(void)
{
    busy.o->set_workspace(busy.o, NULL, 0);
    busy.o->release(busy.o, busy.workspace);
    busy.o->release(busy.o, busy.memory);
    busy.o->close(busy.o);
}

/* The hash of the call's operands after one run from the pool's own numbers. */
static void run_once(const struct bench_call *c, bool beside, void *host, uint8_t hash[HASH_BYTES])
{
    struct err e = {0};
    struct ops *o = c->b->ops;
    pool_fill(c->pool);
    CHECK_OK(o->sync(o, &e), &e);
    if (beside)
        busy_queue();
    pool_run(c, 0);
    if (beside)
        busy_queue();
    CHECK_OK(o->download(o, host, c->pool->base, pool_need(c), &e), &e);
    if (beside)
        CHECK_OK(busy.o->sync(busy.o, &e), &e);
    hash_bytes(host, pool_need(c), hash);
}

static void check_call(const char *name, const struct bench_call *c, void *host)
{
    uint8_t alone[HASH_BYTES], again[HASH_BYTES], beside[HASH_BYTES];
    run_once(c, false, host, alone);
    run_once(c, false, host, again);
    run_once(c, true, host, beside);
    bool same = memcmp(alone, again, HASH_BYTES) == 0, quiet = memcmp(alone, beside, HASH_BYTES) == 0;
    if (!same || !quiet) {
        fprintf(stderr, "%s at %s, %s: other bits %s\n", name, c->b->shape, dtype_name(c->b->ops->act),
                same ? "beside a busy stream" : "the second time");
        check_failures++;
    }
}

/* Everything once for an activation type. */
static void check_type(const struct cuda_plugin *plugin, struct bench *b, enum dtype act)
{
    static struct bench_op ops[BENCH_MOST_OPS];
    static struct bench_product products[BENCH_MOST_PRODUCTS];
    struct bench_pool pool;
    struct err e = {0};
    size_t least = 1;
    int checked = 0;
    if (plugin->open(0, act, &b->ops, &e) != 0) {
        if (strncmp(e.text, "LORAT_ATTENTION=cudnn", 21) == 0)
            CHECK_SKIP(e.text); /* cuDNN is optional */
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    b->head_chunk = plan_head_chunk(&b->facts, act, b->n);
    int n_ops = bench_list_ops(b, ops), n_products = bench_list_products(b, products);
    for (int i = 0; i < n_ops + n_products; i++) {
        struct bench_call c = i < n_ops ? bench_op_call(&ops[i], b, NULL) : bench_product_call(&products[i - n_ops], b, NULL);
        least = pool_need(&c) > least ? pool_need(&c) : least;
    }
    CHECK_OK(pool_open(&pool, b, least, -1, &e), &e);
    void *host = malloc(least);
    if (check_failures || host == NULL) {
        fprintf(stderr, "%s: %zu bytes of operands, expected room for them\n", b->shape, least);
        exit(1);
    }
    for (int i = 0; i < n_ops + n_products; i++) {
        struct bench_call c = i < n_ops ? bench_op_call(&ops[i], b, &pool) : bench_product_call(&products[i - n_ops], b, &pool);
        const char *name = i < n_ops ? ops[i].name : products[i - n_ops].name;
        if (!bench_wanted(b, name))
            continue;
        check_call(name, &c, host);
        checked++;
    }
    CHECK(checked > 0);
    printf("%s, %s, %d tokens: %d of %d operations and products, each three times\n", b->shape, dtype_name(act), b->n, checked,
           n_ops + n_products);
    free(host);
    pool_close(&pool);
    b->ops->close(b->ops);
}

static const struct option_row rows[] = {
    {"tokens", "N", "of a micro-batch, in two documents (default 128)", 0, false},
    {"only", "TEXT", "operations and products with this in their name", 0, false},
    {"bf16", NULL, "leave F32 out", 0, false},
};
static const struct option_table table = {.verb = "repeat",
                                          .args = "SHAPE",
                                          .about = "M9",
                                          .example = "gpu_repeat qwen3-8b --tokens 2048",
                                          .rows = rows,
                                          .n_rows = sizeof rows / sizeof rows[0],
                                          .min_args = 1,
                                          .max_args = 1};

static int read_shape(struct bench *b, struct err *e)
{
    static const char job[] = "name: repeat\nmodel: {path: none}\ndata: {train: none}\nlora: {rank: 16}\ntrain: {max_steps: 1}\n";
    int64_t tokens = 128;
    b->shape = b->options->args[0];
    TRY(options_i64(b->options, "tokens", 64, 1 << 20, &tokens, e));
    TRY(bench_shape(b->shape, &b->facts, e));
    TRY(config_parse(job, strlen(job), "repeat", &b->c, e));
    b->n = (int32_t)num_round_up(tokens, BATCH_ROUND);
    b->c.data.sequence_length = b->n / 2;
    return lora_plan(&b->facts, &b->c, &b->lora, e);
}

int main(int argc, char **argv)
{
    const struct cuda_plugin *plugin;
    struct options options;
    struct bench b = {.options = &options};
    struct err e = {0};
    if (!plugin_card_present())
        CHECK_SKIP("no NVIDIA card");
    if (options_read(&table, argc, argv, &options, &e) != 0 || read_shape(&b, &e) != 0 || plugin_cuda(&plugin, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    busy_open(plugin, plugin->simulated ? 64 : BUSY_N);
    check_type(plugin, &b, DT_BF16);
    if (!options_given(&options, "bf16"))
        check_type(plugin, &b, DT_F32);
    busy_close();
    lora_free(&b.lora);
    options_free(&options);
    return check_done();
}
