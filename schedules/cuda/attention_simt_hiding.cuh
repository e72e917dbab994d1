// What hides keys from queries, and what becomes of a score before its exponential.
//
// Config: OFFSET, LEFT and RIGHT of the window; HAS_MASK with the steps MASK_BATCH, MASK_HEAD,
// MASK_QUERY and MASK_KEY of a mask of booleans or of numbers that are added; BLOCKED where the mask
// is an index of blocks of 64 x 64 (schedules/mask_tiles.py), whose patterns hold two words for
// each row; HAS_LENGTHS and AT_END of valid keys; CAPPED.

namespace effcompile_attention_simt {

__device__ __forceinline__ float lowest() { return __int_as_float(0xff800000); }

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(half x) { return __half2float(x); }
__device__ __forceinline__ float widened(nv_bfloat16 x) { return __bfloat162float(x); }

// What a mask's element adds to a score in base 2. Finite numbers stay finite: a row of nothing but
// the lowest keeps its weights.
__device__ __forceinline__ float added(bool attended) { return attended ? 0.0f : lowest(); }
template <class T> __device__ __forceinline__ float added(T x) {
  const float number = widened(x);
  return number == lowest() ? number : fmaxf(number, -1e36f) * 1.4426950408889634f;
}

template <class C>
struct Hiding {
  const typename C::mask_type* mask;
  const int* patterns;
  int keys;    // that are valid
  int offset;  // of the first query

  __device__ __forceinline__ Hiding(const typename C::mask_type* whole, const int* patterns,
                                    const typename C::length_type* lengths, int head)
      : mask(whole), patterns(patterns), keys(C::KEYS), offset(C::OFFSET) {
    const int batch = head / C::HEADS;
    if constexpr (C::HAS_MASK || C::BLOCKED)
      mask += (long long)batch * C::MASK_BATCH + (long long)(head % C::HEADS) * C::MASK_HEAD;
    if constexpr (C::HAS_LENGTHS) {
      const int length = (int)lengths[batch];
      keys = max(0, min(C::KEYS, length));
      if constexpr (C::AT_END) offset = length - C::QUERIES;
    }
  }

  // The score of a product in base 2, the lowest number if the key is hidden.
  __device__ __forceinline__ float score(float product, int query, int key) const {
    const int position = query + offset;
    const bool attended = key < keys && (C::LEFT < 0 || key >= position - C::LEFT) &&
                          (C::RIGHT < 0 || key <= position + C::RIGHT);
    float value = product * C::SCALE_LOG2;
    if constexpr (C::CAPPED)  // the hyperbolic tangent, of which a fast one would be too rough
      value = C::SCALE_LOG2 - 2.0f * C::SCALE_LOG2 / (1.0f + exp2f(product * C::CAP_EXPONENT));
    if constexpr (C::HAS_MASK || C::BLOCKED) {
      const int row = min(query, C::QUERIES - 1);
      return attended ? value + hidden(row, key) : lowest();
    }
    return attended ? value : lowest();
  }

  __device__ __forceinline__ float hidden(int row, int key) const {
    if constexpr (C::BLOCKED) {
      const int block = mask[row / 64 * C::MASK_QUERY + key / 64 * C::MASK_KEY];
      const int word = patterns[block * 128 + row % 64 * 2 + key % 64 / 32];
      return added((word >> (key % 32) & 1) != 0);
    } else {
      return added(mask[(long long)row * C::MASK_QUERY + (long long)key * C::MASK_KEY]);
    }
  }
};

}  // namespace effcompile_attention_simt
