/* plugin.h - find and open the CUDA plug-in. */
#ifndef LORAT_PLUGIN_H
#define LORAT_PLUGIN_H

#include "kernels/cuda/plugin.h"

/* Is there an NVIDIA card, by the driver's device files alone (also WSL's /dev/dxg)? $LORAT_CUDA set counts as one. */
bool plugin_card_present(void);
/* The plug-in, opened once and kept: $LORAT_CUDA when set, else lorat_cuda.so beside the program, else ../lib/lorat/lorat_cuda.so
 * from there. -1 (ERR_DEVICE) in one sentence: not built, a library of NVIDIA's is missing (which, and the command that brings
 * it), or of another build of lorat. */
int plugin_cuda(const struct cuda_plugin **out, struct err *e);

#endif
