// Tiles of head-wise arrow attention. Rows and keys are image tokens and text tokens; a head is full,
// an arrow (image rows see image keys of near blocks and all text) or skipped. Semantics are those of
// blocks of 64 rows and 64 keys, whatever BM and BN: a warpgroup owns one block of rows, and what it
// may see of a tile are two ranges of keys.
//
// Work of a block: every gridDim-th of the long tiles (full heads, text rows), then a run of
// neighbouring arrow tiles, longer where it has fewer long ones, then its share of skipped tiles.

namespace attention {

using namespace hopper;

constexpr int GRAIN = 64;
constexpr int BATCH = BATCH_HEADS / HEADS;
constexpr int QUERY_TILES = (QUERIES + BM - 1) / BM;
constexpr int KEY_STEPS = (KEYS + BN - 1) / BN;
// Blocks of text, mixed ones included: rows that see everything, keys that everyone sees.
constexpr int TEXT_FIRST_BLOCK = TEXT_FIRST ? 0 : IMAGE_TOKENS / GRAIN;
constexpr int TEXT_END_BLOCK =
    TEXT_FIRST ? (TEXT_TOKENS + GRAIN - 1) / GRAIN : (KEYS + GRAIN - 1) / GRAIN;
constexpr int TEXT_FIRST_KEY = TEXT_FIRST_BLOCK * GRAIN;
constexpr int TEXT_END_KEY = TEXT_END_BLOCK * GRAIN < KEYS ? TEXT_END_BLOCK * GRAIN : KEYS;
constexpr bool HAS_TEXT = TEXT_TOKENS > 0;
constexpr int TEXT_STEPS = HAS_TEXT ? (TEXT_END_KEY - TEXT_FIRST_KEY + BN - 1) / BN : 0;
// Query tiles of an arrow head that hold a row block of text, and the others.
constexpr int FIRST_LONG = TEXT_FIRST_BLOCK / WARPGROUPS;
constexpr int LONG_TILES =
    HAS_TEXT ? (TEXT_END_BLOCK + WARPGROUPS - 1) / WARPGROUPS - FIRST_LONG : 0;
constexpr int ARROW_TILES = QUERY_TILES - LONG_TILES;
// What a tile costs beside its key steps, in key steps.
constexpr int TILE_COST = 1;
constexpr int ALL = -1;                       // reach of full heads
constexpr bool MASKS_LATER_STEPS = true;

enum Kind { FULL = 0, ARROW = 1, SKIP = 2 };

struct Sources {
  const int* modes;        // (HEADS, 2): kind, half-width in tokens
  const element* cache;    // rows of skipped heads; null: zeros
};

// Image keys [low, high) that row blocks [first, end) see through a window.
struct Window {
  int low, high;
  __device__ __forceinline__ Window(int first, int end, int reach) {
    low = max(0, first - reach) * GRAIN;
    high = min(KEYS, (end + reach) * GRAIN);
    if (HAS_TEXT && TEXT_FIRST) low = max(low, TEXT_END_KEY);
    if (HAS_TEXT && !TEXT_FIRST) high = min(high, TEXT_FIRST_KEY);
    high = max(low, high);
  }
};

// Heads by kind and the share of this block, in shared memory.
struct Plan {
  int n_full, n_arrow, n_skip, arrow_cost;
  int n_long;                      // long tiles of all heads
  int own_long;                    // of them, this block's
  int first_arrow, own_arrows;     // arrow tiles of this block, counted through all heads
  int kind[HEADS];
  int reach[HEADS];                // blocks to each side
  int heads[HEADS];                // full ones, arrows, skipped ones
  int cost_before[HEADS];          // arrow tiles of a batch: cost of those of arrow heads before

  __device__ __forceinline__ static int tile_cost(int reach) {
    int window = ((WARPGROUPS + 2 * reach) * GRAIN + BN - 1) / BN;
    return min(TEXT_STEPS + window, KEY_STEPS) + TILE_COST;
  }

  // By one warp.
  __device__ __forceinline__ void make(Sources sources) {
    int lane = threadIdx.x;
    read(sources, lane);
    __syncwarp();
    rank(lane);
    __syncwarp();
    if (lane == 0) share(blockIdx.x, gridDim.x);
  }
  __device__ __forceinline__ void read(Sources sources, int lane) {
    for (int head = lane; head < HEADS; head += 32) {
      int given = sources.modes[2 * head];
      kind[head] = given == ARROW || given == SKIP ? given : FULL;
      reach[head] = (min(sources.modes[2 * head + 1], KEYS) + GRAIN - 1) / GRAIN;
    }
  }
  // A head stands behind those of lower kinds and those of its kind before it.
  __device__ __forceinline__ void rank(int lane) {
    for (int head = lane; head < HEADS; head += 32) {
      int place = 0, cost = 0, total = 0, n[3] = {0, 0, 0};
      for (int other = 0; other < HEADS; ++other) {
        int is = kind[other], one = is == ARROW ? ARROW_TILES * tile_cost(reach[other]) : 0;
        bool before = is < kind[head] || (is == kind[head] && other < head);
        place += before;
        cost += before ? one : 0;
        total += one;
        n[0] += is == FULL, n[1] += is == ARROW, n[2] += is == SKIP;
      }
      heads[place] = head;
      cost_before[place] = cost;
      if (head == 0) n_full = n[0], n_arrow = n[1], n_skip = n[2], arrow_cost = total;
    }
  }
  // Long tiles in turn; arrow tiles by cost, so that blocks with fewer long ones take more.
  __device__ __forceinline__ void share(int block, int blocks) {
    n_long = BATCH * (n_full * QUERY_TILES + n_arrow * LONG_TILES);
    own_long = n_long / blocks + (block < n_long % blocks);
    first_arrow = own_arrows = 0;
    if (arrow_cost == 0) return;
    first_arrow = arrow_at(cost_at(block, blocks));
    own_arrows = arrow_at(cost_at(block + 1, blocks)) - first_arrow;
  }

  // What blocks before `block` lack to the mean without any arrow tile.
  __device__ __forceinline__ float room_before(int block, int blocks) const {
    float cost = KEY_STEPS + TILE_COST;
    int base = n_long / blocks, extra = n_long % blocks;
    float mean = (n_long * cost + float(BATCH) * arrow_cost) / blocks;
    float more = fmaxf(mean - (base + 1) * cost, 0.0f), fewer = fmaxf(mean - base * cost, 0.0f);
    return min(block, extra) * more + max(0, block - extra) * fewer;
  }
  // Cost of the arrow tiles of blocks before `block`.
  __device__ __forceinline__ int cost_at(int block, int blocks) const {
    if (block >= blocks) return BATCH * arrow_cost;
    return int(BATCH * arrow_cost * (room_before(block, blocks) / room_before(blocks, blocks)));
  }
  // The first arrow tile that has at least this much cost before it.
  __device__ __forceinline__ int arrow_at(int cost) const {
    int batch = cost / arrow_cost, rest = cost % arrow_cost, arrow = 0;
    while (arrow + 1 < n_arrow && cost_before[n_full + arrow + 1] <= rest) ++arrow;
    int each = tile_cost(reach[heads[n_full + arrow]]);
    int place = (rest - cost_before[n_full + arrow] + each - 1) / each;
    return (batch * n_arrow + arrow) * ARROW_TILES + place;
  }
};

// Rows of a head, and the key steps that any of them needs: those of the text, then the window's.
// A tile that is not `split` goes through all keys.
struct Tile {
  int head, row, count, reach, low;
  bool split;
  __device__ __forceinline__ int key(int step) const {
    if (!split) return step * BN;
    return step < TEXT_STEPS ? TEXT_FIRST_KEY + step * BN : low + (step - TEXT_STEPS) * BN;
  }
};

// The tiles of this block: `index` counts long ones, arrows, skipped ones.
struct Work {
  const Plan* plan;
  Sources sources;
  int index = 0;

  __device__ __forceinline__ Work(const Plan* p, Sources s) : plan(p), sources(s) {}
  __device__ __forceinline__ void next() { ++index; }
  __device__ __forceinline__ bool is_skipped() const {
    return index >= plan->own_long + plan->own_arrows;
  }
  // Blocks with few long tiles come first here.
  __device__ __forceinline__ int skipped() const {
    int before = plan->own_long + plan->own_arrows;
    return gridDim.x - 1 - blockIdx.x + (index - before) * gridDim.x;
  }
  __device__ __forceinline__ bool some() const {
    return !is_skipped() || skipped() < BATCH * plan->n_skip * QUERY_TILES;
  }

  __device__ __forceinline__ Tile tile() const {
    if (index < plan->own_long) return long_tile(blockIdx.x + index * gridDim.x);
    if (is_skipped()) return skipped_tile(skipped());
    int linear = plan->first_arrow + index - plan->own_long;
    int arrow = linear / max(ARROW_TILES, 1), place = linear % max(ARROW_TILES, 1);
    int head = plan->heads[plan->n_full + arrow % plan->n_arrow];
    return arrow_tile(arrow / plan->n_arrow, head, TEXT_FIRST ? LONG_TILES + place : place);
  }

  __device__ __forceinline__ Tile skipped_tile(int linear) const {
    int row = linear % QUERY_TILES, head = linear / QUERY_TILES;
    Tile made;
    made.head = head / plan->n_skip * HEADS +
                plan->heads[plan->n_full + plan->n_arrow + head % plan->n_skip];
    made.row = row * BM;
    made.count = made.reach = made.low = 0;
    made.split = false;
    return made;
  }

  __device__ __forceinline__ Tile long_tile(int linear) const {
    int of_full = plan->n_full * QUERY_TILES;
    int of_batch = of_full + plan->n_arrow * LONG_TILES, rest = linear % of_batch;
    int place, at;
    if (rest < of_full) {
      place = rest / QUERY_TILES;
      at = rest % QUERY_TILES;
    } else {
      place = plan->n_full + (rest - of_full) / max(LONG_TILES, 1);
      at = FIRST_LONG + (rest - of_full) % max(LONG_TILES, 1);
    }
    Tile made;
    int head = plan->heads[place];
    made.head = linear / of_batch * HEADS + head;
    made.row = at * BM;
    made.count = KEY_STEPS;
    made.reach = rest < of_full ? ALL : plan->reach[head];
    made.low = 0;
    made.split = false;
    return made;
  }

  __device__ __forceinline__ Tile arrow_tile(int batch, int head, int at) const {
    Tile made;
    made.head = batch * HEADS + head;
    made.row = at * BM;
    made.reach = plan->reach[head];
    int first = at * WARPGROUPS, last = min(first + WARPGROUPS, (QUERIES + GRAIN - 1) / GRAIN);
    Window window(first, last, made.reach);
    made.low = window.low;
    made.count = TEXT_STEPS + (window.high - window.low + BN - 1) / BN;
    made.split = made.count < KEY_STEPS;
    if (!made.split) made.count = KEY_STEPS;
    return made;
  }

  // Rows of a skipped head; whether it was one.
  __device__ __forceinline__ bool copied(const Tile& tile, element* out) const {
    if (!is_skipped()) return false;
    constexpr int VECTORS = VALUE_WIDTH / 8;
    long long first = ((long long)tile.head * QUERIES + tile.row) * VECTORS;
    int n = min(BM, QUERIES - tile.row) * VECTORS;
    const uint4* from = reinterpret_cast<const uint4*>(sources.cache) + first;
    uint4* to = reinterpret_cast<uint4*>(out) + first;
    for (int i = threadIdx.x - 128; i < n; i += 128 * WARPGROUPS)
      to[i] = sources.cache ? from[i] : make_uint4(0, 0, 0, 0);
    return true;
  }
};

// What 64 rows from `row` may attend of a key tile: offsets in [low, low + n) and in
// [text, text + n_text).
struct Rule {
  int low, text;
  unsigned n, n_text;

  __device__ __forceinline__ Rule(const Tile& tile, int step, int row) {
    int block = row / GRAIN, key = tile.key(step);
    bool is_text = block >= TEXT_FIRST_BLOCK && block < TEXT_END_BLOCK && HAS_TEXT;
    Window window(block, block + 1, tile.reach);
    if (tile.reach == ALL || is_text) window.low = 0, window.high = KEYS;
    bool in_text = !tile.split || step < TEXT_STEPS, in_window = !tile.split || step >= TEXT_STEPS;
    low = window.low - key;
    n = in_window ? window.high - window.low : 0;
    text = TEXT_FIRST_KEY - key;
    n_text = HAS_TEXT && in_text ? TEXT_END_KEY - TEXT_FIRST_KEY : 0;
  }
  __device__ __forceinline__ bool needed() const {
    return !(low <= 0 && low + int(n) >= BN) && !(text <= 0 && text + int(n_text) >= BN);
  }
  __device__ __forceinline__ void apply(float (&s)[BN / 2], int, int column) const {
#pragma unroll
    for (int j = 0; j < BN / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        int at = column + 8 * j + e;
        bool hidden = unsigned(at - low) >= n && unsigned(at - text) >= n_text;
#pragma unroll
        for (int r = 0; r < 2; ++r)
          if (hidden) s[4 * j + 2 * r + e] = __int_as_float(0xff800000);
      }
  }
};

}  // namespace attention
