// y = x (scale (codes - zero))^T on the tensor cores of 16-bit floats: what a warp makes of codes and
// of x in shared memory when rows are so many that digits of x (gemv_codes.cuh) would cost more than
// making floats of the codes. Compute capability 8.0.
//
// Codes less their zero points are the left operand (16 columns of y x 16 of depth per mma), exact as
// floats; sums of a chunk are multiplied by the scale. The right operand is x as it lies in memory: of
// a fragment's 32 terms a lane holds eight neighbours on both sides, so both sides take them in the
// same other order.

constexpr float SUM_UNIT = 1.0f;
// An integer below the least significant bits of this float is the float plus that integer.
constexpr unsigned PAIR_MAGIC = IS_HALF ? 0x64006400u : 0x43004300u;

struct Column {};  // digits need a table
struct Totals {    // of one tile
  float sums[X_TILES][4];
};

// Rows of x over a range of depth into shared memory, zeros beyond both; several loads at once.
constexpr int ROW_ITEMS = STAGED_K / 8;
constexpr int ITEMS = ROW_ITEMS * M_PASS;
constexpr int X_THREADS = 32 * X_WORKERS;
constexpr int BATCH = ITEMS >= 4 * X_THREADS ? 4 : 1;

__device__ __forceinline__ void stage_x(unsigned char* held, Column*, const Rows& rows, int worker, int lane) {
#pragma unroll 1
  for (int first = worker * 32 + lane; first < ITEMS; first += X_THREADS * BATCH) {
    unsigned raw[BATCH][RAW_WORDS];
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = first + b * X_THREADS, row = rows.row + item / ROW_ITEMS, k = rows.k + item % ROW_ITEMS * 8;
      read_x(raw[b], rows.x + (long long)row * K, k, item < ITEMS && row < M ? min(K, rows.end) : 0);
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = first + b * X_THREADS, at = item % ROW_ITEMS * 8;
      uint4* to = (uint4*)(held + item / ROW_ITEMS * X_STRIDE + (rows.at + at) * 2);
      if (item < ITEMS && rows.k + at < rows.end) *to = make_uint4(raw[b][0], raw[b][1], raw[b][2], raw[b][3]);
    }
  }
}

// Four codes as pairs of floats less their zero point.
__device__ __forceinline__ void floats_of(unsigned& first, unsigned& second, unsigned codes, unsigned zero) {
  first = difference(__byte_perm(codes, PAIR_MAGIC >> 8, 0x4140), zero);
  second = difference(__byte_perm(codes, PAIR_MAGIC >> 8, 0x4342), zero);
}

struct Right {  // what a step's codes are multiplied by
  uint4 x[STEP_FRAGMENTS][X_TILES];
};
// `at` is the step's place in the x that the block holds.
__device__ __forceinline__ void held_right(Right& right, int at, const unsigned char* held, const Column*, int lane) {
#pragma unroll
  for (int fragment = 0; fragment < STEP_FRAGMENTS; ++fragment)
#pragma unroll
    for (int t = 0; t < X_TILES; ++t) {
      int column = t * 8 + lane / 4;
      column = column < M_PASS ? column : M_PASS - 1;  // never used
      right.x[fragment][t] = *(const uint4*)(held + column * X_STRIDE + (at + fragment * 32) * 2 + lane % 4 * 16);
    }
}

template <int FRAGMENT>
__device__ __forceinline__ void fragment_products(const Step& step, const Right& right, const unsigned (&zero)[2],
                                                  float (&sums)[X_TILES][4]) {
  const uint4(&codes)[LOADS] = step.codes[FRAGMENT / UNIT_FRAGMENTS];
  constexpr int INSIDE = FRAGMENT % UNIT_FRAGMENTS;
  const uint4& c0 = codes[0];
  const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
  const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
  unsigned a[2][4];
  floats_of(a[0][0], a[0][2], codes_of<INSIDE>(c0.x, c1.x, c2.x), zero[0]);
  floats_of(a[0][1], a[0][3], codes_of<INSIDE>(c0.y, c1.y, c2.y), zero[1]);
  floats_of(a[1][0], a[1][2], codes_of<INSIDE>(c0.z, c1.z, c2.z), zero[0]);
  floats_of(a[1][1], a[1][3], codes_of<INSIDE>(c0.w, c1.w, c2.w), zero[1]);
#pragma unroll
  for (int t = 0; t < X_TILES; ++t) {
    const uint4& x = right.x[FRAGMENT][t];
    multiply(sums[t], a[0], x.x, x.y);
    multiply(sums[t], a[1], x.z, x.w);
  }
}

// Zero points of the lane's two columns, as pairs of the floats that codes are made of.
__device__ __forceinline__ void zeros_of(unsigned (&zero)[2], const Step& step, int group) {
  unsigned both = HAS_ZEROS ? step.zeros[group] : (1u << (BITS - 1)) * 0x0101u;
  zero[0] = PAIR_MAGIC + (both & 0xffu) * 0x00010001u;
  zero[1] = PAIR_MAGIC + (both >> 8) * 0x00010001u;
}

// The fragments of a step from one on.
template <int FRAGMENT>
__device__ __forceinline__ void fragments_from(const Step& step, const Right& right, unsigned (&zero)[2],
                                               float (&sums)[X_TILES][4], Totals& totals) {
  if constexpr (FRAGMENT < STEP_FRAGMENTS) {
    constexpr int k = FRAGMENT * 32, group = STEP_GROUPS > 1 ? k / GROUP_K : 0;
    if constexpr (k % CHUNK_K == 0) {
      zeros_of(zero, step, group);
#pragma unroll
      for (int t = 0; t < X_TILES; ++t)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[t][i] = 0.0f;
    }
    fragment_products<FRAGMENT>(step, right, zero, sums);
    if constexpr ((k + 32) % CHUNK_K == 0) {
      float scale[2] = {first_of(step.scales[group]), second_of(step.scales[group])};
#pragma unroll
      for (int t = 0; t < X_TILES; ++t)
#pragma unroll
        for (int i = 0; i < 4; ++i) totals.sums[t][i] += scale[i / 2] * sums[t][i];
    }
    fragments_from<FRAGMENT + 1>(step, right, zero, sums, totals);
  }
}

__device__ __forceinline__ void consume(const Step& step, const Right& right, Totals& totals) {
  unsigned zero[2];
  float sums[X_TILES][4];
  fragments_from<0>(step, right, zero, sums, totals);
}
