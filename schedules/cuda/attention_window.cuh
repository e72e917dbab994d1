// Tiles of attention in which a query sees all keys, or those of a window around its position.

namespace attention {

using namespace hopper;

constexpr int QUERY_TILES = (QUERIES + BM - 1) / BM;
constexpr int HEAD_PARTS = BATCH_HEADS * VALUE_PARTS;
constexpr int TILES = QUERY_TILES * HEAD_PARTS;
constexpr bool MASKS_LATER_STEPS = HAS_RIGHT || HAS_LEFT;

struct Sources {};

// Nothing has to be found out before work begins.
struct Plan {
  __device__ __forceinline__ void make(Sources) {}
};

// Rows of a head, and the key tiles [last - count, last) that any of them may attend, backwards.
struct Tile {
  int head, row, last, count, columns;
  __device__ __forceinline__ int part() const { return VALUE_PARTS == 1 ? 0 : columns; }
  __device__ __forceinline__ int key(int step) const { return (last - 1 - step) * BN; }
  __device__ __forceinline__ bool shared(int) const { return false; }
};

// The tiles of this block.
struct Work {
  int index;
  __device__ __forceinline__ Work(const Plan*, Sources) : index(blockIdx.x) {}
  __device__ __forceinline__ bool some() const { return index < TILES; }
  __device__ __forceinline__ void next() { index += gridDim.x; }
  __device__ __forceinline__ bool copied(const Tile&, element*) const { return false; }
  // Whether results are partial ones, which it then has kept.
  __device__ __forceinline__ bool kept(const Tile&, const float (&)[VALUE_WIDTH / 2], int,
                                       const float (&)[2], const float (&)[2]) const {
    return false;
  }
  __device__ __forceinline__ Tile tile() const {
    Tile made;
    int place = LONGEST_FIRST ? QUERY_TILES - 1 - index / HEAD_PARTS : index % QUERY_TILES;
    int head_part = LONGEST_FIRST ? index % HEAD_PARTS : index / QUERY_TILES;
    made.head = head_part / VALUE_PARTS;
    made.columns = head_part % VALUE_PARTS;
    made.row = place * BM;
    int first = 0;
    made.last = (KEYS + BN - 1) / BN;
    if (HAS_RIGHT) {
      int end = made.row + BM + OFFSET + RIGHT;  // one past the last key of the last row
      made.last = min(made.last, end <= 0 ? 0 : (end + BN - 1) / BN);
    }
    if (HAS_LEFT) first = max(0, made.row + OFFSET - LEFT) / BN;
    made.count = max(0, made.last - first);
    return made;
  }
};

// What 64 rows from `row` may attend of a key tile.
struct Rule {
  int key, row;
  __device__ __forceinline__ Rule(const Tile& tile, int step, int first_row)
      : key(tile.key(step)), row(first_row) {}

  // Whether some key is forbidden to some row.
  __device__ __forceinline__ bool needed() const {
    bool needed = false;
    if (KEYS % BN) needed |= key + BN > KEYS;
    if (HAS_RIGHT) needed |= key + BN - 1 > row + OFFSET + RIGHT;
    if (HAS_LEFT) needed |= key < row + 63 + OFFSET - LEFT;
    return needed;
  }

  // `own_row` is this thread's first row, `column` its first column of the tile.
  __device__ __forceinline__ void apply(float (&s)[BN / 2], int own_row, int column) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int position = own_row + 8 * r + OFFSET;
      int most = KEYS - 1, least = 0;
      if (HAS_RIGHT) most = min(most, position + RIGHT);
      if (HAS_LEFT) least = max(least, position - LEFT);
      most -= key + column;
      least -= key + column;
#pragma unroll
      for (int j = 0; j < BN / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          bool hidden = 8 * j + e > most || (HAS_LEFT && 8 * j + e < least);
          if (hidden) s[4 * j + 2 * r + e] = __int_as_float(0xff800000);
        }
    }
  }
};

}  // namespace attention
