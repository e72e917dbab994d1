// Products of few rows with packed matrices: the kernels, and how the sums of their warps meet.
//
// Weights are asked for before anything else, and before the kernel in front has ended: they, the
// scales and the zero points must not be what it writes.
//
// Defined before the parts of this text:
//   BITS, UNIT_K, LOADS, GROUP_K   the storage; GROUP_K is a multiple of 32
//   N_TILES, N_UNITS, N_GROUPS, K, M
//   elem, x_elem, scale_elem       types of scales, bias, residual and y; of x; of the scales of x
//   HAS_ZEROS, HAS_BIAS, HAS_RESIDUAL, GATED, ACTIVATION, IS_INT8, IS_HALF, SCALE_PER_ROW
//   DIGITS                         columns of the right operand per row of x
//   STEP_UNITS, STEP_GROUPS, CHUNK_K   units and groups of one step, depth of a chunk
//   WARPS_K, WARPS_N, BLOCKS_N, BLOCKS_K, IN_FLIGHT, X_STRIDE (bytes), M_PASS
//   BULK, PIECE                    whether codes come by bulk copies, and steps of one copy
//   MOST_WRITTEN_OUT               as many steps of a tile are written out one by one
//   HELD_STEPS                     all steps of a tile, if what they are multiplied by stays in
//                                  registers over the tiles of a warp, else 0
//   RING, TABLE, HELD, REDUCED, MET   offsets in the arena
//   IN_CLUSTER                     whether blocks that share the depth are a cluster
//   OWN_X                          whether the warps that read the same part of x bring it to
//                                  shared memory and wait for each other, else all bring all of it
//   EARLY                          whether this kernel may start before the one in front has ended
//   struct Outputs, place_of       the outputs, and which one a tile belongs to

// Digits of one row are one number before they meet those of other warps.
constexpr bool IS_ONE_ROW = M_PASS == 1 && DIGITS == 3;
constexpr int KEPT_DIGITS = IS_ONE_ROW ? 1 : DIGITS;
// Where the sums of one column of a tile and one digit begin. Tiles of a block are counted over
// all its groups of warps.
template <class T>
__device__ __forceinline__ T* sums_of(T* reduced, int tile, int x_column, int column) {
  return reduced + ((tile * (M_PASS * KEPT_DIGITS) + x_column) * 16 + column) * SUMS_STRIDE;
}

// Partial sums of the warps along the depth meet in shared memory.
__device__ __forceinline__ void keep(float* reduced, Totals& totals, int tile, int warp_k, int lane) {
  if constexpr (IS_ONE_ROW) {
    float* to = sums_of(reduced, tile, 0, lane / 4) + warp_k;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float low = __shfl_down_sync(0xffffffffu, totals.sums[0][2 * h], 1);
      float v = (totals.sums[0][2 * h] * 256.0f + totals.sums[0][2 * h + 1]) * 256.0f + low;
      if (lane % 4 == 0) to[h * 8 * SUMS_STRIDE] = v;
      totals.sums[0][2 * h] = totals.sums[0][2 * h + 1] = 0.0f;
    }
    return;
  }
#pragma unroll
  for (int t = 0; t < X_TILES; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int column = lane / 4 + i / 2 * 8, x_column = t * 8 + lane % 4 * 2 + i % 2;
      if (x_column < X_COLUMNS) sums_of(reduced, tile, x_column, column)[warp_k] = totals.sums[t][i];
      totals.sums[t][i] = 0.0f;
    }
}

__device__ __forceinline__ float sum_of_warps(const float* sums) {
  float v = 0.0f;
  if constexpr (WARPS_K % 4 == 0) {
#pragma unroll
    for (int w = 0; w < WARPS_K; w += 4) {
      float4 four = *(const float4*)(sums + w);
      v += (four.x + four.y) + (four.z + four.w);
    }
  } else {
#pragma unroll
    for (int w = 0; w < WARPS_K; ++w) v += sums[w];
  }
  return v;
}

static_assert((unsigned long long)TILE_SHARES * N_TILES < 1ull << 32, "32 bits hold every product");
__device__ __forceinline__ int first_tile_of(int share) {
  return (int)((unsigned)share * N_TILES / TILE_SHARES);
}

__device__ __forceinline__ float sum_of_digits(const float* reduced, int tile, int row, int column) {
  float v = 0.0f;
#pragma unroll
  for (int d = 0; d < KEPT_DIGITS; ++d)
    v = v * 256.0f + sum_of_warps(sums_of(reduced, tile, row * KEPT_DIGITS + d, column));
  return v * SUM_UNIT;
}

// Blocks along the columns and the depth.
__device__ __forceinline__ int block_n() { return IN_CLUSTER ? blockIdx.x / BLOCKS_K : blockIdx.x; }
__device__ __forceinline__ int block_k() { return IN_CLUSTER ? blockIdx.x % BLOCKS_K : blockIdx.y; }

__device__ __forceinline__ int first_row() { return M_PASS < M ? blockIdx.z * M_PASS : 0; }

// Which output the i-th sum of a block is of.
constexpr int SUMS = WARPS_N * MOST_TILES * M_PASS * WIDTH;
constexpr int THREAD_SUMS = (SUMS + THREADS - 1) / THREADS;
struct Spot {
  int kept, row, inside, tile, m;
  bool exists;
  __device__ __forceinline__ Spot(unsigned i)
      : kept(i / (M_PASS * WIDTH)), row(i / WIDTH % M_PASS), inside(i % WIDTH), m(first_row() + row) {
    int share = block_n() * WARPS_N + kept / MOST_TILES;
    tile = first_tile_of(share) + kept % MOST_TILES;
    exists = (int)i < SUMS && tile < first_tile_of(share + 1) && m < M;
  }
};

// In a cluster every block finishes a part of the sums, which all of them write into its memory.
constexpr int OWN_SUMS = (SUMS + BLOCKS_K - 1) / BLOCKS_K;
__device__ __forceinline__ float* met_sum(float* met, int from, int i) {
  return met + from * (OWN_SUMS * (GATED ? 2 : 1)) + i % OWN_SUMS;
}
__device__ __forceinline__ void finish_in_cluster(float* met, const Ending& ending) {
  __syncwarp();
  cluster_arrive();
  cluster_wait();
  for (int i = threadIdx.x; i < OWN_SUMS; i += THREADS) {
    Spot spot(block_k() * OWN_SUMS + i);
    if (!spot.exists) continue;
    float v = 0.0f, other = 0.0f;
#pragma unroll
    for (int b = 0; b < BLOCKS_K; ++b) {
      v += met_sum(met, b, i)[0];
      if constexpr (GATED) other += met_sum(met, b, i)[OWN_SUMS];
    }
    finish(ending, spot.m, spot.tile, spot.inside, v, other);
  }
}

// Sums of a block's tiles, finished; or as they are, if other blocks have the rest of the depth.
__device__ __forceinline__ void store_sums(const float* reduced, const Ending& ending, float* partial, float* met) {
  if constexpr (IN_CLUSTER) cluster_wait();  // all have begun
  for (int n = 0; n < THREAD_SUMS; ++n) {
    int i = n * THREADS + threadIdx.x;
    if (i >= SUMS) break;
    Spot spot(i);
    if (!spot.exists) continue;
    float v = sum_of_digits(reduced, spot.kept, spot.row, spot.inside);
    float other = GATED ? sum_of_digits(reduced, spot.kept, spot.row, spot.inside + WIDTH) : 0.0f;
    if constexpr (BLOCKS_K == 1) {
      finish(ending, spot.m, spot.tile, spot.inside, v, other);
    } else if constexpr (IN_CLUSTER) {
      float* to = met_sum(met, block_k(), i);
      store_in_block(i / OWN_SUMS, to, v);
      if constexpr (GATED) store_in_block(i / OWN_SUMS, to + OWN_SUMS, other);
    } else {
      float* to = partial + ((long long)block_k() * M + spot.m) * (N_TILES * 16) + spot.tile * 16 + spot.inside;
      to[0] = v;
      if constexpr (GATED) to[WIDTH] = other;
    }
  }
  if constexpr (IN_CLUSTER) finish_in_cluster(met, ending);
}

// Brings a block's part of x to the second-level cache, where the kernel in front may still write it.
__device__ __forceinline__ void fetch_x_ahead(const x_elem* x, int k_begin, int k_end, int m_begin) {
  constexpr int LINE = 128 / X_BYTES;
  for (int row = 0; row < M_PASS && m_begin + row < M; ++row)
#pragma unroll 1
    for (int k = k_begin + threadIdx.x * LINE; k < min(K, k_end); k += THREADS * LINE)
      prefetch_line(x + (long long)(m_begin + row) * K + k);
}

__device__ __forceinline__ void gemv_dequant(const x_elem* x, const Weights& weights, const Ending& ending,
                                             float* partial, unsigned char* arena) {
  early::release_next_kernel();
  if constexpr (IN_CLUSTER) cluster_arrive();
  Column* table = (Column*)(arena + TABLE);
  unsigned char* held = arena + HELD;
  float* reduced = (float*)(arena + REDUCED);
  // Equal in a warp, which the compiler cannot see by itself.
  int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  int warp_k = warp % WARPS_K, warp_n = warp / WARPS_K, tile_share = block_n() * WARPS_N + warp_n;
  // Steps of this block, then of this warp: shares differ by one at most.
  int block_begin = block_k() * N_STEPS / BLOCKS_K, block_end = (block_k() + 1) * N_STEPS / BLOCKS_K;
  int n_block = block_end - block_begin, begin = warp_k * n_block / WARPS_K;
  Share share;
  share.first_tile = first_tile_of(tile_share);
  share.n_tiles = first_tile_of(tile_share + 1) - share.first_tile;
  share.first_step = block_begin + begin;
  share.n_steps = (warp_k + 1) * n_block / WARPS_K - begin;
  if constexpr (N_STEPS % (WARPS_K * BLOCKS_K) == 0) share.n_steps = N_STEPS / (WARPS_K * BLOCKS_K);
  int k_begin = block_begin * STEP_K, m_begin = first_row();

  if constexpr (EARLY) fetch_x_ahead(x, k_begin, block_end * STEP_K, m_begin);
  Source source(arena, warp);
  source.begin(weights, share, lane);
  early::wait_for_previous_kernel();
  Rows rows = {x, m_begin, k_begin, block_end * STEP_K, 0};
  if constexpr (OWN_X) rows = {x, m_begin, share.first_step * STEP_K, (share.first_step + share.n_steps) * STEP_K, begin * STEP_K};
  stage_x(held, table, rows, OWN_X ? warp_n : warp, lane);
  if constexpr (WARPS_N == 1) __syncwarp();
  else if constexpr (OWN_X) meet(1 + warp_k, 32 * WARPS_N);
  else __syncthreads();

  Totals totals = {};
  Right rights[HELD_STEPS ? HELD_STEPS : 1];
#pragma unroll
  for (int i = 0; i < HELD_STEPS; ++i)
    if (has_step(share, i)) held_right(rights[i], (begin + i) * STEP_K, held, table, lane);
  source.run(
      weights, share, lane,
      [&](const Step& step, int index) {
        if constexpr (HELD_STEPS > 0) return consume(step, rights[index], totals);
        held_right(rights[0], (begin + index) * STEP_K, held, table, lane);
        consume(step, rights[0], totals);
      },
      [&](int tile) { keep(reduced, totals, warp_n * MOST_TILES + tile, warp_k, lane); });
  __syncthreads();
  store_sums(reduced, ending, partial, (float*)(arena + MET));
}

// Adds the sums of all parts of the depth in order and finishes them.
__device__ __forceinline__ void gemv_dequant_sum(const float* partial, const Ending& ending) {
  early::release_next_kernel();
  early::wait_for_previous_kernel();
  int i = blockIdx.x * 128 + threadIdx.x, m = i / (N_TILES * WIDTH), tile = i / WIDTH % N_TILES;
  if (m >= M) return;
  const float* from = partial + (long long)m * (N_TILES * 16) + tile * 16 + i % WIDTH;
  float v = 0.0f, other = 0.0f;
#pragma unroll
  for (int b = 0; b < BLOCKS_K; ++b, from += M * N_TILES * 16) {
    v += load_partial(from);
    if constexpr (GATED) other += load_partial(from + WIDTH);
  }
  finish(ending, m, tile, i % WIDTH, v, other);
}
