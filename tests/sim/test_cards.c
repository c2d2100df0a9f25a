/* test_cards.c - the list of cards, who holds their memory, and what is said when a card cannot be listed or opened. The
 * simulator reads its environment once, so each case is a process of its own: this program again, with what it prints compared.
 */
#include "kernels/cuda/plugin.h"
#include "tests/check.h"
#include "tests/shell.h"

/* What a case prints: a line a card, then how opening card 0 (or `index`) went. */
static int child(int index)
{
    const struct cuda_plugin *p = lorat_cuda_plugin();
    struct cuda_card cards[8];
    struct err e = {0};
    struct ops *o = NULL;
    int n = 0;
    char versions[256];
    p->versions(versions, sizeof versions);
    printf("versions: %s\n", versions);
    if (p->cards(cards, 8, &n, &e) != 0)
        printf("cards: %d %s\n", (int)e.code, e.text);
    for (int i = 0; i < n; i++)
        printf("card %d: %s, %d.%d, %lld of %lld MiB, [%s] [%s] %zu\n", cards[i].index, cards[i].name, cards[i].major,
               cards[i].minor, (long long)(cards[i].free >> 20), (long long)(cards[i].total >> 20), cards[i].pci, cards[i].holder,
               strlen(cards[i].uuid));
    e = (struct err){0};
    if (p->open(index, DT_BF16, &o, &e) != 0) {
        printf("open: %d %s\n", (int)e.code, e.text);
        return 0;
    }
    printf("open: %s\n", o->device);
    void *block = NULL;
    if (o->alloc(o, (size_t)200 << 30, &block, &e) != 0)
        printf("alloc: %d %s\n", (int)e.code, e.text);
    e = (struct err){0};
    printf("then: %d %s\n", o->alloc(o, 4096, &block, &e), e.text); /* the failure does not stick */
    o->release(o, block);
    o->close(o);
    return 0;
}

static const char *self;
/* environment: assignments, as in a shell; index: the card to open. */
static const char *run(const char *environment, int index)
{
    static char out[8192];
    char command[1024];
    snprintf(command, sizeof command, "%s '%s' %d 2>&1", environment, self, index);
    CHECK_INT(shell(command, out, sizeof out), 0);
    return out;
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc > 1)
        return child(atoi(argv[1]));
    const char *out = run("LORAT_FAKE_NVML=off", 0);
    CHECK_HAS(out, "versions: CUDA 13.0, driver of CUDA 13.0, cuBLASLt 13.1.0, ");
    CHECK_HAS(out, "cuDNN");
    CHECK_HAS(out, "NCCL");
    CHECK_HAS(out, "card 0: simulated RTX 3090, 8.6, 24576 of 24576 MiB");
    CHECK_HAS(out, "] [] 40\n"); /* no holder is known; "GPU-" and 36 letters */
    CHECK_HAS(out, "open: simulated RTX 3090, 8.6\n");
    CHECK_HAS(out, "alloc: 7 cuda: no memory for a block of 214748364800 bytes (200.0 GiB): ");
    CHECK_HAS(out, " of 24.0 GiB are free");
    CHECK_HAS(out, "then: 0 \n");

    out = run("LORAT_SIM_CARDS=3090,3090", 1);
    CHECK_HAS(out, "card 0: simulated RTX 3090, 8.6, 5632 of 24576 MiB");
    CHECK_HAS(out, "card 1: simulated RTX 3090, 8.6, 23552 of 24576 MiB");
    CHECK_HAS(out, "[test_sim_cards (pid ");
    CHECK_HAS(out, ", 12.2 GiB)]");
    CHECK_HAS(out, "[Xorg7 (pid 4194307, 3.0 GiB)]");
    out = run("LORAT_FAKE_NVML=old", 0);
    CHECK_HAS(out, "5632 of 24576 MiB");
    CHECK_HAS(out, "] [] 40\n");

    out = run("LORAT_SIM_CARDS=none", 0);
    CHECK_HAS(out, "cards: 7 cuda: the driver finds no card");
    CHECK_HAS(out, "open: 7 ");
    CHECK_HAS(run("LORAT_SIM_CARDS=old-driver", 0), "expected R580 or later (CUDA 13). Update the driver");
    out = run("LORAT_SIM_CARDS=p40", 0);
    CHECK_HAS(out, ", 6.1, ");
    CHECK_HAS(out, "open: 7 card 0, ");
    CHECK_HAS(out, "compute capability 6.1, expected 8.0 or later");
    CHECK_HAS(run("", 3), "open: 7 cuda: there is no card 3");
    CHECK_HAS(run("LORAT_SIM_FAIL=launch:1:209", 0), "open: 7 card 0, simulated RTX 3090, 8.6: this build has no code for it");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaSetDevice:1:2", 0), "no room for a context (");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaSetDevice:1:46", 0), "exclusive mode");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaSetDevice:1:35", 0), "the driver is too old for this build");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaHostAlloc:1:2", 0), "open: 7 cuda: 4 MiB of host memory cannot be pinned");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaHostAlloc:2:2", 0), "open: 7 cuda: 32 MiB of host memory cannot be pinned");
    CHECK_HAS(run("LORAT_SIM_FAIL=cudaMalloc:1:2", 0), "open: 7 cuda: the staging ring: the card's memory is full (");
    return check_done();
}
