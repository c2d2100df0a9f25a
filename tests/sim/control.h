/* control.h - what a test may ask of the simulator, in C. The same by environment variables: README.md. */
#ifndef LORAT_SIM_CONTROL_H
#define LORAT_SIM_CONTROL_H

#include <stdbool.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order of threads, warps and blocks: "up", "down", "mix:SEED". */
void sim_set_order(const char *text);
/* When queued work runs: "lazy" (only what a wait needs), "others" (everything else first), "mix:SEED". */
void sim_set_streams(const char *text);
/* Errors that functions of the runtime have returned so far; and "the backend told of them", without which sim_finish reports
 * them. */
int sim_errors(void);
void sim_errors_told(void);
/* What stands at the end of a test: memory, streams and events not given back, errors that nobody told of. Ends the process when
 * there is any of it. */
void sim_finish(void);
/* One line a kernel: launches, blocks, threads a block, most shared memory, blocks of it that an SM of a 3090 holds. */
void sim_report(FILE *to);
/* How often kernels with `kernel` in their name were launched. */
long long sim_launches(const char *kernel);
bool sim_is_tracked(void);

#ifdef __cplusplus
}
#endif
#endif
