/* Building, facts, documents, the split, and what a failed build leaves behind. */
#include "datasets/dataset.h"

#include <signal.h>

#include "datasets/seal.h"
#include "datasets/store.h"
#include "tests/data/data_util.h"
#include "trainer/base/mem.h"
#include "trainer/base/rng.h"
#include "trainer/base/stop.h"

static struct build_options options(const char **input, const char *output)
{
    return (struct build_options){.inputs = input, .n_inputs = 1, .output = output, .eos = -1};
}

static void check_document(struct dataset *d, enum dataset_group g, int64_t i, int64_t number, int64_t n)
{
    struct document doc = {0};
    struct err e = {0};
    CHECK_OK(dataset_document(d, g, i, &doc, &e), &e);
    CHECK_INT(doc.n, n);
    for (size_t k = 0; k < doc.n; k++) {
        CHECK_INT(doc.tokens[k], util_token(number, (int64_t)k));
        CHECK_NEAR(doc.weights[k], k == 0 ? 0 : util_weight(number, (int64_t)k, true), 0);
    }
    document_free(&doc);
}

/* What is read is what was written, over chunk borders too. */
static void round_trip(void)
{
    static const int32_t lengths[] = {1, 5, 300, 8192, 8191, 70000, 2, 3};
    int64_t total = 0, targets = 0, masked = 0;
    struct dataset *d = NULL;
    struct err e = {0};
    util_dataset(util_path("a.h5"), lengths, 8, true);
    CHECK_OK(dataset_open(util_path("a.h5"), false, NULL, &d, &e), &e);
    if (d == NULL)
        return;
    for (int64_t i = 0; i < 8; i++) {
        int64_t off = 0;
        for (int64_t k = 1; k < lengths[i]; k++)
            off += util_weight(i, k, true) == 0;
        total += lengths[i];
        targets += lengths[i] - 1 - off;
        masked += off > 0;
        check_document(d, DATASET_TRAIN, i, i, lengths[i]);
    }
    const struct dataset_facts *f = dataset_facts(d);
    CHECK_INT(f->group[0].documents, 8);
    CHECK_INT(f->group[0].tokens, total);
    CHECK_INT(f->group[0].targets, targets);
    CHECK_INT(f->group[0].masked, masked);
    CHECK_INT(f->group[0].longest, 70000);
    CHECK_INT(f->group[0].without_targets, 1);
    CHECK_INT(f->vocab, 997);
    CHECK(f->max_token == 996);
    CHECK(!f->group[1].present);
    CHECK_STR(f->tokenizer, "unknown");
    CHECK_INT(strlen(f->seal), 64);
    struct document doc = {0};
    CHECK(dataset_document(d, DATASET_TRAIN, 8, &doc, &e) != 0);
    CHECK(dataset_document(d, DATASET_TRAIN, -1, &doc, &e) != 0);
    CHECK(dataset_document(d, DATASET_VALIDATION, 0, &doc, &e) != 0);
    document_free(&doc);
    dataset_close(d);
}

/* The same inputs give the same bytes; other ones another identity. */
static void identity(void)
{
    static const int32_t lengths[] = {4, 5, 6}, others[] = {4, 5, 7};
    struct dataset *d = NULL;
    struct err e = {0};
    char seal[3][65] = {"", "", ""};
    for (int i = 0; i < 3; i++) {
        util_dataset(util_path("same.h5"), i < 2 ? lengths : others, 3, true);
        CHECK_OK(dataset_open(util_path("same.h5"), false, util_path("cache"), &d, &e), &e);
        memcpy(seal[i], dataset_facts(d)->seal, 65);
        dataset_close(d);
        usleep(1100000 * (i == 0)); /* time stamps of HDF5's own would differ now */
    }
    CHECK_STR(seal[0], seal[1]);
    CHECK(strcmp(seal[1], seal[2]) != 0);
}

/* A document's group depends on the seed and its number only. */
static void split(void)
{
    struct buf b = {0};
    struct err e = {0};
    struct dataset_facts f;
    struct dataset *d = NULL;
    const char *input = util_path("split.jsonl");
    for (int64_t i = 0; i < 400; i++)
        util_add_document(&b, i, 3 + i % 5, true);
    util_write(input, b.data, b.n);
    buf_free(&b);
    struct build_options o = options(&input, util_path("split.h5"));
    o.validation = 0.1;
    o.seed = 7;
    CHECK_OK(dataset_build(&o, &f, &e), &e);
    CHECK_INT(f.group[0].documents + f.group[1].documents, 400);
    CHECK(f.group[1].documents > 20 && f.group[1].documents < 60);
    CHECK_OK(dataset_open(util_path("split.h5"), false, NULL, &d, &e), &e);
    int64_t at[2] = {0, 0};
    for (uint32_t i = 0; i < 400; i++) {
        int g = (double)rng_at(7, RNG_SPLIT, i, 0, 0).v[0] < 0.1 * 0x1p32;
        check_document(d, (enum dataset_group)g, at[g]++, i, 3 + i % 5);
    }
    CHECK_INT(at[1], f.group[1].documents);
    dataset_close(d);
}

/* Two documents and any share: one in each group. One document: it is trained on. */
static void small_splits(void)
{
    struct err e = {0};
    struct dataset_facts f;
    const char *input = util_path("small.jsonl");
    for (int n = 1; n <= 3; n++)
        for (int seed = 0; seed < 12; seed++)
            for (int share = 0; share < 2; share++) {
                struct buf b = {0};
                for (int i = 0; i < n; i++)
                    util_add_document(&b, i, 6, true);
                util_write(input, b.data, b.n);
                buf_free(&b);
                struct build_options o = options(&input, util_path("small.h5"));
                o.validation = share ? 0.97 : 0.01;
                o.seed = (uint64_t)seed;
                o.replace = true;
                CHECK_OK(dataset_build(&o, &f, &e), &e);
                CHECK(f.group[0].documents >= 1);
                CHECK(f.group[1].documents >= (n > 1));
                CHECK_INT(f.group[0].documents + f.group[1].documents, n);
            }
}

static int files_left(void)
{
    char **names;
    size_t n;
    int left = 0;
    if (io_list(util_path("out"), &names, &n, NULL) != 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        left += strcmp(names[i], "keep") != 0;
    io_list_free(names, n);
    return left;
}

static void refused(const char *text, enum err_code code, const char *part)
{
    struct err e = {0};
    struct dataset_facts f;
    const char *input = util_path("bad.jsonl");
    util_text(input, text);
    struct build_options o = options(&input, util_path("out/bad.h5"));
    o.vocab = 1000;
    CHECK(dataset_build(&o, &f, &e) != 0);
    CHECK_INT(e.code, code);
    CHECK_HAS(e.text, part);
    CHECK_INT(files_left(), 0);
}

static void refusals(void)
{
    struct err e = {0};
    struct dataset_facts f;
    refused("{\"tokens\":[1,2]}\n{\"tokens\":[1,1000]}\n", ERR_DATA,
            "bad.jsonl:2: tokens[1]: 1000, expected below the vocabulary");
    refused("\n\n{\"tokens\":[1,-2]}\n", ERR_DATA, "bad.jsonl:3: tokens[1]: -2");
    refused("{\"tokens\":[1,2],\"loss\":[1]}", ERR_DATA, "bad.jsonl:1: loss: 1 weights");
    refused("{\"tokens\":[1,2],\"loss\":[1,0]}", ERR_DATA, "carries loss");
    refused("{\"tokens\":[1],\"loss\":[1]}", ERR_DATA, "carries loss");
    refused("{\"text\":\"hello\"}", ERR_DATA, "bad.jsonl:1: text: no tokenizer");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", ERR_DATA, "bad.jsonl:1: messages: no tokenizer");
    refused("", ERR_DATA, "no document");
    refused("\n \n", ERR_DATA, "no document");
    refused("{\"tokens\":[1,2]}\n{\"tokens\":[1,", ERR_DATA, "bad.jsonl:2:");

    const char *missing = util_path("missing.jsonl");
    struct build_options o = options(&missing, util_path("out/x.h5"));
    CHECK(dataset_build(&o, &f, &e) != 0);
    CHECK_HAS(e.text, "missing.jsonl");
    CHECK_INT(files_left(), 0);
    const char *folder = util_dir;
    o = options(&folder, util_path("out/x.h5"));
    CHECK(dataset_build(&o, &f, &e) != 0);

    const char *input = util_path("good.jsonl");
    util_text(input, "{\"tokens\":[1,2]}\n");
    o = options(&input, util_path("out/keep"));
    CHECK_OK(dataset_build(&o, &f, &e), &e);
    CHECK(dataset_build(&o, &f, &e) != 0);
    CHECK_INT(e.code, ERR_USAGE);
    CHECK_HAS(e.text, "--replace");
    o.replace = true;
    CHECK_OK(dataset_build(&o, &f, &e), &e);
    o.output = util_dir;
    CHECK(dataset_build(&o, &f, &e) != 0);
    o.output = util_path("out/y.h5");
    o.validation = 1;
    CHECK(dataset_build(&o, &f, &e) != 0);
    CHECK_INT(files_left(), 0);
}

/* Keys that are not known, blank lines, a byte order mark and lines ended by CR LF do no harm. */
static void tolerated(void)
{
    struct err e = {0};
    struct dataset_facts f;
    const char *input = util_path("odd.jsonl");
    util_text(input, "\xef\xbb\xbf{\"id\":1,\"tokens\":[1,2]}\r\n\r\n   \n{\"id\":2,\"source\":\"x\",\"tokens\":[1,2,3]}");
    struct build_options o = options(&input, util_path("odd.h5"));
    CHECK_OK(dataset_build(&o, &f, &e), &e);
    CHECK_INT(f.group[0].documents, 2);
    CHECK_HAS(f.notes, "id (2), source (1)");
    CHECK_HAS(f.source, "odd.jsonl");
}

static void warnings(void)
{
    struct dataset_facts f = {.tokenizer = "unknown"};
    struct buf b = {0};
    f.group[0].present = true;
    f.group[0].documents = 10;
    f.group[0].targets = 5;
    dataset_warnings(&f, &b);
    CHECK_INT(b.n, 0);
    f.group[0].without_targets = 3;
    dataset_warnings(&f, &b);
    CHECK_HAS(b.data, "3 of 10 documents (30.0 %)");
    buf_clear(&b);
    strcpy(f.tokenizer, "abc");
    f.group[0].without_targets = 0;
    dataset_warnings(&f, &b);
    CHECK_HAS(b.data, "no document holds an end token");
    buf_clear(&b);
    f.group[0].ends = 10;
    dataset_warnings(&f, &b);
    CHECK_HAS(b.data, "carry no loss");
    buf_clear(&b);
    f.group[0].ends_trained = 10;
    dataset_warnings(&f, &b);
    CHECK_INT(b.n, 0);
    f.group[1].present = true;
    dataset_warnings(&f, &b);
    CHECK_HAS(b.data, "validation has no token");
    buf_free(&b);
}

static void end_tokens(void)
{
    struct err e = {0};
    struct dataset_facts f;
    static const int32_t ends[] = {7, 9};
    const char *input = util_path("ends.jsonl");
    util_text(
        input,
        "{\"tokens\":[1,2,7],\"loss\":[0,1,1]}\n{\"tokens\":[1,2,9],\"loss\":[0,1,0]}\n{\"tokens\":[7,2]}\n{\"tokens\":[1,2]}");
    struct build_options o = options(&input, util_path("ends.h5"));
    o.end_ids = ends;
    o.n_end_ids = 2;
    CHECK_OK(dataset_build(&o, &f, &e), &e);
    CHECK_INT(f.group[0].ends, 3);
    CHECK_INT(f.group[0].ends_trained, 1);
}

/* Every allocation fails once: an error, nothing left. */
static void out_of_memory(void)
{
    struct err e = {0};
    struct dataset_facts f;
    const char *input = util_path("good.jsonl");
    struct build_options o = options(&input, util_path("out/oom.h5"));
    int64_t n;
    for (n = 1; n < 200; n++) {
        mem_fail_at(n);
        int rc = dataset_build(&o, &f, &e);
        mem_fail_at(0);
        if (rc == 0)
            break;
        CHECK_INT(files_left(), 0);
    }
    CHECK(n > 5 && n < 200);
    for (n = 1; n < 200; n++) {
        struct dataset *d = NULL;
        mem_fail_at(n);
        int rc = dataset_open(util_path("out/oom.h5"), false, NULL, &d, &e);
        mem_fail_at(0);
        if (rc == 0) {
            dataset_close(d);
            break;
        }
    }
    CHECK(n > 3 && n < 200);
    io->unlink(util_path("out/oom.h5"));
}

/* Last: the flag stays. */
static void stopped(void)
{
    struct err e = {0};
    struct dataset_facts f;
    const char *input = util_path("good.jsonl");
    struct build_options o = options(&input, util_path("out/stopped.h5"));
    stop_request(SIGINT);
    CHECK(dataset_build(&o, &f, &e) != 0);
    CHECK_INT(e.code, ERR_STOPPED);
    CHECK_INT(files_left(), 0);
    struct dataset *d = NULL;
    CHECK(dataset_open(util_path("a.h5"), false, NULL, &d, &e) != 0);
    CHECK_INT(e.code, ERR_STOPPED);
}

int main(void)
{
    util_begin();
    round_trip();
    identity();
    split();
    small_splits();
    refusals();
    tolerated();
    warnings();
    end_tokens();
    out_of_memory();
    stopped();
    return util_end();
}
