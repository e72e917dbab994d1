// One number per block of a cluster, combined over the cluster (compute capability 9.0). Every
// thread of every block calls these in this order: cluster_max, cluster_sum, cluster_end. Blocks
// must not end before the last neighbour has read from them, so cluster_sum announces that this
// block has read, and cluster_end waits for the others to say so.
namespace effcompile_cluster {

__device__ __forceinline__ void arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The number that a block of the cluster holds at the address of `own`.
__device__ __forceinline__ float of_block(const float* own, int rank) {
  unsigned address = (unsigned)__cvta_generic_to_shared(own);
  float value;
  asm volatile("{ .reg .u32 there; mapa.shared::cluster.u32 there, %1, %2;"
               " ld.shared::cluster.f32 %0, [there]; }"
               : "=f"(value) : "r"(address), "r"(rank) : "memory");
  return value;
}

// Lanes read one block each; N_BLOCKS is a power of two up to 16.
__device__ __forceinline__ float gathered(float* own, float value, int n_blocks) {
  if (threadIdx.x == 0) *own = value;
  arrive();
  wait();
  return of_block(own, threadIdx.x % n_blocks);
}

}  // namespace effcompile_cluster

__device__ __forceinline__ float cluster_max(float value, int n_blocks) {
  __shared__ float own;
  value = effcompile_cluster::gathered(&own, value, n_blocks);
  for (int distance = n_blocks / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

__device__ __forceinline__ float cluster_sum(float value, int n_blocks) {
  __shared__ float own;
  value = effcompile_cluster::gathered(&own, value, n_blocks);
  effcompile_cluster::arrive();
  for (int distance = n_blocks / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

__device__ __forceinline__ void cluster_end() { effcompile_cluster::wait(); }
