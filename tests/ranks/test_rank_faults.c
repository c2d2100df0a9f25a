/* test_rank_faults.c - the program with one rank that goes wrong (lorat_ranks.c, argv[1]); argv[3] is the plug-in of the
 * simulated card. P6: ranks whose job, dataset, base or lorat differs are refused at the start, and nothing was changed. P8: a
 * rank that never comes or dies at once is named in time. Wrong bytes and sums between cards end a run before its first step. */
#include "tests/e2e/e2e.h"
#include "trainer/base/io.h"
#include "trainer/base/err.h"

#define JOB "train job.yaml --set train.micro_batch=2 --set compute.ranks=2 --set name=%s"

static void fault(const char *text) { setenv("LORAT_RANK_FAULT", text, 1); }

/* One message, that of the root cause. */
static void check_message(const char *says)
{
    const char *first = strstr(e2e_out, "lorat: error: ");
    CHECK(first != NULL && strstr(first + 1, "lorat: error: ") == NULL);
    CHECK_HAS(e2e_out, says);
}

static void test_different(const char *what, const char *says)
{
    fault(what);
    E2E_RUN(ERR_PEER, JOB, "d");
    check_message(says);
    CHECK_HAS(e2e_out, "expected the same on all ranks. Nothing was changed");
    CHECK(!e2e_exists("runs/d"));
}

static void copy(const char *from, const char *to)
{
    struct err e = {0};
    size_t n = 0;
    char *bytes = e2e_read(from, &n);
    CHECK(bytes != NULL);
    if (bytes != NULL)
        CHECK_OK(io_write_file_atomic(to, bytes, n, &e), &e);
    free(bytes);
}

/* Refused, a run that stands stays as it is and goes on once the ranks are alike. */
static void test_different_at_resume(void)
{
    fault("none");
    E2E_RUN(0, JOB, "whole");
    E2E_RUN(75, JOB " --stop-after 3", "again");
    fault("1:seed");
    E2E_RUN(ERR_PEER, JOB " --resume", "again");
    check_message("rank 1: another job than rank 0");
    fault("none");
    E2E_RUN(0, JOB " --resume", "again");
    CHECK(e2e_same_state("whole", "again", 6));
}

/* At the start a rank may take ten times the time-out: files are hashed. */
static void test_never_there(const char *what, const char *says)
{
    fault(what);
    E2E_RUN(ERR_PEER, JOB " --set compute.peer_timeout=0.5", "n");
    check_message(says);
    CHECK(!e2e_exists("runs/n/checkpoints"));
}

static void test_links(const char *what, int code, const char *says)
{
    fault(what);
    E2E_RUN(code, "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set compute.peer_timeout=2 --set name=l");
    check_message(says);
    CHECK_HAS(e2e_out, "NCCL_P2P_DISABLE=1");
    CHECK(!e2e_exists("runs/l/checkpoints") && strstr(e2e_out, "step 1/") == NULL);
    e2e_remove("runs/l");
}

/* Two cards of one kind that do not choose the same attention: no second step. Cards of two kinds may. */
static void test_attention(const char *what, const char *says)
{
    const char *job = "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set name=attention";
    fault(what);
    E2E_RUN(ERR_DEVICE, "%s", job);
    check_message(says);
    CHECK_HAS(e2e_out, "LORAT_ATTENTION=mma");
    CHECK(!e2e_exists("runs/attention/choices.txt") && !e2e_exists("runs/attention/checkpoints") && strstr(e2e_out, "step 2/") == NULL);
    e2e_remove("runs/attention");
    setenv("LORAT_SIM_CARDS", "3090,4090", 1);
    E2E_RUN(0, "%s --set compute.gpus=[0,1]", job);
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
    e2e_remove("runs/attention");
}

/* P1, P3: a request to stop catches one rank at the end of loading, and the other when it waits for the first: on the host, or on a card
 * for a block of the base. */
static void test_stopped(const char *what, const char *more)
{
    fault(what);
    E2E_RUN(ERR_STOPPED, "train job.yaml --set train.micro_batch=2 --set name=halt %s", more);
    CHECK_HAS(e2e_out, "lorat: stopped: while the model was loading; ");
    CHECK_HAS(e2e_out, e2e_exists("runs/halt/job.yaml")
                           ? "; nothing was saved, and the run's folder is there. Go on with --resume"
                           : "; nothing had changed");
    CHECK(!e2e_exists("runs/halt/checkpoints"));
    e2e_remove("runs/halt");
}

/* What `lorat bench comm` measures between cards is NCCL, as in training; without it that is said. */
static void test_bench(void)
{
    const char *bench = "bench comm --device cuda --gpus 0,1 --most 1 --seconds 0";
    fault("none");
    E2E_RUN(0, "%s", bench);
    CHECK_HAS(e2e_out, "all-gather      1024 KiB ");
    CHECK(strstr(e2e_out, "warning") == NULL);
    setenv("LORAT_SIM_NCCL", "none", 1);
    E2E_RUN(0, "%s", bench);
    CHECK_HAS(e2e_out, "libnccl.so.2 is not there");
    CHECK_HAS(e2e_out, "Sums and gathers go through the host's memory instead");
    unsetenv("LORAT_SIM_NCCL");
    fault("1:sum");
    E2E_RUN(ERR_VERIFY, "%s", bench);
    check_message("all-reduce of 65536 bytes: 1 wrong elements over all ranks");
}

/* P10: a base in host memory that the host has no room for is refused before anything large is allocated. */
static void test_no_room(void)
{
    e2e_write("meminfo", "MemTotal:        4194304 kB\nMemAvailable:     204800 kB\n");
    fault("0:open:/proc/meminfo=meminfo");
    E2E_RUN(ERR_DEVICE,
            "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set model.placement=host --set name=room");
    check_message("of host memory, once for each of 2 ranks, ");
    CHECK_HAS(e2e_out, "with the program, expected at most the 200.0 MiB that are free of 4.0 GiB. End other programs");
    CHECK(!e2e_exists("runs/room"));
    e2e_write("meminfo", "MemTotal:        4194304 kB\nMemAvailable:    2048000 kB\n");
    E2E_RUN(0, "train job.yaml --set compute.device=cuda --set train.micro_batch=2 --set model.placement=host --set name=room");
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    if (argc < 4)
        return 2;
    char base[1300], path[700];
    e2e_dataset("other.h5", 24, 96, 1);
    e2e_usual("tiny-llama");
    snprintf(path, sizeof path, "%s/tiny-llama/model-00001-of-00004.safetensors", e2e_golden);
    copy(path, "other.safetensors");
    snprintf(base, sizeof base, "1:open:-00001-of-00004.safetensors=%s/other.safetensors", e2e_dir);
    test_different("1:seed", "rank 1: another job than rank 0");
    test_different("0:seed", "rank 1: another job than rank 0");
    test_different("1:version", "rank 1: another lorat than rank 0");
    test_different("1:open:d.h5=other.h5", "rank 1: another dataset than rank 0");
    test_different(base, "rank 1: another base model than rank 0");
    test_different_at_resume();
    test_never_there("1:never",
                     "rank 1 has not moved for 5 s at step 0 (starting), expected progress. It was ended; nothing was changed");
    test_never_there("0:never", "rank 0 has not moved for 5 s at step 0 (starting)");
    test_never_there("1:die", "rank 1 was killed by signal 9 (Killed) at step 0 (starting)");
    test_stopped("0:stopped", "--set compute.ranks=2");
    test_stopped("1:stopped", "--set compute.ranks=2");
    setenv("LORAT_CUDA", argv[3], 1);
    setenv("LORAT_SIM_CARDS", "3090,3090", 1);
    test_links("1:sum", ERR_DEVICE, "preflight: element 4095 of a sum over 2 ranks came to ");
    test_links("0:gather", ERR_DEVICE, "rank 0 received 1 wrong ones (0 of them zero), the first at byte 0");
    test_links("1:lost", ERR_DEVICE, "rank 1 received 65536 wrong ones (65536 of them zero)");
    test_links("1:hang", ERR_PEER, "rank 1 has not moved for 2 s at step 0 (preflight)");
    test_stopped("1:stopped", "--set compute.device=cuda");
    test_stopped("0:stopped", "--set compute.device=cuda --set compute.parallel=sharded");
    test_attention("1:attention", "rank 0 chose 'none' and rank 1 '4/2/64 cudnn 92801', expected one choice");
    test_attention("0:attention", "rank 0 chose '4/2/64 cudnn 92801' and rank 1 'none', expected one choice");
    test_bench();
    test_no_room();
    return e2e_end();
}
