// How weights reach the warps of packed products: through registers, or by copies in bulk.

// What a warp works on: some steps of some tiles, tile by tile.

struct Share {
  int first_tile, n_tiles, first_step, n_steps;
};
// Whether a warp has its i-th step: only the last one may be missing.
__device__ __forceinline__ bool has_step(const Share& share, int i) { return i < LEAST_STEPS || i < share.n_steps; }
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

struct Step {  // what one step of one tile needs from memory
  uint4 codes[STEP_UNITS][LOADS];
  Pair scales[STEP_GROUPS];
  unsigned zeros[HAS_ZEROS ? STEP_GROUPS : 1];
};

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
    load_pair(step.scales[g], weights.scales + at);
    if constexpr (HAS_ZEROS) step.zeros[g] = load_bytes(weights.zeros + at);
  }
}

// Loads into registers: every lane has IN_FLIGHT steps outstanding.
constexpr bool STEP_PER_SLOT = IN_FLIGHT == MOST_STEPS;
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
    for (int slot = 0; slot < IN_FLIGHT; ++slot)
      if (!STEP_PER_SLOT || has_step(share, slot)) request(slot, from, share, lane);
  }
  template <class Use, class Finish>
  __device__ __forceinline__ void run(const Weights& from, const Share& share, int lane, Use use, Finish finish) {
    if constexpr (STEP_PER_SLOT) return run_tiles(from, share, lane, use, finish);
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
  // The steps of a tile are in flight while those of the tile in front are used.
  template <class Use, class Finish>
  __device__ __forceinline__ void run_tiles(const Weights& from, const Share& share, int lane, Use use, Finish finish) {
#pragma unroll 1
    for (int tile = 0; tile < share.n_tiles; ++tile) {
#pragma unroll
      for (int i = 0; i < MOST_STEPS; ++i)
        if (has_step(share, i)) {
          use(ring[i], i);
          if (tile + 1 < share.n_tiles) fetch(ring[i], from, share.first_tile + tile + 1, share.first_step + i, lane);
        }
      finish(tile);
    }
  }
};

// Copies in bulk: every warp fills a ring of its own, PIECE steps of a tile at a time.
constexpr int SLOT_CODES = PIECE * STEP_UNITS * LOADS * 512;
// Steps that share a group may begin in the middle of one.
constexpr int SLOT_GROUPS = PIECE * STEP_GROUPS + (GROUP_K > STEP_K ? 1 : 0);
constexpr int SCALE_BYTES = 16 * (int)sizeof(elem);
constexpr int GROUP_BYTES = SCALE_BYTES + (HAS_ZEROS ? 16 : 0);
constexpr int SLOT_BYTES = SLOT_CODES + SLOT_GROUPS * GROUP_BYTES;
constexpr int TILE_PIECES = (MOST_STEPS + PIECE - 1) / PIECE;
// Few steps of a tile are written out.
constexpr bool WRITTEN_OUT = MOST_STEPS <= MOST_WRITTEN_OUT;

struct Bulk {
  unsigned long long* barriers;
  unsigned char* slots;

  __device__ __forceinline__ Bulk(unsigned char* arena, int warp)
      : barriers((unsigned long long*)arena + warp * IN_FLIGHT), slots(arena + RING + warp * IN_FLIGHT * SLOT_BYTES) {}

  // A piece of a tile, none of it if that is behind the warp's last step. One lane asks; all of them
  // count along, which keeps addresses in scalar registers.
  __device__ __forceinline__ void request(int slot, int tile_index, int piece, const Weights& from, const Share& share) {
    if (tile_index >= share.n_tiles) return;
    int n = min(share.n_steps - piece * PIECE, PIECE);
    int tile = share.first_tile + tile_index, step = share.first_step + piece * PIECE;
    int unit = step * STEP_UNITS, n_units = n * STEP_UNITS;
    if (N_UNITS % STEP_UNITS != 0 && unit + n_units > N_UNITS) n_units = N_UNITS - unit;
    int group = group_of(step), n_groups = group_of(step + n - 1, STEP_GROUPS - 1) + 1 - group;
    unsigned char* to = slots + slot * SLOT_BYTES;
    unsigned at = (unsigned)tile * N_GROUPS + group, unit_at = (unsigned)tile * N_UNITS + unit;
    bool is_empty = LEAST_STEPS % PIECE == 0 && LEAST_STEPS < MOST_STEPS && n == 0;
    if (elected()) {
      barrier_expect(barriers + slot, is_empty ? 0 : n_units * LOADS * 512 + n_groups * GROUP_BYTES);
      if (is_empty) return;
      copy_bulk(to, (const uint4*)from.codes + unit_at * (LOADS * 32), n_units * LOADS * 512, barriers + slot);
      copy_bulk(to + SLOT_CODES, from.scales + at * 16, n_groups * SCALE_BYTES, barriers + slot);
      if constexpr (HAS_ZEROS)
        copy_bulk(to + SLOT_CODES + SLOT_GROUPS * SCALE_BYTES, (const uint4*)from.zeros + at, n_groups * 16, barriers + slot);
    }
  }
  __device__ __forceinline__ void begin(const Weights& from, const Share& share, int) {
    if (elected()) {
#pragma unroll
      for (int slot = 0; slot < IN_FLIGHT; ++slot) barrier_init(barriers + slot);
      fence_barriers();
    }
#pragma unroll
    for (int slot = 0; slot < IN_FLIGHT; ++slot) request(slot, slot / TILE_PIECES, slot % TILE_PIECES, from, share);
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
      step.scales[g] = *(const Pair*)(from + SLOT_CODES + at * (int)sizeof(elem));
      if constexpr (HAS_ZEROS) step.zeros[g] = *(const unsigned short*)(from + SLOT_CODES + SLOT_GROUPS * SCALE_BYTES + at);
    }
  }
  template <class Use, class Finish>
  __device__ __forceinline__ void run(const Weights& from, const Share& share, int lane, Use use, Finish finish) {
    int slot = 0, phase = 0;
#pragma unroll 1
    for (int tile = 0; tile < share.n_tiles; ++tile) {
#pragma unroll (WRITTEN_OUT ? TILE_PIECES : 1)
      for (int piece = 0; piece < TILE_PIECES; ++piece) {
        barrier_wait(barriers + slot, phase);
#pragma unroll (WRITTEN_OUT || PIECE < 4 ? PIECE : 4)
        for (int i = 0; i < PIECE; ++i) {
          int index = piece * PIECE + i;
          if (index >= MOST_STEPS || !has_step(share, index)) break;
          Step step;
          take(step, slot, share.first_step + piece * PIECE, share.first_step + index, lane);
          use(step, index);
        }
        if constexpr (IN_FLIGHT < TILE_PIECES * MOST_TILES) {
          __syncwarp();
          request(slot, tile + (piece + IN_FLIGHT) / TILE_PIECES, (piece + IN_FLIGHT) % TILE_PIECES, from, share);
        }
        if (++slot == IN_FLIGHT) slot = 0, phase ^= 1;
      }
      finish(tile);
    }
  }
};

template <bool IS_BULK>
struct SourceOf { typedef Registers type; };
template <>
struct SourceOf<true> { typedef Bulk type; };
typedef SourceOf<BULK>::type Source;
