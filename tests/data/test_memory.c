/* Memory does not grow with the dataset: building, opening and reading ten times the data takes no more. */
#include "datasets/loader.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/data/data_util.h"

enum { SMALL = 400, LARGE = 8000, LENGTH = 500 };

static void write_input(const char *path, int documents)
{
    FILE *f = fopen(path, "w");
    for (int d = 0; d < documents; d++) {
        fputs("{\"tokens\":[", f);
        uint32_t x = (uint32_t)d;
        for (int i = 0; i < LENGTH; i++) {
            x = x * 1664525u + 1013904223u;
            fprintf(f, "%s%u", i ? "," : "", x >> 17);
        }
        fputs("]}\n", f);
    }
    fclose(f);
}

static int work(const char *input, const char *output)
{
    struct err e = {0};
    struct dataset_facts f;
    struct loader *l = NULL;
    struct batch *b;
    int64_t tokens = 0;
    struct build_options build = {.inputs = &input, .n_inputs = 1, .output = output, .eos = -1};
    CHECK_OK(dataset_build(&build, &f, &e), &e);
    struct loader_options o = {
        .path = output, .sequence_length = 1024, .packing = true, .shuffle = true, .batch = 4, .micro_batch = 4, .ranks = 1};
    CHECK_OK(loader_open(&o, &l, &e), &e);
    CHECK_OK(loader_start(l, 0, 1, &e), &e);
    while (loader_next(l, &b, NULL, &e) == 0 && b != NULL) {
        tokens += b->n_real;
        loader_release(l, b);
    }
    CHECK_INT(tokens, f.group[0].tokens);
    loader_close(l);
    return check_done();
}

/* Peak resident bytes of a child that does the work. */
static int64_t peak(int documents)
{
    const char *input = util_path("in.jsonl"), *output = util_path(documents == SMALL ? "small.h5" : "large.h5");
    struct rusage use;
    int status = 0;
    write_input(input, documents);
    pid_t child = fork();
    if (child == 0)
        _exit(work(input, output));
    CHECK(wait4(child, &status, 0, &use) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return (int64_t)use.ru_maxrss * 1024;
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__)
    CHECK_SKIP("AddressSanitizer keeps freed memory");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    CHECK_SKIP("AddressSanitizer keeps freed memory");
#endif
#endif
    util_begin();
    int64_t small = peak(SMALL), large = peak(LARGE);
    printf("peak %lld kB for %d documents, %lld kB for %d\n", (long long)small / 1024, SMALL, (long long)large / 1024, LARGE);
    /* The larger file holds 32 MB of tokens and weights; what remains is fuller caches and allocator slack. */
    CHECK(large - small < (6 << 20));
    return util_end();
}
