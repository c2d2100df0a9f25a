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

enum { CUDA_PLUGIN_ABI = 1 };
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
};
/* The plug-in's one exported symbol; the table is static. */
const struct cuda_plugin *lorat_cuda_plugin(void);
typedef const struct cuda_plugin *(*lorat_cuda_plugin_fn)(void);
#define CUDA_PLUGIN_SYMBOL "lorat_cuda_plugin"

#endif
