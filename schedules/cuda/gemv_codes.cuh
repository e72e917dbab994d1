// y = x (scale (codes - zero))^T for few rows of x, on tensor cores, codes packed as in
// schedules/packing.py. Needs compute capability 8.0; copies in bulk need 9.0.
//
// What decides is the number of instructions per code, so codes are multiplied as integers, where
// they lie: a mask leaves four of them in the bytes of a word, each times a power of two, which
// is their class. Those are the left operand (16 columns of y x 32 of depth per mma). The right
// operand is x as whole numbers of three digits of base 256, which are three of its eight
// columns, so that a row of x costs no more than its leading digits alone. Every chunk of x
// (the depth over which integers are summed) is scaled by a power of two that brings its largest
// element to 2^21: what is rounded is 2^-22 of that, as in sums of floats. Sums of a chunk are
// exact. Every block makes the digits once, with their sums, which take off the zero points.
//
// After gemv_memory.cuh; what is defined before it stands in gemv_dequant.cuh.

constexpr int N_STEPS = (N_UNITS + STEP_UNITS - 1) / STEP_UNITS;
constexpr int STEP_K = STEP_UNITS * UNIT_K;
constexpr int UNIT_FRAGMENTS = UNIT_K / 32;
constexpr int STEP_FRAGMENTS = STEP_K / 32;
constexpr int WARPS = WARPS_N * WARPS_K;
constexpr int THREADS = 32 * WARPS;
// Digits of the rows of x are the columns of the right operand, eight at a time.
constexpr int DIGITS = 3;
constexpr int X_COLUMNS = DIGITS * M_PASS;
constexpr int X_TILES = (X_COLUMNS + 7) / 8;
// Sums of the warps along the depth lie side by side, apart enough for the memory banks.
constexpr int SUMS_STRIDE = WARPS_K % 8 == 0 ? WARPS_K + 4 : WARPS_K;
constexpr int MIDDLE = 1 << (BITS - 1);

// Where the codes of a fragment lie in the bytes of a word, and their classes by shifts.
constexpr int CLASSES = BITS == 8 ? 1 : BITS == 4 ? 2 : BITS == 3 ? 3 : 4;
__device__ constexpr int shift_of_class(int c) { return BITS == 3 && c == 2 ? 5 : c * BITS; }
constexpr int TOP_SHIFT = BITS == 8 ? 0 : BITS == 4 ? 4 : BITS == 3 ? 5 : 6;
__device__ constexpr int class_of(int fragment) {
  return BITS == 3 ? (fragment < 6 ? fragment % 2 : 2) : fragment % CLASSES;
}
// A float of this size and the same bits plus an integer below 2^22 differ by that integer.
constexpr int MAGIC = 0x4b400000;
constexpr float MAGIC_FLOAT = 12582912.0f;
// What sums of the first class begin with, so that all classes together begin with MAGIC.
constexpr int FIRST = MAGIC >> TOP_SHIFT;

__device__ __forceinline__ float low_of(unsigned pair) {
  if constexpr (IS_HALF) return __half2float(__ushort_as_half((unsigned short)(pair & 0xffffu)));
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high_of(unsigned pair) {
  if constexpr (IS_HALF) return __half2float(__ushort_as_half((unsigned short)(pair >> 16)));
  return __uint_as_float(pair & 0xffff0000u);
}
__device__ __forceinline__ float widened(half v) { return __half2float(v); }
__device__ __forceinline__ float widened(nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ void narrow(half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void narrow(nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }
// A byte as a float, without the slow conversion.
__device__ __forceinline__ float float_of_byte(unsigned byte) {
  return __uint_as_float(0x4b000000u | byte) - 8388608.0f;
}

// ---- codes to numbers ----

struct Step {  // what one step of one tile needs from memory
  uint4 codes[STEP_UNITS][LOADS];
  unsigned scales[STEP_GROUPS];
  unsigned zeros[HAS_ZEROS ? STEP_GROUPS : 1];
};

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

// ---- x in shared memory ----

// Of one digit of one row over one chunk.
struct Column {
  float taken_off;  // the sum of the digits; as an integer, what sums of products begin with
  float factor;     // by which sums are too small, beside the weight of the digit
};

// Eight elements from k on in pairs, zero from `limit` on.
__device__ __forceinline__ void read_x(unsigned (&pairs)[4], const elem* row, int k, int limit) {
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = 0;
  if constexpr (K % 8 == 0) {
    if (k < limit) {
      uint4 v = load_eight(row + k);
      pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (k + i < limit) pairs[i / 2] |= load_one(row + k + i) << (i % 2 * 16);
  }
}

// Four whole numbers below 2^22, each added to MAGIC, as words of four equal digits, the highest first.
__device__ __forceinline__ void digits_of(unsigned (&digits)[DIGITS], const unsigned (&magic)[4]) {
  unsigned n[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) n[i] = (magic[i] - MAGIC + 0x808080u) ^ 0x808080u;  // digits from -128 to 127
  unsigned low = __byte_perm(n[0], n[1], 0x5140), high = __byte_perm(n[2], n[3], 0x5140);
  digits[2] = __byte_perm(low, high, 0x5410);
  digits[1] = __byte_perm(low, high, 0x7632);
  digits[0] = __byte_perm(__byte_perm(n[0], n[1], 0x0062), __byte_perm(n[2], n[3], 0x0062), 0x5410);
}

// Eight elements per lane of a row as digits into shared memory. A lane of a product finds its
// eight bytes of two neighbouring fragments side by side.
__device__ __forceinline__ void stage_digits(unsigned char* held, Column* table, const unsigned (&pairs)[4],
                                             int row, int at, bool inside, int lane) {
  constexpr int LANES = CHUNK_K / 8;
  float v[8];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = low_of(pairs[i]);
    v[2 * i + 1] = high_of(pairs[i]);
  }
  unsigned largest = 0;  // by its bits, so that what is no number is larger than all
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = max(largest, __float_as_uint(v[i]) & 0x7fffffffu);
#pragma unroll
  for (int other = LANES / 2; other > 0; other /= 2)
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, other));
  // Powers of two by their exponents: 2^21 <= largest * up < 2^22, and down = 1 / up.
  unsigned exponent = largest >> 23, kept = exponent < 22 ? 22 : exponent > 254 ? 254 : exponent;
  float up = __uint_as_float((275 - kept) << 23);
  float down = exponent == 255 ? __uint_as_float(0x7fc00000u) : __uint_as_float((kept - 21) << 23);
  unsigned words[2][DIGITS];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    unsigned magic[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) magic[i] = __float_as_uint(fmaf(v[4 * h + i], up, MAGIC_FLOAT));
    digits_of(words[h], magic);
  }
  int sums[DIGITS];
#pragma unroll
  for (int d = 0; d < DIGITS; ++d)
    sums[d] = __dp4a((int)words[1][d], 0x01010101, __dp4a((int)words[0][d], 0x01010101, 0));
  // Two sums of 16 bits travel together.
  int both = sums[0] * 65536 + sums[1];
#pragma unroll
  for (int other = LANES / 2; other > 0; other /= 2) {
    both += __shfl_xor_sync(0xffffffffu, both, other);
    sums[2] += __shfl_xor_sync(0xffffffffu, sums[2], other);
  }
  sums[1] = (short)both;
  sums[0] = (both - sums[1]) >> 16;
  if (inside) {
    unsigned u = at, place = u / 64 * 64 + u % 32 * 2 + u / 32 % 2 * 8;
#pragma unroll
    for (int d = 0; d < DIGITS; ++d) {
      int column = row * DIGITS + d;
      *(uint2*)(held + column * X_STRIDE + place) = make_uint2(words[0][d], words[1][d]);
      if (lane % LANES == 0) {
        float off = HAS_ZEROS ? (float)(sums[d] << TOP_SHIFT)
                              : __int_as_float(FIRST - MIDDLE * sums[d]);
        table[at / CHUNK_K * (X_TILES * 8) + column] = {off, down};
      }
    }
  }
}

// Rows of x over a range of depth into shared memory, zeros beyond both; 256 elements of a row
// are an item of a warp, and two items are asked for at once.
constexpr int ROW_ITEMS = ((N_STEPS + BLOCKS_K - 1) / BLOCKS_K * STEP_K + 255) / 256;
constexpr int ITEMS = ROW_ITEMS * M_PASS;
constexpr int BATCH = ITEMS > WARPS ? 2 : 1;

__device__ __forceinline__ void stage_x(unsigned char* held, Column* table, const elem* x, int k_begin,
                                        int k_end, int m_begin, int warp, int lane) {
#pragma unroll 1
  for (int first = warp; first < ITEMS; first += WARPS * BATCH) {
    unsigned pairs[BATCH][4];
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = first + b * WARPS, row = item / ROW_ITEMS;
      int k = k_begin + item % ROW_ITEMS * 256 + lane * 8;
      bool exists = item < ITEMS && m_begin + row < M;
      read_x(pairs[b], x + (long long)(m_begin + row) * K, k, exists ? min(K, k_end) : 0);
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = first + b * WARPS, row = item / ROW_ITEMS, at = item % ROW_ITEMS * 256 + lane * 8;
      if (item < ITEMS) stage_digits(held, table, pairs[b], row, at, k_begin + at < k_end, lane);
    }
  }
}

// The digits of this lane's column: of two fragments, or of one if a step has no more.
__device__ __forceinline__ void held_x(uint4 (&found)[X_TILES], const unsigned char* held, int at, int lane) {
#pragma unroll
  for (int t = 0; t < X_TILES; ++t) {
    int column = t * 8 + lane / 4;
    column = column < X_COLUMNS ? column : X_COLUMNS - 1;  // never used
    const unsigned char* from = held + column * X_STRIDE + at / 64 * 64 + lane % 4 * 16;
    if constexpr (STEP_FRAGMENTS > 1) {
      found[t] = *(const uint4*)from;
    } else {
      uint2 one = *(const uint2*)(from + at / 32 % 2 * 8);
      found[t] = make_uint4(one.x, one.y, 0, 0);
    }
  }
}

// ---- products ----

struct Sums {  // of one tile over one chunk
  int products[CLASSES][X_TILES][4];
};
struct Totals {  // of one tile, in units of 2^-TOP_SHIFT
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
  float scale[2] = {low_of(step.scales[group]), high_of(step.scales[group])};
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
      totals.sums[t][i] += scale[i / 2] * columns[t][M_PASS == 1 ? 0 : i % 2].factor * v;
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
