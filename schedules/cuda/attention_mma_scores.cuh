// What attention_mma.cuh keeps of a block, and what becomes of the scores in registers: masks of
// numbers and booleans, caps, exponentials.

namespace effcompile_attention_mma {

using namespace ampere;
using warp_tiles::Lines;

template <class C>
struct Arena {
  static constexpr int THREADS = 32 * C::WARPS;
  static constexpr int WARP_ROWS = 16 * C::ROW_TILES;
  static constexpr int BLOCK_ROWS = C::WARPS * WARP_ROWS;
  // In steps of 16; what is behind the width is zero.
  static constexpr int DEPTH = (C::WIDTH + 15) / 16;
  static constexpr int COLUMNS = (C::VALUE_WIDTH + 15) / 16;
  using Keys = Lines<16 * DEPTH>;
  using Values = Lines<16 * COLUMNS>;
  static constexpr int KEY_BYTES = C::KEY_TILE * Keys::PITCH;
  static constexpr int VALUE_BYTES = C::KEY_TILE * Values::PITCH;
  // Queries that are kept in registers give their place to the stages.
  static constexpr int QUERY_BYTES = BLOCK_ROWS * Keys::PITCH;
  static constexpr int FIRST_STAGE = C::KEPT ? 0 : QUERY_BYTES;
  static constexpr int STAGES_END = FIRST_STAGE + C::STAGES * (KEY_BYTES + VALUE_BYTES);
  // Of the list of key tiles.
  static constexpr int LIST = STAGES_END > QUERY_BYTES ? STAGES_END : QUERY_BYTES;
};

template <class C>
struct Sums {
  float values[C::ROW_TILES][2 * Arena<C>::COLUMNS][4];
  float largest[C::ROW_TILES][2];
  float total[C::ROW_TILES][2];
};

template <class C>
using Scores = float[C::ROW_TILES][C::KEY_TILE / 8][4];

__device__ __forceinline__ float lowest() { return __int_as_float(0xff800000); }

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(half x) { return __half2float(x); }
__device__ __forceinline__ float widened(nv_bfloat16 x) { return __bfloat162float(x); }

// What a mask adds to a score: 0 or nothing for booleans, else the number in units of scores.
template <class C>
__device__ __forceinline__ float masked(bool is_attended) {
  return is_attended ? 0.0f : lowest();
}

template <class C, class T>
__device__ __forceinline__ float masked(T x) {
  const float number = widened(x);
  // The least float32 is a number to softmax, and must stay one in units of scores.
  return number == lowest() ? number : fmaxf(number * C::MASK_UNIT, -1e36f);
}

// Two neighbours, at once where they are aligned together.
template <class C, class T>
__device__ __forceinline__ void masked_pair(float& first, float& second, const T* from, bool both) {
  if constexpr (C::MASK_PAIRS) {
    struct alignas(2 * sizeof(T)) Pair {
      T x, y;
    };
    const Pair pair = *(const Pair*)from;
    first = masked<C>(pair.x);
    second = masked<C>(pair.y);
  } else {
    first = masked<C>(from[0]);
    second = both ? masked<C>(from[C::MASK_KEY]) : 0.0f;
  }
}

// Sums of scores begin with the mask; capped ones begin at 0, and the mask is added to what the cap
// has left.
template <class C, bool BEGINS>
__device__ __forceinline__ void mask_scores(Scores<C>& scores, const typename C::mask_type* mask,
                                            int row, int column) {
  constexpr bool READS = C::HAS_MASK && (!BEGINS || !C::CAPPED);
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int own = min(row + 16 * r + 8 * h, C::QUERIES - 1);
#pragma unroll
      for (int n = 0; n < C::KEY_TILE / 8; ++n) {
        float first = 0.0f, second = 0.0f;
        const int key = column + 8 * n;
        if constexpr (READS)
          if (key < C::KEYS)
            masked_pair<C>(first, second, mask + (long long)own * C::MASK_QUERY + key * C::MASK_KEY,
                           key + 1 < C::KEYS);
        scores[r][n][2 * h] = BEGINS ? first : scores[r][n][2 * h] + first;
        scores[r][n][2 * h + 1] = BEGINS ? second : scores[r][n][2 * h + 1] + second;
      }
    }
}

template <class C>
__device__ __forceinline__ void cap_scores(Scores<C>& scores) {
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
    for (int n = 0; n < C::KEY_TILE / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // The hyperbolic tangent to float32, whatever the compiler makes of tanhf.
        const float raised = exp2f(scores[r][n][i] * C::CAP_EXPONENT);
        scores[r][n][i] = 1.0f - __fdividef(2.0f, raised + 1.0f);
      }
}

// Scores become probabilities relative to the largest score so far; sums follow.
template <class C>
__device__ __forceinline__ void raise(Sums<C>& sums, Scores<C>& scores) {
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float largest = sums.largest[r][h];
#pragma unroll
      for (int n = 0; n < C::KEY_TILE / 8; ++n)
        largest = fmaxf(largest, fmaxf(scores[r][n][2 * h], scores[r][n][2 * h + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float most = largest == lowest() ? 0.0f : largest;
      // Masks may be as large as float32: only the difference from the largest score is small.
      auto raised = [&](float score) {
        return C::HAS_MASK ? exp2f((score - most) * C::SCALE_LOG2)
                           : exp2f(fmaf(score, C::SCALE_LOG2, -most * C::SCALE_LOG2));
      };
      const float kept = raised(sums.largest[r][h]);
      sums.largest[r][h] = largest;
      float total = sums.total[r][h] * kept;
#pragma unroll
      for (int n = 0; n < C::KEY_TILE / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[r][n][2 * h + e];
          score = raised(score);
          total += score;
        }
      sums.total[r][h] = total;
#pragma unroll
      for (int n = 0; n < 2 * Arena<C>::COLUMNS; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) sums.values[r][n][2 * h + e] *= kept;
    }
}

}  // namespace effcompile_attention_mma
