// Codes of a packed matrix (schedules/packing.py) as the left operand of warpgroup products, in
// registers: a warp has 16 rows of it, a packed tile. Of every 32 codes of a row a lane holds eight
// neighbours, and the operand wants pairs of them, eight apart: the four lanes of a row change places
// first, once for all codes of a word.
//
// After hopper.cuh and packed_codes.cuh. Defined before: BITS, UNIT_K, LOADS, GROUP_K, N_TILES,
// N_UNITS, N_GROUPS, HAS_ZEROS, IS_HALF, elem; PIECE_K, PIECE_GROUPS: codes of a column that a lane
// reads at once, and their groups.

using namespace hopper;

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
