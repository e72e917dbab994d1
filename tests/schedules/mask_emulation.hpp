// Before the text of schedules/cuda/mask_tiles.cuh and attention_tiles.cuh: what CUDA provides, on a
// CPU. Lanes of a warp take turns; they change places where they exchange values.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
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
Dim threadIdx, blockIdx, gridDim;
constexpr int STACK_BYTES = 1 << 18;
struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  int posted[2] = {0, 0};       // alternating, so that none is overwritten before all have read it
  int n_posted = 0;
};
Lane lanes[32];
ucontext_t outside;
int warp_first, current;
std::function<void()> body;
inline void change_to(int lane) {
  int before = current;
  current = lane;
  threadIdx.x = warp_first + lane;
  if (before < 0) {
    swapcontext(&outside, &lanes[lane].context);
    return;
  }
  swapcontext(&lanes[before].context, &lanes[lane].context);
}
// Every lane posts, then goes on; lanes must meet in the same order.
template <class F> auto exchange(int own, F read) {
  Lane& lane = lanes[current];
  int place = lane.n_posted++ % 2;
  lane.posted[place] = own;
  change_to((current + 1) % 32);
  return read(place);
}
inline void run_lane() {
  body();
  // The next lane ends as well; the last one returns to the caller.
  if (current < 31) change_to(current + 1);
}
inline int __shfl_sync(unsigned, int own, int lane) {
  return exchange(own, [=](int place) { return lanes[lane].posted[place]; });
}
inline unsigned __ballot_sync(unsigned, bool own) {
  return exchange(own, [](int place) {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (unsigned)lanes[i].posted[place] << i;
    return bits;
  });
}
inline bool __all_sync(unsigned, bool own) { return __ballot_sync(0, own) == 0xffffffffu; }
// What lies in shared memory, the same for all lanes; a lane alone walks through rows and columns.
template <class T> T read_by_first(const T& x) { return x; }
template <class F> void run_warp(int warp, Dim block, F f) {
  body = f;
  blockIdx = block;
  warp_first = 32 * warp;
  for (Lane& lane : lanes) {
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = lane.stack.get();
    lane.context.uc_stack.ss_size = STACK_BYTES;
    lane.context.uc_link = &outside;
    makecontext(&lane.context, run_lane, 0);
  }
  current = -1;
  change_to(0);
}
namespace hopper { typedef unsigned int u32; }
