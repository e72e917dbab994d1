// Masks of attention_mma.cuh in blocks: the key tiles and the pairs that they leave. Needs
// attention_mma_scores.cuh.

namespace effcompile_attention_mma {

// A mask in blocks of 64 rows and keys: the index of its blocks names their patterns, of two words
// for each row; see schedules/mask_tiles.py.
constexpr int GRAIN = 64, EMPTY = 0, WHOLE = 1;

// Key tiles of which a mask in blocks leaves something to the rows of a block, in order, behind
// their number. By the first warp.
template <class C>
__device__ __forceinline__ void list_tiles(int* list, const int* index, int row, u32 lane) {
  constexpr int TILES = (C::KEYS + C::KEY_TILE - 1) / C::KEY_TILE;
  constexpr int BLOCKS = (C::KEYS + GRAIN - 1) / GRAIN;
  const int first = row / GRAIN, last = (min(row + Arena<C>::BLOCK_ROWS, C::QUERIES) - 1) / GRAIN;
  int n = 0;
  for (int tile = lane; tile - (int)lane < TILES; tile += 32) {
    int some = 0;
    const int key = tile * C::KEY_TILE;
    // Lanes behind the last tile may still be in its block.
    const int end = tile < TILES ? min(BLOCKS * GRAIN, key + C::KEY_TILE) : 0;
    for (int block = key / GRAIN; block * GRAIN < end; ++block)
      for (int line = first; line <= (C::MASK_QUERY ? last : first); ++line)
        some |= index[line * C::MASK_QUERY + block * C::MASK_KEY];
    const u32 found = __ballot_sync(0xffffffffu, some != EMPTY);
    if (some != EMPTY) list[1 + n + __popc(found & ((1u << lane) - 1))] = tile;
    n += __popc(found);
  }
  if (lane == 0) list[0] = n;
}

// The blocks of a warp's rows in a key tile; nothing where the mask has none.
template <class C, bool = C::BLOCKED>
struct Blocks {
  __device__ __forceinline__ Blocks(const typename C::mask_type*, int, int) {}
  __device__ __forceinline__ bool some() const { return true; }
  __device__ __forceinline__ void cut(Scores<C>&, const int*, int, int) const {}
};

template <class C>
struct Blocks<C, true> {
  static constexpr int N = (C::KEY_TILE + GRAIN - 1) / GRAIN;
  static constexpr int SIDE = C::KEY_TILE < GRAIN ? C::KEY_TILE : GRAIN;
  int kinds[N];

  __device__ __forceinline__ Blocks(const int* index, int row, int key) {
    const int line = min(row, C::QUERIES - 1) / GRAIN * C::MASK_QUERY;
#pragma unroll
    for (int i = 0; i < N; ++i)
      kinds[i] = key + i * GRAIN < C::KEYS ? index[line + (key / GRAIN + i) * C::MASK_KEY] : EMPTY;
  }
  __device__ __forceinline__ bool some() const {
    int all = EMPTY;
#pragma unroll
    for (int i = 0; i < N; ++i) all |= kinds[i];
    return all != EMPTY;
  }
  // `row` is this lane's first one, `key` its first one of the tile.
  __device__ __forceinline__ void cut(Scores<C>& scores, const int* patterns, int row,
                                      int key) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (kinds[i] == WHOLE) continue;
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int line = kinds[i] * GRAIN + (row + 16 * r + 8 * h) % GRAIN;
          const uint2 words = ((const uint2*)patterns)[line];
          const unsigned long long bits =
              ((unsigned long long)words.y << 32 | words.x) >> key % GRAIN;
#pragma unroll
          for (int n = 0; n < SIDE / 8; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
              if (!(bits >> (8 * n + e) & 1))
                scores[r][i * GRAIN / 8 + n][2 * h + e] = lowest();
        }
    }
  }
};

}  // namespace effcompile_attention_mma
