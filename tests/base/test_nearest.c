#include "trainer/base/nearest.h"

#include "tests/check.h"

static const char *const words[] = {"learning_rate", "sequence_length", "rank", "alpha", "dropout", "seed", "train", "plan"};
static const char *near(const char *word) { return nearest_word(word, words, sizeof words / sizeof *words); }

int main(void)
{
    CHECK_STR(near("learning_rat"), "learning_rate");
    CHECK_STR(near("learnign_rate"), "learning_rate");
    CHECK_STR(near("learnig-rates"), "learning_rate");
    CHECK_STR(near("sequencelength"), "sequence_length");
    CHECK_STR(near("rnak"), "rank");
    CHECK_STR(near("rank"), "rank");
    CHECK_STR(near("drpout"), "dropout");
    CHECK_STR(near("tarin"), "train");
    CHECK_STR(near("plna"), "plan");
    CHECK(near("optimizer") == NULL);
    CHECK(near("") == NULL);
    CHECK(near("xyzzy") == NULL);
    CHECK(nearest_word("ab", (const char *const[]){"cd"}, 1) == NULL); /* two apart, but nothing in common */
    CHECK_STR(nearest_word("ab", (const char *const[]){"ba"}, 1), "ba");
    CHECK(nearest_word("rank", NULL, 0) == NULL);
    char longer[500];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK(near(longer) == NULL);
    CHECK(nearest_word("xx", (const char *const[]){longer}, 1) == NULL);
    return check_done();
}
