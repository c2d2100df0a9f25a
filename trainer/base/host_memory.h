/* host_memory.h - the machine's memory as this process may use it. */
#ifndef LORAT_HOST_MEMORY_H
#define LORAT_HOST_MEMORY_H

#include <stdint.h>

#include "trainer/base/err.h"

/* Bytes that can be had without swapping, and bytes there are: of the machine, or of the control groups that this process is in,
 * where those leave less. Caches of files count as free, since the kernel drops them first. ERR_DEVICE without /proc/meminfo. */
int host_memory(int64_t *free_bytes, int64_t *total_bytes, struct err *e);

#endif
