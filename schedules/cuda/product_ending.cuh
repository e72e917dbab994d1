// What is left to do once the sums of a product are known: reading the ending's arguments, storing
// neighbours of one row, adding the parts of a sum that several blocks computed.
#include <cuda_fp16.h>
#include <cuda_bf16.h>

namespace effcompile_ending {

template <class T> __device__ __forceinline__ T narrowed(float x);
template <> __device__ __forceinline__ float narrowed<float>(float x) { return x; }
template <> __device__ __forceinline__ half narrowed<half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ nv_bfloat16 narrowed<nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(half x) { return __half2float(x); }
__device__ __forceinline__ float widened(nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widened(bool x) { return x; }

// BYTES as pieces of 16, or of 8 if those do not make them up.
template <int BYTES, bool = BYTES % 16 == 0> struct Piece { typedef uint4 type; };
template <int BYTES> struct Piece<BYTES, false> { typedef uint2 type; };

// WIDTH neighbours; ALIGNED if they are whole pieces.
template <int WIDTH, bool ALIGNED, class T>
__device__ __forceinline__ void read(float (&to)[WIDTH], const T* from) {
  if constexpr (ALIGNED) {
    typedef typename Piece<WIDTH * sizeof(T)>::type Whole;
    struct alignas(16) { T values[WIDTH]; } held;
    constexpr int PIECES = WIDTH * sizeof(T) / sizeof(Whole);
#pragma unroll
    for (int i = 0; i < PIECES; ++i) ((Whole*)&held)[i] = __ldg((const Whole*)from + i);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) to[i] = widened(held.values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) to[i] = widened(from[i]);
  }
}

// By one instruction: the compiler makes several of an assignment where it does not see how the
// addresses of the words follow from each other.
__device__ __forceinline__ void store(uint4* to, uint4 x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x.x), "r"(x.y), "r"(x.z),
               "r"(x.w)
               : "memory");
}
__device__ __forceinline__ void store(uint2* to, uint2 x) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(x.x), "r"(x.y) : "memory");
}

template <int WIDTH, bool ALIGNED, class T>
__device__ __forceinline__ void write(T* to, const float (&from)[WIDTH]) {
  if constexpr (ALIGNED) {
    typedef typename Piece<WIDTH * sizeof(T)>::type Whole;
    constexpr int PIECES = WIDTH * sizeof(T) / sizeof(Whole);
    union alignas(16) Held {
      Whole pieces[PIECES];
      T values[WIDTH];
      __device__ Held() {}
    };
    Held held;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) held.values[i] = narrowed<T>(from[i]);
#pragma unroll
    for (int i = 0; i < PIECES; ++i) store((Whole*)to + i, held.pieces[i]);
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) to[i] = narrowed<T>(from[i]);
  }
}

// Adds the partial sums of a split product and finishes them; one thread per WIDTH elements.
template <class Ending, int SPLITS, int BATCH, int M, int N, int WIDTH>
__device__ __forceinline__ void add_partials(const float* partials,
                                             const typename Ending::Arguments& arguments) {
  constexpr long long PRODUCT = (long long)BATCH * M * N;
  long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
  if (first >= PRODUCT) return;
  float sum[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) sum[i] = 0.0f;
#pragma unroll
  for (int split = 0; split < SPLITS; ++split) {
    float part[WIDTH];
    read<WIDTH, WIDTH % 4 == 0>(part, partials + split * PRODUCT + first);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum[i] += part[i];
  }
  int n = first % N, m = first / N % M, batch = first / ((long long)N * M);
  Ending::template finish<WIDTH>(arguments, sum, batch, m, n);
}

}  // namespace effcompile_ending
