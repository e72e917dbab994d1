// Softmax over rows in integers alone. What is fixed for one program stands before this text:
//
//   score_t, result_t      element types of scores and of the first output
//   N, ROWS                length and number of rows
//   VECTOR, LANES, HEIGHT  elements moved at once, threads of a row, rows of a block
//   CHUNKS, KEPT           vectors of a row per thread; whether they stay in registers
//   POWER_OF_TWO, SCORE_BITS, OCTAVE, SHIFT, OFFSET, BARRETT, GUARD_BITS, CLIPS_TO_ZERO
//   LIMIT, PER_NAT         largest distance in nats; codes per nat, float32
//   LOOKUP, TABLE          whether exponentials come from a table; they, or those of fractions
//   ROW_TABLE              whether the shares of every code are computed once per row
//   NARROW                 whether shifted exponentials and sums fit 32 bits
//   OUTPUT, OUTPUT_BITS, LARGEST_SUM
//
// Every step is exact, so no order of sums and no schedule changes a bit of the result.

using namespace effcompile_rows;

constexpr int LARGEST_CODE = (1 << SCORE_BITS) - 1;
constexpr unsigned LARGEST_SHARE = (1u << OUTPUT_BITS) - 1;
constexpr int WARPS = LANES > 32 ? LANES / 32 : 1;

typedef unsigned long long u64;

template <bool WIDE> struct Unsigned { typedef unsigned type; };
template <> struct Unsigned<true> { typedef u64 type; };
typedef Unsigned<!NARROW>::type word_t;

// Scores as they are compared: float32 nats, or integer codes.
__device__ __forceinline__ float comparable(float x) { return x; }
__device__ __forceinline__ float comparable(half x) { return __half2float(x); }
__device__ __forceinline__ float comparable(nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ int comparable(signed char x) { return x; }
__device__ __forceinline__ int comparable(int x) { return x; }
__device__ __forceinline__ void lowest(float& x) { x = __int_as_float(0xff800000); }
__device__ __forceinline__ void lowest(int& x) { x = -2147483647 - 1; }
__device__ __forceinline__ bool is_masked(float x) { return __float_as_int(x) == 0xff800000; }
__device__ __forceinline__ bool is_masked(int) { return false; }

// Adding 1.5 * 2^23 rounds to the nearest integer, halves to even, and leaves it in the low bits.
__device__ __forceinline__ int distance(float largest, float x) {
  float near = fminf(__fsub_rn(largest, x), LIMIT);
  return __float_as_int(__fadd_rn(__fmul_rn(near, PER_NAT), 12582912.0f)) & LARGEST_CODE;
}
__device__ __forceinline__ int distance(int largest, int x) {
  return (int)min((unsigned)largest - (unsigned)x, (unsigned)LARGEST_CODE);
}

__device__ __forceinline__ unsigned exponential(int u, const int* table) {
  if constexpr (LOOKUP) return table[u];
  int raised, q;
  if constexpr (POWER_OF_TWO) {
    q = u / OCTAVE;
    raised = table[u % OCTAVE];
  } else {
    q = (unsigned)(u * BARRETT) >> (2 * SCORE_BITS);
    int root = SHIFT - (u - q * OCTAVE);
    raised = root * root + OFFSET;
  }
  unsigned value = (unsigned)(raised << GUARD_BITS) >> q;
  return CLIPS_TO_ZERO && u == LARGEST_CODE ? 0u : value;
}

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ int larger(int a, int b) { return max(a, b); }

struct Larger {
  template <typename V> __device__ __forceinline__ static V of(V a, V b) { return larger(a, b); }
};
struct Sum {
  template <typename V> __device__ __forceinline__ static V of(V a, V b) { return a + b; }
};

// One value per thread, combined over the lanes of a row. Every thread of the block calls it.
template <typename Combine, typename V>
__device__ __forceinline__ V over_lanes(V value, V* shared) {
#pragma unroll
  for (int apart = (LANES > 32 ? 32 : LANES) / 2; apart > 0; apart /= 2)
    value = Combine::of(value, __shfl_xor_sync(0xffffffffu, value, apart));
  if (WARPS == 1) return value;
  V* own = shared + threadIdx.y * WARPS;
  if (threadIdx.x % 32 == 0) own[threadIdx.x / 32] = value;
  __syncthreads();
  value = own[0];
#pragma unroll
  for (int warp = 1; warp < WARPS; ++warp) value = Combine::of(value, own[warp]);
  return value;
}

// Floor of (raised << OUTPUT_BITS) / total, by the floor of the largest word over total: the
// product is at most one too small.
__device__ __forceinline__ unsigned share(unsigned raised, word_t total, word_t inverse) {
  word_t parts = (word_t)raised << OUTPUT_BITS, quotient;
  if constexpr (NARROW) quotient = __umulhi(parts, inverse);
  else quotient = __umul64hi(parts, inverse);
  quotient += parts - quotient * total >= total;
  return quotient < LARGEST_SHARE ? (unsigned)quotient : LARGEST_SHARE;
}

__device__ __forceinline__ void put(unsigned parts, unsigned char& y) { y = parts; }
__device__ __forceinline__ void put(unsigned parts, unsigned short& y) { y = parts; }
template <typename R> __device__ __forceinline__ void put(unsigned parts, R& y) {
  narrow((float)parts * (1.0f / (1u << OUTPUT_BITS)), y);
}

__device__ __forceinline__ void integer_softmax(const score_t* __restrict__ x,
                                                result_t* __restrict__ y, long long* sums) {
  typedef decltype(comparable(score_t())) compared_t;
  __shared__ compared_t maxima[HEIGHT * WARPS];
  __shared__ u64 partial_sums[HEIGHT * WARPS];
  __shared__ int table[TABLE_LENGTH];
  __shared__ result_t row_table[ROW_TABLE ? HEIGHT * (LARGEST_CODE + 1) : 1];
  constexpr bool HAS_TABLE = LOOKUP || POWER_OF_TWO;
  if constexpr (HAS_TABLE) {
    for (int i = threadIdx.y * LANES + threadIdx.x; i < TABLE_LENGTH; i += LANES * HEIGHT)
      table[i] = TABLE[i];
    __syncthreads();
  }
  const long long row = (long long)blockIdx.x * HEIGHT + threadIdx.y;
  const bool exists = row < ROWS;
  const score_t* from = x + row * N;
  Chunk<score_t, VECTOR> kept[KEPT ? CHUNKS : 1];

  // Calls step(first column, scores) for every vector of this thread.
  auto each = [&](auto step) {
#pragma unroll(KEPT ? CHUNKS : 4)
    for (int c = 0; c < CHUNKS; ++c) {
      const int column = (c * LANES + threadIdx.x) * VECTOR;
      Chunk<score_t, VECTOR>& chunk = kept[KEPT ? c : 0];
      const bool inside = exists && column < N;
      if (!KEPT) chunk.template load<false>(inside, from + column);
      if (!inside) continue;
      score_t scores[VECTOR];
      memcpy(scores, &chunk.raw, sizeof(chunk.raw));
      step(column, scores);
    }
  };
  if (KEPT) {
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const int column = (c * LANES + threadIdx.x) * VECTOR;
      kept[KEPT ? c : 0].template load<false>(exists && column < N, from + column);
    }
  }

  compared_t largest;
  lowest(largest);
  each([&](int, const score_t (&scores)[VECTOR]) {
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) largest = larger(largest, comparable(scores[i]));
  });
  largest = over_lanes<Larger>(largest, maxima);

  auto raised_of = [&](score_t score) {
    const compared_t value = comparable(score);
    return is_masked(value) ? 0u : exponential(distance(largest, value), table);
  };
  u64 exact = 0;
  each([&](int, const score_t (&scores)[VECTOR]) {
    word_t some = 0;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) some += raised_of(scores[i]);
    exact += some;
  });
  exact = over_lanes<Sum>(exact, partial_sums);
  const u64 saturated = exact < LARGEST_SUM ? exact : LARGEST_SUM;
  if constexpr (OUTPUT == DEFERRED) {
    if (exists && threadIdx.x == 0) sums[row] = (long long)saturated;
  }

  const word_t total = saturated > 0 ? (word_t)saturated : 1;
  const word_t inverse = ~(word_t)0 / total;
  result_t* own = row_table + (ROW_TABLE ? threadIdx.y * (LARGEST_CODE + 1) : 0);
  if constexpr (ROW_TABLE) {
    for (int u = threadIdx.x; u <= LARGEST_CODE; u += LANES)
      put(share(exponential(u, table), total, inverse), own[u]);
    __syncthreads();
  }
  each([&](int column, const score_t (&scores)[VECTOR]) {
    result_t results[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
      if constexpr (OUTPUT == DEFERRED) {
        results[i] = raised_of(scores[i]);
      } else if constexpr (ROW_TABLE) {
        const compared_t value = comparable(scores[i]);
        results[i] = is_masked(value) ? result_t() : own[distance(largest, value)];
      } else {
        put(share(raised_of(scores[i]), total, inverse), results[i]);
      }
    }
    Chunk<result_t, VECTOR> written;
    memcpy(&written.raw, results, sizeof(written.raw));
    written.template store<false>(y + row * N + column);
  });
}
