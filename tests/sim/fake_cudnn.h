/* fake_cudnn.h - what tests ask of the simulator's cuDNN. */
#ifndef LORAT_SIM_FAKE_CUDNN_H
#define LORAT_SIM_FAKE_CUDNN_H

#include "kernels/cuda/attention_cudnn.h"

enum { FAKE_CUDNN_VERSION = 92801 };
/* Forwards and backwards asked of it since the program began. */
int fake_cudnn_calls(void);

#endif
