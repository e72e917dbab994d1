// Before the text of a kernel: what CUDA and schedules/cuda/ampere.cuh provide, on a CPU with one
// thread per CUDA thread. The blocks of a cluster run at once, clusters one after the other.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __constant__ static
using std::max;
using std::min;
struct uint4 { unsigned x, y, z, w; };
struct uint2 { unsigned x, y; };
struct int2 { int x, y; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct Dim { int x, y, z; };
typedef _Float16 half;
struct nv_bfloat16 { uint16_t bits; };
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }
inline float2 make_float2(float a, float b) { return {a, b}; }
inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
inline float __frcp_rn(float x) { return 1 / x; }
inline int __ffs(unsigned bits) { return __builtin_ffs(bits); }
inline float __fdividef(float a, float b) { return a / b; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
inline float __int_as_float(unsigned u) { return __uint_as_float(u); }
inline float __half2float(half h) { return (float)h; }
inline half __float2half_rn(float f) { return (half)f; }
inline float __bfloat162float(nv_bfloat16 b) { return __uint_as_float((unsigned)b.bits << 16); }
inline nv_bfloat16 __float2bfloat16_rn(float f) {
  unsigned u;
  memcpy(&u, &f, 4);
  u += 0x7fff + ((u >> 16) & 1);
  return {(uint16_t)(u >> 16)};
}
template <class T> T __ldg(const T* p) { return *p; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  uint64_t both = (uint64_t)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned byte = both >> 8 * (selector >> 4 * i & 7) & 255;
    result |= byte << 8 * i;
  }
  return result;
}

struct Warp {
  std::barrier<> barrier{32};
  float floats[32];
  unsigned a[32][4], b[32][2], addresses[32];
};
struct Block {
  unsigned char* arena;
  std::unique_ptr<std::barrier<>> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::shared_ptr<void> more;  // what a file behind this one keeps of the block
};
thread_local Dim threadIdx, blockIdx, blockDim, gridDim;
thread_local Block* own_block;
std::vector<Block>* cluster;
std::unique_ptr<std::barrier<>> cluster_barrier;
std::atomic<int> fault{0};
int arena_size;
inline Warp& own_warp() { return *own_block->warps[threadIdx.x / 32]; }
inline void __syncthreads() { own_block->barrier->arrive_and_wait(); }
inline void __syncwarp() { own_warp().barrier.arrive_and_wait(); }
inline float __shfl_xor_sync(unsigned, float v, int mask) {
  Warp& warp = own_warp();
  warp.floats[threadIdx.x % 32] = v;
  warp.barrier.arrive_and_wait();
  float other = warp.floats[threadIdx.x % 32 ^ mask];
  warp.barrier.arrive_and_wait();
  return other;
}
inline unsigned __shfl_xor_sync(unsigned, unsigned v, int mask) {
  Warp& warp = own_warp();
  warp.addresses[threadIdx.x % 32] = v;
  warp.barrier.arrive_and_wait();
  unsigned other = warp.addresses[threadIdx.x % 32 ^ mask];
  warp.barrier.arrive_and_wait();
  return other;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __ballot_sync(unsigned, bool is_true) {
  Warp& warp = own_warp();
  warp.addresses[threadIdx.x % 32] = is_true;
  warp.barrier.arrive_and_wait();
  unsigned found = 0;
  for (int lane = 0; lane < 32; ++lane) found |= warp.addresses[lane] << lane;
  warp.barrier.arrive_and_wait();
  return found;
}
inline bool __any_sync(unsigned lanes, bool is_true) { return __ballot_sync(lanes, is_true) != 0; }
inline int __shfl_sync(unsigned, int v, int from) {
  Warp& warp = own_warp();
  warp.addresses[threadIdx.x % 32] = v;
  warp.barrier.arrive_and_wait();
  int found = warp.addresses[from];
  warp.barrier.arrive_and_wait();
  return found;
}
// The threads of a block, and no others, see one.
#define __shared__ static
inline int __shfl_up_sync(unsigned, int v, int distance) {
  Warp& warp = own_warp();
  const int lane = threadIdx.x % 32;
  warp.floats[lane] = v;  // exact: counts of emulated rows are small
  warp.barrier.arrive_and_wait();
  float other = warp.floats[std::max(lane - distance, 0)];
  warp.barrier.arrive_and_wait();
  return other;
}
inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
inline void atomicOr(unsigned* to, unsigned bits) { std::atomic_ref<unsigned>(*to) |= bits; }

namespace ampere {
typedef unsigned int u32;
inline u32 shared_address(const void* p) { return (unsigned char*)p - own_block->arena; }
// Faults: 1 for shared memory outside of the arena, 2 for neighbours that are not aligned, 3 for
// writes behind the arena.
inline void check(u32 address, int n_bytes) {
  if (address + n_bytes > (u32)arena_size) fault = 1;
  if (address % n_bytes) fault = 2;
}
template <int BYTES> void copy_bytes(u32 to, const void* from, int n) {
  check(to, BYTES);
  if ((uintptr_t)from % BYTES) fault = 2;
  memset(own_block->arena + to, 0, BYTES);
  memcpy(own_block->arena + to, from, n);
}
template <int SIZE> void copy_async(u32 to, const float* from, int n) {
  copy_bytes<4 * SIZE>(to, from, 4 * n);
}
inline void close_copies() {}
template <int LEFT> void wait_for_copies() {}
template <int CLUSTER> void meet() {
  (CLUSTER > 1 ? cluster_barrier : own_block->barrier)->arrive_and_wait();
}
template <int CLUSTER> float float_of(u32 address, int rank) {
  check(address, 4);
  return *(const float*)((CLUSTER > 1 ? (*cluster)[rank].arena : own_block->arena) + address);
}
template <int CLUSTER> float4 four_of(u32 address, int rank) {
  check(address, 16);
  return *(const float4*)((CLUSTER > 1 ? (*cluster)[rank].arena : own_block->arena) + address);
}
inline uint4 streamed(const void* p) {
  if ((uintptr_t)p % 16) fault = 2;
  return *(const uint4*)p;
}
template <class T> float half_of(unsigned pair, int which) {
  uint16_t bits = which ? pair >> 16 : pair & 0xffff;
  T value;
  memcpy(&value, &bits, 2);
  if constexpr (std::is_same_v<T, half>) return __half2float(value);
  else return __bfloat162float(value);
}
// One line of a matrix per lane of eight, at the addresses those give; `place` is (line, number).
template <class Place>
void load_lines(u32 (&r)[4], u32 address, Place place) {
  Warp& warp = own_warp();
  int lane = threadIdx.x % 32;
  check(address, 16);
  warp.addresses[lane] = address;
  warp.barrier.arrive_and_wait();
  for (int i = 0; i < 4; ++i) {
    uint16_t both[2];
    for (int e = 0; e < 2; ++e) {
      auto [line, number] = place(lane / 4, lane % 4 * 2 + e);
      memcpy(both + e, own_block->arena + warp.addresses[8 * i + line] + 2 * number, 2);
    }
    memcpy(&r[i], both, 4);
  }
  warp.barrier.arrive_and_wait();
}
inline void load_matrices(u32 (&r)[4], u32 address) {
  load_lines(r, address, [](int line, int number) { return std::pair{line, number}; });
}
inline void load_transposed(u32 (&r)[4], u32 address) {
  load_lines(r, address, [](int number, int line) { return std::pair{line, number}; });
}
template <class T> u32 packed(float first, float second, const T*) {
  T both[2];
  if constexpr (std::is_same_v<T, half>) both[0] = (half)first, both[1] = (half)second;
  else both[0] = __float2bfloat16_rn(first), both[1] = __float2bfloat16_rn(second);
  u32 word;
  memcpy(&word, both, 4);
  return word;
}
template <class T>
void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, const T*) {
  Warp& warp = own_warp();
  int lane = threadIdx.x % 32;
  std::copy(a, a + 4, warp.a[lane]);
  warp.b[lane][0] = b0;
  warp.b[lane][1] = b1;
  warp.barrier.arrive_and_wait();
  for (int i = 0; i < 4; ++i) {
    int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    double sum = d[i];
    for (int k = 0; k < 16; ++k) {
      int quad = k % 8 / 2;
      float left = half_of<T>(warp.a[row % 8 * 4 + quad][row / 8 + k / 8 * 2], k % 2);
      sum += (double)left * half_of<T>(warp.b[column * 4 + quad][k / 8], k % 2);
    }
    d[i] = (float)sum;
  }
  warp.barrier.arrive_and_wait();
}
}  // namespace ampere

// Runs `kernel(arena)` in all threads of all blocks.
template <class Kernel>
void launch(int grid, int block, int shared, int cluster_size, Kernel kernel) {
  arena_size = shared;
  for (int first = 0; first < grid; first += cluster_size) {
    std::vector<Block> blocks(cluster_size);
    std::vector<std::vector<unsigned char>> memory(cluster_size);
    cluster = &blocks;
    cluster_barrier = std::make_unique<std::barrier<>>(cluster_size * block);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < cluster_size; ++rank) {
      memory[rank].assign(shared + 64, 0xff);  // NaN until written
      Block& one = blocks[rank];
      one.arena = (unsigned char*)(((uintptr_t)memory[rank].data() + 31) & ~(uintptr_t)31);
      one.barrier = std::make_unique<std::barrier<>>(block);
      for (int w = 0; w < (block + 31) / 32; ++w) one.warps.push_back(std::make_unique<Warp>());
    }
    for (int rank = 0; rank < cluster_size; ++rank)
      for (int t = 0; t < block; ++t)
        threads.emplace_back([=, &blocks] {
          threadIdx = {t, 0, 0};
          blockIdx = {first + rank, 0, 0};
          blockDim = {block, 1, 1};
          gridDim = {grid, 1, 1};
          own_block = &blocks[rank];
          kernel(own_block->arena);
        });
    for (auto& thread : threads) thread.join();
    for (int rank = 0; rank < cluster_size; ++rank)
      for (unsigned char* p = blocks[rank].arena + shared; p < &*memory[rank].end(); ++p)
        if (*p != 0xff) fault = 3;
  }
}
