/* test_run.c - lorat itself on a card, as far as a stand-in for the backend shows it: planning against the card's memory,
 * training through device memory that the host does not read, the table of algorithms, and what is said when the card cannot be
 * used. Arguments: lorat, lorat_fault, the fake plug-in, the folder of a management library. */
#include <unistd.h>

#include "tests/e2e/e2e.h"

static void fake(const char *kind) { setenv("LORAT_FAKE_CUDA", kind, 1); }

/* The usual job on the device that auto finds. */
static void make_job(void)
{
    char *job = e2e_read("job.yaml", NULL), *at = job != NULL ? strstr(job, "device: cpu") : NULL;
    CHECK(at != NULL);
    if (at != NULL)
        memcpy(at, "gpus: auto ", strlen("gpus: auto ")); /* device is then auto too */
    e2e_write("job.yaml", job);
    free(job);
}

static void test_version(void)
{
    fake("");
    E2E_RUN(0, "version");
    CHECK_HAS(e2e_out, "cuda: CUDA 13.0, driver 13.0, cuBLAS 13.1.0 (simulated");
    CHECK_HAS(e2e_out, "card 0: Fake RTX 3090, compute capability 8.6, 23.0 GiB of 24.0 GiB free\n");
    fake("old");
    E2E_RUN(0, "version");
    CHECK_HAS(e2e_out, "compute capability 6.1, 23.0 GiB of 24.0 GiB free (no BF16 below 8.0: cannot be used)");
    fake("no-driver");
    E2E_RUN(0, "version");
    CHECK_HAS(e2e_out, "cards: none (CUDA: the driver is of CUDA 12.4");
}

static void test_plan(void)
{
    fake("");
    E2E_RUN(0, "plan job.yaml");
    CHECK_HAS(e2e_out, "on Fake RTX 3090\n");
    CHECK_HAS(e2e_out, "context and libraries             500.0 MiB"); /* a context of 300, and 200 that libraries take later */
    CHECK_HAS(e2e_out, "of 23.0 GiB available");
    CHECK(strstr(e2e_out, "dataset reader") == NULL); /* the host's memory, not the card's */
    E2E_RUN(0, "plan job.yaml --set compute.memory_limit=600MiB");
    CHECK_HAS(e2e_out, "of 600.0 MiB available");
    E2E_RUN(7, "plan job.yaml --set compute.memory_limit=500MiB"); /* the context counts */
    CHECK_HAS(e2e_out, "context and libraries 500.0 MiB. compute.memory_limit sets that");
    fake("full");
    E2E_RUN(7, "plan job.yaml");
    CHECK_HAS(e2e_out, "16.0 MiB that are available");
    CHECK_HAS(e2e_out, "python3 (pid 4711, 18.2 GiB) holds memory of this card");
}

static void test_refused(void)
{
    fake("");
    E2E_RUN(7, "train job.yaml --set compute.gpus=[3]");
    CHECK_HAS(e2e_out, "compute.gpus: found 3, expected one of the cards of this machine: 0: Fake RTX 3090");
    CHECK_HAS(e2e_out, "compute.device: cpu");
    fake("old");
    E2E_RUN(7, "train job.yaml");
    CHECK_HAS(e2e_out, "a Tesla P40 (6.1) cannot");
    CHECK(!e2e_exists("runs/t"));
}

/* The same run through the fake card and on the CPU: the same backend works behind both, so the bytes are the same. */
static void test_train(void)
{
    fake("");
    E2E_RUN(0, "train job.yaml");
    CHECK_HAS(e2e_out, "on Fake RTX 3090");
    CHECK(strstr(e2e_out, "the driver reports") == NULL);
    CHECK(e2e_summary("t", "device_bytes") > 300 << 20);
    CHECK(e2e_summary("t", "device_bytes") <= e2e_summary("t", "plan_bytes"));
    E2E_RUN(75, "train job.yaml --set name=stopped --stop-after 3");
    E2E_RUN(0, "train job.yaml --set name=stopped --resume");
    CHECK(e2e_same_state("t", "stopped", 6));
    E2E_RUN(0, "train job.yaml --set compute.device=cpu --set name=cpu");
    CHECK(e2e_same_state("t", "cpu", 6));
    CHECK(isnan(e2e_summary("cpu", "device_bytes")));
    E2E_RUN(0, "train job.yaml --set name=bf16 --set compute.precision=auto");
    char *job = e2e_read("runs/bf16/job.yaml", NULL);
    CHECK_HAS(job, "precision: bf16");
    free(job);
    CHECK(e2e_summary("t", "comm_s") == 0);
    fake("waits"); /* told of at the beginning of a step they are another's; at its end the step's own */
    E2E_RUN(0, "train job.yaml --set name=waits");
    CHECK(fabs(e2e_summary("waits", "comm_s") - 6 * 0.25) < 1e-6);
    fake("greedy");
    E2E_RUN(0, "train job.yaml --set name=greedy");
    CHECK_HAS(e2e_out, "memory   planned ");
    CHECK_HAS(e2e_out, ", the driver reports ");
}

static void test_tune(void)
{
    fake("");
    E2E_RUN(0, "tune job.yaml --set compute.device=cpu");
    CHECK_HAS(e2e_out, "nothing to tune");
    E2E_RUN(0, "tune job.yaml --set name=tuned --seconds 1 --keep");
    CHECK_HAS(e2e_out, "runs/tuned/tuned.txt: a micro-batch of ");
    E2E_RUN(0, "tune job.yaml --set name=tuned --seconds 1 --keep"); /* again, as long as no run has begun */
    E2E_RUN(75, "train job.yaml --set name=tuned --stop-after 2"); /* no --fresh needed: it is no run yet */
    CHECK_HAS(e2e_out, "products  runs/tuned/tuned.txt");
    E2E_RUN(6, "tune job.yaml --set name=tuned");
    CHECK_HAS(e2e_out, "the run has begun");
    E2E_RUN(75, "train job.yaml --set name=tuned --resume --stop-after 4");
    CHECK_HAS(e2e_out, "products  runs/tuned/tuned.txt");

    fake("pair"); /* a job of two cards is tuned on the first, also one whose base they share */
    E2E_RUN(0, "tune job.yaml --set name=pair --set train.micro_batch=2 --seconds 1 --keep");
    CHECK_HAS(e2e_out, "runs/pair/tuned.txt: a micro-batch of ");
    E2E_RUN(0, "tune job.yaml --set name=sharded --set compute.parallel=sharded --set train.micro_batch=2 --seconds 1 --keep");
    CHECK_HAS(e2e_out, ", without the gathering of blocks\n");
    E2E_RUN(0, "tune job.yaml --set name=host --set model.placement=host --set train.micro_batch=2 --seconds 1 --keep");
    CHECK_HAS(e2e_out, "runs/host/tuned.txt: a micro-batch of ");
    fake("");
    E2E_RUN(3, "tune job.yaml --set name=alone --set compute.parallel=sharded --seconds 1");
    CHECK_HAS(e2e_out, "sharded on one rank");

    fake("slower"); /* a table that makes it slower is not kept, and not in the place of an earlier one */
    E2E_RUN(0, "tune job.yaml --set name=slower --seconds 1");
    CHECK_HAS(e2e_out, "That is slower, so it is not written: the library's own choices stay");
    CHECK(!e2e_exists("runs/slower/tuned.txt"));
    e2e_write("runs/slower/tuned.txt", "earlier\n");
    E2E_RUN(0, "tune job.yaml --set name=slower --seconds 1");
    CHECK_HAS(e2e_out, "the table that was there before stays");
    char *earlier = e2e_read("runs/slower/tuned.txt", NULL);
    CHECK_STR(earlier, "earlier\n");
    free(earlier);
    E2E_RUN(0, "tune job.yaml --set name=slower --seconds 1 --keep");
    CHECK_HAS(e2e_out, "That is slower, and it is written");
    fake("");

    e2e_write("runs/tuned/tuned.txt", "another card\n");
    E2E_RUN(6, "train job.yaml --set name=tuned --resume");
    CHECK_HAS(e2e_out, "runs/tuned/tuned.txt: made for another GPU, where this run began with a table");
    CHECK_HAS(e2e_out, "Remove the file to go on all the same");
    CHECK(strstr(e2e_out, "lorat tune") == NULL); /* which refuses a run that has begun */
    E2E_RUN(6, "train job.yaml --set name=tuned --resume --set compute.device=cpu");
    CHECK_HAS(e2e_out, "made for a card");
    E2E_RUN(75, "train job.yaml --set name=tuned --fresh --stop-after 1"); /* the table comes along, and does not fit */
    CHECK_HAS(e2e_out, "lorat: warning: runs/tuned/tuned.txt: made for another GPU. The library's own choice");
    CHECK(e2e_exists("runs/tuned.old-1/tuned.txt"));
    e2e_remove("runs/tuned/tuned.txt");
    E2E_RUN(0, "train job.yaml --set name=tuned --resume"); /* without its table no step was made yet */
    fake("");
    E2E_RUN(0, "tune job.yaml --set name=lost --seconds 1 --keep");
    E2E_RUN(75, "train job.yaml --set name=lost --stop-after 2");
    e2e_remove("runs/lost/tuned.txt");
    E2E_RUN(0, "train job.yaml --set name=lost --resume");
    CHECK_HAS(e2e_out, "\n  products: tuned.txt ");
    CHECK_HAS(e2e_out, " -> the library's own choice");
}

/* Two cards come to one plan, by what the one needs that needs more. */
static void test_uneven(void)
{
    fake("pair");
    E2E_RUN(75, "train job.yaml --set name=even --set train.micro_batch=2 --stop-after 1");
    CHECK_HAS(e2e_out, "whole on each of 2 ranks");
    static const char asked[] = "fake: asked whether card 0 reaches card 1"; /* the machine is read once, for the links and the plan */
    const char *first = strstr(e2e_out, asked);
    CHECK(first != NULL && strstr(first + 1, asked) == NULL);
    fake("uneven");
    E2E_RUN(75, "train job.yaml --set name=uneven --set train.micro_batch=2 --stop-after 1");
    CHECK(e2e_summary("uneven", "plan_bytes") - e2e_summary("even", "plan_bytes") == 100 << 20);
}

/* What the run's bits hang on beside the job is written with it, and a resume says what is no longer the same. */
static void test_choices(void)
{
    static const char gone_on[] = "runs/kept: goes on with something else than its steps so far were made with";
    char *record;
    fake("");
    E2E_RUN(75, "train job.yaml --set name=kept --stop-after 2");
    record = e2e_read("runs/kept/choices.txt", NULL);
    CHECK_HAS(record, "\nfrom step 0\nlorat: ");
    CHECK_HAS(record, "\ndevice: Fake RTX 3090\nlibraries: CUDA 13.0, driver 13.0, cuBLAS 13.1.0\n"
                      "products: the library's own choice\nranks: 1\nmicro_batch: ");
    CHECK_HAS(record, "\nattention: 4/2/64 own\n");

    char *cpu = e2e_read("runs/cpu/choices.txt", NULL);
    CHECK_HAS(cpu, "\nlibraries: oneDNN ");
    CHECK_HAS(cpu, " 1 thread, "); /* of the device */
    CHECK(strstr(cpu, "\nproducts: ") == NULL && strstr(cpu, "\nattention: ") == NULL);
    free(cpu);

    fake("cudnn"); /* would choose another attention, but is told of the run's */
    E2E_RUN(75, "train job.yaml --set name=kept --resume --stop-after 3");
    CHECK_HAS(e2e_out, "fake: keeps 4/2/64 own");
    CHECK(strstr(e2e_out, "goes on with something else") == NULL);
    char *again = e2e_read("runs/kept/choices.txt", NULL);
    CHECK_STR(again, record); /* nothing new, no further part */
    free(again);

    fake("newer"); /* an update: named, and the attention chosen anew */
    E2E_RUN(75, "train job.yaml --set name=kept --resume --stop-after 4 -q");
    CHECK_HAS(e2e_out, gone_on);
    CHECK_HAS(e2e_out, "\n  libraries: CUDA 13.0, driver 13.0, cuBLAS 13.1.0 -> CUDA 13.0, driver 13.0, cuBLAS 13.2.0");
    CHECK_HAS(e2e_out, "\n  attention: 4/2/64 own -> 4/2/64 cudnn 92801");
    CHECK(strstr(e2e_out, "fake: ") == NULL); /* -q holds for the plug-in too */
    again = e2e_read("runs/kept/choices.txt", NULL);
    CHECK_HAS(again, record);
    CHECK_HAS(again, "\nfrom step 3\nlorat: ");
    CHECK_HAS(again, "cuBLAS 13.2.0");
    free(again);
    E2E_RUN(75, "train job.yaml --set name=kept --resume --stop-after 5");
    CHECK_HAS(e2e_out, "fake: opened");
    CHECK(strstr(e2e_out, "goes on with something else") == NULL); /* said once */

    fake("forgetful"); /* the older library is back, and its backend does not do as it is told */
    E2E_RUN(0, "train job.yaml --set name=kept --resume");
    CHECK_HAS(e2e_out, "cuBLAS 13.2.0 -> CUDA 13.0");
    CHECK_HAS(e2e_out, "\n  attention: 4/2/64 cudnn 92801 -> 4/2/64 own");

    fake("");
    E2E_RUN(75, "train job.yaml --set name=other --stop-after 2");
    fake("forgetful");
    E2E_RUN(75, "train job.yaml --set name=other --resume --stop-after 3");
    CHECK_HAS(e2e_out, "\n  attention: 4/2/64 own -> mma");
    fake("");
    E2E_RUN(75, "train job.yaml --set name=other --resume --stop-after 4 --set train.micro_batch=1");
    CHECK_HAS(e2e_out, "which may round otherwise:\n  micro_batch: ");

    e2e_write("runs/other/choices.txt", "noise");
    E2E_RUN(75, "train job.yaml --set name=other --resume --stop-after 5 --set train.micro_batch=1");
    again = e2e_read("runs/other/choices.txt", NULL);
    CHECK_HAS(again, "\nfrom step 4\nlorat: ");
    free(again);
    free(record);
}

/* LORAT_ATTENTION of the steps so far or of this process alone: said before a step is made, and once. */
static void check_wish(const char *kind, int stop_after, const char *says)
{
    char step[16];
    fake(kind);
    E2E_RUN(75, "train job.yaml --set name=wish --resume --stop-after %d", stop_after);
    snprintf(step, sizeof step, "step %d/", stop_after);
    const char *said = strstr(e2e_out, "\n  attention: "), *stepped = strstr(e2e_out, step);
    CHECK_HAS(e2e_out, says);
    CHECK(said != NULL && stepped != NULL && said < stepped && strstr(said + 1, "\n  attention: ") == NULL);
}

static void test_wish(void)
{
    fake("");
    E2E_RUN(75, "train job.yaml --set name=wish --stop-after 2");
    check_wish("wish", 3, "\n  attention: 4/2/64 own -> mma\n");
    check_wish("", 4, "\n  attention: mma -> what the first step chooses (LORAT_ATTENTION=mma keeps it)\n");
    E2E_RUN(75, "train job.yaml --set name=wish --resume --stop-after 5");
    CHECK(strstr(e2e_out, "attention: ") == NULL);
}

/* The release of the driver, where its management library (argv[4]) tells it. */
static void test_driver(const char *library)
{
    fake("");
    setenv("LD_LIBRARY_PATH", library, 1);
    E2E_RUN(75, "train job.yaml --set name=driver --stop-after 2");
    char *record = e2e_read("runs/driver/choices.txt", NULL), *at = record != NULL ? strstr(record, "\ndriver: 580.95.05\n") : NULL;
    CHECK(at != NULL);
    E2E_RUN(75, "train job.yaml --set name=driver --resume --stop-after 3");
    CHECK(strstr(e2e_out, "goes on with something else") == NULL);
    if (at != NULL)
        memcpy(at, "\ndriver: 580.65.06\n", strlen("\ndriver: 580.65.06\n"));
    e2e_write("runs/driver/choices.txt", record);
    E2E_RUN(75, "train job.yaml --set name=driver --resume --stop-after 4");
    CHECK_HAS(e2e_out, "\n  driver: 580.65.06 -> 580.95.05\n");
    CHECK_HAS(e2e_out, "fake: keeps 4/2/64 own"); /* the libraries are the same */
    free(record);
    unsetenv("LD_LIBRARY_PATH");
}

/* A card that has no room for the base: it stays in host memory, and the answers are the same. */
static void test_generate(void)
{
    char model[640];
    snprintf(model, sizeof model, "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", e2e_root);
    if (access(model, R_OK) != 0) {
        printf("generate: models/SmolLM2-135M-Instruct.Q4_1.gguf is not there\n");
        return;
    }
    fake("");
    E2E_RUN(0, "generate --model %s --prompt 'The sea is' --template none --max-new 6 --json", model);
    char *resident = strdup(e2e_out);
    const char *answer = strchr(resident, '{');
    CHECK(strstr(resident, "in host memory") == NULL);
    E2E_RUN(0, "generate --model %s --prompt 'The sea is' --template none --max-new 6 --json --placement host", model);
    CHECK_HAS(e2e_out, answer);
    fake("tight");
    E2E_RUN(0, "generate --model %s --prompt 'The sea is' --template none --max-new 6 --json", model);
    CHECK_HAS(e2e_out, "base     in host memory, two blocks at a time on the card: resident it needs ");
    CHECK_HAS(e2e_out, answer);
    E2E_RUN(7, "generate --model %s --prompt 'The sea is' --max-new 6 --placement resident", model);
    CHECK_HAS(e2e_out, "--placement host keeps the base in host memory");
    fake("full");
    E2E_RUN(7, "generate --model %s --prompt 'The sea is' --max-new 6", model);
    CHECK_HAS(e2e_out, "Choose a smaller model or fewer prompts at once");
    E2E_RUN(2, "generate --model %s --prompt x --placement sharded", model);
    CHECK_HAS(e2e_out, "--placement sharded: unknown, expected auto, resident or host");
    free(resident);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    setenv("LORAT_CUDA", argv[3], 1);
    e2e_usual("tiny-llama");
    make_job();
    test_version();
    test_plan();
    test_refused();
    test_train();
    test_tune();
    test_uneven();
    test_choices();
    test_wish();
    test_driver(argv[4]);
    test_generate();
    return e2e_end();
}
