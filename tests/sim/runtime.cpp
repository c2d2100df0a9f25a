/* runtime.cpp - the CUDA runtime on the host. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
#define X(name, number, text) \
    case name:                \
        return text;
        SIM_CUDA_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    strcpy(p->name, "simulated RTX 3090");
    p->totalGlobalMem = (size_t)24 << 30;
    p->major = 8;
    p->minor = 6;
    p->multiProcessorCount = 82;
    p->sharedMemPerBlockOptin = 99 << 10;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *f, size_t *t) { return *t = (size_t)24 << 30, *f = (size_t)23 << 30, cudaSuccess; }
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (bytes > (size_t)23 << 30)
        return cudaErrorMemoryAllocation;
    *out = aligned_alloc(256, (bytes + 511) / 256 * 256);
    memset(*out, 0xff, bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) { return free(p), cudaSuccess; }
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) { return *out = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), cudaSuccess; }
cudaError_t cudaFreeHost(void *p) { return free(p), cudaSuccess; }
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, enum cudaMemcpyKind) { return memmove(d, s, n), cudaSuccess; }
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, enum cudaMemcpyKind, cudaStream_t) { return memmove(d, s, n), cudaSuccess; }
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t) { return memset(p, v, n), cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) { return *out = (cudaStream_t)calloc(1, 8), cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t s) { return free(s), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) { return *out = (cudaEvent_t)calloc(1, 8), cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t e) { return free(e), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int) { return cudaSuccess; }

cudaError_t sim_launch(const cudaLaunchConfig_t *c, const void *kernel, std::function<void()> body)
{
    unsigned threads = c->blockDim.x * c->blockDim.y * c->blockDim.z;
    if (threads == 0 || threads > 1024 || threads % 32 != 0 || c->dynamicSmemBytes > (99 << 10))
        return cudaErrorInvalidConfiguration;
    sim_run(SimLaunch{c->gridDim, c->blockDim, c->dynamicSmemBytes, kernel, body});
    return cudaSuccess;
}
