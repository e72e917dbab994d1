// y = x (scale (codes - zero))^T for few rows of x, on tensor cores, codes packed as in
// schedules/packing.py. Needs compute capability 8.0.
//
// Weights are the left operand (16 columns of y x 16 of depth per mma), so one mma serves up to
// eight rows of x. Every lane holds DEPTH steps of loads in flight. Masked codes are multiplied
// as they are: for half, the mask alone makes the subnormal code * 2^(place - 24), which tensor
// cores multiply exactly; for bfloat16, 0x4300 is added, which makes 128 + code * 2^place. Codes
// at one place of the half words share accumulators. What was added, and the zero points, are
// taken off once per group, by the sum of x over the group, which one more mma per fragment
// gives (shared by all tiles of a warp).
//
// Defined before this text:
//   BITS, UNIT_K, LOADS, GROUP_K   the storage; GROUP_K is a multiple of 32 (64 for 3 bits)
//   N_TILES, N_COLUMNS, N_UNITS, N_GROUPS, K, M
//   HAS_ZEROS, HAS_BIAS, IS_HALF, elem (the type of x, scales, bias and y)
//   STEP_UNITS, STEP_GROUPS        units and groups of one step
//   WARPS_K, WARPS_N, TILES, DEPTH, BLOCKS_K, X_SHARED, X_STRIDE (elements), M_PASS

constexpr int FRAGMENTS = UNIT_K / 16;
constexpr int N_STEPS = (N_UNITS + STEP_UNITS - 1) / STEP_UNITS;
constexpr int STEP_K = STEP_UNITS * UNIT_K;
constexpr int M_TILES = (M_PASS + 7) / 8;
constexpr int BLOCK_TILES = WARPS_N * TILES;
constexpr int BLOCK_COLUMNS = BLOCK_TILES * 16;
constexpr int THREADS = 32 * WARPS_N * WARPS_K;
constexpr int RED_STRIDE = BLOCK_COLUMNS * M_PASS;
// Columns of the right operand beyond the rows of x read a row of zeros.
constexpr int HELD_ROWS = M_PASS % 8 == 0 ? M_PASS : M_PASS + 1;

// Where the codes of a fragment lie, and by what their products are multiplied in the end.
struct Place {
  int word_load;  // which 16-byte load
  int offset;     // in a half word
};
__device__ constexpr Place place_of(int fragment) {
  if (BITS != 3) return {0, BITS * fragment};
  return fragment < 15 ? Place{fragment / 5, 3 * (fragment % 5)} : Place{0, 0};
}
// Bits of the mantissa that may hold a code and keep the number linear in it.
constexpr int MANTISSA = IS_HALF ? 10 : 7;
constexpr bool SPLIT = BITS > MANTISSA - 1 && !IS_HALF;  // 8 bits as two times 4
constexpr int PART_BITS = SPLIT ? 4 : BITS;
constexpr int PARTS = SPLIT ? 2 : 1;
// Places are counted from the last shift, so that few words need to be shifted.
constexpr int PLACES = SPLIT ? 1 : (BITS == 8 ? 1 : MANTISSA / BITS);
constexpr int PLACES_USED = (IS_HALF && BITS == 2) ? 4 : PLACES;
constexpr int CLASSES = SPLIT ? 2 : PLACES_USED;
__device__ constexpr int class_of(int fragment, int part) {
  if (SPLIT) return part;
  if (BITS == 3 && fragment == 15) return 0;
  return (place_of(fragment).offset / BITS) % PLACES_USED;
}
__device__ constexpr int shift_of(int fragment, int part) {
  int offset = place_of(fragment).offset;
  if (SPLIT) return offset + 4 * part;
  return offset / BITS / PLACES_USED * PLACES_USED * BITS;
}
__device__ constexpr int bits_below(int c) { return SPLIT ? 0 : c * BITS; }
__device__ constexpr float power_of_two(int e) {
  float v = 1.0f;
  for (int i = 0; i < e; ++i) v *= 2.0f;
  for (int i = 0; i < -e; ++i) v *= 0.5f;
  return v;
}
__device__ constexpr float class_factor(int c) {
  if (SPLIT) return c == 0 ? 1.0f : 16.0f;
  return power_of_two((IS_HALF ? 24 : 0) - bits_below(c));
}
// The same by its bits: compilers do not fold the loop of power_of_two outside constants.
__device__ __forceinline__ float folded_factor(int c) {
  int exponent = SPLIT ? 4 * c : (IS_HALF ? 24 : 0) - bits_below(c);
  return __uint_as_float((unsigned)(127 + exponent) << 23);
}
// The sum of what was added to the codes of a fragment, in units of a code.
__device__ constexpr float added_to(int fragment) {
  if (IS_HALF) return 0.0f;
  if (SPLIT) return 128.0f * 17.0f;
  return 128.0f * class_factor(class_of(fragment, 0));
}
constexpr float MIDDLE = (float)(1 << (BITS - 1));
// Two equal elements of a value that elem holds exactly.
__device__ constexpr unsigned pair_of(float value) {
  unsigned bits = 0;
  if (value != 0.0f) {
    int e = 0;
    float v = value;
    while (v >= 2.0f) { v *= 0.5f; ++e; }
    while (v < 1.0f) { v *= 2.0f; --e; }
    unsigned fraction = (unsigned)((v - 1.0f) * (IS_HALF ? 1024.0f : 128.0f));
    bits = IS_HALF ? ((unsigned)(e + 15) << 10 | fraction) : ((unsigned)(e + 127) << 7 | fraction);
  }
  return bits * 0x10001u;
}
// One constant of the correction: with zero points, what was added and 1 stand apart.
__device__ constexpr float correction_of(int fragment) {
  return HAS_ZEROS ? added_to(fragment) : added_to(fragment) + MIDDLE;
}
constexpr bool CORRECTS = !HAS_ZEROS || !IS_HALF;

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
__device__ __forceinline__ void multiply(float (&d)[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (IS_HALF)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
        " {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7},"
        " {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
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

// One register of a fragment: two codes of one word.
template <int FRAGMENT, int PART>
__device__ __forceinline__ unsigned numbers(unsigned w0, unsigned w1, unsigned w2) {
  constexpr unsigned added = IS_HALF ? 0u : 0x43004300u;
  if constexpr (BITS == 3 && FRAGMENT == 15) {
    unsigned v = (w0 >> 15) & 0x00010001u;
    v |= (w1 >> 14) & 0x00020002u;
    return v | ((w2 >> 13) & 0x00040004u) | added;
  } else {
    constexpr unsigned mask = (((1u << PART_BITS) - 1) << bits_below(class_of(FRAGMENT, PART))) * 0x10001u;
    constexpr int load = place_of(FRAGMENT).word_load;
    unsigned word = load == 0 ? w0 : load == 1 ? w1 : w2;
    return ((word >> shift_of(FRAGMENT, PART)) & mask) | added;
  }
}

struct Step {  // what one step of one tile needs from memory
  uint4 codes[STEP_UNITS][LOADS];
  unsigned scales[STEP_GROUPS];
  unsigned zeros[HAS_ZEROS ? STEP_GROUPS : 1];
};

struct Sums {  // of one tile over one group
  float products[CLASSES][M_TILES][4];
};

template <int FRAGMENT>
__device__ __forceinline__ void fragment_products(const uint4 (&codes)[LOADS], const uint2 (&x)[M_TILES],
                                                  Sums& sums) {
  const uint4& c0 = codes[0];
  const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
  const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
#define EFFC_PART(PART)                                                            \
  {                                                                                \
    unsigned a0 = numbers<FRAGMENT, PART>(c0.x, c1.x, c2.x);                       \
    unsigned a1 = numbers<FRAGMENT, PART>(c0.y, c1.y, c2.y);                       \
    unsigned a2 = numbers<FRAGMENT, PART>(c0.z, c1.z, c2.z);                       \
    unsigned a3 = numbers<FRAGMENT, PART>(c0.w, c1.w, c2.w);                       \
    _Pragma("unroll") for (int m = 0; m < M_TILES; ++m)                            \
        multiply(sums.products[class_of(FRAGMENT, PART)][m], a0, a1, a2, a3, x[m].x, x[m].y); \
  }
  EFFC_PART(0)
  if constexpr (PARTS == 2) EFFC_PART(PARTS - 1)
#undef EFFC_PART
}

// Of one group, shared by all tiles; apart for even and odd fragments, so that no long chain of
// dependent products decides the time.
struct Corrections {
  float added[2][M_TILES][4];
  float x[2][M_TILES][4];
};

template <int FRAGMENT>
__device__ __forceinline__ void fragment_corrections(const uint2 (&x)[M_TILES], Corrections& sums) {
#pragma unroll
  for (int m = 0; m < M_TILES; ++m) {
    if constexpr (CORRECTS) {
      constexpr unsigned c = pair_of(correction_of(FRAGMENT));
      multiply(sums.added[FRAGMENT % 2][m], c, c, c, c, x[m].x, x[m].y);
    }
    if constexpr (HAS_ZEROS) {
      constexpr unsigned one = pair_of(1.0f);
      multiply(sums.x[FRAGMENT % 2][m], one, one, one, one, x[m].x, x[m].y);
    }
  }
}

__device__ __forceinline__ void fetch(Step& step, const unsigned* codes, const elem* scales,
                                      const unsigned char* zeros, int tile, int index, int lane) {
  if (tile >= N_TILES) tile = N_TILES - 1;  // computed and never stored
#pragma unroll
  for (int u = 0; u < STEP_UNITS; ++u) {
    int unit = index * STEP_UNITS + u;
    if (N_UNITS % STEP_UNITS != 0 && unit >= N_UNITS) unit = N_UNITS - 1;  // meets x = 0
    const uint4* from = (const uint4*)codes + ((long long)tile * N_UNITS + unit) * (LOADS * 32) + lane;
#pragma unroll
    for (int l = 0; l < LOADS; ++l) step.codes[u][l] = load_codes(from + l * 32);
  }
#pragma unroll
  for (int g = 0; g < STEP_GROUPS; ++g) {
    int group = index * STEP_K / GROUP_K + g;
    if (group >= N_GROUPS) group = N_GROUPS - 1;
    long long at = ((long long)tile * N_GROUPS + group) * 16 + lane / 4 * 2;
    step.scales[g] = load_pair(scales + at);
    if constexpr (HAS_ZEROS) step.zeros[g] = load_bytes(zeros + at);
  }
}

// Eight neighbouring elements of x per row of this lane, zero beyond the rows and the depth.
__device__ __forceinline__ void read_x(uint4 (&found)[M_TILES], const elem* x, const elem* held,
                                       int k, int k_begin, int m_begin, int lane) {
  int column = k + lane % 4 * 8;
#pragma unroll
  for (int m = 0; m < M_TILES; ++m) {
    int row = m * 8 + lane / 4;
    if constexpr (X_SHARED) {
      int kept = row < M_PASS ? row : M_PASS;
      found[m] = *(const uint4*)(held + kept * X_STRIDE + column - k_begin);
    } else {
      found[m] = make_uint4(0, 0, 0, 0);
      if (row < M_PASS && m_begin + row < M && column < K)
        found[m] = __ldg((const uint4*)(x + (long long)(m_begin + row) * K + column));
    }
  }
}

template <int PAIR>
__device__ __forceinline__ void pair_of_fragments(int u, const Step (&step)[TILES],
                                                  const uint4 (&x)[M_TILES], Sums (&sums)[TILES],
                                                  Corrections& corrections) {
  uint2 first[M_TILES], second[M_TILES];
#pragma unroll
  for (int m = 0; m < M_TILES; ++m) {
    first[m] = make_uint2(x[m].x, x[m].y);
    second[m] = make_uint2(x[m].z, x[m].w);
  }
  fragment_corrections<2 * PAIR>(first, corrections);
  fragment_corrections<2 * PAIR + 1>(second, corrections);
#pragma unroll
  for (int t = 0; t < TILES; ++t) {
    fragment_products<2 * PAIR>(step[t].codes[u], first, sums[t]);
    fragment_products<2 * PAIR + 1>(step[t].codes[u], second, sums[t]);
  }
}

__device__ __forceinline__ void clear(Sums (&sums)[TILES], Corrections& corrections) {
#pragma unroll
  for (int i = 0; i < M_TILES * 4; ++i) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      corrections.added[p][i / 4][i % 4] = 0.0f;
      corrections.x[p][i / 4][i % 4] = 0.0f;
    }
#pragma unroll
    for (int t = 0; t < TILES; ++t)
#pragma unroll
      for (int c = 0; c < CLASSES; ++c) sums[t].products[c][i / 4][i % 4] = 0.0f;
  }
}

// Scaled sums of a finished group onto the totals.
__device__ __forceinline__ void finish_group(int g, const Step (&step)[TILES], const Sums (&sums)[TILES],
                                             const Corrections& corrections,
                                             float (&totals)[TILES][M_TILES][4]) {
#pragma unroll
  for (int t = 0; t < TILES; ++t) {
    float scale[2] = {low_of(step[t].scales[g]), high_of(step[t].scales[g])};
    float zero[2] = {0.0f, 0.0f};
    if constexpr (HAS_ZEROS) {
      zero[0] = (float)(step[t].zeros[g] & 0xffu);
      zero[1] = (float)(step[t].zeros[g] >> 8);
    }
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float v = CORRECTS ? -corrections.added[0][m][i] - corrections.added[1][m][i] : 0.0f;
        if constexpr (HAS_ZEROS) v -= zero[i / 2] * (corrections.x[0][m][i] + corrections.x[1][m][i]);
#pragma unroll
        for (int c = 0; c < CLASSES; ++c) v += folded_factor(c) * sums[t].products[c][m][i];
        totals[t][m][i] += scale[i / 2] * v;
      }
  }
}

template <int PAIR>
__device__ __forceinline__ void pairs_from(int u, int index, const Step (&step)[TILES], const elem* x,
                                           const elem* held, int k_begin, int m_begin, int lane,
                                           Sums (&sums)[TILES], Corrections& corrections,
                                           float (&totals)[TILES][M_TILES][4]) {
  if constexpr (PAIR < FRAGMENTS / 2) {
    uint4 found[M_TILES];
    int k = index * STEP_K + u * UNIT_K + PAIR * 32;
    read_x(found, x, held, k, k_begin, m_begin, lane);
    pair_of_fragments<PAIR>(u, step, found, sums, corrections);
    if constexpr (GROUP_K < UNIT_K && (PAIR + 1) * 32 % (GROUP_K < UNIT_K ? GROUP_K : 32) == 0) {
      finish_group(u * (UNIT_K / GROUP_K) + PAIR * 32 / GROUP_K, step, sums, corrections, totals);
      clear(sums, corrections);
    }
    pairs_from<PAIR + 1>(u, index, step, x, held, k_begin, m_begin, lane, sums, corrections, totals);
  }
}

__device__ __forceinline__ void consume(int index, const Step (&step)[TILES], const elem* x,
                                        const elem* held, int k_begin, int m_begin, int lane,
                                        float (&totals)[TILES][M_TILES][4]) {
  Sums sums[TILES];
  Corrections corrections;
  clear(sums, corrections);
#pragma unroll
  for (int u = 0; u < STEP_UNITS; ++u)
    pairs_from<0>(u, index, step, x, held, k_begin, m_begin, lane, sums, corrections, totals);
  if constexpr (GROUP_K >= UNIT_K) finish_group(0, step, sums, corrections, totals);
}

// Rows of x over a range of depth into shared memory, zeros beyond both.
__device__ __forceinline__ void stage_x(elem* held, const elem* x, int k_begin, int k_end, int m_begin) {
  constexpr int VECTOR = K % 8 == 0 ? 8 : 1;
  for (int row = 0; row < HELD_ROWS; ++row) {
    bool is_row = row < M_PASS && m_begin + row < M;
#pragma unroll 2
    for (int k = k_begin + threadIdx.x * VECTOR; k < k_end; k += THREADS * VECTOR) {
      bool inside = is_row && k < K;
      elem* to = held + row * X_STRIDE + k - k_begin;
      const elem* from = x + (long long)(m_begin + row) * K + k;
      if constexpr (VECTOR == 8)
        *(uint4*)to = inside ? __ldg((const uint4*)from) : make_uint4(0, 0, 0, 0);
      else
        narrow(*to, inside ? widened(*from) : 0.0f);
    }
  }
}

__device__ __forceinline__ void store(elem* y, const elem* bias, int m, int n, float v) {
  if constexpr (HAS_BIAS) v += widened(bias[n]);
  narrow(y[(long long)m * N_COLUMNS + n], v);
}

__device__ __forceinline__ void gemv_dequant(const elem* __restrict__ x, const unsigned* __restrict__ codes,
                                             const elem* __restrict__ scales,
                                             const unsigned char* __restrict__ zeros,
                                             const elem* __restrict__ bias, elem* __restrict__ y,
                                             float* __restrict__ partial, unsigned char* arena) {
  float* reduced = (float*)arena;
  elem* held = (elem*)(arena + WARPS_K * RED_STRIDE * 4);
  // Equal in a warp, which the compiler cannot see by itself.
  int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  int warp_k = warp % WARPS_K, warp_n = warp / WARPS_K;
  int first_tile = blockIdx.x * BLOCK_TILES + warp_n * TILES;
  int m_begin = blockIdx.z * M_PASS;
  // Steps of this block, then of this warp: shares differ by one at most.
  int block_begin = blockIdx.y * N_STEPS / BLOCKS_K, block_end = (blockIdx.y + 1) * N_STEPS / BLOCKS_K;
  int n_block = block_end - block_begin;
  int begin = block_begin + warp_k * n_block / WARPS_K;
  int n = block_begin + (warp_k + 1) * n_block / WARPS_K - begin;
  int k_begin = block_begin * STEP_K;

  Step ring[DEPTH][TILES];
#pragma unroll
  for (int d = 0; d < DEPTH; ++d)
    if (d < n)
#pragma unroll
      for (int t = 0; t < TILES; ++t) fetch(ring[d][t], codes, scales, zeros, first_tile + t, begin + d, lane);
  if constexpr (X_SHARED) {
    stage_x(held, x, k_begin, block_end * STEP_K, m_begin);
    __syncthreads();
  }
  float totals[TILES][M_TILES][4] = {};
  for (int base = 0; base < n; base += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      int i = base + d;
      if (i < n) {
        consume(begin + i, ring[d], x, held, k_begin, m_begin, lane, totals);
        if (i + DEPTH < n)
#pragma unroll
          for (int t = 0; t < TILES; ++t)
            fetch(ring[d][t], codes, scales, zeros, first_tile + t, begin + i + DEPTH, lane);
      }
    }
  }

  // Partial sums of the warps along the depth meet in shared memory, in a fixed order.
#pragma unroll
  for (int t = 0; t < TILES; ++t)
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int column = (warp_n * TILES + t) * 16 + lane / 4 + i / 2 * 8;
        int row = m * 8 + lane % 4 * 2 + i % 2;
        if (row < M_PASS) reduced[warp_k * RED_STRIDE + row * BLOCK_COLUMNS + column] = totals[t][m][i];
      }
  __syncthreads();
  for (int i = threadIdx.x; i < RED_STRIDE; i += THREADS) {
    int m = m_begin + i / BLOCK_COLUMNS, column = blockIdx.x * BLOCK_COLUMNS + i % BLOCK_COLUMNS;
    float v = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS_K; ++w) v += reduced[w * RED_STRIDE + i];
    if (m < M && column < N_COLUMNS) {
      if constexpr (BLOCKS_K == 1) store(y, bias, m, column, v);
      else partial[((long long)blockIdx.y * M + m) * N_COLUMNS + column] = v;
    }
  }
}

__device__ __forceinline__ void gemv_dequant_sum(const float* __restrict__ partial,
                                                 const elem* __restrict__ bias, elem* __restrict__ y) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= M * N_COLUMNS) return;
  float v = 0.0f;
#pragma unroll
  for (int b = 0; b < BLOCKS_K; ++b) v += partial[(long long)b * M * N_COLUMNS + i];
  store(y, bias, i / N_COLUMNS, i % N_COLUMNS, v);
}
