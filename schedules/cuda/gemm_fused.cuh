// Many rows of x times a packed matrix (schedules/packing.py) on Hopper, y^T = W x^T: codes become
// 16-bit floats in registers, in the places of the tensor cores' left operand, while the product of
// the 64 terms before runs. Rows are the matrix's columns in packed order, columns the rows of x.
//
//   copier      empty[s] ->  copy x into stage s                      -> full[s]
//   multipliers full[s]  ->  wgmma | floats of the next 64 codes | wait:  empty[s-1]   ... ending
//
// A warp has 16 rows: a packed tile. Of every 32 codes of a row its lane holds eight neighbours, and
// the left operand wants pairs of them, eight apart: the four lanes of a row change places first, once
// for all codes of a word.
//
// After matmul.cuh and packed_codes.cuh. Defined before: BITS, UNIT_K, LOADS, GROUP_K, N_TILES,
// N_UNITS, N_GROUPS, HAS_ZEROS, GATED, IS_HALF, elem; FIRST_TILE of this output; PIECE_K, PIECE_GROUPS:
// codes of a column that a lane reads at once, and their groups; struct Config: numbers of
// gemm_fused_cuda.py, multiply, and joined (of a gate's sum and the other one).

using namespace hopper;
using effcompile_matmul::Tile;
using effcompile_matmul::copy_box;
using effcompile_matmul::tile_of;

constexpr int PIECE_STEPS = PIECE_K / 64, PIECE_UNITS = PIECE_K / UNIT_K;
// A code below the least significant bits of this float is the float plus that code.
constexpr u32 PAIR_MAGIC = IS_HALF ? 0x64006400u : 0x43004300u;

// What one lane holds of a piece: columns lane / 4 and lane / 4 + 8 of a tile.
struct Piece {
  uint4 codes[PIECE_UNITS][LOADS];
  u32 scales[PIECE_GROUPS], zeros[PIECE_GROUPS];
};

// Where a lane's part of a tile begins.
struct Packed {
  const uint4* codes;
  const elem* scales;
  const unsigned char* zeros;
};

__device__ __forceinline__ Packed part_of(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                          int tile, int lane) {
  tile = min(tile, N_TILES - 1);  // beyond them nothing is stored
  const long long groups = (long long)tile * N_GROUPS * 16 + lane / 4 * 2;
  return {(const uint4*)codes + (long long)tile * N_UNITS * LOADS * 32 + lane, scales + groups,
          zeros + (HAS_ZEROS ? groups : 0)};
}

// Units and groups beyond the matrix repeat its end, where x is zero.
constexpr int N_PIECES = (N_UNITS + PIECE_UNITS - 1) / PIECE_UNITS;
constexpr bool HAS_ALL_UNITS = N_UNITS % PIECE_UNITS == 0;
constexpr bool HAS_ALL_GROUPS = (N_PIECES * PIECE_K - 1) / GROUP_K < N_GROUPS;

__device__ __forceinline__ void load(Piece& piece, const Packed& from, unsigned number) {
#pragma unroll
  for (int u = 0; u < PIECE_UNITS; ++u) {
    unsigned unit = number * PIECE_UNITS + u;
    if constexpr (!HAS_ALL_UNITS) unit = min(unit, N_UNITS - 1u);
#pragma unroll
    for (int l = 0; l < LOADS; ++l) piece.codes[u][l] = __ldg(from.codes + (unit * LOADS + l) * 32);
  }
#pragma unroll
  for (int g = 0; g < PIECE_GROUPS; ++g) {
    unsigned group = (number * PIECE_K + g * (PIECE_K / PIECE_GROUPS)) / GROUP_K;
    if constexpr (!HAS_ALL_GROUPS) group = min(group, N_GROUPS - 1u);
    piece.scales[g] = __ldg((const u32*)(from.scales + group * 16));
    piece.zeros[g] = HAS_ZEROS ? __ldg((const unsigned short*)(from.zeros + group * 16))
                               : (1u << (BITS - 1)) * 0x0101u;
  }
}

// Words of neighbours 0 to 3 and 4 to 7 of one column, over the four lanes of a row: afterwards lane
// q has neighbours 2 q and 2 q + 1 of lanes 0 and 1 in `low`, of lanes 2 and 3 in `high`.
__device__ __forceinline__ void change_places(u32& low, u32& high, int lane) {
  const bool odd = lane & 1, later = lane & 2;
  const u32 sent = __byte_perm(low, high, odd ? 0x5410 : 0x7632);
  const u32 came = __shfl_xor_sync(0xffffffffu, sent, 1);
  low = __byte_perm(low, came, odd ? 0x3254 : 0x5410);
  high = __byte_perm(high, came, odd ? 0x3276 : 0x7610);
  const u32 other = __shfl_xor_sync(0xffffffffu, later ? low : high, 2);
  if (later) low = other; else high = other;
}

__device__ __forceinline__ void change_places(Piece& piece, int lane) {
#pragma unroll
  for (int u = 0; u < PIECE_UNITS; ++u)
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      uint4& words = piece.codes[u][l];
      change_places(words.x, words.z, lane);
      change_places(words.y, words.w, lane);
    }
}

// Four codes as pairs of floats, less their zero point, times their scale.
__device__ __forceinline__ void floats_of(u32& first, u32& second, u32 codes, u32 zero, u32 scale) {
  const u32 low = __byte_perm(codes, PAIR_MAGIC >> 8, 0x4140), high = __byte_perm(codes, PAIR_MAGIC >> 8, 0x4342);
  first = pair_product<IS_HALF>(pair_difference<IS_HALF>(low, zero), scale);
  second = pair_product<IS_HALF>(pair_difference<IS_HALF>(high, zero), scale);
}

// 32 codes of each row: the left operands of two products.
template <int FRAGMENT>
__device__ __forceinline__ void fragment_floats(u32 (&left)[4][4], const Piece& piece) {
  constexpr int PER_UNIT = UNIT_K / 32, UNIT = FRAGMENT / PER_UNIT, INSIDE = FRAGMENT % PER_UNIT;
  constexpr int GROUP = FRAGMENT * 32 / (PIECE_K / PIECE_GROUPS);
  const uint4& c0 = piece.codes[UNIT][0];
  const uint4& c1 = piece.codes[UNIT][LOADS > 1 ? 1 : 0];
  const uint4& c2 = piece.codes[UNIT][LOADS > 2 ? 2 : 0];
  const u32 scales = piece.scales[GROUP], zeros = piece.zeros[GROUP];
  const u32 scale[2] = {__byte_perm(scales, 0, 0x1010), __byte_perm(scales, 0, 0x3232)};
  const u32 zero[2] = {PAIR_MAGIC + (zeros & 0xffu) * 0x00010001u, PAIR_MAGIC + (zeros >> 8) * 0x00010001u};
  u32(&a)[4] = left[FRAGMENT % 2 * 2];
  u32(&b)[4] = left[FRAGMENT % 2 * 2 + 1];
  floats_of(a[0], a[2], codes_of<INSIDE>(c0.x, c1.x, c2.x), zero[0], scale[0]);
  floats_of(a[1], a[3], codes_of<INSIDE>(c0.y, c1.y, c2.y), zero[1], scale[1]);
  floats_of(b[0], b[2], codes_of<INSIDE>(c0.z, c1.z, c2.z), zero[0], scale[0]);
  floats_of(b[1], b[3], codes_of<INSIDE>(c0.w, c1.w, c2.w), zero[1], scale[1]);
}

// The ring of stages from a multiplier's or the copier's side.
template <class C>
struct Ring {
  u32 stages, barriers, parity;
  int stage = 0;
  __device__ __forceinline__ u32 full() const { return barriers + 16 * stage; }
  __device__ __forceinline__ u32 empty() const { return full() + 8; }
  __device__ __forceinline__ u32 place() const { return stages + stage * C::STAGE_BYTES; }
  __device__ __forceinline__ void advance() {
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <class C>
__device__ __forceinline__ void copy_rows(const CUtensorMap& x, Ring<C> ring) {
  constexpr int SHARE = C::TILE_COLUMN / C::CLUSTER;
  const int own = blockIdx.x % C::CLUSTER * SHARE;
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    const Tile tile = tile_of<C>(work);
    for (int step = 0; step < tile.n_steps; ++step, ring.advance()) {
      mbarrier_await(ring.empty(), ring.parity);
      mbarrier_expect(ring.full(), C::STAGE_BYTES);
      copy_box<2, C::CLUSTER>(ring.place() + own * 128, x, ring.full(), (tile.first_step + step) * 64,
                              tile.column + own, 0);
    }
  }
}

// Multipliers take turns at the tensor cores: while those of one are busy with its products, the
// others make floats. The last one lets the first begin.
template <class C, int OWN_TURN>
__device__ __forceinline__ void take_turn() {
  if constexpr (C::TURNS) named_sync(OWN_TURN + 1, 256);
}

template <class C, int OWN_TURN>
__device__ __forceinline__ void pass_turn() {
  if constexpr (C::TURNS) named_arrive((OWN_TURN + 1) % C::MULTIPLIERS + 1, 256);
}

// One multiplier's way through a tile.
template <class C, int OWN_TURN>
struct Walk {
  // Steps that are written out: an even number, since floats have two places.
  static constexpr int ROUND = C::AHEAD * PIECE_STEPS;
  Piece pieces[C::AHEAD];
  u32 left[2][4][4], previous;
  int lane, step, n_steps, first_piece;
  Packed packed;

  // Floats of step I of a round; a piece that is used up makes room for another.
  template <int I>
  __device__ __forceinline__ void prepare(int number) {
    constexpr int INSIDE = I % PIECE_STEPS;
    Piece& piece = pieces[I / PIECE_STEPS];
    if constexpr (INSIDE == 0) change_places(piece, lane);
    fragment_floats<2 * INSIDE>(left[I % 2], piece);
    fragment_floats<2 * INSIDE + 1>(left[I % 2], piece);
    if constexpr (INSIDE == PIECE_STEPS - 1) ask_for(piece, first_piece + number / PIECE_STEPS + C::AHEAD);
  }

  __device__ __forceinline__ void ask_for(Piece& piece, int number) {
    if (number < N_PIECES) load(piece, packed, number);
  }

  template <int I>
  __device__ __forceinline__ void steps_from(float (&sum)[C::TILE_COLUMN / 2], Ring<C>& ring) {
    if constexpr (I < ROUND) {
      if (step >= n_steps) return;
      if (!mbarrier_done(ring.full(), ring.parity)) mbarrier_await(ring.full(), ring.parity);
      take_turn<C, OWN_TURN>();
      wgmma_fence();
#pragma unroll
      for (int s = 0; s < 4; ++s)
        C::multiply(sum, left[I % 2][s], descriptor_128b(ring.place() + 32 * s, 8192), step > 0 || s > 0);
      wgmma_commit();
      pass_turn<C, OWN_TURN>();
      wgmma_wait<1>();
      if (step > 0 && lane == 0) mbarrier_arrive_all<C::CLUSTER>(previous);
      previous = ring.empty();
      ring.advance();
      ++step;
      prepare<(I + 1) % ROUND>(step);
      steps_from<I + 1>(sum, ring);
    }
  }
};

// Elements of a row of y that a warp has, and where it keeps them between its sums and the ending.
constexpr int OWN = GATED ? 8 : 16, LINE = OWN + 4, AT_ONCE = 16;

// Sums lie across the lanes along a row of y: by way of shared memory, AT_ONCE rows at a time, eight
// neighbours come together. Those of a gate and of the other matrix lie side by side in a thread.
template <class C, class Ending>
__device__ __forceinline__ void store(const float (&sum)[C::TILE_COLUMN / 2], float* held, int n, int m, int split,
                                      int lane, const typename Ending::Arguments& arguments) {
  float* to = held + lane % 4 * 2 * LINE + lane / 4;
  const float* from = held + lane / (OWN / 8) * LINE + lane % (OWN / 8) * 8;
  n += lane % (OWN / 8) * 8;
  m += lane / (OWN / 8);
#pragma unroll
  for (int first = 0; first < C::TILE_COLUMN; first += AT_ONCE) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < AT_ONCE / 4; ++i) {
      const int at = first / 2 + i / 2 * 4 + i % 2;
      float* place = to + (i / 2 * 8 + i % 2) * LINE;
      place[0] = GATED ? C::joined(sum[at], sum[at + 2]) : sum[at];
      if constexpr (!GATED) place[8] = sum[at + 2];
    }
    __syncwarp();
    if (lane < AT_ONCE * OWN / 8 && m + first < C::COLUMNS && n < C::ROWS) {
      const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
      const float eight[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      if constexpr (Ending::WIDE) {
        Ending::template finish<8>(arguments, eight, split, m + first, n);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float one[1] = {eight[i]};
          if (n + i < C::ROWS) Ending::template finish<1>(arguments, one, split, m + first, n + i);
        }
      }
    }
  }
}

template <class C, class Ending, int OWN_TURN>
__device__ __forceinline__ void multiply_rows(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                              const typename Ending::Arguments& arguments, float* held, Ring<C> ring) {
  const int sixteen = (threadIdx.x / 128 - 1) * 4 + threadIdx.x % 128 / 32;
  Walk<C, OWN_TURN> walk;
  walk.lane = threadIdx.x % 32;
  if constexpr (OWN_TURN + 1 == C::MULTIPLIERS) pass_turn<C, OWN_TURN>();
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    const Tile tile = tile_of<C>(work);
    const int packed_tile = tile.row / 16 + sixteen;
    walk.packed = part_of(codes, scales, zeros, FIRST_TILE + packed_tile, walk.lane);
    walk.step = 0;
    walk.n_steps = tile.n_steps;
    walk.first_piece = tile.first_step / PIECE_STEPS;
    float sum[C::TILE_COLUMN / 2];
#pragma unroll
    for (int i = 0; i < C::AHEAD; ++i) walk.ask_for(walk.pieces[i], walk.first_piece + i);
    walk.template prepare<0>(0);
#pragma unroll 1
    while (walk.step < walk.n_steps) walk.template steps_from<0>(sum, ring);
    wgmma_wait<0>();
    hold(sum);
    if (walk.lane == 0) mbarrier_arrive_all<C::CLUSTER>(walk.previous);
    store<C, Ending>(sum, held + sixteen * AT_ONCE * LINE, packed_tile * OWN, tile.column, tile.split, walk.lane,
                     arguments);
  }
}

template <class C, class Ending>
__device__ __forceinline__ void multiply_packed(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                                const CUtensorMap& x, const typename Ending::Arguments& arguments,
                                                unsigned char* raw) {
  const u32 stages = (shared_address(raw) + 1023) & ~1023u;
  const u32 barriers = stages + C::STAGES * C::STAGE_BYTES;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < C::STAGES; ++stage) {
      mbarrier_init(barriers + 16 * stage, 1);
      mbarrier_init(barriers + 16 * stage + 8, 4 * C::MULTIPLIERS * C::CLUSTER);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  meet_cluster<C::CLUSTER>();
  if (threadIdx.x < 128) {
    fewer_registers<C::COPIER_REGISTERS>();
    if (threadIdx.x == 0) copy_rows<C>(x, {stages, barriers, 1});
  } else {
    more_registers<C::MULTIPLIER_REGISTERS>();
    float* held = (float*)(raw + (barriers + C::STAGES * 16 - shared_address(raw)));
    const Ring<C> ring = {stages, barriers, 0};
    // Equal in a warp, which the compiler cannot see by itself.
    const int turn = C::TURNS ? __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0) : 1;
    if (turn == 1) multiply_rows<C, Ending, 0>(codes, scales, zeros, arguments, held, ring);
    else if (C::TURNS && turn == 2) multiply_rows<C, Ending, 1>(codes, scales, zeros, arguments, held, ring);
    else if constexpr (C::TURNS && C::MULTIPLIERS > 2) multiply_rows<C, Ending, 2>(codes, scales, zeros, arguments, held, ring);
  }
  // Nobody leaves while others still copy into its memory or arrive at its barriers.
  meet_cluster<C::CLUSTER>();
}
