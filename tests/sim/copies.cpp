/* copies.cpp - copies and fills, queued like kernels. What CUDA promises and no more:
 *   - from pinned host memory the bytes are read when the copy runs, from any other they are taken at once;
 *   - to pinned host memory they land when the copy runs: until then 0xff stands there; to any other the call waits. */
#include "tests/sim/sim.h"

#include <string.h>
#include <vector>

static bool from_device(cudaMemcpyKind k) { return k == cudaMemcpyDeviceToHost || k == cudaMemcpyDeviceToDevice; }
static bool to_device(cudaMemcpyKind k) { return k == cudaMemcpyHostToDevice || k == cudaMemcpyDeviceToDevice; }
static const char *kind_name(cudaMemcpyKind k)
{
    static const char *const names[] = {"cudaMemcpyHostToHost", "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost",
                                        "cudaMemcpyDeviceToDevice", "cudaMemcpyDefault"};
    return names[k];
}
static void check_side(const char *side, const void *p, size_t n, bool device, cudaMemcpyKind kind)
{
    if (device != sim_is_device(p))
        sim_die("%s says that the %s is memory of the %s, but it is not", kind_name(kind), side, device ? "card" : "host");
    if (device)
        sim_check_range(side, p, n, sim_device());
}

/* Runs on the card's time. */
static void move_bytes(char *dst, const char *src, size_t n, bool reads_card, bool writes_card)
{
    if (reads_card && sim_track.read)
        sim_track.read(src, n, -1);
    memmove(dst, src, n);
    if (writes_card && sim_track.write)
        sim_track.write(dst, n, -1);
}

/* One copy of `height` rows. */
static cudaError_t copy(const char *name, char *dst, size_t pitch_dst, const char *src, size_t pitch_src, size_t width,
                        size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (width == 0 || height == 0)
        return cudaSuccess;
    size_t dst_bytes = (height - 1) * pitch_dst + width, src_bytes = (height - 1) * pitch_src + width;
    if (kind == cudaMemcpyDefault)
        kind = sim_is_device(src)   ? sim_is_device(dst) ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost
               : sim_is_device(dst) ? cudaMemcpyHostToDevice
                                    : cudaMemcpyHostToHost;
    bool reads = from_device(kind), writes = to_device(kind);
    check_side("source", src, src_bytes, reads, kind);
    check_side("destination", dst, dst_bytes, writes, kind);
    std::shared_ptr<std::vector<char>> taken;
    if (!reads && !sim_is_pinned(src, src_bytes))
        taken = std::make_shared<std::vector<char>>(src, src + src_bytes);
    bool pinned = !writes && sim_is_pinned(dst, dst_bytes);
    if (pinned)
        for (size_t y = 0; y < height; y++)
            memset(dst + y * pitch_dst, 0xff, width);
    cudaError_t rc = sim_queue(stream, name, [=] {
        const char *from = taken ? taken->data() : src;
        for (size_t y = 0; y < height; y++)
            move_bytes(dst + y * pitch_dst, from + y * pitch_src, width, reads, writes);
    });
    return rc == cudaSuccess && !writes && !pinned ? sim_wait(stream) : rc;
}

/* An error that shows only when the work runs is queued in the work's place. */
cudaError_t sim_queue_fault(cudaStream_t stream, const char *name, cudaError_t rc)
{
    return sim_asynchronous(rc) ? sim_queue(stream, name, nullptr, rc) : rc;
}
#define QUEUED_CALL(name, stream)                                                                                                \
    std::lock_guard<std::recursive_mutex> hold_(sim_lock());                                                                     \
    if (cudaError_t bad_ = sim_fault(name))                                                                                      \
        return sim_leave(sim_queue_fault(stream, name, bad_));                                                                   \
    if (cudaError_t bad_ = sim_enter(""))                                                                                        \
    return sim_leave(bad_)

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    QUEUED_CALL("cudaMemcpyAsync", stream);
    return sim_leave(copy("cudaMemcpyAsync", (char *)dst, n, (const char *)src, n, n, 1, kind, stream));
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t pitch_dst, const void *src, size_t pitch_src, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream)
{
    QUEUED_CALL("cudaMemcpy2DAsync", stream);
    if (width > pitch_dst || width > pitch_src)
        return sim_leave(cudaErrorInvalidValue);
    return sim_leave(
        copy("cudaMemcpy2DAsync", (char *)dst, pitch_dst, (const char *)src, pitch_src, width, height, kind, stream));
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
    SIM_CALL("cudaMemcpy");
    cudaError_t rc = copy("cudaMemcpy", (char *)dst, n, (const char *)src, n, n, 1, kind, nullptr);
    return sim_leave(rc == cudaSuccess && kind != cudaMemcpyDeviceToDevice ? sim_wait(nullptr) : rc);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t stream)
{
    QUEUED_CALL("cudaMemsetAsync", stream);
    if (n == 0)
        return cudaSuccess;
    sim_check_range("destination", p, n, sim_device());
    return sim_leave(sim_queue(stream, "cudaMemsetAsync", [=] {
        memset(p, value, n);
        if (sim_track.write)
            sim_track.write(p, n, -1);
    }));
}
cudaError_t cudaMemset(void *p, int value, size_t n) { return cudaMemsetAsync(p, value, n, nullptr); }
