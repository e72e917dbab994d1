// Instructions of attention with few queries: loads and copies, matrices between shared memory and
// registers, products, blocks of a cluster. After ampere.cuh and the constants of
// schedules/attention_decode_cuda.py.

constexpr unsigned ALL = 0xffffffffu;

// Loads of what the kernel in front may have written: they stay behind the wait for it, and do not
// take the read-only path.
template <class T>
__device__ __forceinline__ T load_behind(const T* from) {
  unsigned long long bits;
  if constexpr (sizeof(T) == 1)
    asm volatile("ld.global.cg.u8 %0, [%1];" : "=l"(bits) : "l"(from) : "memory");
  else if constexpr (sizeof(T) == 2)
    asm volatile("ld.global.cg.u16 %0, [%1];" : "=l"(bits) : "l"(from) : "memory");
  else if constexpr (sizeof(T) == 4)
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=l"(bits) : "l"(from) : "memory");
  else
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(bits) : "l"(from) : "memory");
  T v;
  memcpy(&v, &bits, sizeof(T));
  return v;
}
__device__ __forceinline__ float4 load_four(const float* from) {
  float4 v;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(from) : "memory");
  return v;
}

// The first address of shared memory from which rows of 128 bytes lie in their pattern.
__device__ __forceinline__ unsigned char* aligned(unsigned char* memory) {
  return memory + (-ampere::shared_address(memory) & 1023);
}

// ---- copies by pieces of 16 bytes, in groups that are waited for in order ----
__device__ __forceinline__ void copy_piece(unsigned char* to, const elem* from, bool inside) {
  int n = inside ? 16 : 0;  // the rest is filled with zeros
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(ampere::shared_address(to)),
               "l"(from), "r"(n)
               : "memory");
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
  __syncwarp();
}

// ---- one lane of a warp, and a tile into the second cache (compute capability 9.0) ----
__device__ __forceinline__ bool is_elected() {
  unsigned elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(elected));
  return elected != 0;
}
template <class Map>
__device__ __forceinline__ void prefetch_tile(const Map& map, int column, int key, int group) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(&map), "r"(column),
               "r"(key), "r"(group)
               : "memory");
}

// ---- matrices of 8 x 8, and products ----
// Four matrices; lanes 8 * i ... give the addresses of the rows of matrix i. Lane 4 * g + c gets
// elements 2c and 2c + 1 of row g.
__device__ __forceinline__ void load_matrices(unsigned (&m)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(ampere::shared_address(row))
               : "memory");
}
// Likewise, elements 2c and 2c + 1 of column g.
__device__ __forceinline__ void load_transposed(unsigned (&m)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(ampere::shared_address(row))
               : "memory");
}
// Of a matrix that lies in registers as load_matrices leaves it.
__device__ __forceinline__ unsigned transposed(unsigned m) {
  unsigned v;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(m));
  return v;
}
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  ampere::multiply(d, a, b0, b1, (const elem*)nullptr);
}
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ unsigned pair_of(float low, float high) {
  unsigned v;
  if constexpr (IS_HALF) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}

// ---- between blocks ----
// Counts to SPLITS - 1, then from zero again.
__device__ __forceinline__ unsigned count_arrival(unsigned* at) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before) : "l"(at), "r"(SPLITS - 1) : "memory");
  return before;
}
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ float4 four_of_block(const float* mine, int rank) {
  return ampere::four_of<2>(ampere::shared_address(mine), rank);
}
__device__ __forceinline__ float of_block(const float* mine, int rank) {
  return ampere::float_of<2>(ampere::shared_address(mine), rank);
}

// ---- numbers ----
__device__ __forceinline__ float widened(half v) { return __half2float(v); }
__device__ __forceinline__ float widened(nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float widened(float v) { return v; }
__device__ __forceinline__ float widened(bool v) { return v ? 1.0f : 0.0f; }
