/* nvml.h - what the driver's management library tells without a context on a card. It comes with the driver and is loaded when it
 * is there; a container or WSL may lack it. */
#ifndef LORAT_CUDA_NVML_H
#define LORAT_CUDA_NVML_H

#include "kernels/cuda/cuda.h"

struct nvml;
/* NULL when the library is missing or does not answer. */
struct nvml *nvml_open(void);
void nvml_close(struct nvml *n); /* NULL is fine */
/* Free memory and the process that holds most of the rest, of the card at card->pci; what it does not tell stays as it is. */
void nvml_ask(struct nvml *n, struct cuda_card *card);

#endif
