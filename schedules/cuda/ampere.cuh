// Compute capability 8.0: copies into shared memory that run on their own, and products of warps;
// of 9.0: shared memory of other blocks in a cluster.
#include <cuda_fp16.h>
#include <cuda_bf16.h>

namespace ampere {

typedef unsigned int u32;

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

// Copies the first `n` bytes of BYTES (4, 8 or 16), and zeros for the others.
template <int BYTES>
__device__ __forceinline__ void copy_bytes(u32 to, const void* from, int n) {
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(n));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES),
                 "r"(n));
}

// Likewise, the first `n` of SIZE (1, 2 or 4) neighbours.
template <int SIZE>
__device__ __forceinline__ void copy_async(u32 to, const float* from, int n) {
  copy_bytes<4 * SIZE>(to, from, 4 * n);
}

__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;"); }

// Waits for all but the last LEFT groups of own copies.
template <int LEFT>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// All threads of the block, or of the cluster if it has several blocks.
template <int CLUSTER>
__device__ __forceinline__ void meet() {
  if constexpr (CLUSTER > 1)
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
  else
    __syncthreads();
}

// The float at `address` in the shared memory of the cluster's block `rank`.
template <int CLUSTER>
__device__ __forceinline__ float float_of(u32 address, int rank) {
  float v;
  if constexpr (CLUSTER > 1)
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %1, %2;"
        " ld.shared::cluster.f32 %0, [there]; }"
        : "=f"(v)
        : "r"(address), "r"(rank)
        : "memory");
  else
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(address) : "memory");
  return v;
}

// Likewise, four neighbours.
template <int CLUSTER>
__device__ __forceinline__ float4 four_of(u32 address, int rank) {
  float4 v;
  if constexpr (CLUSTER > 1)
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %4, %5;"
        " ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there]; }"
        : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
        : "r"(address), "r"(rank)
        : "memory");
  else
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(address)
                 : "memory");
  return v;
}

// 16 bytes that are read once: not kept in the first-level cache.
__device__ __forceinline__ uint4 streamed(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

// Four matrices of 8 x 8 16-bit numbers: every lane gives the address of one line, lanes 8 i to
// 8 i + 7 those of matrix i, and gets the numbers 2 (lane % 4) and their neighbours of line lane / 4.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// Likewise, each matrix transposed.
__device__ __forceinline__ void load_transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// Two neighbours, rounded to nearest; the last argument names the type.
__device__ __forceinline__ u32 packed(float first, float second, const half*) {
  u32 both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

__device__ __forceinline__ u32 packed(float first, float second, const nv_bfloat16*) {
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

// d += a * b of m16n8k16, sums in float32; the last argument names the type.
__device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                                         const half*) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
      " {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                                         const nv_bfloat16*) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
      " {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace ampere
