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
typedef Column Columns[X_TILES][2];

__device__ __forceinline__ void begin_chunk(Sums& sums, Columns& columns, const Column* table, int chunk, int lane) {
#pragma unroll
  for (int t = 0; t < X_TILES; ++t) {
    float4 pair = *(const float4*)(table + (chunk * X_TILES + t) * 8 + lane % 4 * 2);
    columns[t][0] = {pair.x, pair.y};
    columns[t][1] = {pair.z, pair.w};
#pragma unroll
    for (int c = 0; c < CLASSES; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int first = HAS_ZEROS ? FIRST : __float_as_int(columns[t][i % 2].taken_off);
        sums.products[c][t][i] = c == 0 ? first : 0;
      }
  }
}

// Scaled sums of a finished chunk onto the totals.
__device__ __forceinline__ void finish_chunk(const Step& step, int group, const Sums& sums,
                                             const Columns& columns, Totals& totals) {
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
      float v = __int_as_float(sum) - MAGIC_FLOAT;
      if constexpr (HAS_ZEROS) v -= zero[i / 2] * columns[t][i % 2].taken_off;
      // One row has one factor, whatever the digit.
      float factor = IS_INT8 ? 1.0f : columns[t][M_PASS == 1 ? 0 : i % 2].factor;
      totals.sums[t][i] += scale[i / 2] * factor * v;
    }
}

template <int FRAGMENT>
__device__ __forceinline__ void fragment_products(const Step& step, const uint4 (&x)[X_TILES], Sums& sums) {
  const uint4(&codes)[LOADS] = step.codes[FRAGMENT / UNIT_FRAGMENTS];
  constexpr int INSIDE = FRAGMENT % UNIT_FRAGMENTS;
  const uint4& c0 = codes[0];
  const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
  const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
  unsigned a[4] = {numbers<INSIDE>(c0.x, c1.x, c2.x), numbers<INSIDE>(c0.y, c1.y, c2.y),
                   numbers<INSIDE>(c0.z, c1.z, c2.z), numbers<INSIDE>(c0.w, c1.w, c2.w)};
#pragma unroll
  for (int t = 0; t < X_TILES; ++t) {
    bool second = FRAGMENT % 2 == 1;
    multiply(sums.products[class_of(INSIDE)][t], a, second ? x[t].z : x[t].x, second ? x[t].w : x[t].y);
  }
}

// The fragments of a step from one on; `at` is the step's place in the x that the block holds.
template <int FRAGMENT>
__device__ __forceinline__ void fragments_from(const Step& step, int at, const unsigned char* held,
                                               const Column* table, int lane, uint4 (&x)[X_TILES],
                                               Sums& sums, Columns& columns, Totals& totals) {
  if constexpr (FRAGMENT < STEP_FRAGMENTS) {
    constexpr int k = FRAGMENT * 32;
    if constexpr (FRAGMENT % 2 == 0) held_x(x, held, at + k, lane);
    if constexpr (k % CHUNK_K == 0) begin_chunk(sums, columns, table, at / CHUNK_K + k / CHUNK_K, lane);
    fragment_products<FRAGMENT>(step, x, sums);
    if constexpr ((k + 32) % CHUNK_K == 0)
      finish_chunk(step, STEP_GROUPS > 1 ? k / GROUP_K : 0, sums, columns, totals);
    fragments_from<FRAGMENT + 1>(step, at, held, table, lane, x, sums, columns, totals);
  }
}

__device__ __forceinline__ void consume(const Step& step, int at, const unsigned char* held,
                                        const Column* table, int lane, Totals& totals) {
  uint4 x[X_TILES];
  Sums sums;
  Columns columns;
  fragments_from<0>(step, at, held, table, lane, x, sums, columns, totals);
}
