/* sim.h - the simulator's parts to one another: runtime.cpp queues, fiber.cpp runs. */
#ifndef LORAT_SIM_H
#define LORAT_SIM_H

#include <cuda_runtime.h>

struct SimLaunch {
    dim3 grid, block;
    size_t shared;
    const void *kernel;
    std::function<void()> body;
};
void sim_run(const SimLaunch &l);

#endif
