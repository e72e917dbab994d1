// A packed matrix (schedules/packing.py) as floats, row by row: once per launch, for a product
// of many rows that reads them from memory like any other.
//
// After packed_codes.cuh. Defined before both: BITS, UNIT_K, LOADS, GROUP_K, N_TILES, N_UNITS, N_GROUPS, K, HAS_ZEROS,
// elem, WARPS (of a block); Matrices, and row_of(matrices, tile, column). K is a multiple of 8.

__device__ __forceinline__ float widened(float v) { return v; }
__device__ __forceinline__ float widened(half v) { return __half2float(v); }
__device__ __forceinline__ float widened(nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ void narrow(float& to, float v) { to = v; }
__device__ __forceinline__ void narrow(half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void narrow(nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }

// Eight neighbours of a column, in two words of codes.
__device__ __forceinline__ void store_eight(elem* to, unsigned low, unsigned high, float zero, float scale) {
  union alignas(16) Held {
    uint4 words[sizeof(elem) / 2];
    elem values[8];
    __device__ Held() {}
  } held;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float code = (float)((i < 4 ? low : high) >> (i % 4 * 8) & 0xffu);
    narrow(held.values[i], (code - zero) * scale);
  }
#pragma unroll
  for (int i = 0; i < (int)sizeof(elem) / 2; ++i) ((uint4*)to)[i] = held.words[i];
}

// Columns lane / 4 and lane / 4 + 8 of a tile: eight codes of each per fragment.
template <int FRAGMENT>
__device__ __forceinline__ void unpack_fragments(const uint4 (&codes)[LOADS], const elem* scales,
                                                 const unsigned char* zeros, elem* const (&to)[2], int k) {
  if constexpr (FRAGMENT < UNIT_K / 32) {
    const uint4& c0 = codes[0];
    const uint4& c1 = codes[LOADS > 1 ? 1 : 0];
    const uint4& c2 = codes[LOADS > 2 ? 2 : 0];
    int group = k / GROUP_K;
    if (k < K) {
#pragma unroll
      for (int half_tile = 0; half_tile < 2; ++half_tile) {
        bool second = half_tile == 1;
        float zero = HAS_ZEROS ? (float)zeros[group * 16 + half_tile] : (float)(1 << (BITS - 1));
        float scale = widened(scales[group * 16 + half_tile]);
        unsigned low = second ? codes_of<FRAGMENT>(c0.y, c1.y, c2.y) : codes_of<FRAGMENT>(c0.x, c1.x, c2.x);
        unsigned high = second ? codes_of<FRAGMENT>(c0.w, c1.w, c2.w) : codes_of<FRAGMENT>(c0.z, c1.z, c2.z);
        store_eight(to[half_tile] + k, low, high, zero, scale);
      }
    }
    unpack_fragments<FRAGMENT + 1>(codes, scales, zeros, to, k + 32);
  }
}

// A warp takes one unit of one tile.
__device__ __forceinline__ void gemm_unpack(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                            const Matrices& matrices) {
  int lane = threadIdx.x % 32, warp = blockIdx.x * WARPS + threadIdx.x / 32;
  int tile = warp / N_UNITS, unit = warp % N_UNITS;
  if (tile >= N_TILES) return;
  uint4 held[LOADS];
#pragma unroll
  for (int l = 0; l < LOADS; ++l) held[l] = __ldg((const uint4*)codes + ((long long)warp * LOADS + l) * 32 + lane);
  long long groups = (long long)tile * N_GROUPS * 16 + lane / 4 * 2;
  elem* const to[2] = {row_of(matrices, tile, lane / 4), row_of(matrices, tile, lane / 4 + 8)};
  unpack_fragments<0>(held, scales + groups, zeros + (HAS_ZEROS ? groups : 0), to, unit * UNIT_K + lane % 4 * 8);
}
