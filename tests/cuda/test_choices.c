/* test_choices.c - the text of runs/<name>/choices.txt: which of its parts made a checkpoint, which of its values are no longer
 * the same. Also texts that nobody wrote. */
#include "tests/check.h"
#include "trainer/choices.h"

#define HEAD   "# words\n"
#define FIRST  "from step 0\nlorat: 1 (a)\ndevice: card, 8.6\nlibraries: L 1\nattention: 4/2/64 own\nranks: 1\nmicro_batch: 4\n"
#define SECOND "from step 30\nlorat: 1 (a)\ndevice: card, 8.6\nlibraries: L 2\nranks: 2\nmicro_batch: 4\n"

static void check_part(const char *record, int64_t step, const char *begins, size_t keep)
{
    size_t kept;
    const char *part = choices_part(record, step, &kept);
    CHECK((part != NULL) == (begins != NULL));
    if (part != NULL && begins != NULL)
        CHECK(strncmp(part, begins, strlen(begins)) == 0);
    CHECK_INT(kept, keep);
}

static void test_part(void)
{
    static const char record[] = HEAD FIRST SECOND;
    size_t whole = strlen(record), first = strlen(HEAD FIRST);
    check_part(record, 0, NULL, strlen(HEAD));
    check_part(record, 1, "lorat: 1 (a)\ndevice", first);
    check_part(record, 30, "lorat: 1 (a)\ndevice", first); /* made by the steps before 30 */
    check_part(record, 31, "lorat: 1 (a)\ndevice", whole);
    check_part("", 5, NULL, 0);
    check_part("noise", 5, NULL, 5);
    check_part("from step", 5, NULL, 9);
    check_part("from step \n", 5, NULL, 0);
    check_part("from step x\n", 5, NULL, 0);
    check_part("from step 1", 5, NULL, 0); /* cut off */
    check_part("from step 99999999999999999999999\n", 5, NULL, 0);
    check_part("from step 1\n", 5, "", 12);
}

static void test_value(void)
{
    size_t n;
    const char *lines = "libraries: L 1\nempty: \nlast: x";
    const char *v = choices_value(lines, "libraries", &n);
    CHECK(v != NULL && n == 3 && strncmp(v, "L 1", 3) == 0);
    CHECK(choices_value(lines, "empty", &n) != NULL && n == 0);
    CHECK(choices_value(lines, "last", &n) != NULL && n == 1);
    CHECK(choices_value(lines, "lib", &n) == NULL);
    CHECK(choices_value(lines, "none", &n) == NULL);
    CHECK(choices_value("a: 1\n" SECOND, "libraries", &n) == NULL); /* another part's */
}

static void test_compare(void)
{
    struct buf bits = {0}, rounding = {0};
    const char *first = strchr(FIRST, '\n') + 1, *second = strchr(SECOND, '\n') + 1;
    choices_compare(first, second, &bits, &rounding);
    CHECK_STR(bits.data, "\n  libraries: L 1 -> L 2"); /* attention is not known of the second */
    CHECK_STR(rounding.data, "\n  ranks: 1 -> 2");
    buf_clear(&bits);
    buf_clear(&rounding);
    choices_compare(first, first, &bits, &rounding);
    CHECK_INT(bits.n + rounding.n, 0);
    choices_compare("lorat: 1 (a)\n", "lorat: 1 (ab)\n", &bits, &rounding);
    CHECK_STR(bits.data, "\n  lorat: 1 (a) -> 1 (ab)");
    buf_free(&bits);
    buf_free(&rounding);
}

int main(void)
{
    test_part();
    test_value();
    test_compare();
    return check_done();
}
