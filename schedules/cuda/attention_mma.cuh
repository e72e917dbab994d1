// Attention of 16-bit floats by products of warps (compute capability 8.0 and later): a warp has
// query rows of its own and goes over the keys from the last to the first; the block's keys and
// values are copied into a ring of stages while earlier ones are multiplied.
//
//   wait K[j] | copy V[j + STAGES - 1] | scores = Q K[j] | wait V[j] | copy K[j + STAGES] | softmax
//   | sums += P V[j]
//
// Scores and sums stay in registers: the scores' fragment is also that of the left operand of the
// second product. Sums of scores begin with the mask, where there is one, so it costs no registers
// and no wait behind the product.
//
// Config: numbers of attention_mma_cuda.py; types element, mask_type and length_type. Needs
// attention_mma_scores.cuh, attention_mma_reach.cuh and attention_mma_blocks.cuh.

namespace effcompile_attention_mma {

// N lines from `first` of a matrix of `extent` lines; zeros for those that are not there, unless it
// is WHOLE.
template <class L, int THREADS, int N, int WIDTH, bool WHOLE, class T>
__device__ __forceinline__ void copy_lines(u32 to, const T* origin, int first, int extent) {
  using Own = warp_tiles::Share<THREADS, L::PIECES>;
  constexpr int COPIES = N * L::PIECES;
  const T* from = origin + (long long)first * WIDTH;
#pragma unroll
  for (int turn = 0; turn < (COPIES + THREADS - 1) / THREADS; ++turn) {
    if (COPIES % THREADS && turn * THREADS + threadIdx.x >= COPIES) break;
    const int line = Own::line(turn), piece = Own::along(turn);
    const bool is_there = (WHOLE || first + line < extent) &&
                          (L::PIECES * 8 == WIDTH || 8 * piece < WIDTH);
    const T* source = from + Own::template place<WIDTH, 8>(turn);
    copy_bytes<16>(to + L::at(line, piece), is_there ? source : origin, is_there ? 16 : 0);
  }
}

// 16 terms of the warp's queries; `place` is the lane's in the tile that begins at `tile`.
template <class C>
__device__ __forceinline__ void load_queries(u32 (&held)[C::ROW_TILES][4], u32 tile, u32 place,
                                             int step) {
  using Keys = typename Arena<C>::Keys;
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
    load_matrices(held[r], tile + Keys::moved(place, step) + 16 * r * Keys::PITCH);
}

template <class C>
__device__ __forceinline__ void add_products(
    Scores<C>& scores, const u32 (&queries)[C::KEPT ? Arena<C>::DEPTH : 1][C::ROW_TILES][4],
    u32 query_tile, u32 query_place, u32 keys, u32 place) {
  using A = Arena<C>;
  using Keys = typename A::Keys;
  const typename C::element* type = nullptr;
#pragma unroll
  for (int step = 0; step < A::DEPTH; ++step) {
    u32 query[C::ROW_TILES][4];
    if constexpr (C::KEPT)
      memcpy(query, queries[step], sizeof(query));
    else
      load_queries<C>(query, query_tile, query_place, step);
#pragma unroll
    for (int n = 0; n < C::KEY_TILE / 16; ++n) {
      u32 key[4];
      load_matrices(key, keys + Keys::moved(place, step) + 16 * n * Keys::PITCH);
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r) {
        multiply(scores[r][2 * n], query[r], key[0], key[1], type);
        multiply(scores[r][2 * n + 1], query[r], key[2], key[3], type);
      }
    }
  }
}

template <class C>
__device__ __forceinline__ void add_values(Sums<C>& sums, const Scores<C>& scores, u32 values,
                                           u32 place) {
  using Values = typename Arena<C>::Values;
  const typename C::element* type = nullptr;
#pragma unroll
  for (int step = 0; step < C::KEY_TILE / 16; ++step) {
    u32 shares[C::ROW_TILES][4];
#pragma unroll
    for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = scores[r][2 * step + i / 2];
        shares[r][i] = packed(pair[i % 2 * 2], pair[i % 2 * 2 + 1], type);
      }
#pragma unroll
    for (int n = 0; n < Arena<C>::COLUMNS; ++n) {
      u32 value[4];
      load_transposed(value, values + Values::moved(place, n) + 16 * step * Values::PITCH);
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r) {
        multiply(sums.values[r][2 * n], shares[r], value[0], value[1], type);
        multiply(sums.values[r][2 * n + 1], shares[r], value[2], value[3], type);
      }
    }
  }
}

// Four n8 of a row as one line of 64 bytes per quad, what is left as pairs.
template <class C>
__device__ __forceinline__ void store(const Sums<C>& sums, typename C::element* out, int row,
                                      u32 lane) {
  constexpr int TILES = C::VALUE_WIDTH / 8;
  typename C::element* type = nullptr;
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = sums.total[r][h];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const float share = total > 0.0f ? 1.0f / total : 0.0f;
      const int own = row + 16 * r + 8 * h;
      typename C::element* line = out + (long long)own * C::VALUE_WIDTH;
#pragma unroll
      for (int n = 0; n + 4 <= TILES; n += 4) {
        float2 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          v[i] = make_float2(sums.values[r][n + i][2 * h], sums.values[r][n + i][2 * h + 1]);
        quad::transpose(v, lane);
        u32 words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i] = packed(v[i].x * share, v[i].y * share, type);
        if (own < C::QUERIES)
          *(uint4*)(line + 8 * (n + lane % 4)) =
              make_uint4(words[0], words[1], words[2], words[3]);
      }
#pragma unroll
      for (int n = TILES / 4 * 4; n < TILES; ++n)
        if (own < C::QUERIES)
          *(u32*)(line + 8 * n + 2 * (lane % 4)) = packed(
              sums.values[r][n][2 * h] * share, sums.values[r][n][2 * h + 1] * share, type);
    }
}

template <class C>
__device__ __forceinline__ void run(const typename C::element* q, const typename C::element* k,
                                    const typename C::element* v,
                                    const typename C::mask_type* mask, const int* patterns,
                                    const int* starts, const typename C::length_type* lengths,
                                    typename C::element* out, unsigned char* raw) {
  using A = Arena<C>;
  using Keys = typename A::Keys;
  using Values = typename A::Values;
  constexpr int QUERY_TILES = (C::QUERIES + A::BLOCK_ROWS - 1) / A::BLOCK_ROWS;
  // The last queries of a causal head have most keys, so they go first: of their head, or of all.
  const int place = C::LONGEST_FIRST ? blockIdx.x / C::BATCH_HEADS : blockIdx.x % QUERY_TILES;
  const int head = C::LONGEST_FIRST ? blockIdx.x % C::BATCH_HEADS : blockIdx.x / QUERY_TILES;
  const int row = (QUERY_TILES - 1 - place) * A::BLOCK_ROWS;
  const int batch = head / C::HEADS, inside = head % C::HEADS;
  const int kv = batch * C::KV_HEADS + inside / (C::HEADS / C::KV_HEADS);
  q += (long long)head * C::QUERIES * C::WIDTH;
  k += (long long)kv * C::KEYS * C::WIDTH;
  v += (long long)kv * C::KEYS * C::VALUE_WIDTH;
  out += (long long)head * C::QUERIES * C::VALUE_WIDTH;
  if constexpr (C::HAS_MASK || C::BLOCKED)
    mask += (long long)batch * C::MASK_BATCH + (long long)inside * C::MASK_HEAD;
  const u32 lane = threadIdx.x % 32;
  Reach reach = reach_of<C>(row, batch, starts, lengths);
  const int* list = (const int*)(raw + A::LIST);
  if constexpr (C::BLOCKED) {
    if (threadIdx.x < 32) list_tiles<C>((int*)(raw + A::LIST), mask, row, lane);
    __syncthreads();
    reach.n_tiles = list[0];
  }
  const int own_row = row + (int)threadIdx.x / 32 * A::WARP_ROWS;
  const int lane_row = own_row + lane / 4, lane_column = lane % 4 * 2;

  const Sequences<C> sequences(starts, own_row, lane_row);

  const u32 arena = shared_address(raw), stages = arena + A::FIRST_STAGE;
  const u32 value_stages = stages + C::STAGES * A::KEY_BYTES;
  const u32 query_tile = arena + threadIdx.x / 32 * A::WARP_ROWS * Keys::PITCH;
  const u32 query_place = warp_tiles::lines_first<Keys>(lane);
  const u32 key_place = warp_tiles::pieces_first<Keys>(lane);
  const u32 value_place = warp_tiles::lines_first<Values>(lane);
  constexpr bool WHOLE_KEYS = !C::HAS_LENGTHS && C::KEYS % C::KEY_TILE == 0;
  auto key_of = [&](int j) {
    const int place = reach.n_tiles - 1 - j;
    return (C::BLOCKED ? list[1 + place] : reach.first_tile + place) * C::KEY_TILE;
  };
  auto fetch_keys = [&](int j) {
    if (j < reach.n_tiles)
      copy_lines<Keys, A::THREADS, C::KEY_TILE, C::WIDTH, WHOLE_KEYS>(
          stages + j % C::STAGES * A::KEY_BYTES, k, key_of(j), reach.length);
    close_copies();
  };
  auto fetch_values = [&](int j) {
    if (j < reach.n_tiles)
      copy_lines<Values, A::THREADS, C::KEY_TILE, C::VALUE_WIDTH, WHOLE_KEYS>(
          value_stages + j % C::STAGES * A::VALUE_BYTES, v, key_of(j), reach.length);
    close_copies();
  };

  u32 queries[C::KEPT ? A::DEPTH : 1][C::ROW_TILES][4];
  copy_lines<Keys, A::THREADS, A::BLOCK_ROWS, C::WIDTH, C::QUERIES % A::BLOCK_ROWS == 0>(
      arena, q, row, C::QUERIES);
  if constexpr (C::KEPT) {
    close_copies();
    wait_for_copies<0>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < A::DEPTH; ++step)
      load_queries<C>(queries[step], query_tile, query_place, step);
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < C::STAGES; ++j) {
    fetch_keys(j);
    if (j + 1 < C::STAGES) fetch_values(j);
  }

  Sums<C> sums;
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r) {
#pragma unroll
    for (int n = 0; n < 2 * A::COLUMNS; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums.values[r][n][i] = 0.0f;
    sums.largest[r][0] = sums.largest[r][1] = lowest();
    sums.total[r][0] = sums.total[r][1] = 0.0f;
  }
#pragma unroll 1
  for (int j = 0; j < reach.n_tiles; ++j) {
    const int key = key_of(j);
    const Blocks<C> blocks(mask, own_row, key);
    const bool is_own = is_reached<C>(own_row, key, reach, sequences) && blocks.some();
    Scores<C> scores;
    if (is_own) mask_scores<C, true>(scores, mask, lane_row, key + lane_column);
    wait_for_copies<2 * C::STAGES - 2>();
    __syncthreads();
    fetch_values(j + C::STAGES - 1);
    if (is_own)
      add_products<C>(scores, queries, query_tile, query_place,
                      stages + j % C::STAGES * A::KEY_BYTES, key_place);
    wait_for_copies<2 * C::STAGES - 2>();
    __syncthreads();
    fetch_keys(j + C::STAGES);
    if (is_own) {
      if constexpr (C::CAPPED) {
        cap_scores<C>(scores);
        if constexpr (C::HAS_MASK)
          mask_scores<C, false>(scores, mask, lane_row, key + lane_column);
      }
      blocks.cut(scores, patterns, lane_row, key + lane_column);
      if (is_cut<C>(own_row, key, reach, sequences))
        cut_scores<C>(scores, lane_row, key + lane_column, reach, sequences);
      raise<C>(sums, scores);
      add_values<C>(sums, scores, value_stages + j % C::STAGES * A::VALUE_BYTES, value_place);
    }
  }
  wait_for_copies<0>();
  store<C>(sums, out, lane_row, lane);
}

}  // namespace effcompile_attention_mma
