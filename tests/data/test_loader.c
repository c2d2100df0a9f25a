/* The stream of micro-batches: every piece once an epoch whatever the geometry, the same samples in a step, seek = straight run.
 */
#include "datasets/loader.h"

#include <signal.h>
#include <time.h>

#include "tests/data/data_util.h"
#include "trainer/base/hash.h"
#include "trainer/base/stop.h"

enum { DOCUMENTS = 2500, LENGTH = 64, MAX_STEPS = 8192 };

static int32_t lengths[DOCUMENTS];
static int64_t starts[DOCUMENTS + 1];

static void make_data(void)
{
    uint32_t x = 1;
    for (int d = 0; d < DOCUMENTS; d++) {
        x = x * 1664525u + 1013904223u;
        lengths[d] = 1 + (int32_t)(x >> 16) % (d % 10 == 0 ? 200 : 50);
        starts[d + 1] = starts[d] + lengths[d];
    }
    util_dataset(util_path("train.h5"), lengths, DOCUMENTS, true);
}

static struct loader_options options(void)
{
    return (struct loader_options){.path = util_path("train.h5"),
                                   .sequence_length = LENGTH,
                                   .packing = true,
                                   .shuffle = true,
                                   .too_long = TOO_LONG_SPLIT,
                                   .seed = 5,
                                   .batch = 8,
                                   .micro_batch = 4,
                                   .ranks = 1,
                                   .vocab = 997};
}

/* ---- what a batch promises ---- */

static void check_batch(const struct batch *b, const struct loader_options *o)
{
    int32_t at = 0, longest = 0;
    double sum = 0;
    CHECK_INT(b->n % BATCH_ROUND, 0);
    CHECK(b->n >= b->n_real && b->n >= BATCH_ROUND && b->n - b->n_real <= BATCH_ROUND);
    CHECK(b->n_real == 0 || b->n - b->n_real < BATCH_ROUND);
    CHECK_INT(b->n_rows, o->micro_batch);
    for (int32_t s = 0; s < b->n_spans; s++) {
        const struct span *p = &b->spans[s];
        CHECK(p->q0 == at && p->k0 == at && p->q_len == p->k_len && p->q_len > 0);
        CHECK(at < b->n_real || (s == b->n_spans - 1 && at == b->n_real));
        CHECK(at >= b->n_real || b->weights[at + p->q_len - 1] == 0);
        for (int32_t i = 0; i < p->q_len; i++) {
            bool dead = at >= b->n_real;
            CHECK_INT(b->positions[at + i], i);
            CHECK(dead || i == p->q_len - 1 || b->targets[at + i] == b->tokens[at + i + 1]);
            CHECK(!dead || (b->tokens[at + i] == 0 && b->weights[at + i] == 0 && b->targets[at + i] == 0));
            CHECK(dead || (b->keys[at + i] / (uint32_t)o->sequence_length >= b->first_row &&
                           b->keys[at + i] / (uint32_t)o->sequence_length < b->first_row + b->n_rows));
            sum += (double)b->weights[at + i];
        }
        longest = p->q_len > longest ? p->q_len : longest;
        at += p->q_len;
    }
    CHECK_INT(at, b->n);
    CHECK_INT(b->max_span, longest);
    CHECK_NEAR(b->weight_sum, sum, 0);
}

/* A sum over the samples of a batch that does not depend on how rows are shared among batches: of a hash of (key, token, target,
 * weight, position) of each token. */
static uint64_t sample_sum(const struct batch *b)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < b->n_real; i++) {
        uint64_t h = b->keys[i];
        h = (h ^ (uint64_t)b->tokens[i] << 32) * UINT64_C(0x9E3779B97F4A7C15);
        h = (h ^ h >> 29 ^ (uint64_t)b->targets[i]) * UINT64_C(0xBF58476D1CE4E5B9);
        h = (h ^ h >> 32 ^ (uint64_t)b->positions[i] << 8 ^ (uint64_t)(b->weights[i] * 16)) * UINT64_C(0x94D049BB133111EB);
        sum += h ^ h >> 31;
    }
    return sum;
}

/* Run from `step`; sums[s - step] += of every step. Returns steps seen. */
static int64_t run(const struct loader_options *o, int64_t step, int64_t epochs, uint64_t *sums, uint8_t *seen)
{
    struct loader *l = NULL;
    struct batch *b;
    struct err e = {0};
    int64_t batches = 0, per_step = o->batch / o->micro_batch / o->ranks;
    CHECK_OK(loader_open(o, &l, &e), &e);
    if (l == NULL)
        return 0;
    CHECK_OK(loader_start(l, step, epochs, &e), &e);
    for (;;) {
        CHECK_OK(loader_next(l, &b, NULL, &e), &e);
        if (b == NULL)
            break;
        check_batch(b, o);
        CHECK_INT(b->first_row, (o->rank * per_step + batches % per_step) * o->micro_batch);
        sums[batches / per_step] += sample_sum(b);
        for (int32_t s = 0, at = 0; seen != NULL && s < b->n_spans && at < b->n_real; at += b->spans[s++].q_len) {
            /* Which piece is it? Its first token and length say little; the window start is found by content. */
            seen[b->tokens[at] * 2 + (b->spans[s].q_len & 1)]++;
        }
        batches++;
        loader_release(l, b);
    }
    CHECK_INT(batches % per_step, 0);
    loader_close(l);
    return batches / per_step;
}

/* Tokens counted over an epoch: each as often as the pieces hold it (modulo 256 is enough to see a lost or doubled piece). */
static void count_expected(uint8_t *seen)
{
    for (int d = 0; d < DOCUMENTS; d++)
        for (int32_t w = 0; w < lengths[d]; w += LENGTH) {
            int32_t n = lengths[d] - w < LENGTH ? lengths[d] - w : LENGTH;
            seen[util_token(d, w) * 2 + (n & 1)]++;
        }
}

static void every_piece_once(void)
{
    static uint64_t sums[MAX_STEPS], one[MAX_STEPS];
    static uint8_t want[2000], seen[2000];
    static const int32_t batches[][2] = {{8, 1}, {8, 2}, {8, 8}, {1, 1}, {12, 3}, {60, 15}};
    struct err e = {0};
    count_expected(want);
    for (int mode = 0; mode < 4; mode++)
        for (int b = 0; b < 6; b++) {
            struct loader_options o = options();
            o.packing = mode & 1;
            o.shuffle = mode & 2;
            o.batch = batches[b][0];
            int64_t steps_one = 0;
            for (int ranks = 1; ranks <= 4; ranks *= 2) {
                o.ranks = ranks;
                o.micro_batch = batches[b][1];
                if (o.batch % (o.micro_batch * ranks) != 0)
                    continue;
                memset(sums, 0, sizeof sums);
                memset(seen, 0, sizeof seen);
                int64_t steps = 0;
                for (o.rank = 0; o.rank < ranks; o.rank++) {
                    steps = run(&o, 0, 1, sums, seen);
                    steps_one = steps_one == 0 ? steps : steps_one;
                    CHECK_INT(steps, steps_one);
                }
                CHECK(memcmp(seen, want, sizeof seen) == 0);
                if (ranks == 1)
                    memcpy(one, sums, sizeof one);
                CHECK(memcmp(sums, one, sizeof sums) == 0); /* the same samples in every step */
                struct loader *l = NULL;
                int64_t promised = 0;
                o.rank = 0;
                CHECK_OK(loader_open(&o, &l, &e), &e);
                CHECK_OK(loader_epoch_steps(l, 0, &promised, &e), &e);
                CHECK_INT(promised, steps);
                loader_close(l);
            }
        }
}

/* Micro-batches of 1, 2, 4 and 8 rows: the same samples. */
static void micro_batches(void)
{
    static uint64_t sums[4][MAX_STEPS];
    for (int i = 0; i < 4; i++) {
        struct loader_options o = options();
        o.micro_batch = 1 << i;
        run(&o, 0, 2, sums[i], NULL);
        CHECK(memcmp(sums[i], sums[0], sizeof sums[0]) == 0);
    }
    CHECK(sums[0][0] != 0 && sums[0][0] != sums[0][1]);
}

/* From any step on as if run from the start; epochs differ in order, and another seed is another order. */
static void seeks(void)
{
    static uint64_t straight[MAX_STEPS], part[MAX_STEPS];
    struct err e = {0};
    for (int packing = 0; packing < 2; packing++) {
        struct loader_options o = options();
        struct loader *l = NULL;
        struct batch *b;
        o.packing = packing;
        o.batch = o.micro_batch = packing ? 16 : 64;
        memset(straight, 0, sizeof straight);
        int64_t n = run(&o, 0, 3, straight, NULL), epoch0 = 0;
        CHECK_OK(loader_open(&o, &l, &e), &e);
        for (int64_t s = 0; s <= n; s++) { /* one loader, started again and again */
            CHECK_OK(loader_start(l, s, 3, &e), &e);
            CHECK_OK(loader_next(l, &b, NULL, &e), &e);
            CHECK((b == NULL) == (s == n));
            CHECK(b == NULL || sample_sum(b) == straight[s]);
            loader_release(l, b);
        }
        CHECK_OK(loader_epoch_steps(l, 0, &epoch0, &e), &e);
        CHECK(straight[0] != straight[epoch0]);
        loader_close(l);
        memset(part, 0, sizeof part);
        CHECK_INT(run(&o, n / 2, 3, part, NULL), n - n / 2);
        CHECK(memcmp(part, straight + n / 2, (size_t)(n - n / 2) * 8) == 0);
        memset(part, 0, sizeof part);
        o.seed = 6;
        run(&o, 0, 1, part, NULL);
        CHECK(part[0] != straight[0]);
    }
}

/* split, drop, truncate: counts against arithmetic, and against what comes. */
static void too_long(void)
{
    for (int how = TOO_LONG_AUTO; how <= TOO_LONG_TRUNCATE; how++) {
        static uint64_t sums[MAX_STEPS];
        struct loader_options o = options();
        struct loader *l = NULL;
        struct batch *b;
        struct err e = {0};
        struct loader_counts want = {.documents = DOCUMENTS}, got;
        int effective = how == TOO_LONG_AUTO ? TOO_LONG_TRUNCATE : how; /* the data are masked */
        o.too_long = (enum too_long)how;
        o.sequence_length = 40;
        for (int d = 0; d < DOCUMENTS; d++) {
            bool is_long = lengths[d] > 40;
            want.split += is_long && effective == TOO_LONG_SPLIT;
            want.dropped += is_long && effective == TOO_LONG_DROP;
            want.truncated += is_long && effective == TOO_LONG_TRUNCATE;
            for (int32_t w = 0; w < lengths[d]; w += 40) {
                if ((is_long && effective == TOO_LONG_DROP) || (w > 0 && effective == TOO_LONG_TRUNCATE))
                    break;
                want.pieces++;
                for (int32_t i = w; i < w + 40 && i < lengths[d]; i++) {
                    want.tokens++;
                    want.targets += i > w && util_weight(d, i, true) > 0;
                }
            }
        }
        CHECK_OK(loader_open(&o, &l, &e), &e);
        CHECK(memcmp(loader_counts(l), &want, sizeof want) == 0);
        got = (struct loader_counts){0};
        CHECK_OK(loader_start(l, 0, 1, &e), &e);
        while (loader_next(l, &b, NULL, &e) == 0 && b != NULL) {
            for (int32_t s = 0; s < b->n_spans && b->spans[s].q0 < b->n_real; s++)
                got.pieces++;
            got.tokens += b->n_real;
            for (int32_t i = 0; i < b->n_real; i++)
                got.targets += b->weights[i] > 0;
            loader_release(l, b);
        }
        CHECK_INT(got.pieces, want.pieces);
        CHECK_INT(got.tokens, want.tokens);
        CHECK_INT(got.targets, want.targets);
        loader_close(l);
        memset(sums, 0, sizeof sums);
        run(&o, 3, 2, sums, NULL);
    }
}

/* Truncated conversations whose answer lies behind the cut are left out; unmasked data are split by default. */
static void no_target_left(void)
{
    struct err e = {0};
    struct dataset_facts f;
    struct loader *l = NULL;
    struct batch *b;
    const char *input = util_path("late.jsonl");
    util_text(input, "{\"tokens\":[1,2,3,4,5,6],\"loss\":[0,0,0,0,1,1]}\n{\"tokens\":[1,2,3,4,5,7],\"loss\":[0,0,0,1,1,1]}\n"
                     "{\"tokens\":[8,9],\"loss\":[0,0]}\n");
    struct build_options build = {.inputs = &input, .n_inputs = 1, .output = util_path("late.h5"), .eos = -1};
    CHECK_OK(dataset_build(&build, &f, &e), &e);
    struct loader_options o = options();
    o.path = build.output;
    o.sequence_length = 4;
    o.too_long = TOO_LONG_AUTO;
    o.vocab = 0;
    o.batch = o.micro_batch = 1;
    CHECK_OK(loader_open(&o, &l, &e), &e);
    struct loader_counts want = {.documents = 3, .pieces = 2, .truncated = 1, .no_target = 1, .tokens = 6, .targets = 1};
    CHECK(memcmp(loader_counts(l), &want, sizeof want) == 0);
    CHECK_OK(loader_start(l, 0, 1, &e), &e);
    double sum = 0;
    int64_t tokens = 0;
    while (loader_next(l, &b, NULL, &e) == 0 && b != NULL) {
        sum += b->weight_sum;
        tokens += b->n_real;
        loader_release(l, b);
    }
    CHECK_INT(tokens, 6);
    CHECK_NEAR(sum, 1, 0);
    loader_close(l);

    util_text(input, "{\"tokens\":[1,2,3,4,5,6]}\n");
    build.replace = true;
    CHECK_OK(dataset_build(&build, &f, &e), &e);
    CHECK_OK(loader_open(&o, &l, &e), &e);
    want = (struct loader_counts){.documents = 1, .pieces = 2, .split = 1, .tokens = 6, .targets = 4};
    CHECK(memcmp(loader_counts(l), &want, sizeof want) == 0);
    loader_close(l);
    o.too_long = TOO_LONG_DROP;
    CHECK(loader_open(&o, &l, &e) != 0);
    CHECK_HAS(e.text, "longer than data.sequence_length 4");
}

/* Evaluation: ends after the row in which the limit was reached, whatever the micro-batch. */
static void limited(void)
{
    for (int packing = 0; packing < 2; packing++)
        for (int micro = 1; micro <= 8; micro *= 2) {
            struct loader_options o = options();
            struct loader *l = NULL;
            struct batch *b;
            struct err e = {0};
            int64_t tokens = 0, batches = 0, steps = 0;
            static int64_t first[2];
            o.packing = packing;
            o.max_tokens = 1000;
            o.micro_batch = micro;
            CHECK_OK(loader_open(&o, &l, &e), &e);
            CHECK_OK(loader_start(l, 0, 1, &e), &e);
            for (; loader_next(l, &b, NULL, &e) == 0 && b != NULL; batches++) {
                tokens += b->n_real;
                loader_release(l, b);
            }
            CHECK(tokens >= 1000 && tokens < 1000 + LENGTH);
            first[packing] = micro == 1 ? tokens : first[packing];
            CHECK_INT(tokens, first[packing]);
            CHECK_OK(loader_epoch_steps(l, 0, &steps, &e), &e);
            CHECK_INT(batches * micro, steps * o.batch);
            loader_close(l);
        }
}

static void refused(struct loader_options o, const char *part)
{
    struct loader *l = NULL;
    struct err e = {0};
    CHECK(loader_open(&o, &l, &e) != 0);
    CHECK_HAS(e.text, part);
}

static void refusals(void)
{
    struct loader_options o = options();
    o.vocab = 996;
    refused(o, "holds token 996");
    o = options();
    o.group = DATASET_VALIDATION;
    refused(o, "no group \"validation\"");
    o = options();
    o.micro_batch = 3;
    refused(o, "multiple of micro_batch x ranks = 3");
    o = options();
    o.ranks = 4;
    refused(o, "multiple of micro_batch x ranks = 16");
    o = options();
    o.rank = 1;
    refused(o, "rank 1 of 1");
    o = options();
    o.sequence_length = 1;
    refused(o, "sequence_length: 1");
    o = options();
    o.path = util_path("none.h5");
    refused(o, "none.h5");
}

/* Closing and starting again at any moment, two loaders side by side, releases in any order. */
static void shutdown(void)
{
    struct loader_options o = options();
    struct loader *l = NULL, *m = NULL;
    struct batch *a, *b, *c;
    struct err e = {0};
    double wait = 0;
    CHECK_OK(loader_open(&o, &l, &e), &e);
    CHECK_OK(loader_open(&o, &m, &e), &e);
    CHECK(loader_next(l, &a, NULL, &e) != 0);
    for (int i = 0; i < 30; i++) {
        CHECK_OK(loader_start(l, i, 1, &e), &e);
        CHECK_OK(loader_start(m, 0, 1, &e), &e);
        if (i % 3 == 0)
            continue;
        CHECK_OK(loader_next(l, &a, &wait, &e), &e);
        CHECK_OK(loader_next(l, &b, &wait, &e), &e);
        CHECK_OK(loader_next(m, &c, &wait, &e), &e);
        CHECK(a != b && a->first_row == 0 && b->first_row == 4);
        loader_release(l, b);
        loader_release(l, a);
        if (i % 3 == 1)
            loader_release(m, c);
    }
    CHECK(wait >= 0);
    loader_close(m);
    CHECK_OK(loader_start(l, 1000000, 2, &e), &e); /* behind the end */
    CHECK_OK(loader_next(l, &a, NULL, &e), &e);
    CHECK(a == NULL);
    CHECK_OK(loader_next(l, &a, NULL, &e), &e);
    CHECK(a == NULL);
    CHECK_OK(loader_start(l, 0, 0, &e), &e);
    CHECK_OK(loader_next(l, &a, NULL, &e), &e);
    CHECK(a == NULL);
    CHECK(loader_start(l, -1, 1, &e) != 0);
    loader_close(l);
    loader_close(NULL);
    CHECK(loader_bytes(&o) > 100000);
}

int main(void)
{
    util_begin();
    make_data();
    every_piece_once();
    micro_batches();
    seeks();
    too_long();
    no_target_left();
    limited();
    refusals();
    shutdown();
    return util_end();
}
