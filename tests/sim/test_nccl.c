/* test_nccl.c - NCCL's place in the backend, on simulated cards: one rank, and two and three processes with a card each. Sums in rank
 * order with the same bits, gathers as fetches of a slot, both between operations that use the same memory. Also what stands before:
 * without NCCL there is a sentence. (The real library: tests/gpu/gpu_nccl.c does the same on cards.) */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/control.h"
#include "tests/sim/nccl_rounds.h"

/* Each rank is a process; the simulator begins in it. */
static void run(int ranks, const char *streams)
{
    char *id = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child[4];
    for (int rank = 0; rank < ranks; rank++)
        if ((child[rank] = fork()) == 0) {
            struct err e = {0};
            sim_set_streams(streams);
            if (rank == 0) {
                CHECK_OK(lorat_cuda_plugin()->nccl->id(id, &e), &e);
                __atomic_store_n(id + CUDA_NCCL_ID, 1, __ATOMIC_SEQ_CST);
            }
            while (__atomic_load_n(id + CUDA_NCCL_ID, __ATOMIC_SEQ_CST) == 0)
                usleep(100);
            nccl_rounds(lorat_cuda_plugin(), id, ranks, rank);
            sim_finish();
            _exit(check_failures > 0);
        }
    for (int rank = 0; rank < ranks; rank++) {
        int status = -1;
        waitpid(child[rank], &status, 0);
        CHECK_INT(status, 0);
    }
    munmap(id, 4096);
}

int main(void)
{
    setenv("LORAT_SIM_CARDS", "3090,3090,3090", 1);
    for (int ranks = 1; ranks <= 3; ranks++) {
        run(ranks, "lazy");
        run(ranks, "others");
        run(ranks, "mix:7");
    }
    if (fork() == 0) {
        char id[CUDA_NCCL_ID];
        struct err e = {0};
        setenv("LORAT_SIM_NCCL", "none", 1);
        CHECK_INT(lorat_cuda_plugin()->nccl->id(id, &e), -1);
        CHECK_INT(e.code, ERR_DEVICE);
        CHECK_HAS(e.text, "libnccl.so.2 is not there");
        _exit(check_failures > 0);
    }
    int status = -1;
    wait(&status);
    CHECK_INT(status, 0);
    return check_done();
}
