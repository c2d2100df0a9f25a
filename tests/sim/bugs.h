/* bugs.h - planted bugs: tables of them (bugs_kernel.cpp, bugs_host.cpp), and what they share. */
#ifndef LORAT_SIM_BUGS_H
#define LORAT_SIM_BUGS_H

#include "kernels/cuda/device.cuh"
#include "tests/sim/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>

struct Bug {
    const char *name;
    void (*run)(bool wrong);
    const char *sentence; /* a part of what the simulator, or the caller's comparison, says */
    const char *set;      /* NAME=VALUE for the environment; NULL */
};
extern const Bug kernel_bugs[], host_bugs[]; /* each ends with {} */

template <typename... P, typename... A>
static inline cudaError_t launch(cudaStream_t stream, unsigned grid, unsigned block, size_t shared, void (*kernel)(P...),
                                 A... args)
{
    cudaLaunchConfig_t config = {dim3(grid), dim3(block), shared, stream, nullptr, 0};
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
}
static inline cudaStream_t new_stream(void)
{
    cudaStream_t s;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    return s;
}
static inline float *new_floats(int n)
{
    void *p = nullptr;
    cudaMalloc(&p, (size_t)n * 4);
    return (float *)p;
}
/* 0, 1, 2, ... on the card */
static inline float *new_numbers(int n)
{
    std::string host((size_t)n * 4, 0);
    for (int i = 0; i < n; i++) {
        float x = (float)i;
        memcpy(&host[(size_t)i * 4], &x, 4);
    }
    float *p = new_floats(n);
    cudaMemcpy(p, host.data(), (size_t)n * 4, cudaMemcpyHostToDevice);
    return p;
}
/* As a test would: ends the process with 1 when a result is not as expected. */
static inline void expect(float got, float want)
{
    if (!(got == want)) {
        fprintf(stderr, "the result is %g, expected %g\n", (double)got, (double)want);
        _exit(1);
    }
}
static inline float fetch(const float *p)
{
    float x;
    cudaMemcpy(&x, p, 4, cudaMemcpyDeviceToHost);
    return x;
}

#endif
