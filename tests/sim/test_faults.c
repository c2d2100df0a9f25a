/* test_faults.c - no error of the runtime goes unnoticed: a small job on the simulated card, again and again, each time with
 * another call of another function failing, until no call is left to fail. In each run that met its fault the backend must have
 * told of it in a sentence, with ERR_DEVICE, and given everything back. */
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "tests/sim/control.h"

enum {
    N = 64,
    D = 64,
    MET = 10,
    NOT_MET = 11,
    SWALLOWED = 12,
    NO_SENTENCE = 13,
    WRONG_CODE = 14,
    MOST_CALLS = 400,
    STRIDE_FROM = 24
};

static struct err first; /* what the backend told first */
static void note(int rc, const struct err *e)
{
    if (rc != 0 && first.text[0] == 0)
        first = *e;
}
/* Uploads, a product, kernels, a download. */
static void job(struct ops *o)
{
    struct ops_dims dims = {.n = N, .max_span = N, .d = D, .f = D, .h = 1, .k = 1, .q = D, .v = D, .r = 16, .head_chunk = N};
    struct err e = {0};
    static float host[N * D];
    size_t bytes = o->workspace_bytes(o, &dims);
    void *x = NULL, *y = NULL, *space = NULL;
    note(o->alloc(o, sizeof(host), &x, &e), &e);
    note(o->alloc(o, sizeof(host), &y, &e), &e);
    note(o->alloc(o, bytes, &space, &e), &e);
    if (x && y && space) {
        struct weight w = {x, DT_F32, D, D};
        o->set_workspace(o, space, bytes);
        o->upload(o, x, host, sizeof(host));
        o->zero(o, y, sizeof(host));
        o->linear_forward(o, y, x, &w, NULL, N);
        o->add(o, y, x, N * D);
        o->rmsnorm_forward(o, y, NULL, y, NULL, x, N, D, 1e-5f);
        note(o->sync(o, &e), &e);
        note(o->download(o, host, y, sizeof(host), &e), &e);
        note(o->check(o, &e), &e);
    }
    void *all[] = {x, y, space};
    for (int i = 0; i < 3; i++)
        if (all[i])
            o->release(o, all[i]);
}
static void child(void)
{
    struct ops *o = NULL;
    struct err e = {0};
    note(lorat_cuda_plugin()->open(0, DT_F32, &o, &e), &e);
    if (o) {
        job(o);
        o->close(o);
    }
    if (sim_errors() == 0)
        _exit(NOT_MET);
    if (first.text[0] == 0)
        _exit(SWALLOWED);
    if (first.code != ERR_DEVICE)
        _exit(WRONG_CODE);
    if (strlen(first.text) < 20)
        _exit(NO_SENTENCE);
    sim_errors_told();
    sim_finish();
    exit(MET);
}
static int run(const char *function, int call, int rc)
{
    char text[128];
    int status;
    snprintf(text, sizeof(text), "%s:%d:%d", function, call, rc);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LORAT_SIM_FAIL", text, 1);
        alarm(60);
        child();
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Functions that give things back may fail without a word: nothing can be done then, and what they missed is the process's end to
 * free. */
static const struct {
    const char *function;
    int rc;
    bool quiet;
} faults[] = {
    {"cudaGetDeviceProperties", 1, false},
    {"cudaSetDevice", 101, false},
    {"cudaStreamCreateWithFlags", 2, false},
    {"cudaEventCreateWithFlags", 2, false},
    {"cudaHostAlloc", 2, false},
    {"cudaMalloc", 2, false},
    {"cudaFuncSetAttribute", 1, false},
    {"launch", 9, false},
    {"launch", 700, false},
    {"cudaMemcpyAsync", 1, false},
    {"cudaMemcpyAsync", 700, false},
    {"cudaMemsetAsync", 1, false},
    {"cudaMemsetAsync", 716, false},
    {"cudaEventRecord", 400, false},
    {"cudaStreamWaitEvent", 400, false},
    {"cudaEventSynchronize", 719, false},
    {"cudaStreamSynchronize", 719, false},
    {"cublasLtMatmul", 13, false},
    {"cudaFree", 1, true},
    {"cudaFreeHost", 1, true},
    {"cudaStreamDestroy", 1, true},
    {"cudaEventDestroy", 1, true},
};

int main(void)
{
    int met = 0;
    for (size_t f = 0; f < sizeof(faults) / sizeof(faults[0]); f++)
        for (int call = 1; call < MOST_CALLS; call += call < STRIDE_FROM ? 1 : 7) {
            int got = run(faults[f].function, call, faults[f].rc);
            if (got == NOT_MET)
                break;
            met++;
            if (faults[f].quiet ? got > 128 : got != MET) {
                fprintf(stderr, "%s, call %d, error %d: %s (%d)\n", faults[f].function, call, faults[f].rc,
                        got == SWALLOWED     ? "the backend said nothing"
                        : got == NO_SENTENCE ? "no sentence"
                        : got == WRONG_CODE  ? "expected ERR_DEVICE"
                                             : "expected an orderly end",
                        got);
                check_failures++;
            }
        }
    printf("%d faults met\n", met);
    CHECK(met >= 20);
    return check_done();
}
