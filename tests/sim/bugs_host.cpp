/* bugs_host.cpp - planted bugs in how a host drives a card. */
#include "tests/sim/bugs.h"

enum { N = 64 };

static __global__ void add_one(float *y, const float *x)
{
    y[blockIdx.x * blockDim.x + threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x] + 1;
}

static float *pinned(int n)
{
    void *p = nullptr;
    cudaHostAlloc(&p, (size_t)n * 4, cudaHostAllocDefault);
    for (int i = 0; i < n; i++)
        ((float *)p)[i] = (float)i;
    return (float *)p;
}

/* What most of them do: x goes up on one stream, a kernel runs on another, y comes back. */
struct Job {
    cudaStream_t up = new_stream(), work = new_stream();
    cudaEvent_t there;
    float *from = pinned(N), *to = pinned(N), *x = new_floats(N), *y = new_floats(N);
    Job() { cudaEventCreateWithFlags(&there, cudaEventDisableTiming); }
    void upload(bool with_event)
    {
        cudaMemcpyAsync(x, from, N * 4, cudaMemcpyHostToDevice, up);
        cudaEventRecord(there, up);
        if (with_event)
            cudaStreamWaitEvent(work, there, 0);
    }
    void compute() { launch(work, 1, N, 0, add_one, y, (const float *)x); }
    void download() { cudaMemcpyAsync(to, y, N * 4, cudaMemcpyDeviceToHost, work); }
    void end(bool all = true)
    {
        cudaDeviceSynchronize();
        cudaStreamDestroy(up);
        cudaStreamDestroy(work);
        cudaEventDestroy(there);
        cudaFree(x);
        if (all)
            cudaFree(y);
        cudaFreeHost(from);
        cudaFreeHost(to);
    }
};

static void missing_event(bool wrong)
{
    Job j;
    j.upload(!wrong);
    j.compute();
    j.download();
    cudaStreamSynchronize(j.work);
    expect(j.to[5], 6);
    j.end();
}
static void event_too_early(bool wrong)
{
    Job j;
    if (wrong)
        cudaStreamWaitEvent(j.work, j.there, 0); /* of no record yet: waits for nothing */
    j.upload(!wrong);
    j.compute();
    j.download();
    cudaStreamSynchronize(j.work);
    expect(j.to[5], 6);
    j.end();
}
static void reused_host_buffer(bool wrong)
{
    Job j;
    j.upload(true);
    if (!wrong)
        cudaEventSynchronize(j.there);
    j.from[5] = 100; /* the next batch */
    j.compute();
    j.download();
    cudaStreamSynchronize(j.work);
    expect(j.to[5], 6);
    j.end();
}
static void reused_device_buffer(bool wrong)
{
    Job j;
    j.upload(true);
    j.compute();
    if (!wrong)
        cudaStreamSynchronize(j.work);
    cudaMemsetAsync(j.x, 0, N * 4, j.up); /* the work may still read x */
    j.download();
    cudaStreamSynchronize(j.work);
    expect(j.to[5], 6);
    j.end();
}
static void stale_read(bool wrong)
{
    Job j;
    j.upload(true);
    j.compute();
    j.download();
    if (!wrong)
        cudaStreamSynchronize(j.work);
    expect(j.to[5], 6);
    j.end();
}
static void host_touches(bool wrong)
{
    float *x = new_numbers(N);
    volatile float *p = x;
    expect(wrong ? p[3] : fetch(x + 3), 3);
    cudaFree(x);
}
static void host_pointer(bool wrong)
{
    float host[N] = {0}, *x = new_numbers(N);
    launch(nullptr, 1, N, 0, add_one, x, (const float *)(wrong ? host : x));
    cudaFree(x);
}
static void double_free(bool wrong)
{
    float *x = new_floats(N);
    cudaFree(x);
    if (wrong)
        cudaFree(x);
}
static void leak(bool wrong)
{
    Job j;
    j.upload(true);
    j.compute();
    j.end(!wrong);
}
static void leaked_stream(bool wrong)
{
    cudaStream_t s = new_stream();
    if (!wrong)
        cudaStreamDestroy(s);
}
static void wrong_kind(bool wrong)
{
    float x[N] = {0}, *y = new_floats(N);
    cudaMemcpy(y, x, sizeof x, wrong ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice);
    cudaFree(y);
}
static void copies_too_much(bool wrong)
{
    float x[N] = {0}, *y = new_floats(N - 1);
    cudaMemcpy(y, x, (N - !wrong) * 4, cudaMemcpyHostToDevice);
    cudaFree(y);
}
static void unchecked_launch(bool wrong)
{
    float *x = new_numbers(N);
    cudaError_t rc = launch(nullptr, 1, N, 0, add_one, x, (const float *)x);
    if (!wrong && rc != cudaSuccess)
        sim_errors_told(); /* what a caller that looks would do */
    cudaFree(x);
}
static void unchecked_later_error(bool wrong)
{
    float *x = new_numbers(N);
    if (launch(nullptr, 1, N, 0, add_one, x, (const float *)x) != cudaSuccess)
        fprintf(stderr, "an error of the run came from the launch\n");
    cudaError_t rc = cudaDeviceSynchronize(), again = cudaStreamQuery(nullptr);
    if (!wrong && rc == cudaErrorIllegalAddress && again == cudaErrorIllegalAddress)
        sim_errors_told();
}
static void too_much_shared(bool wrong)
{
    float *x = new_numbers(N);
    size_t most = 99 << 10;
    cudaFuncSetAttribute((const void *)add_one, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)most);
    if (launch(nullptr, 1, N, most + (wrong ? 16 : 0), add_one, x, (const float *)x) != cudaSuccess)
        sim_errors_told();
    cudaFree(x);
}
static void no_attribute(bool wrong)
{
    float *x = new_numbers(N);
    if (!wrong)
        cudaFuncSetAttribute((const void *)add_one, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10);
    if (launch(nullptr, 1, N, 64 << 10, add_one, x, (const float *)x) != cudaSuccess)
        sim_errors_told();
    cudaFree(x);
}
static void half_a_warp(bool wrong)
{
    float *x = new_numbers(N);
    if (launch(nullptr, 1, wrong ? 48 : 64, 0, add_one, x, (const float *)x) != cudaSuccess)
        sim_errors_told();
    cudaFree(x);
}
static void unwritten_download(bool wrong)
{
    float *x = wrong ? new_floats(N) : new_numbers(N);
    fetch(x);
    cudaFree(x);
}

const Bug host_bugs[] = {
    {"missing event between streams", missing_event, "nan, expected 6", nullptr},
    {"wait for an event before its record", event_too_early, "nan, expected 6", nullptr},
    {"host buffer reused before its copy ran", reused_host_buffer, "the result is 101, expected 6", nullptr},
    {"device buffer reused under a kernel", reused_device_buffer, "the result is 1, expected 6", "LORAT_SIM_STREAMS=others"},
    {"result read before the wait", stale_read, "nan, expected 6", nullptr},
    {"host touches device memory", host_touches, "the host reads device memory, at byte 12 of a block of 256 bytes", nullptr},
    {"host pointer given to a kernel", host_pointer, "which is memory of the host", nullptr},
    {"double free", double_free, "was freed before", nullptr},
    {"leak", leak, "a block of 256 bytes of card 0 was never freed", nullptr},
    {"leaked stream", leaked_stream, "1 streams were never destroyed", nullptr},
    {"wrong kind of copy", wrong_kind, "cudaMemcpyDeviceToDevice says that the source is memory of the card, but it is not",
     nullptr},
    {"copy past an allocation", copies_too_much, "destination of 256 bytes ends 4 bytes past the end of a block of 252 bytes",
     nullptr},
    {"unchecked launch error", unchecked_launch,
     "1 functions of the runtime returned an error, the last 'invalid configuration argument'", "LORAT_SIM_FAIL=launch:1:9"},
    {"unchecked error of the run", unchecked_later_error, "the last 'an illegal memory access was encountered', and nobody told",
     "LORAT_SIM_FAIL=launch:1:700"},
    {"too much shared memory", too_much_shared, "101392 bytes of shared memory a block, an RTX 3090 has 101376", nullptr},
    {"above 48 KiB without the attribute", no_attribute, "is launched with 65536 bytes of shared memory, expected at most 49152",
     nullptr},
    {"a block of one and a half warps", half_a_warp, "48 threads a block, expected whole warps", nullptr},
    {"download of what was never written", unwritten_download,
     "cudaMemcpy: reads global memory, at byte 0 of a block of 256 bytes, that was never written", nullptr},
    {},
};
