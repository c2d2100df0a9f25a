/* plugin.h - what lorat and its CUDA plug-in (lorat_cuda.so) say to one another. Plain C, no header of NVIDIA's: lorat itself
 * links no CUDA library. The plug-in exports the one function below; kernels/plugin.c finds, opens and checks it. */
#ifndef LORAT_CUDA_PLUGIN_H
#define LORAT_CUDA_PLUGIN_H

#include "kernels/ops.h"

/* One card of the machine, as the driver and NVML tell it. */
struct cuda_card {
    int index;               /* the driver's number, after CUDA_VISIBLE_DEVICES: what compute.gpus names */
    char name[64];           /* "NVIDIA GeForce RTX 3090" */
    int major, minor;        /* compute capability; BF16 needs 8.0 */
    int64_t total, free;     /* bytes; free without a context of ours */
    char pci[32], uuid[48];  /* "00000000:01:00.0", "GPU-..."; "" when unknown */
    char holder[128];        /* the process that holds most of the rest, "python3 (pid 4711, 18.2 GiB)"; "" when none or unknown */
};

/* Ranks on cards, by NCCL. Each is a process with one card. -1 with a sentence: ERR_DEVICE without a usable NCCL, ERR_PEER where NCCL
 * fails. Nothing but `open` waits for another rank. */
enum { CUDA_NCCL_ID = 128 };
struct cuda_nccl_comm;
struct cuda_nccl {
    /* What rank 0 makes and all ranks open with. Also where it is only asked whether NCCL is there. */
    int (*id)(char out[CUDA_NCCL_ID], struct err *e);
    /* Collective: waits for all. o is the card's backend and must stay open. */
    int (*open)(struct ops *o, const char id[CUDA_NCCL_ID], int ranks, int rank, struct cuda_nccl_comm **out, struct err *e);
    /* p (count) F32 = the sum over ranks, the same bits on each; queued in its turn. */
    int (*sum)(struct cuda_nccl_comm *n, float *p, int64_t count, struct err *e);
    /* dst (ranks x bytes_each) = the shards in rank order; queued as a fetch of that slot (ops.h). */
    int (*gather)(struct cuda_nccl_comm *n, int slot, void *dst, const void *shard, size_t bytes_each, struct err *e);
    /* Has the first queue done everything? Also finds what went wrong since. Does not wait. */
    int (*done)(struct cuda_nccl_comm *n, bool *done, struct err *e);
    void (*close)(struct cuda_nccl_comm *n); /* not with work left that a lost rank had a part in: it would hang */
};

enum { CUDA_PLUGIN_ABI = 3 };
struct cuda_plugin {
    uint32_t abi, ops_size;  /* CUDA_PLUGIN_ABI and sizeof(struct ops): built together with this lorat? */
    const char *version;     /* LORAT_VERSION it was built with */
    bool simulated;          /* built against tests/sim: no card is needed */
    /* Versions of driver and libraries, for `lorat version`: "CUDA 13.0, driver 13.0, cuBLAS 13.1.0". Works without a card. */
    void (*versions)(char *out, size_t size);
    /* All cards; no context is made. -1 with a sentence (ERR_DEVICE): no driver, driver too old, no card. */
    int (*cards)(struct cuda_card *out, int max, int *n, struct err *e);
    /* A backend on card `index`. act DT_BF16 or DT_F32. -1 (ERR_DEVICE): below compute capability 8.0, no memory for a context... */
    int (*open)(int index, enum dtype act, struct ops **out, struct err *e);
    const struct cuda_nccl *nccl; /* may be NULL */
    /* May the card `from` read and write the memory of `to` by itself, as the runtime sees it? No context is made. */
    int (*peer)(int from, int to, bool *out, struct err *e);
    /* What the plug-in has to say goes to `line` (log.h). */
    void (*log_forward)(void (*line)(bool warning, const char *text));
};
/* The plug-in's one exported symbol; the table is static. */
const struct cuda_plugin *lorat_cuda_plugin(void);
typedef const struct cuda_plugin *(*lorat_cuda_plugin_fn)(void);
#define CUDA_PLUGIN_SYMBOL "lorat_cuda_plugin"

#endif
