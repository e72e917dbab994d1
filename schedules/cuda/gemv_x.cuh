// x of packed products in shared memory: as whole numbers of DIGITS digits of base 256, or of one
// digit if it is int8, each a column of the right operand.
//
// 256 elements of a float x are scaled by a power of two that brings the largest of them to 2^21: what
// is rounded is 2^-22 of that, as in sums of floats. Sums are those of chunks (the depth over which
// integers are summed).

// Of one digit of one row over one chunk.
struct Column {
  float taken_off;  // the sum of the digits; without zero points, MAGIC_FLOAT and what their middle takes off
  float factor;     // by which sums are too small, beside the weight of the digit
};

__device__ __forceinline__ float element_of(const unsigned (&raw)[RAW_WORDS], int i) {
  unsigned word = raw[i * X_BYTES / 4];
  return number_of<x_elem>(X_BYTES == 4 ? word : word >> (i * X_BYTES % 4 * 8) & ((1ull << 8 * X_BYTES) - 1));
}

// Four whole numbers below 2^22, each added to MAGIC, as words of four equal digits, the highest first.
__device__ __forceinline__ void digits_of(unsigned (&digits)[3], const unsigned (&magic)[4]) {
  unsigned n[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) n[i] = (magic[i] - MAGIC + 0x808080u) ^ 0x808080u;  // digits from -128 to 127
  unsigned low = __byte_perm(n[0], n[1], 0x5140), high = __byte_perm(n[2], n[3], 0x5140);
  digits[2] = __byte_perm(low, high, 0x5410);
  digits[1] = __byte_perm(low, high, 0x7632);
  digits[0] = __byte_perm(__byte_perm(n[0], n[1], 0x0062), __byte_perm(n[2], n[3], 0x0062), 0x5410);
}

constexpr int CHUNK_LANES = CHUNK_K / 8;  // lanes whose elements are of one chunk

// Eight floats per lane as digits, four per word; answers by what the warp's digits are too small.
__device__ __forceinline__ float split(unsigned (&words)[2][3], const unsigned (&raw)[RAW_WORDS]) {
  float v[8];
  unsigned largest = 0;  // by its bits, so that what is no number is larger than all
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    v[i] = element_of(raw, i);
    largest = max(largest, __float_as_uint(v[i]) & 0x7fffffffu);
  }
  largest = __reduce_max_sync(0xffffffffu, largest);
  // Powers of two by their exponents: 2^21 <= largest * up < 2^22, and down = 1 / up.
  unsigned exponent = largest >> 23, kept = exponent < 22 ? 22 : exponent > 254 ? 254 : exponent;
  float up = __uint_as_float((275 - kept) << 23);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    unsigned magic[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) magic[i] = __float_as_uint(fmaf(v[4 * h + i], up, MAGIC_FLOAT));
    digits_of(words[h], magic);
  }
  return exponent == 255 ? __uint_as_float(0x7fc00000u) : __uint_as_float((kept - 21) << 23);
}
// Integers are their only digit.
__device__ __forceinline__ float split(unsigned (&words)[2][1], const unsigned (&raw)[RAW_WORDS]) {
  words[0][0] = raw[0], words[1][0] = raw[1];
  return 1.0f;
}

// Sums of a chunk's digits, from those of each lane; 16 bits hold them.
__device__ __forceinline__ int chunk_sum(int sum, int lane) {
  if constexpr (CHUNK_LANES == 16) {  // one for each half of the warp
    int both = __reduce_add_sync(0xffffffffu, lane < 16 ? sum : sum * 65536);
    int first = (short)both;
    return lane < 16 ? first : (both - first) >> 16;
  }
#pragma unroll
  for (int other = CHUNK_LANES / 2; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
  return sum;
}

// Eight elements per lane of a row as digits into shared memory. A lane of a product finds its
// eight bytes of two neighbouring fragments side by side.
__device__ __forceinline__ void stage_digits(unsigned char* held, Column* table, const unsigned (&raw)[RAW_WORDS],
                                             int row, int at, bool inside, int lane) {
  unsigned words[2][DIGITS];
  float down = split(words, raw);
  int sums[DIGITS];
#pragma unroll
  for (int d = 0; d < DIGITS; ++d)
    sums[d] = chunk_sum(__dp4a((int)words[1][d], 0x01010101, __dp4a((int)words[0][d], 0x01010101, 0)), lane);
  if (inside) {
    unsigned u = at, place = u / 64 * 64 + u % 32 * 2 + u / 32 % 2 * 8;
#pragma unroll
    for (int d = 0; d < DIGITS; ++d) {
      int column = row * DIGITS + d;
      *(uint2*)(held + column * X_STRIDE + place) = make_uint2(words[0][d], words[1][d]);
      if (lane % CHUNK_LANES == 0) {
        float off = (float)(sums[d] * ((HAS_ZEROS ? 1 : MIDDLE) << TOP_SHIFT));
        if constexpr (!HAS_ZEROS) off += MAGIC_FLOAT;
        table[at / CHUNK_K * (X_TILES * 8) + column] = {off, down};
      }
    }
  }
}

// Rows of x over a range of depth into shared memory, zeros beyond both; 256 elements of a row
// are an item of a warp, and several items are asked for at once.
constexpr int ROW_ITEMS = (STAGED_K + 255) / 256;
constexpr int ITEMS = ROW_ITEMS * M_PASS;
constexpr int WARP_ITEMS = (ITEMS + X_WORKERS - 1) / X_WORKERS;
constexpr int BATCH = WARP_ITEMS < 4 ? WARP_ITEMS : 4;

__device__ __forceinline__ int row_of(int item) { return M_PASS == 1 ? 0 : item / ROW_ITEMS; }

__device__ __forceinline__ void stage_x(unsigned char* held, Column* table, const Rows& rows, int worker, int lane) {
#pragma unroll 1
  for (int pass = 0; pass < WARP_ITEMS; pass += BATCH) {
    unsigned raw[BATCH][RAW_WORDS];
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = (pass + b) * X_WORKERS + worker, row = row_of(item);
      int k = rows.k + (item - row * ROW_ITEMS) * 256 + lane * 8;
      bool exists = item < ITEMS && rows.row + row < M;
      read_x(raw[b], rows.x + (long long)(rows.row + row) * K, k, exists ? min(K, rows.end) : 0);
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
      int item = (pass + b) * X_WORKERS + worker, row = row_of(item), at = (item - row * ROW_ITEMS) * 256 + lane * 8;
      if (item < ITEMS) stage_digits(held, table, raw[b], row, rows.at + at, rows.k + at < rows.end, lane);
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
