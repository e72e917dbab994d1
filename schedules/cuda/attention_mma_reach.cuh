// Which keys the rows of attention_mma.cuh may attend by their positions: valid lengths, windows,
// packed sequences. Needs attention_mma_scores.cuh.

namespace effcompile_attention_mma {

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

}  // namespace effcompile_attention_mma
