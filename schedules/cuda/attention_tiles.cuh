// Tiles of attention under a mask of blocks of 64 rows and 64 keys. `index` holds the pattern of
// every block: EMPTY and WHOLE, or one of `patterns`, 64 rows of 64 bits. Blocks that are empty for
// all rows of a query tile are never loaded: a step is made of the next PARTS blocks that are not.
// Patterns end at the last key. Semantics do not depend on BM or BN. Keys may be split among blocks,
// whose results attention_splits.cuh then combines.

namespace attention {

using namespace hopper;

constexpr int GRAIN = 64;
constexpr int PARTS = BN / GRAIN;
constexpr int PRODUCER_THREADS = 32;
constexpr int QUERY_TILES = (QUERIES + BM - 1) / BM;
constexpr int HEAD_PARTS = BATCH_HEADS * VALUE_PARTS;
constexpr int TILES = QUERY_TILES * HEAD_PARTS * SPLITS;
constexpr int ROW_BLOCKS = (QUERIES + GRAIN - 1) / GRAIN;
constexpr int KEY_BLOCKS = (KEYS + GRAIN - 1) / GRAIN;
constexpr bool MASKS_LATER_STEPS = true;

enum { EMPTY = 0, WHOLE = 1 };

struct Sources {
  const int* index;         // (planes, row blocks or 1, key blocks)
  const int* patterns;      // (patterns, 64 rows, 2); with RANGES (batch or 1, rows or 1, 2) instead:
                            // keys from the first to before the second
  const bias_t* bias;       // added to the scores of mixed blocks; null: nothing
  float* partial;           // results of splits, their maxima, their sums; null: one split
};

// What the producer tells consumers of a step, by its place in the ring.
struct Step {
  int key[PARTS];
  int pattern[PARTS][WARPGROUPS];
  int last;
};

struct Plan {
  Step steps[STAGES];
  __device__ __forceinline__ void make(Sources) {}
};

// Rows of a head, the key blocks [begin, end) of a split, and its first row of `index`.
struct Tile {
  int head, row, count, columns, split, begin, end, plane;
  const int* blocks;
  __device__ __forceinline__ int part() const { return VALUE_PARTS == 1 ? 0 : columns; }
};

// The tiles of this block.
struct Work {
  Plan* plan;
  Sources sources;
  int index;
  __device__ __forceinline__ Work(Plan* p, Sources s) : plan(p), sources(s), index(blockIdx.x) {}
  __device__ __forceinline__ bool some() const { return index < TILES; }
  __device__ __forceinline__ void next() { index += gridDim.x; }
  __device__ __forceinline__ bool copied(const Tile&, element*) const { return false; }
  __device__ __forceinline__ Tile tile() const {
    Tile made;
    int linear = index / SPLITS;
    made.split = index % SPLITS;
    made.begin = made.split * KEY_BLOCKS / SPLITS;
    made.end = (made.split + 1) * KEY_BLOCKS / SPLITS;
    int place = LONGEST_FIRST ? linear / HEAD_PARTS : linear % QUERY_TILES;
    int head_part = LONGEST_FIRST ? linear % HEAD_PARTS : linear / QUERY_TILES;
    made.head = head_part / VALUE_PARTS;
    made.columns = head_part % VALUE_PARTS;
    if (LONGEST_FIRST) place = QUERY_ORDER[place];
    made.row = place * BM;
    made.count = 1;
    made.plane = made.head / HEADS * BATCH_PLANES + made.head % HEADS * HEAD_PLANES;
    made.blocks = sources.index + ((long long)made.plane * MASK_ROWS + row_of(made.row / GRAIN)) * KEY_BLOCKS;
    return made;
  }
  __device__ __forceinline__ static int row_of(int block) { return MASK_ROWS == 1 ? 0 : block; }

  // Whether results are partial ones, which it then has kept: outputs (splits, heads, queries,
  // VALUE_WIDTH), largest scores in powers of two and sums of exponentials (splits, heads, queries).
  __device__ __forceinline__ bool kept(const Tile& tile, const float (&o)[VALUE_WIDTH / 2], int row,
                                       const float (&most)[2], const float (&total)[2]) const {
    if (SPLITS == 1) return false;
    constexpr long long ROWS = (long long)BATCH_HEADS * QUERIES;
    float* largest = sources.partial + SPLITS * ROWS * VALUE_PARTS * VALUE_WIDTH;
    int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row + 8 * r >= QUERIES) continue;
      long long at = tile.split * ROWS + (long long)tile.head * QUERIES + row + 8 * r;
      float* line = sources.partial + (at * VALUE_PARTS + tile.part()) * VALUE_WIDTH + column;
#pragma unroll
      for (int j = 0; j < VALUE_WIDTH / 8; ++j)
        *reinterpret_cast<float2*>(line + 8 * j) =
            make_float2(o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
      if (column != 0 || tile.part() != 0) continue;
      largest[at] = most[r] * SCALE_LOG2;
      largest[SPLITS * ROWS + at] = total[r];
    }
    return true;
  }
};

// The blocks of a query tile that are not empty, found by one warp 32 at a time.
struct Walk {
  const Work& work;
  const Tile& tile;
  int first;                    // key block of lane 0
  unsigned live = 0;            // blocks of these 32 still to be taken
  int own[WARPGROUPS];          // patterns of this lane's block
  int ahead[WARPGROUPS];        // and of the block 32 further on
  int keys[PARTS];
  bool is_last = false;

  __device__ __forceinline__ Walk(const Work& w, const Tile& t)
      : work(w), tile(t), first(t.begin) {
    look(first);
    advance();
    seek();
  }
  __device__ __forceinline__ void look(int from) {
    int block = from + threadIdx.x;
#pragma unroll
    for (int group = 0; group < WARPGROUPS; ++group) {
      bool there = block < tile.end && tile.row / GRAIN + group < ROW_BLOCKS;
      ahead[group] = there ? tile.blocks[Work::row_of(group) * KEY_BLOCKS + block] : EMPTY;
    }
  }
  __device__ __forceinline__ void advance() {
    bool some = false;
#pragma unroll
    for (int group = 0; group < WARPGROUPS; ++group) {
      own[group] = ahead[group];
      some |= own[group] != EMPTY;
    }
    live = __ballot_sync(0xffffffffu, some);
    look(first + 32);
  }
  __device__ __forceinline__ void seek() {
    while (live == 0 && first + 32 < tile.end) {
      first += 32;
      advance();
    }
  }

  __device__ __forceinline__ bool some(int) const { return !is_last; }
  __device__ __forceinline__ int key(int part) const { return keys[part]; }
  __device__ __forceinline__ bool shared() const { return false; }

  // The next blocks; past the end, keys that do not exist and read as zeros.
  __device__ __forceinline__ void take(int, int slot) {
    Step& step = work.plan->steps[slot];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      int lane = live ? __ffs(live) - 1 : 0;
      keys[part] = (live ? first + lane : KEY_BLOCKS) * GRAIN;
      if ((ADDITIVE || RANGES) && threadIdx.x == 0) step.key[part] = keys[part];
#pragma unroll
      for (int group = 0; group < WARPGROUPS; ++group) {
        int pattern = __shfl_sync(0xffffffffu, own[group], lane);
        if (threadIdx.x == 0) step.pattern[part][group] = live ? pattern : EMPTY;
      }
      live &= live - 1;
      seek();
    }
    is_last = live == 0;
    if (threadIdx.x == 0) step.last = is_last;
  }
};

// What is added to this thread's scores of a step, asked for before they are there.
struct Bias {
  static constexpr int N = ADDITIVE ? BN / 8 : 1;
  bias_t values[N][2][2];       // columns 8 j + column and the next, of two rows

  // `row` and `key` are this thread's first ones of 64 by 64.
  __device__ __forceinline__ void read(const Sources& sources, int head, int row, int key,
                                       int part) {
    const bias_t* from = sources.bias + (long long)(head / HEADS) * BIAS_BATCH +
                         (long long)(head % HEADS) * (QUERIES / PERIOD) * BIAS_HEAD;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int own = min(row + 8 * r, QUERIES - 1);
      const bias_t* line = from + (long long)(own / PERIOD) * BIAS_HEAD +
                           (long long)(own % PERIOD) * BIAS_ROW;
#pragma unroll
      for (int j = 0; j < GRAIN / 8; ++j) read_pair(values[part * 8 + j][r], line, key + 8 * j);
    }
  }
  __device__ __forceinline__ static void read_pair(bias_t (&pair)[2], const bias_t* line, int key) {
    constexpr bool TOGETHER = BIAS_KEY == 1 && KEYS % 2 == 0 && sizeof(bias_t) == 2;
    if (TOGETHER) {
      u32 both = __ldg(reinterpret_cast<const u32*>(line + min(key, KEYS - 2)));
      memcpy(pair, &both, sizeof(pair));
      return;
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) pair[e] = __ldg(line + min(key + e, KEYS - 1) * BIAS_KEY);
  }
  // In the unit of scores before their scale. A finite value stays finite: rows of nothing but
  // the lowest number attend all keys alike.
  __device__ __forceinline__ float at(int j, int r, int e) const {
    float value = float(values[j][r][e]);
    float scaled = fmaxf(value * INVERSE_SCALE, LOWEST_BIAS);
    return value == __int_as_float(0xff800000) ? value : scaled;
  }
};

// Bits of this thread's two rows, asked for before their scores are there.
struct Note {
  bool last, needed = false;
  u32 bits[PARTS][2][2];        // part, row, half
  bool added[PARTS];
  Bias bias;

  // `row` is this thread's first of the query tile.
  __device__ __forceinline__ Note(const Work& work, const Tile& tile, int, int slot, int row) {
    const Step& step = work.plan->steps[slot];
    last = read_by_first(step.last);
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      int pattern = read_by_first(step.pattern[part][row / GRAIN]);
      int key = ADDITIVE || RANGES ? read_by_first(step.key[part]) : 0;
      if (pattern != WHOLE) needed = true;
      added[part] = ADDITIVE && pattern > WHOLE;
      if (RANGES)
        read_ranges(work.sources, pattern, part, tile, tile.row + row, key);
      else
        read_bits(work.sources, pattern, part, row % GRAIN);
      if constexpr (ADDITIVE)
        if (added[part])
          bias.read(work.sources, tile.head, tile.row + row, key + threadIdx.x % 4 * 2, part);
    }
  }
  __device__ __forceinline__ void read_ranges(const Sources& sources, int pattern, int part,
                                              const Tile& tile, int row, int key) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int begin = pattern == EMPTY ? GRAIN : 0, end = pattern == EMPTY ? 0 : GRAIN;
      if (pattern > WHOLE) {
        int own = RANGE_ROWS == 1 ? 0 : min(row + 8 * r, QUERIES - 1);
        int2 range = __ldg(reinterpret_cast<const int2*>(sources.patterns) +
                           (long long)tile.plane * RANGE_ROWS + own);
        begin = max(0, range.x - key);
        end = min(GRAIN, range.y - key);
      }
      bool some = begin < end;
      unsigned long long word = some ? ~0ull << begin & ~0ull >> (GRAIN - end) : 0ull;
      bits[part][r][0] = (u32)word;
      bits[part][r][1] = (u32)(word >> 32);
    }
  }
  __device__ __forceinline__ void read_bits(const Sources& sources, int pattern, int part,
                                            int row) {
    const uint2* rows = reinterpret_cast<const uint2*>(sources.patterns);
    u32 all = pattern == WHOLE ? 0xffffffffu : 0u;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint2 own = make_uint2(all, all);
      if (pattern > WHOLE) own = __ldg(rows + (long long)pattern * GRAIN + row + 8 * r);
      bits[part][r][0] = own.x;
      bits[part][r][1] = own.y;
    }
  }
  __device__ __forceinline__ void mask(float (&s)[BN / 2], const Tile&, int, int, int,
                                       int column) const {
    if (!needed) return;
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      if constexpr (ADDITIVE)
        if (added[part]) add(s, part);
      hide(s, part, column);
    }
  }
  __device__ __forceinline__ void add(float (&s)[BN / 2], int part) const {
#pragma unroll
    for (int j = 8 * part; j < 8 * part + 8; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int e = 0; e < 2; ++e) s[4 * j + 2 * r + e] += bias.at(j, r, e);
  }
  __device__ __forceinline__ void hide(float (&s)[BN / 2], int part, int column) const {
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          u32 own = bits[part][r][j / 4] >> column;
          if (!(own >> (j % 4 * 8 + e) & 1))
            s[32 * part + 4 * j + 2 * r + e] = __int_as_float(0xff800000);
        }
  }
};

}  // namespace attention
