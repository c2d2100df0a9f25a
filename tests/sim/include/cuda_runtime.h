/* cuda_runtime.h of the simulator - the slice of the CUDA runtime that kernels/cuda uses, under the same names and with the same
 * meaning. Found instead of NVIDIA's header because tests/sim/include comes first. See tests/sim/README.md. */
#ifndef LORAT_SIM_CUDA_RUNTIME_H
#define LORAT_SIM_CUDA_RUNTIME_H

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};

/* name, driver's number, text */
#define SIM_CUDA_ERRORS(X)                                                                                                       \
    X(cudaSuccess, 0, "no error")                                                                                                \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                                              \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                                                             \
    X(cudaErrorInitializationError, 3, "initialization error")                                                                   \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                                        \
    X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")                           \
    X(cudaErrorDevicesUnavailable, 46, "CUDA-capable device(s) is/are busy or unavailable")                                      \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                                              \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                                     \
    X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for execution on the device")                          \
    X(cudaErrorUnsupportedPtxVersion, 222, "the provided PTX was compiled with an unsupported toolchain.")                       \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                                            \
    X(cudaErrorNotReady, 600, "device not ready")                                                                                \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                                  \
    X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")                                             \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                                                     \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                                                 \
    X(cudaErrorSystemDriverMismatch, 803, "system has unsupported display driver / cuda driver combination")                     \
    X(cudaErrorUnknown, 999, "unknown error")
typedef enum cudaError {
#define X(name, number, text) name = number,
    SIM_CUDA_ERRORS(X)
#undef X
} cudaError_t;
typedef struct SimStream *cudaStream_t;
typedef struct SimEvent *cudaEvent_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributePreferredSharedMemoryCarveout = 9 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
typedef struct {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount, pciDomainID, pciBusID, pciDeviceID, l2CacheSize;
    size_t sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device);
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device);
cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *dst, size_t pitch_dst, const void *src, size_t pitch_src, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset(void *p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t *out);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *out);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what, int value);
cudaError_t cudaProfilerStart(void);
cudaError_t cudaProfilerStop(void);

struct cudaLaunchAttribute {
    int id;
};
typedef struct cudaLaunchConfig_st {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    struct cudaLaunchAttribute *attrs;
    unsigned numAttrs;
} cudaLaunchConfig_t;
/* Queue a kernel; body runs it for the current simulated thread. */
cudaError_t sim_launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> body);
/* A kernel's arguments that are pointers must point to the card, or to pinned memory. */
void sim_check_pointer(const void *kernel, const void *p);
template <typename T> inline void sim_check_argument(const void *, const T &) {}
template <typename T> inline void sim_check_argument(const void *kernel, T *const &p) { sim_check_pointer(kernel, p); }
template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...args)
{
    std::tuple<P...> kept(static_cast<P>(args)...);
    std::apply([kernel](const P &...p) { (sim_check_argument((const void *)kernel, p), ...); }, kept);
    return sim_launch(config, (const void *)kernel, [kernel, kept] { std::apply(kernel, kept); });
}

#endif
