/* test_placement.c [--device cuda] - on a model of LAYERS layers, made of tiny-qwen3's two: where the base lies changes no bit:
 * gradients of two micro-batches and an evaluation between them, with the base resident, in host memory and (on the CPU) sharded
 * over 2, 3 and 4 ranks, under every recompute policy. A rank without a target token takes part in every gather. Blocks are
 * fetched once for a forward and a backward, and not at all at a turn. */
#include <sys/mman.h>

#include "tests/model/golden.h"
#include "tests/model/model_files.h"
#include "trainer/frozen_stream.h"
#include "trainer/ranks.h"

enum { LAYERS = 5 };
static char deep[256]; /* the model's folder */
static enum dtype act;
static enum cfg_recompute policy;

/* Layer l of the deep model: the bytes of layer l % 2, turned by some elements so that no two layers are the same. */
static void add_layer(const struct tensor_list *l, int layer, struct tensor *list, size_t *n, struct buf *data)
{
    char prefix[32];
    struct err e = {0};
    snprintf(prefix, sizeof prefix, "model.layers.%d.", layer % 2);
    for (size_t i = 0; i < l->n; i++) {
        const struct tensor *t = &l->tensors[i];
        if (strncmp(t->name, prefix, strlen(prefix)) != 0)
            continue;
        char *bytes = malloc(t->bytes), name[256];
        CHECK_OK(io_pread_all(l->files[t->file].fd, t->name, bytes, t->bytes, (int64_t)t->offset, &e), &e);
        size_t turn = (size_t)layer * 8 * (t->bytes / (size_t)tensor_count(t)) % t->bytes;
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, t->name + strlen(prefix));
        list[*n] = *t;
        list[(*n)++].name = strdup(name);
        buf_add(data, bytes + turn, t->bytes - turn);
        buf_add(data, bytes, turn);
        free(bytes);
    }
}

/* A folder with config.json and the weights. */
static void make_deep(void)
{
    struct tensor_list l = {0};
    struct tensor list[256];
    struct buf file = {0}, data = {0};
    struct err e = {0};
    size_t n = 0;
    char layers[64];
    files_begin();
    snprintf(deep, sizeof deep, "%s", files_copy("tiny-qwen3", "deep"));
    snprintf(layers, sizeof layers, "\"num_hidden_layers\": %d", LAYERS);
    files_edit(deep, "config.json", "\"num_hidden_layers\": 2", layers);
    CHECK_OK(safetensors_open("tests/golden/tiny-qwen3/model.safetensors", &l, &e), &e);
    for (size_t i = 0; i < l.n; i++)
        if (strncmp(l.tensors[i].name, "model.layers.", 13) != 0) {
            char *bytes = malloc(l.tensors[i].bytes);
            CHECK_OK(io_pread_all(l.files[l.tensors[i].file].fd, "a tensor", bytes, l.tensors[i].bytes,
                                  (int64_t)l.tensors[i].offset, &e),
                     &e);
            list[n] = l.tensors[i];
            list[n++].name = strdup(l.tensors[i].name);
            buf_add(&data, bytes, l.tensors[i].bytes);
            free(bytes);
        }
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer(&l, layer, list, &n, &data);
    CHECK_OK(safetensors_header(list, n, &file, &e), &e);
    buf_add(&file, data.data, data.n);
    files_write(deep, "model.safetensors", file.data, file.n);
    for (size_t i = 0; i < n; i++)
        free(list[i].name);
    buf_free(&file);
    buf_free(&data);
    tensor_list_close(&l);
}

static void open_deep(struct golden *g)
{
    struct err e = {0};
    golden_files(g, "tiny-qwen3");
    golden_model(g, deep, act, policy);
    CHECK_INT(g->source.facts.l, LAYERS);
    for (int64_t i = 0; i < g->lora.count; i++) /* B too, so that every gradient counts */
        g->params[i] = (float)((i * 2654435761u >> 8) % 1000) * 1e-5f;
    CHECK_OK(model_set_params(&g->m, g->params, &e), &e);
}

/* What one run of the model gives. */
struct outcome {
    double loss[2];
    int64_t count;
    float grads[1 << 17];
};
static struct outcome *first; /* resident; shared with ranks */

/* Fetches, and waits for them, of a backend whose entries note them: "f2 w1 " is a fetch of layer 2, then a wait for slot 1. */
static struct ops real;
static int n_fetches, n_waits;
static const struct frozen_stream *stream;
static char noted[512];
static void note(char what, int number)
{
    size_t n = strlen(noted);
    snprintf(noted + n, sizeof noted - n, "%c%d ", what, number);
}
static void noted_fetch(struct ops *o, int slot, void *dst, const void *src, size_t bytes)
{
    n_fetches++;
    note('f', (int)(((const char *)src - stream->kept) / (ptrdiff_t)stream->share_bytes));
    real.fetch(o, slot, dst, src, bytes);
}
static void noted_wait(struct ops *o, int slot)
{
    n_waits++;
    note('w', slot);
    real.fetch_wait(o, slot);
}

/* The next block is sent for before its neighbour is used, in both directions. */
static void walk(struct golden *g)
{
    noted[0] = '\0';
    for (int l = 0; l < LAYERS; l++)
        frozen_acquire(&g->m.frozen, l);
    for (int l = LAYERS - 1; l >= 0; l--) {
        frozen_acquire(&g->m.frozen, l); /* made again, and its backward */
        frozen_acquire(&g->m.frozen, l);
    }
    CHECK_STR(noted, "f0 f1 w0 f2 w1 f3 w0 f4 w1 w0 f2 f1 w0 f0 w1 w0 ");
}

static void run(struct outcome *out, int idle_rank, const struct comm *comm)
{
    struct golden g;
    struct err e = {0};
    double weight;
    float none[512] = {0}, *weights;
    open_deep(&g);
    real = *g.o;
    g.o->fetch = noted_fetch;
    g.o->fetch_wait = noted_wait;
    stream = g.m.frozen.stream;
    if (golden_place.kind == FROZEN_HOST)
        walk(&g);
    n_fetches = n_waits = 0;
    weights = g.b.weights;
    if (comm != NULL && comm->rank == idle_rank)
        g.b.weights = none;
    model_zero_grads(&g.m);
    CHECK_OK(model_accumulate(&g.m, &g.b, 0, &e), &e);
    CHECK_OK(model_evaluate(&g.m, &g.b, &out->loss[0], &weight, &e), &e);
    CHECK_OK(model_accumulate(&g.m, &g.b, 1, &e), &e);
    CHECK_OK(model_evaluate(&g.m, &g.b, &out->loss[1], &weight, &e), &e);
    out->count = g.lora.count + TAIL_SUMMED;
    CHECK((size_t)out->count <= sizeof out->grads / sizeof *out->grads);
    CHECK_OK(g.o->download(g.o, out->grads, g.m.t.grads, (size_t)out->count * sizeof(float), &e), &e);
    g.b.weights = weights;
    golden_close(&g);
}

static void same(const struct outcome *got, const char *what)
{
    bool equal = memcmp(got->grads, first->grads, (size_t)first->count * sizeof(float)) == 0 &&
                 memcmp(got->loss, first->loss, sizeof got->loss) == 0;
    if (!equal) {
        fprintf(stderr, "%s, recompute policy %d: %s: other bits than resident\n", dtype_name(act), (int)policy, what);
        check_failures++;
    }
}

/* Blocks 0 and 1 stand after the walk above. A micro-batch: all but two forward, all but two on the way back. An evaluation: all
 * but two, and it ends at the other end, so the micro-batch after it begins with nothing of use. */
enum { FETCHES = 2 * (LAYERS - 2) + (LAYERS - 2) + LAYERS + (LAYERS - 2) + (LAYERS - 2) };

static int shard(struct comm *c, void *arg, struct err *e)
{
    static struct outcome mine;
    golden_comm = c;
    golden_place = (struct frozen_place){.kind = FROZEN_SHARDED, .rank = c->rank, .ranks = c->ranks};
    run(&mine, *(const int *)arg, c);
    if (c->rank != *(const int *)arg)
        same(&mine, "sharded");
    else
        CHECK(mine.loss[0] == 0 && mine.loss[1] == 0);
    c->close(c);
    if (check_failures > 0)
        FAIL(e, ERR_VERIFY, "rank %d of %d: %d checks failed", c->rank, c->ranks, check_failures);
    return 0;
}

static void test_all(void)
{
    static struct outcome got;
    golden_place = (struct frozen_place){0};
    run(first, -1, NULL);
    CHECK_INT(n_fetches, 0);
    golden_place.kind = FROZEN_HOST;
    run(&got, -1, NULL);
    same(&got, "host");
    CHECK_INT(n_fetches, FETCHES);
    CHECK_INT(n_waits, n_fetches);
}

/* The ranks fork: no thread may have been started here, so what they compare with comes from a rank too. */
static int resident(struct comm *c, void *arg, struct err *e)
{
    test_all();
    c->close(c);
    if (check_failures > 0)
        FAIL(e, ERR_VERIFY, "%d checks failed", check_failures);
    return 0;
}

int main(int argc, char **argv)
{
    golden_cuda = argc == 3 && strcmp(argv[2], "cuda") == 0;
    if (golden_cuda && !plugin_card_present())
        CHECK_SKIP("no NVIDIA card");
    make_deep();
    first = mmap(NULL, sizeof *first, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(first != MAP_FAILED);
    for (act = DT_F32; act <= DT_BF16; act++)
        for (policy = RECOMPUTE_NONE; policy <= RECOMPUTE_FULL; policy++) {
            struct err e = {0};
            CHECK_OK(ranks_run(&(struct ranks_options){.ranks = 1}, resident, NULL, &e), &e);
            for (int ranks = 2; ranks <= 4 && !golden_cuda; ranks++) {
                int idle = ranks == 4 ? 2 : -1;
                CHECK_OK(ranks_run(&(struct ranks_options){.ranks = ranks}, shard, &idle, &e), &e);
            }
        }
    files_end();
    return check_done();
}
