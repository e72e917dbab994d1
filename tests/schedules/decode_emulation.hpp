// Before the kernel text: what CUDA provides, one thread per CUDA thread.
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>
#define __device__
#define __forceinline__ inline
#define __restrict__
struct uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Dim { int x, y, z; };
typedef _Float16 half;
struct nv_bfloat16 { uint16_t bits; };
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float __half2float(half h) { return (float)h; }
inline half __float2half_rn(float f) { return (half)f; }
inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
inline float __bfloat162float(nv_bfloat16 b) { return __uint_as_float((unsigned)b.bits << 16); }
inline nv_bfloat16 __float2bfloat16_rn(float f) {
  unsigned u;
  memcpy(&u, &f, 4);
  u += 0x7fff + ((u >> 16) & 1);
  return {(uint16_t)(u >> 16)};
}
template <class T> T __ldcg(const T* p) { return *p; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned order) {
  uint64_t both = (uint64_t)b << 32 | a;
  unsigned v = 0;
  for (int i = 0; i < 4; ++i) v |= (unsigned)(both >> 8 * (order >> 4 * i & 7) & 0xff) << 8 * i;
  return v;
}
thread_local Dim threadIdx, blockIdx;
struct Exchange { unsigned a[4], b[2]; float value; bool flag; };
struct Block {
  Block(int n_threads, int n_bytes) : all(n_threads), memory(n_bytes + 64, 0x5a) {
    for (int w = 0; w < n_threads / 32; ++w) warps.push_back(std::make_unique<std::barrier<>>(32));
    arena = (unsigned char*)(((uintptr_t)memory.data() + 15) & ~(uintptr_t)15);
  }
  std::barrier<> all;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::atomic<int> votes = 0;
  Exchange exchanged[32][32];
  std::vector<unsigned char> memory;
  unsigned char* arena;
};
thread_local Block* block;
std::vector<std::unique_ptr<Block>> cluster;  // blocks that run at once
std::unique_ptr<std::barrier<>> cluster_barrier;
#define __syncthreads() block->all.arrive_and_wait()
inline bool __syncthreads_or(bool mine) {
  if (mine) block->votes = 1;
  __syncthreads();
  bool any = block->votes;
  __syncthreads();
  block->votes = 0;
  __syncthreads();
  return any;
}
inline Exchange* exchange_of_warp() { return block->exchanged[threadIdx.x / 32]; }
inline Exchange& mine() { return exchange_of_warp()[threadIdx.x % 32]; }
inline void meet() { block->warps[threadIdx.x / 32]->arrive_and_wait(); }
inline float __shfl_sync(unsigned, float v, int from) {
  mine().value = v;
  meet();
  float got = exchange_of_warp()[from].value;
  meet();
  return got;
}
inline int __shfl_sync(unsigned, int v, int) { return v; }  // used on values equal in a warp
inline float __shfl_xor_sync(unsigned all, float v, int mask) {
  return __shfl_sync(all, v, threadIdx.x % 32 ^ mask);
}
inline bool __any_sync(unsigned, bool v) {
  mine().flag = v;
  meet();
  bool any = false;
  for (int i = 0; i < 32; ++i) any = any || exchange_of_warp()[i].flag;
  meet();
  return any;
}
// Copies happen when they are waited for, the latest moment that hardware may choose.
struct Copy { void* to; const void* from; int n; };
thread_local std::deque<std::vector<Copy>> groups_of_copies;
thread_local std::vector<Copy> open_copies;
std::vector<std::pair<const void*, const void*>> readable;
std::atomic<int> fault;
// CUT: in the place of loads, copies, and of the tensor-core product.
inline void check(const void* p) {
  for (auto& one : readable)
    if (p >= one.first && (const char*)p + 16 <= one.second) return;
  fault = 1;
}
inline uint4 load_piece(const elem* from) {
  check(from);
  uint4 v;
  memcpy(&v, from, 16);
  return v;
}
inline void copy_piece(uint4* to, const elem* from, bool inside) {
  check(from);
  open_copies.push_back({to, from, inside ? 16 : 0});
}
inline void end_copies() {
  groups_of_copies.push_back(open_copies);
  open_copies.clear();
}
template <int PENDING>
inline void await_copies() {
  while (groups_of_copies.size() > PENDING) {
    for (auto& one : groups_of_copies.front()) {
      memset(one.to, 0, 16);
      memcpy(one.to, one.from, one.n);
    }
    groups_of_copies.pop_front();
  }
}
inline void meet_cluster() { cluster_barrier->arrive_and_wait(); }
inline float of_block(const float* mine, int rank) {
  return *(const float*)(cluster[rank]->arena + ((const unsigned char*)mine - block->arena));
}
inline unsigned count_arrival(unsigned* at) {
  unsigned before = *at;
  *at = before + 1 == SPLITS ? 0 : before + 1;
  return before;
}
inline float power_of_two(float x) { return exp2f(x); }
inline void rounded(half& to, float v) { to = __float2half_rn(v); }
inline void rounded(nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }
inline float value_of(half v) { return __half2float(v); }
inline float value_of(nv_bfloat16 v) { return __bfloat162float(v); }
inline unsigned bits_of(float v) {
  elem e;
  rounded(e, v);
  unsigned short s;
  memcpy(&s, &e, 2);
  return s;
}
inline unsigned pair_of(float low, float high) { return bits_of(low) | bits_of(high) << 16; }
inline float element_of(unsigned pair, int which) {
  unsigned short bits = which ? pair >> 16 : pair & 0xffff;
  elem e;
  memcpy(&e, &bits, 2);
  return value_of(e);
}
inline void multiply(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                     unsigned b1) {
  Exchange given = {{a0, a1, a2, a3}, {b0, b1}};
  mine() = given;
  meet();
  float left[16][16], right[16][8];
  for (int other = 0; other < 32; ++other) {
    const Exchange& from = exchange_of_warp()[other];
    int row = other / 4, pair = other % 4 * 2;
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 4; ++i) left[row + i % 2 * 8][pair + i / 2 * 8 + h] = element_of(from.a[i], h);
      for (int i = 0; i < 2; ++i) right[pair + i * 8 + h][row] = element_of(from.b[i], h);
    }
  }
  int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    double sum = d[i];
    for (int k = 0; k < 16; ++k)
      sum += (double)left[lane / 4 + i / 2 * 8][k] * right[k][lane % 4 * 2 + i % 2];
    d[i] = (float)sum;
  }
  meet();
}
// CUT: after the kernel text. Returns 1 for loads from outside, 2 for a write behind the arena.
template <class Body>
void run_blocks(std::vector<Dim> blocks, int n_threads, int arena_bytes, Body body) {
  cluster.clear();
  for (size_t i = 0; i < blocks.size(); ++i)
    cluster.push_back(std::make_unique<Block>(n_threads, arena_bytes));
  cluster_barrier = std::make_unique<std::barrier<>>(n_threads * blocks.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < blocks.size(); ++i)
    for (int t = 0; t < n_threads; ++t)
      threads.emplace_back([=] {
        threadIdx = {t, 0, 0};
        blockIdx = blocks[i];
        block = cluster[i].get();
        body(block->arena);
      });
  for (auto& thread : threads) thread.join();
  for (auto& one : cluster)
    for (auto* p = one->arena + arena_bytes; p < one->memory.data() + one->memory.size(); ++p)
      if (*p != 0x5a) fault = 2;
}
extern "C" int run(const elem* query, const elem* key, const elem* value, const mask_t* mask,
                   const length_t* lengths, elem* y, float* partial, int arena_bytes) {
  fault = 0;
  readable = {{query, query + (long)GROUPS * GROUP_ROWS * WIDTH},
              {key, key + (long)GROUPS * KEYS * WIDTH},
              {value, value + (long)GROUPS * KEYS * VALUE_WIDTH}};
  constexpr int AT_ONCE = IN_CLUSTER ? SPLITS : 1;
  for (int i = 0; i < SPLITS * PASSES * GROUPS; i += AT_ONCE) {
    std::vector<Dim> blocks;
    for (int j = i; j < i + AT_ONCE; ++j)
      blocks.push_back({j % SPLITS, j / SPLITS % PASSES, j / SPLITS / PASSES});
    run_blocks(blocks, THREADS, arena_bytes, [=](unsigned char* arena) {
      attention_decode(query, key, value, mask, lengths, y, partial, arena);
    });
  }
  if (SPLITS > 1 && !COMBINES_LAST && !IN_CLUSTER)
    for (int i = 0; i < GROUPS * PASSES; ++i)
      run_blocks({{i, 0, 0}}, COMBINE_THREADS, 0,
                 [=](unsigned char*) { attention_decode_combine(partial, y); });
  return fault;
}
