/* plugin.cu - the one exported symbol. */
#include "kernels/cuda/cuda.h"

extern "C" {
#include "trainer/base/log.h"
}

static const struct cuda_plugin plugin = {
    CUDA_PLUGIN_ABI, sizeof(struct ops), LORAT_VERSION,
#ifdef __CUDACC__
    false,
#else
    true,
#endif
    cuda_versions, cuda_cards, cuda_open, &cuda_nccl_table, cuda_peer, log_forward,
};
extern "C" __attribute__((visibility("default"))) const struct cuda_plugin *lorat_cuda_plugin(void) { return &plugin; }
