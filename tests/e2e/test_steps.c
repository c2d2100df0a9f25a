/* In this process, through the trainer's own doors. M8: the frozen weights are the same bytes after training. M5: a step whose
 * rows carry no target has loss 0 and changes nothing. M11: an exported adapter goes back in bit for bit; a merged model is base
 * + adapter within its rounding. P11: steps allocate nothing. P9: whichever allocation fails, from the job file to the last save,
 * there is an error and nothing stays behind. */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/hash.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/optim.h"
#include "trainer/train_internal.h"

/* What the trainer says in this process goes to a file; failed checks are printed after it. */
static void hush(bool on)
{
    static int kept = -1;
    if (on) {
        kept = dup(STDERR_FILENO);
        int fd = open(".said", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        dup2(fd, STDERR_FILENO);
        close(fd);
    } else {
        dup2(kept, STDERR_FILENO);
        close(kept);
    }
}

static int train(const struct config *c, struct err *e)
{
    hush(true);
    int rc = train_run(c, &(struct train_options){.fresh = true}, e);
    hush(false);
    return rc;
}

static void parse(struct config *c, const char *path, const char *more)
{
    struct err e = {0};
    size_t n;
    char *text = e2e_read(path, &n);
    char *all = malloc(n + strlen(more) + 1);
    memcpy(all, text, n);
    strcpy(all + n, more);
    CHECK_OK(config_parse(all, strlen(all), path, c, &e), &e);
    free(text);
    free(all);
}

static void open_run(struct run *r, const struct config *c)
{
    static const struct train_options fresh = {.fresh = true};
    static const struct train_ranks one = {.n = 1};
    static struct interconnect none = {.log = -1};
    struct err e = {0};
    struct comm comm;
    comm_solo(&comm);
    hush(true);
    int rc = run_open(r, c, &fresh, &comm, &one, &none, &e);
    hush(false);
    if (rc != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
}

static void frozen_hash(struct run *r, char hex[HASH_HEX])
{
    uint8_t hash[HASH_BYTES];
    size_t bytes = r->job.model.arenas[ARENA_FROZEN].used;
    void *copy = malloc(bytes);
    struct err e = {0};
    CHECK_OK(r->job.ops->download(r->job.ops, copy, r->job.model.memory[ARENA_FROZEN], bytes, &e), &e);
    hash_bytes(copy, bytes, hash);
    hash_hex(hash, hex);
    free(copy);
}

static struct optim_result step(struct run *r, bool blind)
{
    struct err e = {0};
    struct optim_result result;
    struct batch *b;
    model_zero_grads(&r->job.model);
    for (int k = 0; k < r->job.plan.accumulation; k++) {
        CHECK_OK(loader_next(r->train, &b, NULL, &e), &e);
        float weights[4096];
        size_t bytes = (size_t)b->n * sizeof(float);
        CHECK(bytes <= sizeof weights);
        memcpy(weights, b->weights, bytes);
        if (blind)
            memset(b->weights, 0, bytes);
        CHECK_OK(model_accumulate(&r->job.model, b, r->state.step, &e), &e);
        memcpy(b->weights, weights, bytes);
        loader_release(r->train, b);
    }
    CHECK_OK(optim_step(&r->job.model, &r->job.comm, &r->job.c, 1e-3, r->state.updates, &result, &e), &e);
    r->state.step++;
    r->state.updates += result.updated;
    return result;
}

static void test_frozen(const char *more)
{
    struct config c;
    struct run r;
    char before[HASH_HEX], after[HASH_HEX];
    parse(&c, "job.yaml", more);
    open_run(&r, &c);
    frozen_hash(&r, before);
    size_t bytes = (size_t)r.job.lora.count * 3 * sizeof(float);
    struct run_block block;
    struct err e = {0};
    float *state = malloc(bytes);
    for (int i = 0; i < 4; i++) {
        bool blind = i == 2;
        CHECK_OK(run_block(&r, &block, &e), &e);
        memcpy(state, block.params, bytes / 3);
        memcpy((char *)state + bytes / 3, block.m, bytes / 3);
        memcpy((char *)state + bytes / 3 * 2, block.v, bytes / 3);
        struct optim_result result = step(&r, blind);
        CHECK_OK(run_block(&r, &block, &e), &e);
        bool same = memcmp(state, block.params, bytes / 3) == 0 && memcmp((char *)state + bytes / 3, block.m, bytes / 3) == 0 &&
                    memcmp((char *)state + bytes / 3 * 2, block.v, bytes / 3) == 0;
        CHECK_INT(same, blind);
        CHECK_INT(result.updated, !blind);
        CHECK(result.finite);
        if (blind) {
            CHECK_NEAR(result.loss, 0, 0);
            CHECK_NEAR(result.weight, 0, 0);
        } else
            CHECK(result.loss > 0.1);
    }
    bool better;
    CHECK_OK(run_evaluate(&r, &better, &e), &e);
    frozen_hash(&r, after);
    CHECK_STR(after, before);
    free(state);
    run_close(&r);
}

/* Logits of the dataset's first micro-batch; malloc'ed. */
static float *logits(const char *more, int64_t *n)
{
    struct config c;
    struct run r;
    struct err e = {0};
    struct batch *b;
    int32_t rows[4096];
    parse(&c, "job.yaml", more);
    open_run(&r, &c);
    CHECK_OK(loader_next(r.train, &b, NULL, &e), &e);
    for (int32_t i = 0; i < b->n_real; i++)
        rows[i] = i;
    *n = (int64_t)b->n_real * r.job.source.facts.v;
    float *out = malloc((size_t)*n * sizeof *out);
    CHECK_OK(model_logits(&r.job.model, b, rows, b->n_real, out, &e), &e);
    loader_release(r.train, b);
    run_close(&r);
    return out;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        worst = !(d <= worst) ? d : worst;
        scale = fmax(scale, fabs(a[i]));
    }
    return worst / scale;
}

static void test_export(void)
{
    int64_t n = 0, m = 0, k = 0;
    E2E_RUN(0, "train job.yaml --quiet --set name=taught --set train.learning_rate=2e-2 --set train.max_steps=20");
    E2E_RUN(0, "export runs/taught --format peft -o out/peft");
    CHECK(e2e_same("out/peft/adapter_model.safetensors", "runs/taught/adapter/adapter_model.safetensors"));
    E2E_RUN(9, "export runs/taught --format peft -o out/peft");
    /* A learning rate of 0 changes nothing: what is saved is what was read. */
    E2E_RUN(0, "train job.yaml --quiet --set name=back --set lora.start_from=out/peft --set train.learning_rate=0 --set "
               "train.max_steps=1");
    CHECK(e2e_same("runs/back/adapter/adapter_model.safetensors", "runs/taught/adapter/adapter_model.safetensors"));
    E2E_RUN(3, "train job.yaml --quiet --set name=other --set lora.start_from=out/peft --set lora.rank=8");
    CHECK_HAS(e2e_out, "rank");

    float *base = logits("", &n), *adapted = logits("", &m);
    CHECK(distance(base, adapted, n) == 0);
    free(adapted);
    struct config c;
    parse(&c, "job.yaml", "");
    e2e_job("taught.yaml", "with-adapter", "tiny-llama");
    CHECK(rename("job.yaml", "plain.yaml") == 0);
    char *text = e2e_read("plain.yaml", NULL), *at = strstr(text, "  rank: 4\n");
    FILE *f = fopen("job.yaml", "w");
    fprintf(f, "%.*s  start_from: out/peft\n%s", (int)(at - text), text, at);
    fclose(f);
    adapted = logits("", &m);
    static const char *const types[] = {"f32", "bf16"};
    for (int i = 0; i < 2; i++) {
        E2E_RUN(0, "export runs/taught --format hf -o out/%s --dtype %s", types[i], types[i]);
        CHECK_HAS(e2e_out, "rounding to");
        printf("%s", e2e_out);
        f = fopen("job.yaml", "w");
        char *path = strstr(text, "  path: "), *end = strchr(path, '\n');
        fprintf(f, "%.*s  path: out/%s%s", (int)(path - text), text, types[i], end);
        fclose(f);
        float *merged = logits("", &k);
        CHECK(n == m && n == k);
        double d = distance(adapted, merged, n), moved = distance(base, merged, n);
        printf("merged as %s: logits differ from base + adapter by %.2g of the largest (the adapter moved them by %.2g)\n",
               types[i], d, moved);
        CHECK(d <= (i == 0 ? 1e-5 : 0.03));
        CHECK(moved > 0.1);
        free(merged);
    }
    free(base);
    free(adapted);
    free(text);
    CHECK(rename("plain.yaml", "job.yaml") == 0);
}

static int64_t allocations(const struct config *c, int64_t steps)
{
    struct config longer = *c;
    struct err e = {0};
    char run[512];
    longer.train.max_steps = steps;
    snprintf(run, sizeof run, "runs/%s", c->name);
    if (access(run, F_OK) == 0) /* or it would be moved aside */
        e2e_remove(run);
    mem_fail_at(0);
    CHECK_OK(train(&longer, &e), &e);
    return mem_count();
}

static void test_flat(void)
{
    struct config c;
    parse(&c, "flat.yaml", "");
    c.checkpoint.every = c.eval.every = (struct cfg_every){0};
    int64_t few = allocations(&c, 3), many = allocations(&c, 40);
    printf("allocations of a run of 3 steps %lld, of 40 steps %lld\n", (long long)few, (long long)many);
    /* The buffers of the reader, which runs ahead, grow by doubling to the longest document: a few, by how far ahead it came in three
     * steps. And a dataset that has just become old enough is remembered, once. One a step would be 37. */
    CHECK(many - few <= 18);
}

static int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* Allocation n of a run fails. */
static int train_failing(const struct config *c, bool resume, int64_t n)
{
    struct err e = {0};
    int before = count_descriptors();
    hush(true);
    mem_fail_at(n);
    int rc = train_run(c, &(struct train_options){.resume = resume}, &e);
    mem_fail_at(0);
    hush(false);
    CHECK(rc == 0 || (e.code != ERR_OK && e.text[0] != '\0'));
    if (count_descriptors() != before) {
        fprintf(stderr, "allocation %lld failed: %d descriptors stay open (%s)\n", (long long)n, count_descriptors() - before,
                e.text);
        check_failures++;
    }
    CHECK_INT(e2e_count_temporaries("runs"), 0);
    if (rc == 0 && !e2e_same_state("ref", "t", c->train.max_steps)) {
        fprintf(stderr, "allocation %lld failed, and the run ended in other bytes\n", (long long)n);
        check_failures++;
    }
    return rc;
}

static void test_allocations(void)
{
    enum { SAMPLES = 100 };
    struct config c;
    int failed = 0, failed_resumed = 0;
    parse(&c, "job.yaml", "");
    c.train.max_steps = 2;
    int64_t all = allocations(&c, 2);
    e2e_remove("runs/ref");
    CHECK(rename("runs/t", "runs/ref") == 0);
    for (int i = 0; i < SAMPLES; i++) {
        e2e_remove("runs/t");
        failed += train_failing(&c, false, 1 + i * (all - 1) / (SAMPLES - 1)) != 0;
    }
    bool stands = false;
    for (int i = 0; i < SAMPLES; i++) {
        if (!stands) {
            e2e_remove("runs/t");
            E2E_RUN(75, "train job.yaml --quiet --set train.max_steps=2 --stop-after 1");
        }
        bool rejected, failure = train_failing(&c, true, 1 + i * (all - 1) / (SAMPLES - 1)) != 0;
        stands = e2e_found("t", &rejected) == 1;
        CHECK(stands || e2e_found("t", &rejected) == 2);
        CHECK(!rejected);
        failed_resumed += failure;
    }
    printf("%lld allocations in a run of two steps; of %d failures %d ended it, of %d in a resumed run %d\n", (long long)all,
           SAMPLES, failed, SAMPLES, failed_resumed);
    CHECK(failed > SAMPLES / 2 && failed_resumed > SAMPLES / 3);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    log_set_level(LOG_QUIET);
    e2e_usual("tiny-llama");
    test_frozen("");
    test_frozen("seed: 7\n");
    test_export();
    e2e_job("flat.yaml", "flat", "tiny-llama");
    e2e_dataset("d.h5", 400, 96, 0);
    test_flat();
    test_allocations();
    return e2e_end();
}
