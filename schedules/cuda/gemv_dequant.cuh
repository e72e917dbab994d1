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
// Weights are asked for before anything else, and before the kernel in front has ended.
//
// Defined before this text:
//   BITS, UNIT_K, LOADS, GROUP_K   the storage; GROUP_K is a multiple of 32
//   N_TILES, N_COLUMNS, N_UNITS, N_GROUPS, K, M
//   HAS_ZEROS, HAS_BIAS, IS_HALF, elem (the type of x, scales, bias and y)
//   STEP_UNITS, STEP_GROUPS, CHUNK_K   units and groups of one step, depth of a chunk
//   WARPS_K, WARPS_N, BLOCKS_N, BLOCKS_K, IN_FLIGHT, X_STRIDE (bytes), M_PASS
//   BULK, PIECE                    whether codes come by bulk copies, and steps of one copy
//   RING, TABLE, HELD, REDUCED     offsets in the arena

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

__device__ __forceinline__ uint4 load_codes(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}
__device__ __forceinline__ unsigned load_pair(const elem* address) {
  unsigned v;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(address));
  return v;
}
__device__ __forceinline__ unsigned load_bytes(const unsigned char* address) {
  unsigned short v;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(address));
  return v;
}
// Of what the kernel in front may have written: these stay behind the wait for it, and bypass
// the first cache, which kernels that run side by side share.
__device__ __forceinline__ uint4 load_eight(const elem* address) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address) : "memory");
  return v;
}
__device__ __forceinline__ unsigned load_one(const elem* address) {
  unsigned short v;
  asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(v) : "l"(address) : "memory");
  return v;
}
__device__ __forceinline__ float load_partial(const float* address) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(address) : "memory");
  return v;
}
// Lets the kernel behind start, up to its wait, as soon as all blocks of this one have started.
__device__ __forceinline__ void release_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Copies in bulk into shared memory; a barrier completes when all bytes have arrived.
__device__ __forceinline__ unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}
// One lane of a warp, in a way that the compiler understands to be one.
__device__ __forceinline__ bool elected() {
  unsigned is_elected = 1;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(is_elected));
#endif
  return is_elected != 0;
}
__device__ __forceinline__ void barrier_init(unsigned long long* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void fence_barriers() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void barrier_expect(unsigned long long* barrier, unsigned n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(n_bytes)
               : "memory");
}
__device__ __forceinline__ void copy_bulk(void* to, const void* from, unsigned n_bytes,
                                          unsigned long long* barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(n_bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}
__device__ __forceinline__ void barrier_wait(unsigned long long* barrier, unsigned parity) {
  unsigned done = 0;
  while (!done)
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;"
        " selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
}
__device__ __forceinline__ void multiply(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
      " {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
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

// Eight elements from k on, zero from `limit` on.
__device__ __forceinline__ void read_x(float (&values)[8], const elem* row, int k, int limit) {
  unsigned pairs[4] = {0, 0, 0, 0};
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
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = low_of(pairs[i]);
    values[2 * i + 1] = high_of(pairs[i]);
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

// Rows of x over a range of depth as digits in shared memory; zeros beyond both. A lane of a
// product finds its eight bytes of two neighbouring fragments side by side.
__device__ __forceinline__ void stage_x(unsigned char* held, Column* table, const elem* x, int k_begin,
                                        int k_end, int m_begin, int warp, int lane) {
  constexpr int LANES = CHUNK_K / 8;
  int per_row = (k_end - k_begin + 255) / 256;
  for (int item = warp; item < M_PASS * per_row; item += WARPS) {
    int row = item / per_row, at = item % per_row * 256 + lane * 8, k = k_begin + at;
    bool inside = k < k_end, is_row = m_begin + row < M;
    float v[8];
    read_x(v, x + (long long)(m_begin + row) * K, k, inside && is_row ? K : 0);
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
