// y = x (scale (codes - zero))^T for few rows of x, on tensor cores, codes packed as in
// schedules/packing.py. Needs compute capability 8.0; copies in bulk need 9.0.
//
// Weights are the left operand (16 columns of y x 16 of depth per mma), so one mma serves up to
// eight rows of x. What decides is the number of instructions per code, so codes become numbers
// by one mask each: a masked code is the subnormal half code * 2^(place - 24), which tensor cores
// multiply exactly. The place is taken off x beforehand, so that all codes of a column share
// accumulators. For that, and for bfloat16, x is brought into half precision once per block:
// every chunk of it (the depth over which accumulators run) is scaled by a power of two that
// brings its largest element to 2^14, so that only what is 2^-33 of that is rounded. The same
// pass sums x over the chunk, which takes off the zero points.
//
// Weights are asked for before anything else, and before the kernel in front has ended.
//
// Defined before this text:
//   BITS, UNIT_K, LOADS, GROUP_K   the storage; GROUP_K is a multiple of 32 (64 for 3 bits)
//   N_TILES, N_COLUMNS, N_UNITS, N_GROUPS, K, M
//   HAS_ZEROS, HAS_BIAS, IS_HALF, elem (the type of x, scales, bias and y)
//   STEP_UNITS, STEP_GROUPS        units and groups of one step
//   WARPS_K, WARPS_N, BLOCKS_N, BLOCKS_K, IN_FLIGHT, X_STRIDE (elements), M_PASS
//   BULK, PIECE                    whether codes come by bulk copies, and steps of one copy
//   RING, TABLE, HELD, REDUCED     offsets in the arena

constexpr int FRAGMENTS = UNIT_K / 16;
constexpr int N_STEPS = (N_UNITS + STEP_UNITS - 1) / STEP_UNITS;
constexpr int STEP_K = STEP_UNITS * UNIT_K;
constexpr int CHUNK_K = GROUP_K < STEP_K ? GROUP_K : STEP_K;
constexpr int M_TILES = (M_PASS + 7) / 8;
constexpr int WARPS = WARPS_N * WARPS_K;
constexpr int THREADS = 32 * WARPS;
constexpr int TILE_SUMS = 16 * M_PASS;
// Rows of x that a lane has sums of, and rows of the table of chunks.
constexpr int LANE_ROWS = M_PASS == 1 ? 1 : 2;
constexpr int TABLE_ROWS = M_PASS == 1 ? 1 : M_TILES * 8;
constexpr float MIDDLE = (float)(1 << (BITS - 1));
constexpr float SUBNORMAL = 1.0f / (1 << 24);

// Where the codes of a fragment lie.
struct Place {
  int word_load;  // which 16-byte load
  int offset;     // in a half word
};
__device__ constexpr Place place_of(int fragment) {
  if (BITS != 3) return {0, BITS * fragment};
  return fragment < 15 ? Place{fragment / 5, 3 * (fragment % 5)} : Place{0, 15};
}
// Places that a mask alone turns into a subnormal number; words are shifted by as many.
constexpr int PLACES = BITS == 8 ? 1 : BITS == 4 ? 2 : BITS == 3 ? 3 : 4;
__device__ constexpr int shift_of(int fragment) {
  return place_of(fragment).offset / (BITS * PLACES) * (BITS * PLACES);
}
// Bits below the code after the shift: the power of two by which it is too large.
__device__ constexpr int bits_below(int fragment) { return place_of(fragment).offset - shift_of(fragment); }

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
__device__ __forceinline__ void multiply(float (&d)[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
      " {%0,%1,%2,%3};"
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

// One register of a fragment: two codes of one word.
template <int FRAGMENT>
__device__ __forceinline__ unsigned numbers(unsigned w0, unsigned w1, unsigned w2) {
  if constexpr (BITS == 3 && FRAGMENT == 15) {
    // The last bits of three half words; the first is shifted as for two other places.
    unsigned v = ((w0 >> 9) & 0x00400040u) | ((w1 >> 8) & 0x00800080u);
    return v | ((w2 >> 7) & 0x01000100u);
  } else {
    constexpr unsigned mask = (((1u << BITS) - 1) << bits_below(FRAGMENT)) * 0x10001u;
    constexpr int load = place_of(FRAGMENT).word_load;
    unsigned word = load == 0 ? w0 : load == 1 ? w1 : w2;
    return (word >> shift_of(FRAGMENT)) & mask;
  }
}

struct Sums {  // of one tile over one chunk, apart for even and odd fragments: shorter chains
  float products[2][M_TILES][4];
};

template <int FRAGMENT>
__device__ __forceinline__ void fragment_products(const uint4 (&codes)[LOADS], const uint4 (&x)[M_TILES],
                                                  Sums& sums) {
  const uint4& c0 = codes[0];
  const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
  const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
  unsigned a0 = numbers<FRAGMENT>(c0.x, c1.x, c2.x);
  unsigned a1 = numbers<FRAGMENT>(c0.y, c1.y, c2.y);
  unsigned a2 = numbers<FRAGMENT>(c0.z, c1.z, c2.z);
  unsigned a3 = numbers<FRAGMENT>(c0.w, c1.w, c2.w);
#pragma unroll
  for (int m = 0; m < M_TILES; ++m) {
    if constexpr (FRAGMENT % 2 == 0) multiply(sums.products[0][m], a0, a1, a2, a3, x[m].x, x[m].y);
    else multiply(sums.products[1][m], a0, a1, a2, a3, x[m].z, x[m].w);
  }
}

// ---- x in shared memory ----

struct Chunk {      // of x
  float taken_off;  // what the zero points add to the products of a column: the middle code
                    // times the sum of x, or that sum itself if columns have zero points
  float factor;     // by which products are too small, beside SUBNORMAL
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

// Rows of x over a range of depth, scaled, into shared memory; zeros beyond both.
__device__ __forceinline__ void stage_x(half* held, Chunk* table, const elem* x, int k_begin, int k_end,
                                        int m_begin, int warp, int lane) {
  constexpr int LANES = CHUNK_K / 8;
  int per_row = (k_end - k_begin + 255) / 256;
  for (int item = warp; item < M_PASS * per_row; item += WARPS) {
    int row = item / per_row, at = item % per_row * 256 + lane * 8, k = k_begin + at;
    bool inside = k < k_end, is_row = m_begin + row < M;
    float v[8];
    read_x(v, x + (long long)(m_begin + row) * K, k, inside && is_row ? K : 0);
    float largest = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      largest = fmaxf(largest, fabsf(v[i]));
      sum += v[i];
    }
#pragma unroll
    for (int other = LANES / 2; other > 0; other /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, other));
      sum += __shfl_xor_sync(0xffffffffu, sum, other);
    }
    // Powers of two by their exponents: 2^14 <= largest * up < 2^15, and down = 1 / up.
    unsigned exponent = __float_as_uint(largest) >> 23;
    exponent = exponent < 15 ? 15 : exponent > 254 ? 254 : exponent;
    float up = __uint_as_float((268 - exponent) << 23), down = __uint_as_float((exponent - 14) << 23);
    int pair = k % UNIT_K / 32;
    float even = __uint_as_float((268 - exponent - bits_below(2 * pair)) << 23);
    float odd = __uint_as_float((268 - exponent - bits_below(2 * pair + 1)) << 23);
    if (inside) {
      half scaled[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) scaled[i] = __float2half_rn(v[i] * (i < 4 ? even : odd));
      *(uint4*)(held + row * X_STRIDE + at) = *(const uint4*)scaled;
      if (lane % LANES == 0)
        table[at / CHUNK_K * TABLE_ROWS + row] = {(HAS_ZEROS ? 1.0f : MIDDLE) * SUBNORMAL * (sum * up), down};
    }
  }
}

// Eight neighbouring elements of x per row of this lane; columns without a row are never used.
__device__ __forceinline__ void held_x(uint4 (&found)[M_TILES], const half* held, int at, int lane) {
#pragma unroll
  for (int m = 0; m < M_TILES; ++m) {
    int row = m * 8 + lane / 4;
    row = row < M_PASS ? row : M_PASS - 1;
    found[m] = *(const uint4*)(held + row * X_STRIDE + at + lane % 4 * 8);
  }
}

// ---- products ----

struct Totals {  // of one tile
  float sums[M_TILES][4];
};

__device__ __forceinline__ void chunks_of(Chunk (&chunks)[M_TILES][2], const Chunk* table, int index, int lane) {
#pragma unroll
  for (int m = 0; m < M_TILES; ++m)
#pragma unroll
    for (int r = 0; r < LANE_ROWS; ++r)
      chunks[m][r] = table[index * TABLE_ROWS + (M_PASS == 1 ? 0 : m * 8 + lane % 4 * 2 + r)];
}

__device__ __forceinline__ void begin_chunk(Sums& sums, const Chunk (&chunks)[M_TILES][2]) {
#pragma unroll
  for (int i = 0; i < M_TILES * 4; ++i) {
    bool used = i % 2 < LANE_ROWS;
    sums.products[0][i / 4][i % 4] = HAS_ZEROS || !used ? 0.0f : -chunks[i / 4][i % 2].taken_off;
    sums.products[1][i / 4][i % 4] = 0.0f;
  }
}

// Scaled sums of a finished chunk onto the totals.
__device__ __forceinline__ void finish_chunk(const Step& step, int group, const Sums& sums,
                                             const Chunk (&chunks)[M_TILES][2], Totals& totals) {
  float scale[2] = {low_of(step.scales[group]), high_of(step.scales[group])};
  float zero[2] = {0.0f, 0.0f};
  if constexpr (HAS_ZEROS) {
    zero[0] = float_of_byte(step.zeros[group] & 0xffu);
    zero[1] = float_of_byte(step.zeros[group] >> 8);
  }
#pragma unroll
  for (int m = 0; m < M_TILES; ++m)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i % 2 < LANE_ROWS) {
        const Chunk& chunk = chunks[m][i % 2];
        float v = sums.products[0][m][i] + sums.products[1][m][i];
        if constexpr (HAS_ZEROS) v -= zero[i / 2] * chunk.taken_off;
        totals.sums[m][i] += scale[i / 2] * chunk.factor * v;
      }
}

template <int PAIR>
__device__ __forceinline__ void pairs_from(int unit, int at, const Step& step, const half* held,
                                           const Chunk* table, int lane, Sums& sums,
                                           Chunk (&chunks)[M_TILES][2], Totals& totals) {
  if constexpr (PAIR < FRAGMENTS / 2) {
    constexpr int UNIT_CHUNK = CHUNK_K < UNIT_K ? CHUNK_K : UNIT_K;
    int k = unit * UNIT_K + PAIR * 32;
    if (k % CHUNK_K == 0) {
      chunks_of(chunks, table, at / CHUNK_K + k / CHUNK_K, lane);
      begin_chunk(sums, chunks);
    }
    uint4 x[M_TILES];
    held_x(x, held, at + k, lane);
    fragment_products<2 * PAIR>(step.codes[unit], x, sums);
    fragment_products<2 * PAIR + 1>(step.codes[unit], x, sums);
    if ((PAIR + 1) * 32 % UNIT_CHUNK == 0 && (k + 32) % CHUNK_K == 0)
      finish_chunk(step, STEP_GROUPS > 1 ? k / CHUNK_K : 0, sums, chunks, totals);
    pairs_from<PAIR + 1>(unit, at, step, held, table, lane, sums, chunks, totals);
  }
}

// One step; `at` is its place in the x that the block holds.
__device__ __forceinline__ void consume(const Step& step, int at, const half* held, const Chunk* table,
                                        int lane, Totals& totals) {
  Sums sums;
  Chunk chunks[M_TILES][2];
#pragma unroll
  for (int u = 0; u < STEP_UNITS; ++u) pairs_from<0>(u, at, step, held, table, lane, sums, chunks, totals);
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

// Partial sums of the warps along the depth meet in shared memory.
__device__ __forceinline__ void keep(float* reduced, Totals& totals, int slot, int lane) {
#pragma unroll
  for (int m = 0; m < M_TILES; ++m)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int column = lane / 4 + i / 2 * 8, row = m * 8 + lane % 4 * 2 + i % 2;
      if (i % 2 < LANE_ROWS && row < M_PASS) reduced[slot * TILE_SUMS + row * 16 + column] = totals.sums[m][i];
      totals.sums[m][i] = 0.0f;
    }
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
#pragma unroll 1
      for (int i = 0; i < n; ++i) {
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

__device__ __forceinline__ void store_sums(const float* reduced, const elem* bias, elem* y, float* partial,
                                           int m_begin) {
  for (int i = threadIdx.x; i < WARPS_N * MOST_TILES * TILE_SUMS; i += THREADS) {
    int slot = i / TILE_SUMS, inside = i % TILE_SUMS, share = blockIdx.x * WARPS_N + slot / MOST_TILES;
    int tile = first_tile_of(share) + slot % MOST_TILES;
    int m = m_begin + inside / 16, column = tile * 16 + inside % 16;
    if (tile >= first_tile_of(share + 1) || m >= M || column >= N_COLUMNS) continue;
    float v = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS_K; ++w) v += reduced[(slot * WARPS_K + w) * TILE_SUMS + inside];
    v *= 1.0f / SUBNORMAL;
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
  Chunk* table = (Chunk*)(arena + TABLE);
  half* held = (half*)(arena + HELD);
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
      [&](int tile) { keep(reduced, totals, (warp_n * MOST_TILES + tile) * WARPS_K + warp_k, lane); });
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
