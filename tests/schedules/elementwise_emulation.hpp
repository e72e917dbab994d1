// Before the text of a kernel: what CUDA provides, one thread after the other. Threads have nothing
// of each other: shared memory is what a thread itself has written.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
struct uint4 { unsigned x, y, z, w; };
struct uint2 { unsigned x, y; };
struct Dim { int x, y, z; };
typedef _Float16 half;
struct nv_bfloat16 { uint16_t bits; };
Dim threadIdx, blockIdx;
inline float __half2float(half h) { return (float)h; }
inline half __float2half_rn(float f) { return (half)f; }
inline float __bfloat162float(nv_bfloat16 b) {
  unsigned u = (unsigned)b.bits << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline nv_bfloat16 __float2bfloat16_rn(float f) {
  unsigned u;
  memcpy(&u, &f, 4);
  u += 0x7fff + ((u >> 16) & 1);
  return {(uint16_t)(u >> 16)};
}
inline float __shfl_xor_sync(unsigned, float v, int) { return v; }
inline void __syncthreads() {}
inline void __syncwarp() {}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
using std::max;
using std::min;

// Faults: 1 for a read or write outside of every buffer, 2 for one that is not aligned.
int fault;
const unsigned char* starts[16];
const unsigned char* ends[16];
int n_buffers;
template <class T> void check(const T* place) {
  const unsigned char* first = (const unsigned char*)place;
  bool inside = false;
  for (int i = 0; i < n_buffers; ++i)
    inside = inside || (first >= starts[i] && first + sizeof(T) <= ends[i]);
  if (!inside) fault = 1;
  if ((uintptr_t)place % sizeof(T)) fault = 2;
}
template <class T> void __stcs(T* place, T value) {
  check(place);
  *place = value;
}
template <class T> void load_if(bool wanted, bool, const T* from, T& to) {
  if (!wanted) return;
  check(from);
  if (!fault) to = *from;
}

// Runs `kernel(pointers)` in all threads of all blocks.
template <class Kernel>
int launch(int grid, Dim block, void** pointers, const long long* sizes, int n, Kernel kernel) {
  fault = 0;
  n_buffers = n;
  for (int i = 0; i < n; ++i) {
    starts[i] = (const unsigned char*)pointers[i];
    ends[i] = starts[i] + sizes[i];
  }
  for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
    for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
      for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) kernel();
  return fault;
}
