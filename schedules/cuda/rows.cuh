// What kernels over rows share: words of up to 16 bytes, conversions, sums over lanes.
//
// threadIdx.x is a lane within a row, threadIdx.y a row within the block.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace effcompile_rows {

template <int BYTES> struct Word;
template <> struct Word<16> { typedef uint4 type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<4> { typedef unsigned int type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };

// load_if reads a word, or leaves it as it is. Written in assembly, because the compiler makes
// branches of conditional loads, each waiting for the one before; these follow each other at once.
// SHAPE, PLACES and the numbers of the last two operands are those of the instruction.
#define EFFCOMPILE_LOAD(HINT, SHAPE, PLACES, FROM, WANTED, ...)                             \
  asm volatile("{ .reg .pred p; setp.ne.u32 p, " WANTED ", 0; @p ld.global.nc" HINT SHAPE \
               " " PLACES ", [" FROM "]; }"                                               \
               : __VA_ARGS__ : "l"(from), "r"((unsigned)wanted))
#define EFFCOMPILE_LOAD_IF(TYPE, SHAPE, PLACES, FROM, WANTED, ...)                                \
  __device__ __forceinline__ void load_if(bool wanted, bool streams, const TYPE* from, TYPE& to) { \
    if (streams)                                                                                  \
      EFFCOMPILE_LOAD(".L1::no_allocate", SHAPE, PLACES, FROM, WANTED, __VA_ARGS__);              \
    else                                                                                          \
      EFFCOMPILE_LOAD("", SHAPE, PLACES, FROM, WANTED, __VA_ARGS__);                              \
  }
EFFCOMPILE_LOAD_IF(uint4, ".v4.u32", "{%0, %1, %2, %3}", "%4", "%5", "+r"(to.x), "+r"(to.y),
                   "+r"(to.z), "+r"(to.w))
EFFCOMPILE_LOAD_IF(uint2, ".v2.u32", "{%0, %1}", "%2", "%3", "+r"(to.x), "+r"(to.y))
EFFCOMPILE_LOAD_IF(unsigned int, ".u32", "%0", "%1", "%2", "+r"(to))
EFFCOMPILE_LOAD_IF(unsigned short, ".u16", "%0", "%1", "%2", "+h"(to))
__device__ __forceinline__ void load_if(bool wanted, bool, const unsigned char* from,
                                        unsigned char& to) {
  if (wanted) to = __ldg(from);
}
#undef EFFCOMPILE_LOAD_IF
#undef EFFCOMPILE_LOAD

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(half x) { return __half2float(x); }
__device__ __forceinline__ float widened(nv_bfloat16 x) { return __bfloat162float(x); }
// Truth: 0 or 1.
__device__ __forceinline__ float widened(bool x) { return x; }
__device__ __forceinline__ float widened(signed char x) { return x; }
__device__ __forceinline__ void narrow(float x, float& y) { y = x; }
__device__ __forceinline__ void narrow(float x, half& y) { y = __float2half_rn(x); }
__device__ __forceinline__ void narrow(float x, nv_bfloat16& y) { y = __float2bfloat16_rn(x); }

// VECTOR elements of type T as they lie in memory.
template <typename T, int VECTOR> struct Chunk {
  typedef typename Word<VECTOR * sizeof(T)>::type Raw;
  Raw raw;

  // Zeros unless wanted.
  template <bool STREAM> __device__ __forceinline__ void load(bool wanted, const T* from) {
    raw = Raw();
    load_if(wanted, STREAM, reinterpret_cast<const Raw*>(from), raw);
  }
  template <bool STREAM> __device__ __forceinline__ void store(T* to) const {
    Raw* place = reinterpret_cast<Raw*>(to);
    if (STREAM) __stcs(place, raw);
    else *place = raw;
  }
  __device__ __forceinline__ void widen(float (&to)[VECTOR]) const {
    T held[VECTOR];
    memcpy(held, &raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) to[i] = widened(held[i]);
  }
  __device__ __forceinline__ void fill(const float (&from)[VECTOR]) {
    T held[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) narrow(from[i], held[i]);
    memcpy(&raw, held, sizeof(raw));
  }
};

// The sum of each of N values over the lanes of a row, in lanes that ask for it: lane v holds
// value v. Every thread of the block calls it. LANES is a power of two up to 32, or a multiple
// of 32.
template <int N, int LANES, int HEIGHT>
__device__ __forceinline__ void sum_over_lanes(float (&values)[N], float* shared) {
  constexpr int WARPS = LANES > 32 ? LANES / 32 : 1;
#pragma unroll
  for (int v = 0; v < N; ++v)
#pragma unroll
    for (int distance = (LANES > 32 ? 32 : LANES) / 2; distance > 0; distance /= 2)
      values[v] += __shfl_xor_sync(0xffffffffu, values[v], distance);
  if (WARPS == 1) return;
  float* own = shared + threadIdx.y * (WARPS * N);
  if (threadIdx.x % 32 == 0) {
#pragma unroll
    for (int v = 0; v < N; ++v) own[threadIdx.x / 32 * N + v] = values[v];
  }
  __syncthreads();
#pragma unroll
  for (int v = 0; v < N; ++v) {
    float total = 0.0f;
    for (int warp = 0; warp < WARPS; ++warp) total += own[warp * N + v];
    values[v] = total;
  }
}

}  // namespace effcompile_rows
