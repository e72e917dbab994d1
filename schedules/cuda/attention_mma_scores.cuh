// What attention_mma.cuh keeps of a block, which keys its rows may attend, and what becomes of the
// scores in registers: masks, caps, windows, exponentials.

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

// A mask in blocks of 64 rows and keys: the index of its blocks names their patterns, of two words
// for each row; see schedules/mask_tiles.py.
constexpr int GRAIN = 64, EMPTY = 0, WHOLE = 1;

template <class C>
struct Sums {
  float values[C::ROW_TILES][2 * Arena<C>::COLUMNS][4];
  float largest[C::ROW_TILES][2];
  float total[C::ROW_TILES][2];
};

template <class C>
using Scores = float[C::ROW_TILES][C::KEY_TILE / 8][4];

__device__ __forceinline__ float lowest() { return __int_as_float(0xff800000); }

// Which keys the rows of a block may attend.
struct Reach {
  int length, offset, first_tile, n_tiles;
};

// Tokens [first, end) of the packed sequence of a token.
struct Sequence {
  int first, end;
};

template <class C>
__device__ __forceinline__ Sequence sequence_of(const int* starts, int token) {
  Sequence own = {0, C::KEYS};
  for (int i = 0; i < C::STARTS; ++i) {
    const int start = starts[i];
    if (start <= token)
      own.first = max(own.first, start);
    else
      own.end = min(own.end, start);
  }
  return own;
}

template <class C>
__device__ __forceinline__ Reach reach_of(int row, int batch, const int* starts,
                                          const typename C::length_type* lengths) {
  Reach reach;
  reach.length = C::KEYS;
  if constexpr (C::HAS_LENGTHS) reach.length = min(C::KEYS, max(0, (int)lengths[batch]));
  reach.offset = C::AT_END ? reach.length - C::QUERIES : C::OFFSET;
  const int last = min(row + Arena<C>::BLOCK_ROWS, C::QUERIES) - 1;
  int end = reach.length, first = 0;
  if (C::RIGHT >= 0) end = min(end, last + reach.offset + C::RIGHT + 1);
  if (C::LEFT >= 0) first = max(first, row + reach.offset - C::LEFT);
  if constexpr (C::STARTS > 0) {
    end = min(end, sequence_of<C>(starts, last).end);
    first = max(first, sequence_of<C>(starts, row).first);
  }
  reach.first_tile = first / C::KEY_TILE;
  reach.n_tiles = max(0, (end + C::KEY_TILE - 1) / C::KEY_TILE - reach.first_tile);
  if (end <= 0) reach.n_tiles = 0;
  return reach;
}

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

// The packed sequences of a warp's rows; nothing where there is one sequence.
template <class C, bool = (C::STARTS > 0)>
struct Sequences {
  __device__ __forceinline__ Sequences(const int*, int, int) {}
  __device__ __forceinline__ bool reaches(int) const { return true; }
  __device__ __forceinline__ bool cuts(int) const { return false; }
  __device__ __forceinline__ void narrow(int, int, int&, int&) const {}
};

template <class C>
struct Sequences<C, true> {
  Sequence own[C::ROW_TILES][2], first, last;

  // Rows of the warp begin at `row`, those of the lane at `lane_row`.
  __device__ __forceinline__ Sequences(const int* starts, int row, int lane_row) {
    first = sequence_of<C>(starts, row);
    last = sequence_of<C>(starts, min(row + Arena<C>::WARP_ROWS, C::QUERIES) - 1);
#pragma unroll
    for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
      for (int h = 0; h < 2; ++h) own[r][h] = sequence_of<C>(starts, lane_row + 16 * r + 8 * h);
  }
  __device__ __forceinline__ bool reaches(int key) const {
    return key < last.end && key + C::KEY_TILE > first.first;
  }
  __device__ __forceinline__ bool cuts(int key) const {
    return key < last.first || key + C::KEY_TILE > first.end;
  }
  __device__ __forceinline__ void narrow(int r, int h, int& least, int& most) const {
    least = max(least, own[r][h].first);
    most = min(most, own[r][h].end - 1);
  }
};

// Whether some row of the warp may attend some key of a tile.
template <class C>
__device__ __forceinline__ bool is_reached(int row, int key, const Reach& reach,
                                           const Sequences<C>& sequences) {
  bool reached = sequences.reaches(key);
  if (C::RIGHT >= 0) reached &= key <= row + Arena<C>::WARP_ROWS - 1 + reach.offset + C::RIGHT;
  if (C::LEFT >= 0) reached &= key + C::KEY_TILE - 1 >= row + reach.offset - C::LEFT;
  return reached;
}

// Likewise, whether some row may not attend some key.
template <class C>
__device__ __forceinline__ bool is_cut(int row, int key, const Reach& reach,
                                       const Sequences<C>& sequences) {
  bool cut = sequences.cuts(key);
  if (C::HAS_LENGTHS || C::KEYS % C::KEY_TILE) cut |= key + C::KEY_TILE > reach.length;
  if (C::RIGHT >= 0) cut |= key + C::KEY_TILE - 1 > row + reach.offset + C::RIGHT;
  if (C::LEFT >= 0) cut |= key < row + Arena<C>::WARP_ROWS - 1 + reach.offset - C::LEFT;
  return cut;
}

// `row` and `column` are this lane's first ones.
template <class C>
__device__ __forceinline__ void cut_scores(Scores<C>& scores, int row, int column,
                                           const Reach& reach, const Sequences<C>& sequences) {
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int position = row + 16 * r + 8 * h + reach.offset;
      int most = reach.length - 1, least = 0;
      if (C::RIGHT >= 0) most = min(most, position + C::RIGHT);
      if (C::LEFT >= 0) least = max(least, position - C::LEFT);
      sequences.narrow(r, h, least, most);
#pragma unroll
      for (int n = 0; n < C::KEY_TILE / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int key = column + 8 * n + e;
          const bool is_before = (C::LEFT >= 0 || C::STARTS > 0) && key < least;
          if (key > most || is_before) scores[r][n][2 * h + e] = lowest();
        }
    }
}

// Key tiles of which a mask in blocks leaves something to the rows of a block, in order, behind
// their number. By the first warp.
template <class C>
__device__ __forceinline__ void list_tiles(int* list, const int* index, int row, u32 lane) {
  constexpr int TILES = (C::KEYS + C::KEY_TILE - 1) / C::KEY_TILE;
  constexpr int BLOCKS = (C::KEYS + GRAIN - 1) / GRAIN;
  const int first = row / GRAIN, last = (min(row + Arena<C>::BLOCK_ROWS, C::QUERIES) - 1) / GRAIN;
  int n = 0;
  for (int tile = lane; tile - (int)lane < TILES; tile += 32) {
    int some = 0;
    const int key = tile * C::KEY_TILE;
    // Lanes behind the last tile may still be in its block.
    const int end = tile < TILES ? min(BLOCKS * GRAIN, key + C::KEY_TILE) : 0;
    for (int block = key / GRAIN; block * GRAIN < end; ++block)
      for (int line = first; line <= (C::MASK_QUERY ? last : first); ++line)
        some |= index[line * C::MASK_QUERY + block * C::MASK_KEY];
    const u32 found = __ballot_sync(0xffffffffu, some != EMPTY);
    if (some != EMPTY) list[1 + n + __popc(found & ((1u << lane) - 1))] = tile;
    n += __popc(found);
  }
  if (lane == 0) list[0] = n;
}

// The blocks of a warp's rows in a key tile; nothing where the mask has none.
template <class C, bool = C::BLOCKED>
struct Blocks {
  __device__ __forceinline__ Blocks(const typename C::mask_type*, int, int) {}
  __device__ __forceinline__ bool some() const { return true; }
  __device__ __forceinline__ void cut(Scores<C>&, const int*, int, int) const {}
};

template <class C>
struct Blocks<C, true> {
  static constexpr int N = (C::KEY_TILE + GRAIN - 1) / GRAIN;
  static constexpr int SIDE = C::KEY_TILE < GRAIN ? C::KEY_TILE : GRAIN;
  int kinds[N];

  __device__ __forceinline__ Blocks(const int* index, int row, int key) {
    const int line = min(row, C::QUERIES - 1) / GRAIN * C::MASK_QUERY;
#pragma unroll
    for (int i = 0; i < N; ++i)
      kinds[i] = key + i * GRAIN < C::KEYS ? index[line + (key / GRAIN + i) * C::MASK_KEY] : EMPTY;
  }
  __device__ __forceinline__ bool some() const {
    int all = EMPTY;
#pragma unroll
    for (int i = 0; i < N; ++i) all |= kinds[i];
    return all != EMPTY;
  }
  // `row` is this lane's first one, `key` its first one of the tile.
  __device__ __forceinline__ void cut(Scores<C>& scores, const int* patterns, int row,
                                      int key) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (kinds[i] == WHOLE) continue;
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int line = kinds[i] * GRAIN + (row + 16 * r + 8 * h) % GRAIN;
          const uint2 words = ((const uint2*)patterns)[line];
          const unsigned long long bits =
              ((unsigned long long)words.y << 32 | words.x) >> key % GRAIN;
#pragma unroll
          for (int n = 0; n < SIDE / 8; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
              if (!(bits >> (8 * n + e) & 1))
                scores[r][i * GRAIN / 8 + n][2 * h + e] = lowest();
        }
    }
  }
};

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
