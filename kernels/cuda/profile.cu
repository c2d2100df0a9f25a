/* profile.cu - named ranges in a profiler's timeline, through NVTX's header-only library: without a profiler they cost nothing.
 */
#include "kernels/cuda/cuda.h"

#if defined(__CUDACC__) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

void cuda_mark(struct ops *o, const char *name)
{
    if (name)
        nvtxRangePushA(name);
    else
        nvtxRangePop();
}
#else
void cuda_mark(struct ops *o, const char *name) {}
#endif
