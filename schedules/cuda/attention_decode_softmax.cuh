// Softmax as keys come, and the weighted sum of values, transposed: 16 elements of the values are the
// rows of a product, 8 query rows its columns. A maximum may be behind by LATEST_RAISE: then lanes need
// not agree on a new one at every step.

constexpr int V_BLOCKS = (VALUE_WIDTH + 15) / 16;
constexpr float LOWEST = -2e38f;  // a number in powers of two as well
constexpr float LATEST_RAISE = 8.0f;  // powers of two
// From scores to maxima, and from maxima to powers of two. Of a mask's numbers the difference from the
// maximum comes first: a fused product would leave what rounding took from the maximum.
constexpr float TOP_UNIT = MASK == 2 ? 1.0f : UNIT;
constexpr float POWER_UNIT = MASK == 2 ? UNIT : 1.0f;

struct Totals {  // of a warp
  float out[ROW_TILES][V_BLOCKS][4];  // i: element g + i / 2 * 8 of the block, row 2c + i % 2
  float top[ROW_TILES][2];            // of rows 2c and 2c + 1, equal for all g
  float sum[ROW_TILES][2];            // likewise, of this lane's keys
};

__device__ __forceinline__ void begin_totals(Totals& totals) {
  totals = {};
#pragma unroll
  for (int i = 0; i < ROW_TILES * 2; ++i) totals.top[i / 2][i % 2] = LOWEST;
}

__device__ __forceinline__ float max_over_keys(float v) {
#pragma unroll
  for (int lanes = 4; lanes < 32; lanes *= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, lanes));
  return v;
}

// Higher maxima for all rows, and the totals in their terms.
__device__ __forceinline__ void raise(Totals& totals, const Scores& s) {
#pragma unroll
  for (int j = 0; j < ROW_TILES * 2; ++j) {
    int t = j / 2, e = j % 2;
    float found = s[0][t][e];
#pragma unroll
    for (int i = 1; i < SUBS * 2; ++i) found = fmaxf(found, s[i / 2][t][i % 2 * 2 + e]);
    float top = fmaxf(totals.top[t][e], max_over_keys(found) * TOP_UNIT);
    float factor = power_of_two((totals.top[t][e] - top) * POWER_UNIT);
    totals.top[t][e] = top;
    totals.sum[t][e] *= factor;
#pragma unroll
    for (int i = 0; i < V_BLOCKS * 2; ++i) totals.out[t][i / 2][i % 2 * 2 + e] *= factor;
  }
}

__device__ __forceinline__ float exponent(const Scores& s, const Totals& totals, int sub, int t, int i) {
  return (s[sub][t][i] * TOP_UNIT - totals.top[t][i % 2]) * POWER_UNIT;
}

typedef unsigned Shares[SUBS][ROW_TILES][2];  // of row g: keys 2c and 2c + 1, then those 8 behind

// Probabilities up to a factor per row.
__device__ __forceinline__ void share_out(Shares& shares, Totals& totals, const Scores& s) {
  float highest = -INFINITY;
#pragma unroll
  for (int j = 0; j < SUBS * ROW_TILES * 4; ++j)
    highest = fmaxf(highest, exponent(s, totals, j / (ROW_TILES * 4), j / 4 % ROW_TILES, j % 4));
  if (__any_sync(ALL, highest > LATEST_RAISE)) raise(totals, s);
#pragma unroll
  for (int j = 0; j < SUBS * ROW_TILES * 2; ++j) {
    int sub = j / (ROW_TILES * 2), t = j / 2 % ROW_TILES, h = j % 2;
    float even = power_of_two(exponent(s, totals, sub, t, 2 * h));
    float odd = power_of_two(exponent(s, totals, sub, t, 2 * h + 1));
    totals.sum[t][0] += even;
    totals.sum[t][1] += odd;
    shares[sub][t][h] = transposed(pair_of(even, odd));
  }
}

__device__ __forceinline__ void gather_values(Totals& totals, const Shares& shares,
                                              const unsigned char* values, const Lane& lane) {
#pragma unroll
  for (int sub = 0; sub < SUBS; ++sub)
#pragma unroll
    for (int b = 0; b < V_BLOCKS; ++b) {
      unsigned v[4];
      load_transposed(v, block_at(values, lane.in_values, sub, b));
#pragma unroll
      for (int t = 0; t < ROW_TILES; ++t) multiply(totals.out[t][b], v, shares[sub][t][0], shares[sub][t][1]);
    }
}
