/* needs_absent.c - a plug-in whose library is missing. */
#include "kernels/cuda/plugin.h"

int lorat_absent(void);
const struct cuda_plugin *lorat_cuda_plugin(void)
{
    return lorat_absent() ? (const struct cuda_plugin *)0 : (const struct cuda_plugin *)0;
}
