// Tiles of head-wise arrow attention. Rows and keys are image tokens and text tokens; a head is full,
// an arrow (image rows see image keys of near blocks and all text) or skipped. Semantics are those of
// blocks of 64 rows and 64 keys, whatever BM and BN: a warpgroup owns one block of rows, and what it
// may see of a tile are two ranges of keys.
//
// Work of a block: long tiles (full heads, text rows), then arrow tiles, then skipped ones. Blocks of
// a cluster have neighbouring tiles of one head at any time, and as many steps each, most of which
// have the same keys: what is counted below are pairs of tiles then, and pairs of blocks.

namespace attention {

using namespace hopper;

constexpr int GRAIN = 64;
constexpr int BATCH = BATCH_HEADS / HEADS;
constexpr int TEAM = WARPGROUPS * CLUSTER;    // row blocks that are worked on together
constexpr int QUERY_TILES = (QUERIES + TEAM * GRAIN - 1) / (TEAM * GRAIN);
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
constexpr int FIRST_LONG = TEXT_FIRST_BLOCK / TEAM;
constexpr int LONG_TILES =
    HAS_TEXT ? (TEXT_END_BLOCK + TEAM - 1) / TEAM - FIRST_LONG : 0;
constexpr int ARROW_TILES = QUERY_TILES - LONG_TILES;
// What a tile costs beside its key steps, in key steps.
constexpr int TILE_COST = 1;
constexpr int ALL = -1;                       // reach of full heads
constexpr int NONE = -1;                      // instead of a first key of a window
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

// Heads by kind, in shared memory; the same in every block.
struct Plan {
  int n_full, n_arrow, n_skip;
  int rounds;          // see Work
  int kind[HEADS];
  int reach[HEADS];    // blocks to each side
  int heads[HEADS];    // full ones, arrows, skipped ones; wide ones before narrow ones

  // By one warp.
  __device__ __forceinline__ void make(Sources sources) {
    read(sources, threadIdx.x);
    __syncwarp();
    rank(threadIdx.x);
  }
  __device__ __forceinline__ void read(Sources sources, int lane) {
    for (int head = lane; head < HEADS; head += 32) {
      int given = sources.modes[2 * head];
      kind[head] = given == ARROW || given == SKIP ? given : FULL;
      reach[head] = (max(0, min(sources.modes[2 * head + 1], KEYS)) + GRAIN - 1) / GRAIN;
    }
  }
  __device__ __forceinline__ bool precedes(int one, int other) const {
    if (kind[one] != kind[other]) return kind[one] < kind[other];
    return reach[one] != reach[other] ? reach[one] > reach[other] : one < other;
  }
  __device__ __forceinline__ void rank(int lane) {
    for (int head = lane; head < HEADS; head += 32) {
      int place = 0, n[3] = {0, 0, 0}, widest = 0;
      for (int other = 0; other < HEADS; ++other) {
        place += precedes(other, head);
        n[0] += kind[other] == FULL, n[1] += kind[other] == ARROW, n[2] += kind[other] == SKIP;
        if (kind[other] == ARROW) widest = max(widest, reach[other]);
      }
      heads[place] = head;
      if (head != 0) continue;
      n_full = n[0], n_arrow = n[1], n_skip = n[2];
      int window = ((TEAM + 2 * widest) * GRAIN + BN - 1) / BN;
      int cost = min(TEXT_STEPS + window, KEY_STEPS) + TILE_COST;
      rounds = (KEY_STEPS + TILE_COST + cost / 2) / cost;
    }
  }
};

// Rows of a head, and the key steps that any of them needs: its own ones, which the other block of
// the cluster does without, those of the text, then the window's. A tile without a `low` goes through
// all keys.
struct Tile {
  int head, row, count, reach, low;
  int n_own, own;                 // steps, and the first one's key
  __device__ __forceinline__ int part() const { return 0; }
  __device__ __forceinline__ bool split() const { return low >= 0; }
  __device__ __forceinline__ bool shared(int step) const { return step >= n_own; }
  __device__ __forceinline__ bool in_text(int step) const {
    return step >= n_own && step < n_own + TEXT_STEPS;
  }
  __device__ __forceinline__ int key(int step) const {
    if (!split()) return step * BN;
    if (!shared(step)) return own + step * BN;
    return in_text(step) ? TEXT_FIRST_KEY + (step - n_own) * BN : low + (step - TEXT_STEPS) * BN;
  }
};

// The tiles of this block: `index` counts long ones, arrows, skipped ones. Blocks that have a long
// tile less than others (idle ones) take arrow tiles alone for as many rounds as that tile lasts;
// from then on all take them in turn, so that blocks work on neighbouring rows at any time and find
// each other's keys in the cache.
struct Work {
  const Plan* plan;
  Sources sources;
  int index = 0;
  int n_teams, team, member;

  __device__ __forceinline__ Work(const Plan* p, Sources s)
      : plan(p), sources(s), n_teams(gridDim.x / CLUSTER), team(blockIdx.x / CLUSTER),
        member(blockIdx.x % CLUSTER) {}
  __device__ __forceinline__ void next() { ++index; }

  __device__ __forceinline__ int n_long() const {
    return BATCH * (plan->n_full * QUERY_TILES + plan->n_arrow * LONG_TILES);
  }
  __device__ __forceinline__ int n_arrows() const { return BATCH * plan->n_arrow * ARROW_TILES; }
  __device__ __forceinline__ int own_long() const {
    return ceil_div(n_long() - team, n_teams);
  }

  // The arrow tile of a round, counted from this block's first.
  __device__ __forceinline__ int arrow(int round) const {
    int blocks = n_teams, busy = n_long() % blocks, idle = blocks - busy, place = team;
    int alone = busy ? plan->rounds : 0;
    if (place < busy) return alone * idle + round * blocks + place;
    return round < alone ? round * idle + place - busy
                         : alone * idle + (round - alone) * blocks + place;
  }
  __device__ __forceinline__ int own_arrows() const {
    int blocks = n_teams, busy = n_long() % blocks, idle = blocks - busy, place = team;
    int alone = busy ? plan->rounds : 0;
    int together = ceil_div(n_arrows() - alone * idle - place, blocks);
    if (place < busy) return together;
    return min(alone, ceil_div(n_arrows() - (place - busy), idle)) + together;
  }
  __device__ __forceinline__ static int ceil_div(int n, int by) {
    return n <= 0 ? 0 : (n + by - 1) / by;
  }

  // Rounds of skipped tiles are counted from the other end.
  __device__ __forceinline__ int skipped() const {
    int round = index - own_long() - own_arrows();
    return round < 0 ? -1 : n_teams - 1 - team + round * n_teams;
  }
  __device__ __forceinline__ bool some() const {
    return skipped() < BATCH * plan->n_skip * QUERY_TILES;
  }

  __device__ __forceinline__ Tile tile() const {
    int round = index - own_long();
    if (round < 0) return long_tile(team + index * n_teams);
    if (skipped() >= 0) return skipped_tile(skipped());
    int linear = arrow(round), before = linear / max(ARROW_TILES, 1);
    int place = linear % max(ARROW_TILES, 1);
    int head = plan->heads[plan->n_full + before % plan->n_arrow];
    return arrow_tile(before / plan->n_arrow, head, TEXT_FIRST ? LONG_TILES + place : place);
  }

  __device__ __forceinline__ Tile skipped_tile(int linear) const {
    int row = linear % QUERY_TILES, head = linear / QUERY_TILES;
    Tile made;
    made.head = head / plan->n_skip * HEADS +
                plan->heads[plan->n_full + plan->n_arrow + head % plan->n_skip];
    made.row = first_row(row);
    made.count = made.reach = made.n_own = made.own = 0;
    made.low = NONE;
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
    made.row = first_row(at);
    made.count = KEY_STEPS;
    made.n_own = made.own = 0;
    made.reach = rest < of_full ? ALL : plan->reach[head];
    made.low = NONE;
    return made;
  }

  __device__ __forceinline__ Tile arrow_tile(int batch, int head, int at) const {
    Tile made;
    made.head = batch * HEADS + head;
    made.row = first_row(at);
    made.reach = plan->reach[head];
    int first = at * TEAM, last = min(first + TEAM, (QUERIES + GRAIN - 1) / GRAIN);
    Window window(first, last, made.reach);
    int n_steps = (window.high - window.low + BN - 1) / BN;
    made.low = window.low;
    made.n_own = own_steps(window, n_steps, first, last, made.reach);
    made.own = window.low + (member == 0 ? 0 : n_steps - made.n_own) * BN;
    made.count = TEXT_STEPS + n_steps - made.n_own;
    if (made.count >= KEY_STEPS) made.count = KEY_STEPS, made.low = NONE, made.n_own = 0;
    return made;
  }
  __device__ __forceinline__ int first_row(int at) const { return (at * CLUSTER + member) * BM; }

  // Steps at the end of a window of two blocks that the first does without; the second does without
  // as many at the beginning.
  __device__ __forceinline__ static int own_steps(const Window& both, int n_steps, int first,
                                                  int last, int reach) {
    if (CLUSTER == 1 || first + WARPGROUPS >= last) return 0;
    Window one(first, first + WARPGROUPS, reach), other(first + WARPGROUPS, last, reach);
    int needed = (one.high - both.low + BN - 1) / BN;
    return min(n_steps - needed, (other.low - both.low) / BN);
  }

  // Whether results are partial ones, which it then has kept.
  __device__ __forceinline__ bool kept(const Tile&, const float (&)[VALUE_WIDTH / 2], int,
                                       const float (&)[2], const float (&)[2]) const {
    return false;
  }

  // Rows of a skipped head; whether it was one.
  __device__ __forceinline__ bool copied(const Tile& tile, element* out) const {
    if (tile.count > 0) return false;
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
    bool in_text = !tile.split() || tile.in_text(step);
    bool in_window = !tile.split() || !tile.in_text(step);
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
