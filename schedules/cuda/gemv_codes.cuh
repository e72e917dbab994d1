// y = x (scale (codes - zero))^T for few rows of x, on tensor cores, codes packed as in
// schedules/packing.py: what a warp makes of codes and of x in shared memory. Compute capability 8.0.
//
// What decides is the number of instructions per code, so codes are multiplied as integers, where
// they lie: a mask leaves four of them in the bytes of a word, each times a power of two, which
// is their class. Those are the left operand (16 columns of y x 32 of depth per mma). The right
// operand is x as whole numbers of three digits of base 256, which are three of its eight
// columns, so that a row of x costs no more than its leading digits alone; an int8 x is one digit.
// Sums of a chunk are exact. Every block makes the digits once, with their sums, which take off
// the zero points.

// ---- codes to numbers ----

// One register of a fragment: four codes of a column, shifted by their class.
template <int FRAGMENT>
__device__ __forceinline__ unsigned numbers(unsigned w0, unsigned w1, unsigned w2) {
  constexpr unsigned mask = (((1u << BITS) - 1) << shift_of_class(class_of(FRAGMENT))) * 0x01010101u;
  if constexpr (BITS != 3) return BITS == 8 ? w0 : w0 & mask;
  else if constexpr (FRAGMENT < 6) return (FRAGMENT / 2 == 0 ? w0 : FRAGMENT / 2 == 1 ? w1 : w2) & mask;
  // Two upper bits, and the lowest one from the third word.
  else if constexpr (FRAGMENT == 6) return (w0 & 0xc0c0c0c0u) | ((w2 >> 2) & 0x20202020u);
  else return (w1 & 0xc0c0c0c0u) | ((w2 >> 1) & 0x20202020u);
}

// ---- products ----

struct Sums {  // of one tile over one chunk
  int products[CLASSES][X_TILES][4];
};
// Totals are of this unit.
constexpr float SUM_UNIT = 1.0f / (1 << TOP_SHIFT);
struct Totals {  // of one tile
  float sums[X_TILES][4];
};

// What a step's codes are multiplied by: digits of x, and their sums and factors by chunks.
constexpr int STEP_PAIRS = (STEP_FRAGMENTS + 1) / 2;
constexpr int STEP_CHUNKS = STEP_K / CHUNK_K;
struct Right {
  uint4 x[STEP_PAIRS][X_TILES];
  Column columns[STEP_CHUNKS][X_TILES][2];
};
// `at` is the step's place in the x that the block holds.
__device__ __forceinline__ void held_right(Right& right, int at, const unsigned char* held, const Column* table,
                                           int lane) {
#pragma unroll
  for (int pair = 0; pair < STEP_PAIRS; ++pair) held_x(right.x[pair], held, at + pair * 64, lane);
#pragma unroll
  for (int chunk = 0; chunk < STEP_CHUNKS; ++chunk)
#pragma unroll
    for (int t = 0; t < X_TILES; ++t) {
      float4 pair = *(const float4*)(table + ((at / CHUNK_K + chunk) * X_TILES + t) * 8 + lane % 4 * 2);
      right.columns[chunk][t][0] = {pair.x, pair.y};
      right.columns[chunk][t][1] = {pair.z, pair.w};
    }
}

// Scaled sums of a finished chunk onto the totals.
__device__ __forceinline__ void finish_chunk(const Step& step, int group, const Sums& sums,
                                             const Column (&columns)[X_TILES][2], Totals& totals) {
  float scale[2] = {first_of(step.scales[group]), second_of(step.scales[group])};
  float zero[2] = {0.0f, 0.0f};
  if constexpr (HAS_ZEROS) {
    zero[0] = float_of_byte(step.zeros[group] & 0xffu);
    zero[1] = float_of_byte(step.zeros[group] >> 8);
  }
#pragma unroll
  for (int t = 0; t < X_TILES; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int sum = sums.products[CLASSES - 1][t][i];
#pragma unroll
      for (int c = 0; c < CLASSES - 1; ++c) sum += sums.products[c][t][i] << (TOP_SHIFT - shift_of_class(c));
      // Sums begin with MAGIC; without zero points, what is taken off goes with it.
      float v = __int_as_float(sum) - (HAS_ZEROS ? MAGIC_FLOAT : columns[t][i % 2].taken_off);
      if constexpr (HAS_ZEROS) v -= zero[i / 2] * columns[t][i % 2].taken_off;
      // One row has one factor, whatever the digit.
      float factor = IS_INT8 ? 1.0f : columns[t][M_PASS == 1 ? 0 : i % 2].factor;
      totals.sums[t][i] += scale[i / 2] * factor * v;
    }
}

template <int FRAGMENT>
__device__ __forceinline__ void fragment_products(const Step& step, const Right& right, Sums& sums) {
  const uint4(&codes)[LOADS] = step.codes[FRAGMENT / UNIT_FRAGMENTS];
  constexpr int INSIDE = FRAGMENT % UNIT_FRAGMENTS;
  const uint4& c0 = codes[0];
  const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
  const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
  unsigned a[4] = {numbers<INSIDE>(c0.x, c1.x, c2.x), numbers<INSIDE>(c0.y, c1.y, c2.y),
                   numbers<INSIDE>(c0.z, c1.z, c2.z), numbers<INSIDE>(c0.w, c1.w, c2.w)};
#pragma unroll
  for (int t = 0; t < X_TILES; ++t) {
    const uint4& x = right.x[FRAGMENT / 2][t];
    bool second = FRAGMENT % 2 == 1;
    multiply(sums.products[class_of(INSIDE)][t], a, second ? x.z : x.x, second ? x.w : x.y);
  }
}

// The fragments of a step from one on.
template <int FRAGMENT>
__device__ __forceinline__ void fragments_from(const Step& step, const Right& right, Sums& sums, Totals& totals) {
  if constexpr (FRAGMENT < STEP_FRAGMENTS) {
    constexpr int k = FRAGMENT * 32;
    if constexpr (k % CHUNK_K == 0) {
#pragma unroll
      for (int c = 0; c < CLASSES; ++c)
#pragma unroll
        for (int t = 0; t < X_TILES; ++t)
#pragma unroll
          for (int i = 0; i < 4; ++i) sums.products[c][t][i] = c == 0 ? FIRST : 0;
    }
    fragment_products<FRAGMENT>(step, right, sums);
    if constexpr ((k + 32) % CHUNK_K == 0)
      finish_chunk(step, STEP_GROUPS > 1 ? k / GROUP_K : 0, sums, right.columns[k / CHUNK_K], totals);
    fragments_from<FRAGMENT + 1>(step, right, sums, totals);
  }
}

__device__ __forceinline__ void consume(const Step& step, const Right& right, Totals& totals) {
  Sums sums;
  fragments_from<0>(step, right, sums, totals);
}
