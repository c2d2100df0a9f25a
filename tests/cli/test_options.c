/* The option parser that every verb uses. */
#include "tests/check.h"
#include "trainer/options.h"

static const struct option_row rows[] = {
    {"output", "FILE", "where to write", 'o', false},
    {"set", "KEY=VALUE", "set a key", 0, true},
    {"steps", "N", "how many steps, with a help text that is long enough to be wrapped into a second line of the list of options",
     0, false},
    {"resume", NULL, "go on", 0, false},
};
static const struct option_table table = {.verb = "test",
                                          .args = "JOB [MORE]",
                                          .about = "A verb for the test.",
                                          .example = "lorat test a\nlorat test b",
                                          .rows = rows,
                                          .n_rows = 4,
                                          .min_args = 1,
                                          .max_args = 2};
static struct options o;
static struct err e;

static int read_words(const char *a, const char *b, const char *c, const char *d, const char *f)
{
    char *argv[] = {(char *)"test", (char *)a, (char *)b, (char *)c, (char *)d, (char *)f, NULL};
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    options_free(&o);
    memset(&e, 0, sizeof e);
    return options_read(&table, argc, argv, &o, &e);
}

static void refused(const char *a, const char *b, const char *c, const char *d, const char *message)
{
    CHECK_INT(read_words(a, b, c, d, NULL), -1);
    CHECK_INT(e.code, ERR_USAGE);
    CHECK_STR(e.text, message);
}

static void test_forms(void)
{
    int64_t steps = 5;
    CHECK_OK(read_words("job", "--output", "x", "--resume", NULL), &e);
    CHECK_STR(options_value(&o, "output"), "x");
    CHECK(options_given(&o, "resume") && !options_given(&o, "set"));
    CHECK(options_value(&o, "set") == NULL && options_nth(&o, "set", 0) == NULL);
    CHECK_INT(o.n_args, 1);
    CHECK_STR(o.args[0], "job");
    CHECK_OK(options_i64(&o, "steps", 1, 10, &steps, &e), &e);
    CHECK_INT(steps, 5);
}

static void test_repeat(void)
{
    CHECK_OK(read_words("--set=a=b", "job", "--set", "c=d", "-"), &e);
    CHECK_INT(options_count(&o, "set"), 2);
    CHECK_STR(options_nth(&o, "set", 0), "a=b");
    CHECK_STR(options_nth(&o, "set", 1), "c=d");
    CHECK(options_nth(&o, "set", 2) == NULL);
    CHECK_INT(o.n_args, 2);
    CHECK_STR(o.args[1], "-");
    CHECK_OK(read_words("--output=", "job", "--", "--resume", NULL), &e);
    CHECK_STR(options_value(&o, "output"), "");
    CHECK(!options_given(&o, "resume"));
    CHECK_STR(o.args[1], "--resume");
    CHECK_OK(read_words("job", "-o", "-5", NULL, NULL), &e);
    CHECK_STR(options_value(&o, "output"), "-5");
}

static void test_wrong(void)
{
    int64_t steps;
    refused("--resum", "job", NULL, NULL, "lorat test: --resum: unknown option, did you mean --resume?");
    refused("--resum=1", "job", NULL, NULL, "lorat test: --resum: unknown option, did you mean --resume?");
    refused("--zzzzzzzz", "job", NULL, NULL, "lorat test: --zzzzzzzz: unknown option. `lorat test --help` lists them");
    refused("-x", "job", NULL, NULL, "lorat test: -x: unknown option. `lorat test --help` lists them");
    refused("-output", "job", NULL, NULL, "lorat test: -output: unknown option. `lorat test --help` lists them");
    refused("job", "--resume=yes", NULL, NULL, "lorat test: --resume: found the value \"yes\", expected none. It is a flag");
    refused("job", "--output", NULL, NULL, "lorat test: --output: found nothing, expected --output FILE");
    refused("job", "--output", "--resume", NULL, "lorat test: --output: found nothing, expected --output FILE");
    refused("job", "-o", "a", "-oa", "lorat test: -oa: unknown option. `lorat test --help` lists them");
    refused("-o", "a", "--output", "b", "lorat test: --output: found a second time, expected once. Remove one");
    refused("--resume", NULL, NULL, NULL, "lorat test: found 0 arguments, expected `JOB [MORE]`. `lorat test --help` explains");
    refused("a", "b", "c", NULL, "lorat test: found the argument \"c\", expected only JOB [MORE]. `lorat test --help` explains");
    CHECK_OK(read_words("job", "--steps", "11", NULL, NULL), &e);
    CHECK_INT(options_i64(&o, "steps", 1, 10, &steps, &e), -1);
    CHECK_STR(e.text, "lorat test: --steps: found \"11\", expected a whole number between 1 and 10");
    CHECK_OK(read_words("job", "--steps", "x", NULL, NULL), &e);
    CHECK_INT(options_i64(&o, "steps", 1, 10, &steps, &e), -1);
}

static void test_help(void)
{
    struct buf text = {0};
    options_help(&table, &text);
    CHECK_HAS(text.data, "usage: lorat test JOB [MORE] [options]\n");
    CHECK_HAS(text.data, "  -o, --output FILE");
    CHECK_HAS(text.data, "--help");
    CHECK_HAS(text.data, "example:\n  lorat test a\n  lorat test b\n");
    for (const char *p = text.data; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n')
        CHECK(strcspn(p, "\n") <= 100);
    buf_free(&text);
    CHECK_INT(read_words("--nonsense", "--help", NULL, NULL, NULL), 1); /* help whatever else is wrong */
    CHECK_INT(read_words("-h", NULL, NULL, NULL, NULL), 1);
}

int main(void)
{
    test_repeat();
    test_wrong();
    test_help();
    test_forms();
    options_free(&o);
    return check_done();
}
