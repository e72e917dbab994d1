// The blocks of a mask that comes with the call, for attention_tiles.cuh: one warp per block of 64
// rows and 64 keys. What a row may attend is its mask, and keys of a range (causality, window, valid
// length, packed sequence). Rows are the queries of all heads that share a key head, one head after the other,
// or of one head. A block whose mask adds zeros alone is WHOLE. Namespace `tiles` holds constants
// that schedules/masked_attention_cuda.py writes in front, and the types mask_t and length_t.

namespace tiles {

typedef unsigned int u32;

constexpr int GRAIN = 64;
constexpr int ROW_BLOCKS = (ROWS + GRAIN - 1) / GRAIN;
constexpr int KEY_BLOCKS = (KEYS + GRAIN - 1) / GRAIN;
constexpr u32 ALL = 0xffffffffu;
enum { EMPTY = 0, WHOLE = 1, FIRST_MIXED = 2 };

// What comes with a call; null if it does not.
struct Given {
  const mask_t* mask;
  const length_t* lengths;      // of every sequence of the batch
  const int* starts;            // of packed sequences, SEQUENCES + 1
};

// Keys [begin, end) that a query may attend but for its mask.
struct Range {
  int begin = 0, end = KEYS;
  __device__ __forceinline__ Range(const Given& given, int batch, int query) {
    int position = query + OFFSET;
    if (HAS_LENGTHS) {
      int length = given.lengths[batch];
      end = max(0, min(KEYS, length));
      if (AT_END) position = query + length - PERIOD;
    }
    if (SEQUENCES > 0) {
      int sequence = 0, beyond = SEQUENCES;
      while (beyond - sequence > 1) {
        int middle = (sequence + beyond) / 2;
        (given.starts[middle] <= query ? sequence : beyond) = middle;
      }
      begin = given.starts[sequence];
      end = min(KEYS, given.starts[sequence + 1]);
    }
    if (HAS_RIGHT) end = min(end, position + RIGHT + 1);
    if (HAS_LEFT) begin = max(begin, position - LEFT);
  }
  __device__ __forceinline__ bool holds(int key) const { return key >= begin && key < end; }
};

// Whether a value of the mask lets its key be attended, and whether it does nothing else.
__device__ __forceinline__ bool allows(bool value) { return value; }
__device__ __forceinline__ bool is_plain(bool value) { return value; }
__device__ __forceinline__ bool allows(float value) { return value != __int_as_float(0xff800000); }
__device__ __forceinline__ bool is_plain(float value) { return value == 0.0f; }

struct Block {
  Given given;
  const mask_t* mask;           // of its first head, and key
  int batch, row, key;

  // This lane's rows `lane` and `lane + 32`, two words each; what all rows have in common.
  u32 words[2][2] = {{0, 0}, {0, 0}};
  bool some = false, every = true;

  __device__ __forceinline__ void read_row(int at) {
    int head = (row + at) / PERIOD, query = (row + at) % PERIOD;
    const mask_t* line = mask + (long long)head * MASK_HEAD + (long long)query * MASK_ROW;
    Range range(given, batch, query);
    u32 bits[2];
    bool plain = true;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int column = threadIdx.x % 32 + 32 * half;
      bool seen = range.holds(key + column);
      if (key + column < KEYS) {
        value_t value = line[column * MASK_KEY];
        seen &= allows(value);
        plain &= is_plain(value);
      }
      bits[half] = __ballot_sync(ALL, seen);
      every &= __all_sync(ALL, seen && plain);
    }
    some |= (bits[0] | bits[1]) != 0;
    if (threadIdx.x % 32 == at % 32) {
      words[at / 32][0] = bits[0];
      words[at / 32][1] = bits[1];
    }
  }
  __device__ __forceinline__ void store(int* index, u32* patterns, long long place) const {
    int lane = threadIdx.x % 32;
    bool mixed = some && !every;
    if (lane == 0) index[place] = mixed ? FIRST_MIXED + (int)place : some ? WHOLE : EMPTY;
    if (!mixed) return;
    u32* to = patterns + (FIRST_MIXED + place) * GRAIN * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      reinterpret_cast<uint2*>(to)[lane + 32 * half] = make_uint2(words[half][0], words[half][1]);
  }
};

// Without a mask: rows are ranges, which consumers read instead of patterns.
__device__ __forceinline__ void find_ranges(const Given& given, int* index, int* ranges) {
  int key_block = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (key_block >= KEY_BLOCKS) return;
  bool some = false, every = true;
  for (int half = 0; half < 2; ++half) {
    int row = blockIdx.y * GRAIN + lane + 32 * half, key = key_block * GRAIN;
    if (row >= ROWS) continue;
    Range range(given, blockIdx.z, row % PERIOD);
    some |= range.begin < range.end && range.begin < key + GRAIN && range.end > key;
    every &= range.begin <= key && range.end >= key + GRAIN;
    if (key_block == 0) {
      long long at = (long long)blockIdx.z * ROWS + row;
      reinterpret_cast<int2*>(ranges)[at] = make_int2(range.begin, range.end);
    }
  }
  some = __ballot_sync(ALL, some) != 0;
  every = __all_sync(ALL, every);
  long long place = ((long long)blockIdx.z * ROW_BLOCKS + blockIdx.y) * KEY_BLOCKS + key_block;
  if (lane == 0) index[place] = !some ? EMPTY : every ? WHOLE : FIRST_MIXED;
}

__device__ __forceinline__ void find_patterns(const Given& given, int* index, u32* patterns) {
  int key_block = blockIdx.x * WARPS + threadIdx.x / 32, row_block = blockIdx.y;
  if (key_block >= KEY_BLOCKS) return;
  int batch = blockIdx.z / HEAD_PLANES, head = blockIdx.z % HEAD_PLANES;
  Block block{given, nullptr, batch, row_block * GRAIN, key_block * GRAIN};
  block.mask = given.mask + (long long)batch * MASK_BATCH +
               (long long)head * GROUP * MASK_HEAD + (long long)block.key * MASK_KEY;
  int n_rows = ROWS == 1 ? 1 : min(GRAIN, ROWS - block.row);
#pragma unroll 8
  for (int at = 0; at < n_rows; ++at) block.read_row(at);
  if (ROWS == 1)  // one row for all
    for (int half = 0; half < 2; ++half) {
      u32 word = __shfl_sync(ALL, block.words[0][half], 0);
      block.words[0][half] = block.words[1][half] = word;
    }
  block.store(index, patterns, ((long long)blockIdx.z * ROW_BLOCKS + row_block) * KEY_BLOCKS + key_block);
}

__device__ __forceinline__ void find(const Given& given, int* index, int* rest) {
  if constexpr (HAS_MASK)
    find_patterns(given, index, reinterpret_cast<u32*>(rest));
  else
    find_ranges(given, index, rest);
}

}  // namespace tiles
