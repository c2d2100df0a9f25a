/* gpu_nccl.c [RANKS] - NCCL as the plug-in finds it, by itself: RANKS processes (default 1) on as many cards, sums and gathers
 * with known answers between operations that use the same memory (tests/sim/nccl_rounds.h). Skipped where there are fewer cards,
 * and without NCCL where one card needs none. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/plugin.h"
#include "tests/sim/nccl_rounds.h"

enum { MOST = 2, SKIPPED = 77 }; /* the order of a sum over more ranks is NCCL's own */

struct shared {
    char id[CUDA_NCCL_ID];
    int there;
};

/* In a process of its own: CUDA does not survive a fork. */
static int as_rank(struct shared *s, int ranks, int rank)
{
    const struct cuda_plugin *plugin = NULL;
    struct cuda_card cards[16];
    struct err e = {0};
    int n = 0;
    CHECK_OK(plugin_cuda(&plugin, &e), &e);
    if (plugin == NULL)
        return 1;
    CHECK_OK(plugin->cards(cards, 16, &n, &e), &e);
    if (n < ranks && check_failures == 0) {
        if (rank == 0)
            printf("skipped: %d ranks on %d card%s\n", ranks, n, n == 1 ? "" : "s");
        return SKIPPED;
    }
    if (rank == 0) {
        if ((plugin->nccl == NULL || plugin->nccl->id(s->id, &e) != 0) && ranks == 1) {
            printf("skipped: %s\n", plugin->nccl == NULL ? "this plug-in has no NCCL" : e.text);
            return SKIPPED;
        }
        CHECK_OK(plugin->nccl == NULL || e.code != ERR_OK, &e);
        __atomic_store_n(&s->there, check_failures > 0 ? -1 : 1, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&s->there, __ATOMIC_SEQ_CST) == 0)
        usleep(100);
    if (__atomic_load_n(&s->there, __ATOMIC_SEQ_CST) < 0)
        return 1;
    nccl_rounds(plugin, s->id, ranks, rank);
    if (rank == 0 && check_failures == 0)
        printf("%d rank%s: sums and gathers of NCCL are right\n", ranks, ranks == 1 ? "" : "s");
    return check_failures > 0;
}

int main(int argc, char **argv)
{
    int ranks = argc > 1 ? atoi(argv[1]) : 1, result = 0;
    pid_t child[MOST];
    if (ranks < 1 || ranks > MOST) {
        fprintf(stderr, "gpu_nccl [RANKS], 1 or %d\n", MOST);
        return 2;
    }
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int rank = 0; rank < ranks; rank++)
        if ((child[rank] = fork()) == 0) {
            int code = as_rank(s, ranks, rank);
            fflush(stdout);
            _exit(code);
        }
    int status;
    for (pid_t gone; (gone = wait(&status)) > 0;) {
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        for (int k = 0; k < ranks; k++) {
            if (child[k] == gone)
                child[k] = 0;
            else if (code != 0 && code != SKIPPED && child[k] > 0)
                kill(child[k], SIGKILL); /* who waits for a lost rank in NCCL waits for ever */
        }
        if (code != 0 && (result == 0 || result == SKIPPED))
            result = code;
    }
    return result;
}
