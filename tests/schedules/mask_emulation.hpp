// Before the text of schedules/cuda/mask_tiles.cuh and attention_tiles.cuh: what CUDA provides, on a
// CPU with one thread per lane of a warp.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>
#define __device__
#define __constant__ static
#define __forceinline__ inline
#define __restrict__
using std::max;
using std::min;
struct uint2 { unsigned x, y; };
struct int2 { int x, y; };
struct float2 { float x, y; };
struct Dim { int x, y, z; };
typedef _Float16 half;
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float __int_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
inline int __ffs(unsigned x) { return __builtin_ffs(x); }
template <class T> T __ldg(const T* p) { return *p; }
thread_local Dim threadIdx, blockIdx;
Dim gridDim;
std::barrier<> lanes{32};
int exchanged[32];
template <class F> auto exchange(int own, F read) {
  exchanged[threadIdx.x % 32] = own;
  lanes.arrive_and_wait();
  auto found = read();
  lanes.arrive_and_wait();
  return found;
}
inline int __shfl_sync(unsigned, int own, int lane) {
  return exchange(own, [=] { return exchanged[lane]; });
}
inline unsigned __ballot_sync(unsigned, bool own) {
  return exchange(own, [] {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (unsigned)exchanged[i] << i;
    return bits;
  });
}
inline bool __all_sync(unsigned, bool own) { return __ballot_sync(0, own) == 0xffffffffu; }
template <class F> void run_warp(int warp, Dim block, F f) {
  std::vector<std::thread> threads;
  for (int lane = 0; lane < 32; ++lane)
    threads.emplace_back([=] {
      threadIdx = {32 * warp + lane, 0, 0};
      blockIdx = block;
      f();
    });
  for (auto& thread : threads) thread.join();
}
namespace hopper { typedef unsigned int u32; }
