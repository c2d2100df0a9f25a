/* lorat data build, show and info, as a person calls them. */
#include <fcntl.h>

#include "tests/data/data_util.h"
#include "trainer/base/mem.h"

int verb_data(int argc, char **argv, struct err *e); /* verbs.h has it weakly, which does not pull it out of the archive */

/* Run with these words; what was printed on stdout is in `out`. */
static char *out;
static int run(struct err *e, const char *words)
{
    char text[1000], *argv[40];
    int argc = 0;
    size_t n;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok(text, " "); w != NULL; w = strtok(NULL, " "))
        argv[argc++] = w;
    argv[argc] = NULL;
    fflush(stdout);
    int kept = dup(1), fd = open(util_path("stdout"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 1);
    close(fd);
    *e = (struct err){0};
    int rc = verb_data(argc, argv, e);
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    mem_free(out);
    CHECK(io_read_file(util_path("stdout"), ERR_IO, 1 << 20, &out, &n, NULL) == 0);
    return rc;
}

static void refused(const char *words, enum err_code code, const char *part)
{
    struct err e;
    if (run(&e, words) == 0)
        fprintf(stderr, "done: %s\n", words);
    CHECK_INT(e.code, code);
    CHECK_HAS(e.text, part);
}

static void tokens(void)
{
    struct err e;
    util_text("in.jsonl",
              "{\"tokens\":[1,2,3],\"loss\":[0,0,1]}\n{\"tokens\":[4,5,6,7],\"loss\":[1,1,0.5,1]}\n{\"tokens\":[8,9]}\n");
    CHECK_OK(run(&e, "data build --input in.jsonl --vocab 10 -o data/x.h5"), &e);
    CHECK_HAS(out, "wrote       data/x.h5");
    CHECK_HAS(out, "train       3 documents, 9 tokens, 5 of them trained (55.6 %), longest document 4 tokens");
    CHECK_HAS(out, "tokenizer   unknown");
    refused("data build --input in.jsonl --vocab 10 -o data/x.h5", ERR_USAGE, "--replace");
    refused("data build --input in.jsonl --vocab 9 -o data/y.h5", ERR_DATA, "in.jsonl:3: tokens[1]: 9");
    CHECK_OK(run(&e, "data build --input in.jsonl --validation 40% --seed 3 --replace -o data/x.h5"), &e);
    CHECK_HAS(out, "validation  ");
    CHECK_OK(run(&e, "data build --input in.jsonl --replace -o data/x.h5"), &e);
    CHECK_OK(run(&e, "data show data/x.h5"), &e);
    CHECK_STR(out, "--- train 0: 3 tokens, 1 trained\n1 2 [[3]]\n--- train 1: 4 tokens, 3 trained\n4 [[5]] [[(0.5) 6]] [[7]]\n"
                   "--- train 2: 2 tokens, 1 trained\n8 [[9]]\n");
    CHECK_OK(run(&e, "data show data/x.h5 --from 2 --documents 5 --plain"), &e);
    CHECK_STR(out, "--- train 2: 2 tokens, 1 trained\n8 [[9]]\n");
    refused("data show data/x.h5 --from 3", ERR_USAGE, "less than the 3 documents");
    refused("data show data/x.h5 --group validation", ERR_USAGE, "no group \"validation\"");
    refused("data show data/x.h5 --group test", ERR_USAGE, "expected train or validation");
    CHECK_OK(run(&e, "data info data/x.h5 --sequence-length 3 --too-long split"), &e);
    CHECK_HAS(out, "in rows of 3: 4 pieces of 3 documents (1 split, 0 truncated, 0 dropped, 0 without a target left)");
    CHECK_HAS(out, "9 tokens, 4 of them trained; 3 rows when packed (100.0 % full), 4 when not (75.0 %)");
    refused("data info data/x.h5 --sequence-length 3 --too-long cut", ERR_USAGE, "expected auto, split");
    refused("data info in.jsonl", ERR_DATA, "no seal");
    refused("data info missing.h5", ERR_DATA, "missing.h5");
}

static void usage(void)
{
    struct err e;
    refused("data", ERR_USAGE, "build, show or info");
    refused("data biuld", ERR_USAGE, "did you mean build");
    refused("data build -o x.h5", ERR_USAGE, "no --input");
    refused("data build -i in.jsonl", ERR_USAGE, "no --output");
    refused("data build -i in.jsonl -o x.h5 --validation 100%", ERR_USAGE, "--validation");
    refused("data build -i in.jsonl -o x.h5 --validation x", ERR_USAGE, "--validation");
    refused("data build -i in.jsonl -o x.h5 --template chatml", ERR_USAGE, "without --model");
    refused("data build -i in.jsonl -o x.h5 --model none", ERR_MODEL, "none");
    CHECK_OK(run(&e, "data --help"), &e);
    CHECK_HAS(out, "usage: lorat data");
    CHECK_OK(run(&e, "data show --help"), &e);
    CHECK_HAS(out, "usage: lorat data show FILE");
}

int main(void)
{
    util_begin();
    CHECK_INT(chdir(util_dir), 0);
    tokens();
    usage();
    mem_free(out);
    return util_end();
}
