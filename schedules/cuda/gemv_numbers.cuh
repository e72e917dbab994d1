// Numbers of packed products: from bits to floats and back, whole numbers that look like floats.
// Before it: elem (the type of scales, bias, residual and y), x_elem (of x), and K.

// A float of this size and the same bits plus an integer below 2^22 differ by that integer.
constexpr int MAGIC = 0x4b400000;
constexpr float MAGIC_FLOAT = 12582912.0f;

template <class T>
__device__ __forceinline__ float number_of(unsigned bits);
template <>
__device__ __forceinline__ float number_of<float>(unsigned bits) { return __uint_as_float(bits); }
template <>
__device__ __forceinline__ float number_of<half>(unsigned bits) {
  return __half2float(__ushort_as_half((unsigned short)bits));
}
template <>
__device__ __forceinline__ float number_of<nv_bfloat16>(unsigned bits) { return __uint_as_float(bits << 16); }
template <>
__device__ __forceinline__ float number_of<signed char>(unsigned bits) { return (float)(signed char)bits; }
__device__ __forceinline__ void narrow(float& to, float v) { to = v; }
__device__ __forceinline__ void narrow(half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void narrow(nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }
// A byte as a float, without the slow conversion.
__device__ __forceinline__ float float_of_byte(unsigned byte) {
  return __uint_as_float(0x4b000000u | byte) - 8388608.0f;
}

// Two neighbouring elements as they lie in memory.
template <int BYTES>
struct PairOf { typedef unsigned type; };
template <>
struct PairOf<4> { typedef float2 type; };
typedef PairOf<sizeof(elem)>::type Pair;
__device__ __forceinline__ float first_of(float2 pair) { return pair.x; }
__device__ __forceinline__ float second_of(float2 pair) { return pair.y; }
__device__ __forceinline__ float first_of(unsigned pair) { return number_of<elem>(pair & 0xffffu); }
__device__ __forceinline__ float second_of(unsigned pair) { return number_of<elem>(pair >> 16); }

// What the kernel in front may have written, as a float.
template <class T>
__device__ __forceinline__ float load_number(const T* address) {
  return number_of<T>(load_bits<sizeof(T)>(address));
}

constexpr int X_BYTES = sizeof(x_elem);
constexpr int RAW_WORDS = 2 * X_BYTES;  // of eight elements

// A part of x that a block, or a warp, brings to shared memory.
struct Rows {
  const x_elem* x;
  int row, k, end;  // the first row; the depth from k up to `end`
  int at;           // where k lies in what the block holds
};

// Eight elements from k on, zero from `limit` on.
__device__ __forceinline__ void read_x(unsigned (&raw)[RAW_WORDS], const x_elem* row, int k, int limit) {
#pragma unroll
  for (int i = 0; i < RAW_WORDS; ++i) raw[i] = 0;
  if constexpr (K % 8 == 0) {
    if (k < limit) load_words(raw, row + k);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (k + i < limit) raw[i * X_BYTES / 4] |= load_bits<X_BYTES>(row + k + i) << (i * X_BYTES % 4 * 8);
  }
}
