/* device_nvcc.cuh - the wrappers of device.cuh for a card: intrinsics, and one PTX instruction each. See device.cuh for what each
 * means; instruction names are those of the PTX ISA. */
#ifndef LORAT_CUDA_DEVICE_NVCC_CUH
#define LORAT_CUDA_DEVICE_NVCC_CUH

#include <cuda_bf16.h>

extern __shared__ __align__(16) unsigned char lorat_shared[];
#define SHARED(T, name) T *name = (T *)lorat_shared

__device__ static __forceinline__ void block_sync(void) { __syncthreads(); }
__device__ static __forceinline__ void warp_sync(void) { __syncwarp(); }
template <typename T> __device__ static __forceinline__ T warp_xor(T v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
template <typename T> __device__ static __forceinline__ T warp_at(T v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
template <typename T> __device__ static __forceinline__ T warp_up(T v, int by) { return __shfl_up_sync(0xffffffffu, v, (unsigned)by); }
template <typename T> __device__ static __forceinline__ T warp_down(T v, int by) { return __shfl_down_sync(0xffffffffu, v, (unsigned)by); }
__device__ static __forceinline__ uint32_t warp_ballot(bool yes) { return __ballot_sync(0xffffffffu, yes); }
__device__ static __forceinline__ uint32_t atomic_add(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }

__device__ static __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
__device__ static __forceinline__ void async_copy_16(void *shared, const void *global, bool valid)
{
    int bytes = valid ? 16 : 0; /* fewer source bytes than 16: the rest is zeros */
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
__device__ static __forceinline__ void async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ static __forceinline__ void async_wait(void) { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

__device__ static __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static __forceinline__ void ldmatrix_x2(uint32_t r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ static __forceinline__ void ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ static __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ static __forceinline__ float inv_sqrt(float x) { return rsqrtf(x); }
__device__ static __forceinline__ float inv_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ static __forceinline__ bf16 bf16_round(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
__device__ static __forceinline__ uint32_t bf16_pair(float lo, float hi)
{
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(hi), "f"(lo));
    return both;
}

#endif
