// Products of few rows with packed matrices: what warps work on, how weights reach them, and the
// kernels. After gemv_codes.cuh, which says how codes are multiplied.
//
// Weights are asked for before anything else, and before the kernel in front has ended: they, the
// scales and the zero points must not be what it writes.
//
// Defined before this text:
//   BITS, UNIT_K, LOADS, GROUP_K   the storage; GROUP_K is a multiple of 32
//   N_TILES, N_COLUMNS, N_UNITS, N_GROUPS, K, M
//   HAS_ZEROS, HAS_BIAS, IS_HALF, elem (the type of x, scales, bias and y)
//   STEP_UNITS, STEP_GROUPS, CHUNK_K   units and groups of one step, depth of a chunk
//   WARPS_K, WARPS_N, BLOCKS_N, BLOCKS_K, IN_FLIGHT, X_STRIDE (bytes), M_PASS
//   BULK, PIECE                    whether codes come by bulk copies, and steps of one copy
//   RING, TABLE, HELD, REDUCED     offsets in the arena

// ---- what a warp works on: some steps of some tiles, tile by tile ----

struct Share {
  int first_tile, n_tiles, first_step, n_steps;
};
struct Cursor {
  int tile, step;  // from the first of the share on
  __device__ __forceinline__ void advance(int n, const Share& share) {
    step += n;
    if (step >= share.n_steps) step = 0, ++tile;
  }
};

// The group of a step's beginning, and of its g-th part; the last step may reach beyond the depth.
__device__ __forceinline__ int group_of(int step) {
  return STEP_K >= GROUP_K ? step * (STEP_K / GROUP_K) : step / (GROUP_K / STEP_K);
}
__device__ __forceinline__ int group_of(int step, int g) {
  int group = group_of(step) + g;
  return N_STEPS * STEP_GROUPS > N_GROUPS && STEP_GROUPS > 1 && group >= N_GROUPS ? N_GROUPS - 1 : group;
}

// Where the sums of one column of a tile and one digit begin. Tiles of a block are counted over
// all its groups of warps.
__device__ __forceinline__ float* sums_of(float* reduced, int tile, int x_column, int column) {
  return reduced + ((tile * X_COLUMNS + x_column) * 16 + column) * SUMS_STRIDE;
}

// Partial sums of the warps along the depth meet in shared memory.
__device__ __forceinline__ void keep(float* reduced, Totals& totals, int tile, int warp_k, int lane) {
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

struct Weights {
  const unsigned* codes;
  const elem* scales;
  const unsigned char* zeros;
};

__device__ __forceinline__ void fetch(Step& step, const Weights& weights, int tile, int index, int lane) {
#pragma unroll
  for (int u = 0; u < STEP_UNITS; ++u) {
    int unit = index * STEP_UNITS + u;
    if (N_UNITS % STEP_UNITS != 0 && unit >= N_UNITS) unit = N_UNITS - 1;  // meets x = 0
    const uint4* from = (const uint4*)weights.codes + ((long long)tile * N_UNITS + unit) * (LOADS * 32) + lane;
#pragma unroll
    for (int l = 0; l < LOADS; ++l) step.codes[u][l] = load_codes(from + l * 32);
  }
#pragma unroll
  for (int g = 0; g < STEP_GROUPS; ++g) {
    long long at = ((long long)tile * N_GROUPS + group_of(index, g)) * 16 + lane / 4 * 2;
    step.scales[g] = load_pair(weights.scales + at);
    if constexpr (HAS_ZEROS) step.zeros[g] = load_bytes(weights.zeros + at);
  }
}

// Loads into registers: every lane has IN_FLIGHT steps outstanding.
struct Registers {
  Step ring[IN_FLIGHT];
  Cursor next = {0, 0};

  __device__ __forceinline__ Registers(unsigned char*, int) {}

  __device__ __forceinline__ void request(int slot, const Weights& from, const Share& share, int lane) {
    if (next.tile >= share.n_tiles) return;
    fetch(ring[slot], from, share.first_tile + next.tile, share.first_step + next.step, lane);
    next.advance(1, share);
  }
  __device__ __forceinline__ void begin(const Weights& from, const Share& share, int lane) {
#pragma unroll
    for (int slot = 0; slot < IN_FLIGHT; ++slot) request(slot, from, share, lane);
  }
  template <class Use, class Finish>
  __device__ __forceinline__ void run(const Weights& from, const Share& share, int lane, Use use, Finish finish) {
    Cursor at = {0, 0};
    while (at.tile < share.n_tiles) {
#pragma unroll
      for (int slot = 0; slot < IN_FLIGHT; ++slot)
        if (at.tile < share.n_tiles) {
          use(ring[slot], at.step);
          request(slot, from, share, lane);
          if (at.step + 1 == share.n_steps) finish(at.tile);
          at.advance(1, share);
        }
    }
  }
};

// Copies in bulk: every warp fills a ring of its own, PIECE steps of a tile at a time.
constexpr int SLOT_CODES = PIECE * STEP_UNITS * LOADS * 512;
// Steps that share a group may begin in the middle of one.
constexpr int SLOT_GROUPS = PIECE * STEP_GROUPS + (GROUP_K > STEP_K ? 1 : 0);
constexpr int SLOT_BYTES = SLOT_CODES + SLOT_GROUPS * (HAS_ZEROS ? 48 : 32);

struct Bulk {
  unsigned long long* barriers;
  unsigned char* slots;
  Cursor next = {0, 0};

  __device__ __forceinline__ Bulk(unsigned char* arena, int warp)
      : barriers((unsigned long long*)arena + warp * IN_FLIGHT), slots(arena + RING + warp * IN_FLIGHT * SLOT_BYTES) {}

  // One lane asks; all of them count along, which keeps addresses in scalar registers.
  __device__ __forceinline__ void request(int slot, const Weights& from, const Share& share) {
    if (next.tile >= share.n_tiles) return;
    int n = share.n_steps - next.step < PIECE ? share.n_steps - next.step : PIECE;
    int tile = share.first_tile + next.tile, step = share.first_step + next.step;
    int unit = step * STEP_UNITS, n_units = n * STEP_UNITS;
    if (N_UNITS % STEP_UNITS != 0 && unit + n_units > N_UNITS) n_units = N_UNITS - unit;
    int group = group_of(step), n_groups = group_of(step + n - 1, STEP_GROUPS - 1) + 1 - group;
    unsigned char* to = slots + slot * SLOT_BYTES;
    unsigned at = (unsigned)tile * N_GROUPS + group, unit_at = (unsigned)tile * N_UNITS + unit;
    if (elected()) {
      barrier_expect(barriers + slot, n_units * LOADS * 512 + n_groups * (HAS_ZEROS ? 48 : 32));
      copy_bulk(to, (const uint4*)from.codes + unit_at * (LOADS * 32), n_units * LOADS * 512, barriers + slot);
      copy_bulk(to + SLOT_CODES, (const uint4*)from.scales + at * 2, n_groups * 32, barriers + slot);
      if constexpr (HAS_ZEROS)
        copy_bulk(to + SLOT_CODES + SLOT_GROUPS * 32, (const uint4*)from.zeros + at, n_groups * 16, barriers + slot);
    }
    next.advance(n, share);
  }
  __device__ __forceinline__ void begin(const Weights& from, const Share& share, int) {
    if (elected()) {
#pragma unroll
      for (int slot = 0; slot < IN_FLIGHT; ++slot) barrier_init(barriers + slot);
      fence_barriers();
    }
#pragma unroll
    for (int slot = 0; slot < IN_FLIGHT; ++slot) request(slot, from, share);
  }
  // Step `index` of the depth out of a slot that begins with step `first`.
  __device__ __forceinline__ void take(Step& step, int slot, int first, int index, int lane) {
    const unsigned char* from = slots + slot * SLOT_BYTES;
    const uint4* codes = (const uint4*)from + (index - first) * (STEP_UNITS * LOADS * 32) + lane;
#pragma unroll
    for (int i = 0; i < STEP_UNITS * LOADS; ++i) step.codes[i / LOADS][i % LOADS] = codes[i * 32];
#pragma unroll
    for (int g = 0; g < STEP_GROUPS; ++g) {
      int at = (group_of(index, g) - group_of(first)) * 16 + lane / 4 * 2;
      step.scales[g] = *(const unsigned*)(from + SLOT_CODES + at * 2);
      if constexpr (HAS_ZEROS) step.zeros[g] = *(const unsigned short*)(from + SLOT_CODES + SLOT_GROUPS * 32 + at);
    }
  }
  template <class Use, class Finish>
  __device__ __forceinline__ void run(const Weights& from, const Share& share, int lane, Use use, Finish finish) {
    int slot = 0, phase = 0;
    for (Cursor at = {0, 0}; at.tile < share.n_tiles;) {
      int n = share.n_steps - at.step < PIECE ? share.n_steps - at.step : PIECE;
      barrier_wait(barriers + slot, phase);
#pragma unroll (PIECE < 4 ? PIECE : 4)
      for (int i = 0; i < PIECE; ++i)
        if (i < n) {
          Step step;
          take(step, slot, share.first_step + at.step, share.first_step + at.step + i, lane);
          use(step, at.step + i);
        }
      __syncwarp();
      request(slot, from, share);
      if (at.step + n == share.n_steps) finish(at.tile);
      at.advance(n, share);
      if (++slot == IN_FLIGHT) slot = 0, phase ^= 1;
    }
  }
};

// ---- the kernel ----

template <bool IS_BULK>
struct SourceOf { typedef Registers type; };
template <>
struct SourceOf<true> { typedef Bulk type; };
typedef SourceOf<BULK>::type Source;

// Tiles of a group of warps that share the depth: shares differ by one at most.
constexpr int TILE_SHARES = BLOCKS_N * WARPS_N;
constexpr int MOST_TILES = (N_TILES + TILE_SHARES - 1) / TILE_SHARES;
static_assert((unsigned long long)TILE_SHARES * N_TILES < 1ull << 32, "32 bits hold every product");
__device__ __forceinline__ int first_tile_of(int share) {
  return (int)((unsigned)share * N_TILES / TILE_SHARES);
}

__device__ __forceinline__ void store(elem* y, const elem* bias, int m, int n, float v) {
  if constexpr (HAS_BIAS) v += widened(bias[n]);
  narrow(y[(long long)m * N_COLUMNS + n], v);
}

__device__ __forceinline__ void store_sums(float* reduced, const elem* bias, elem* y, float* partial,
                                           int m_begin) {
  for (int i = threadIdx.x; i < WARPS_N * MOST_TILES * M_PASS * 16; i += THREADS) {
    int kept = i / (M_PASS * 16), row = i / 16 % M_PASS, inside = i % 16;
    int share = blockIdx.x * WARPS_N + kept / MOST_TILES, tile = first_tile_of(share) + kept % MOST_TILES;
    int m = m_begin + row, column = tile * 16 + inside;
    if (tile >= first_tile_of(share + 1) || m >= M || column >= N_COLUMNS) continue;
    float v = 0.0f;
#pragma unroll
    for (int d = 0; d < DIGITS; ++d)
      v = v * 256.0f + sum_of_warps(sums_of(reduced, kept, row * DIGITS + d, inside));
    v *= 1.0f / (1 << TOP_SHIFT);
    if constexpr (BLOCKS_K == 1) store(y, bias, m, column, v);
    else partial[((long long)blockIdx.y * M + m) * N_COLUMNS + column] = v;
  }
}

__device__ __forceinline__ void gemv_dequant(const elem* __restrict__ x, const unsigned* __restrict__ codes,
                                             const elem* __restrict__ scales,
                                             const unsigned char* __restrict__ zeros,
                                             const elem* __restrict__ bias, elem* __restrict__ y,
                                             float* __restrict__ partial, unsigned char* arena) {
  release_next_kernel();
  Column* table = (Column*)(arena + TABLE);
  unsigned char* held = arena + HELD;
  float* reduced = (float*)(arena + REDUCED);
  // Equal in a warp, which the compiler cannot see by itself.
  int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  int warp_k = warp % WARPS_K, warp_n = warp / WARPS_K, tile_share = blockIdx.x * WARPS_N + warp_n;
  // Steps of this block, then of this warp: shares differ by one at most.
  int block_begin = blockIdx.y * N_STEPS / BLOCKS_K, block_end = (blockIdx.y + 1) * N_STEPS / BLOCKS_K;
  int n_block = block_end - block_begin, begin = warp_k * n_block / WARPS_K;
  Share share;
  share.first_tile = first_tile_of(tile_share);
  share.n_tiles = first_tile_of(tile_share + 1) - share.first_tile;
  share.first_step = block_begin + begin;
  share.n_steps = (warp_k + 1) * n_block / WARPS_K - begin;
  if constexpr (N_STEPS % (WARPS_K * BLOCKS_K) == 0) share.n_steps = N_STEPS / (WARPS_K * BLOCKS_K);
  int k_begin = block_begin * STEP_K, m_begin = blockIdx.z * M_PASS;

  Weights weights = {codes, scales, zeros};
  Source source(arena, warp);
  source.begin(weights, share, lane);
  wait_for_previous_kernel();
  stage_x(held, table, x, k_begin, block_end * STEP_K, m_begin, warp, lane);
  __syncthreads();

  Totals totals = {};
  source.run(
      weights, share, lane,
      [&](const Step& step, int index) { consume(step, (begin + index) * STEP_K, held, table, lane, totals); },
      [&](int tile) { keep(reduced, totals, warp_n * MOST_TILES + tile, warp_k, lane); });
  __syncthreads();
  store_sums(reduced, bias, y, partial, m_begin);
}

__device__ __forceinline__ void gemv_dequant_sum(const float* partial,
                                                 const elem* __restrict__ bias, elem* __restrict__ y) {
  release_next_kernel();
  wait_for_previous_kernel();
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= M * N_COLUMNS) return;
  float v = 0.0f;
#pragma unroll
  for (int b = 0; b < BLOCKS_K; ++b) v += load_partial(partial + (long long)b * M * N_COLUMNS + i);
  store(y, bias, i / N_COLUMNS, i % N_COLUMNS, v);
}
