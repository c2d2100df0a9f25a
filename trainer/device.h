/* device.h - the device that a job runs on: the CPU, or one card through the CUDA plug-in. */
#ifndef LORAT_DEVICE_H
#define LORAT_DEVICE_H

#include "kernels/plugin.h"
#include "trainer/config.h"

enum { DEVICE_MAX_CARDS = CONFIG_MAX_CARDS };

/* Which of the machine's n cards. gpus: a bit for each card that the job names; 0 = auto: the usable one with the most free memory,
 * the first of equals, and every other usable one of the same name. out has room for DEVICE_MAX_CARDS; the first is the one to take
 * when only one is wanted. ERR_DEVICE: a card that is not there (the message lists those that are), or one that does not multiply
 * BF16. */
int device_choose(const struct cuda_card *cards, int n, uint32_t gpus, const struct cuda_card **out, int *n_out, struct err *e);
/* Does the job run on the CPU? auto is the card when there is one. */
bool device_is_cpu(const struct config *c);
/* The cards that the job trains on. left_out: the first usable card that compute.gpus: auto does not take, all zero: none. Starts the driver:
 * not in a process that forks later. */
int device_cards(const struct config *c, struct cuda_card out[DEVICE_MAX_CARDS], int *n, struct cuda_card *left_out, struct err *e);
/* Open what compute.device, precision, threads and gpus ask for. auto is the card when there is one, and a card that is present
 * but cannot be used is an error, never a silent fall to the CPU. precision auto: BF16 on a card and on a CPU that multiplies it,
 * else F32. card (may be NULL): the card as it was before a context was made on it; all zero on the CPU. */
int device_open(const struct config *c, struct ops **out, struct cuda_card *card, struct err *e);
/* What the backend's results and speed hang on beside lorat itself: driver and libraries, or the compiler. */
void device_libraries(const struct ops *o, char *out, size_t size);
/* For `lorat version`: the plug-in's versions and the cards, or in one line why there is none. */
void device_describe(struct buf *out);

#endif
