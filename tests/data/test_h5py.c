/* Files to and from h5py. The interpreter comes from $LORAT_PYTHON, else python3. */
#include <sys/wait.h>

#include "tests/data/data_util.h"

static int python(const char *what, const char *path)
{
    char command[400];
    const char *interpreter = getenv("LORAT_PYTHON");
    snprintf(command, sizeof command, "%s tests/data/h5py_check.py %s %s", interpreter != NULL ? interpreter : "python3", what,
             path);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    static const int32_t lengths[] = {5, 1, 9000, 17};
    struct dataset *d = NULL;
    struct err e = {0};
    util_begin();
    util_dataset(util_path("ours.h5"), lengths, 4, true);
    int rc = python("read", util_path("ours.h5"));
    if (rc == 77 || rc == 127) {
        util_end();
        CHECK_SKIP("no python3 with h5py (set LORAT_PYTHON to one)");
    }
    CHECK_INT(rc, 0);
    CHECK_INT(python("write", util_path("theirs.h5")), 0);
    CHECK(dataset_open(util_path("theirs.h5"), false, NULL, &d, &e) != 0);
    CHECK_OK(dataset_open(util_path("theirs.h5"), true, NULL, &d, &e), &e);
    if (d != NULL) {
        struct document doc = {0};
        CHECK_INT(dataset_facts(d)->group[0].documents, 2);
        CHECK_INT(dataset_facts(d)->group[0].targets, 98);
        CHECK_OK(dataset_document(d, DATASET_TRAIN, 1, &doc, &e), &e);
        CHECK(doc.n == 60 && doc.tokens[59] == 99);
        document_free(&doc);
    }
    dataset_close(d);
    return util_end();
}
