// Compute capability 9.0: barriers in shared memory, the tensor memory accelerator, warpgroup
// matrix products. Matrix product functions themselves are generated (schedules/wgmma.py).

namespace hopper {

typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

// ---- mbarriers; `bar` is a shared-memory address, `parity` the phase waited for ----

__device__ __forceinline__ void mbarrier_init(u32 bar, u32 n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(n_arrivals) : "memory");
}

// Before the memory of a barrier becomes anything else.
__device__ __forceinline__ void mbarrier_invalidate(u32 bar) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(bar) : "memory");
}

// Makes initialised barriers visible to the tensor memory accelerator; __syncthreads() after it.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_expect(u32 bar, u32 n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(n_bytes)
               : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

__device__ __forceinline__ bool mbarrier_done(u32 bar, u32 parity) {
  u32 done;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;"
      " selp.u32 %0, 1, 0, p; }"
      : "=r"(done)
      : "r"(bar), "r"(parity)
      : "memory");
  return done != 0;
}

// The first wait on a fresh barrier with parity 1 returns at once.
__device__ __forceinline__ void mbarrier_wait(u32 bar, u32 parity) {
  while (!mbarrier_done(bar, parity)) {
  }
}

// Likewise, but a copy that never comes ends in a fault, which costs one trial; a hang would cost
// its time-out.
__device__ __forceinline__ void mbarrier_await(u32 bar, u32 parity) {
  constexpr u32 MOST_TRIES = 1u << 26;
  bool done = false;
  for (u32 tries = 0; !done; ++tries) {
    if (tries == MOST_TRIES) __trap();
    done = mbarrier_done(bar, parity);
  }
}

// ---- tensor memory accelerator: one tile into shared memory, coordinates innermost first ----

// Fetches the map itself, so that the first copy need not wait for it.
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(u32 to, const CUtensorMap& map, u32 bar, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(bar)
      : "memory");
}

__device__ __forceinline__ void tma_load_3d(u32 to, const CUtensorMap& map, u32 bar, int x, int y,
                                            int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(bar)
      : "memory");
}

// A tile into the second-level cache only: also while others still write it.
__device__ __forceinline__ void tma_ask_2d(const CUtensorMap& map, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];" ::"l"(&map), "r"(x), "r"(y)
               : "memory");
}

__device__ __forceinline__ void tma_ask_3d(const CUtensorMap& map, int x, int y, int z) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(&map), "r"(x),
               "r"(y), "r"(z)
               : "memory");
}

// For tiles that are read once: their lines leave the second cache before others.
__device__ __forceinline__ u64 read_once() {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void tma_load_3d(u32 to, const CUtensorMap& map, u32 bar, int x, int y,
                                            int z, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(bar), "l"(policy)
      : "memory");
}

__device__ __forceinline__ void tma_load_4d(u32 to, const CUtensorMap& map, u32 bar, int x, int y,
                                            int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(bar)
      : "memory");
}

// ---- clusters: the blocks of one share their memory and barriers; addresses are the same in all ----

// Arrives at the barrier that lies at `bar` in every block of the cluster, to say that its memory was
// read. What the thread wrote others may not see yet: a release to the cluster would wait for all of
// it to become visible, which takes longer than most steps.
template <int CLUSTER>
__device__ __forceinline__ void mbarrier_arrive_all_as_reader(u32 bar) {
  if constexpr (CLUSTER == 1) {
    mbarrier_arrive(bar);
  } else {
#pragma unroll
    for (int rank = 0; rank < CLUSTER; ++rank)
      asm volatile(
          "{ .reg .u32 there; mapa.shared::cluster.u32 there, %0, %1;"
          " mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(bar),
          "r"(rank)
          : "memory");
  }
}

// One tile into the memory of every block in `blocks`, a bit each, and their barriers.
__device__ __forceinline__ void tma_share_2d(u32 to, const CUtensorMap& map, u32 bar, int x, int y,
                                             unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(bar), "h"(blocks)
      : "memory");
}

__device__ __forceinline__ void tma_share_3d(u32 to, const CUtensorMap& map, u32 bar, int x, int y,
                                             int z, unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(bar), "h"(blocks)
      : "memory");
}

// Waits for every thread of the cluster; threads of a warp may come one by one.
template <int CLUSTER>
__device__ __forceinline__ void meet_cluster() {
  if constexpr (CLUSTER > 1)
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// ---- registers and named barriers ----

template <int N>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

__device__ __forceinline__ void named_sync(int id, int n_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

__device__ __forceinline__ void named_arrive(int id, int n_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

// ---- warpgroup matrix products ----

// Operand in shared memory in rows of 128 bytes with 128-byte swizzle, 8 rows = 1024 bytes.
// Reduction along the row (K-major): leading_bytes is not used, a step of 16 elements is 32 bytes.
// Reduction down the rows (MN-major, "transposed"): leading_bytes separates blocks of 64 columns,
// a step of 16 elements is 2048 bytes.
__device__ __forceinline__ u64 descriptor_128b(u32 address, u32 leading_bytes) {
  return ((u64)((address & 0x3FFFF) >> 4)) | ((u64)(leading_bytes >> 4) << 16) |
         ((u64)(1024 >> 4) << 32) | (1ull << 62);
}

// K-major operand in lines of LINE bytes (16, 32, 64, 128) with the swizzle of that size, none for
// 16. A step of 16 elements is 32 bytes; of lines of 16 bytes two are needed, `leading_bytes` apart.
template <int LINE>
__device__ __forceinline__ u64 descriptor_lines(u32 address, u32 leading_bytes) {
  constexpr u64 SWIZZLE = LINE == 128 ? 1 : LINE == 64 ? 2 : LINE == 32 ? 3 : 0;
  return ((u64)((address & 0x3FFFF) >> 4)) | ((u64)(leading_bytes >> 4) << 16) |
         ((u64)(8 * LINE >> 4) << 32) | (SWIZZLE << 62);
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// After wgmma_wait: keeps reads of the accumulators behind it.
template <int N>
__device__ __forceinline__ void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// What all lanes of a warp have in common, of any type made of 32-bit words, so that the compiler
// knows it: addresses and loop bounds that follow from it need no register of every lane.
template <class T>
__device__ __forceinline__ T same(const T& x) {
  constexpr int WORDS = sizeof(T) / 4;
  static_assert(sizeof(T) == 4 * WORDS, "whole words");
  int words[WORDS];
  memcpy(words, &x, sizeof(T));
#pragma unroll
  for (int i = 0; i < WORDS; ++i) words[i] = __shfl_sync(0xffffffffu, words[i], 0);
  T made;
  memcpy(&made, words, sizeof(T));
  return made;
}

// What lies in shared memory until the first lane gives it back, for all lanes: read by that lane
// alone, since an arrival at a barrier stands for the reads of the lane that arrives, of no other.
template <class T>
__device__ __forceinline__ T read_by_first(const T& x) {
  T made{};
  if (threadIdx.x % 32 == 0) made = x;
  return same(made);
}

// ---- numbers ----
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two neighbouring elements of 16 bits.
template <bool BFLOAT>
__device__ __forceinline__ u32 pair_of(float first, float second) {
  u32 pair;
  if (BFLOAT)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// ---- pairs of 16-bit floats ----

template <bool IS_HALF>
__device__ __forceinline__ u32 pair_difference(u32 a, u32 b) {
  u32 d;
  if constexpr (IS_HALF)
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  else
    asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

template <bool IS_HALF>
__device__ __forceinline__ u32 pair_product(u32 a, u32 b) {
  u32 d;
  if constexpr (IS_HALF)
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  else
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

}  // namespace hopper
