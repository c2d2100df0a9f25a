/* K5, P14: a file size limit that no checkpoint fits in: said, training goes on, the checkpoints before stand. Closed standard
 * descriptors, a full terminal log, a metrics.jsonl that cannot be written: training is not affected, the same final bytes. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/err.h"

static void test_limit(void)
{
    bool rejected;
    struct stat st;
    E2E_RUN(75, "train job.yaml --set name=full --stop-after 2");
    CHECK(stat("runs/full/checkpoints/step-00000002/optimizer.safetensors", &st) == 0);
    int code = e2e_run_how(&(struct e2e_how){.file_limit = st.st_size / 2}, "train job.yaml --set name=full --resume");
    CHECK_INT(code, ERR_IO); /* the end could not be saved */
    CHECK_HAS(e2e_out, "step 3 was not saved: ");
    CHECK_HAS(e2e_out, "step 5 was not saved: ");
    CHECK_HAS(e2e_out, "The checkpoint before it still stands");
    CHECK_HAS(e2e_out, "step 6/6");
    CHECK_HAS(e2e_out, "lorat: error: ");
    CHECK_INT(e2e_found("full", &rejected), 2);
    CHECK(!rejected);
    CHECK_INT(e2e_count_temporaries("runs"), 0);
    E2E_RUN(0, "train job.yaml --set name=full --resume");
    CHECK(e2e_same_state("ref", "full", 6));
}

static void test_streams(void)
{
    CHECK_INT(e2e_run_how(&(struct e2e_how){.closed = true}, "train job.yaml --set name=closed"), 0);
    CHECK(e2e_same_state("ref", "closed", 6));
    CHECK(e2e_same("runs/ref/adapter/adapter_config.json", "runs/closed/adapter/adapter_config.json"));
    if (access("/dev/full", W_OK) == 0) {
        CHECK_INT(e2e_run_how(&(struct e2e_how){.output = "/dev/full"}, "train job.yaml --set name=fullout"), 0);
        CHECK(e2e_same_state("ref", "fullout", 6));
    }
}

static void test_metrics(void)
{
    if (access("/dev/full", W_OK) == 0) {
        CHECK(mkdir("runs/log", 0777) == 0 && symlink("/dev/full", "runs/log/metrics.jsonl") == 0);
        E2E_RUN(0, "train job.yaml --set name=log --resume");
        CHECK(e2e_same_state("ref", "log", 6));
        CHECK_HAS(e2e_out, "lorat: warning: ");
    }
    CHECK(mkdir("runs/folder", 0777) == 0 && mkdir("runs/folder/metrics.jsonl", 0777) == 0);
    E2E_RUN(0, "train job.yaml --set name=folder --resume");
    CHECK(e2e_same_state("ref", "folder", 6));
    CHECK_HAS(e2e_out, "metrics.jsonl");
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    e2e_usual("tiny-llama3");
    E2E_RUN(0, "train job.yaml --set name=ref");
    test_limit();
    test_streams();
    test_metrics();
    return e2e_end();
}
