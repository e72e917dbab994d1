// Which rows a block has, which keys they see, and which steps of keys a warp takes.

constexpr int STEP_KEYS = 16 * SUBS;
constexpr int ROW_TILES = PASS_ROWS / 8;
constexpr int ROWS = GROUP_ROWS < PASS_ROWS ? GROUP_ROWS : PASS_ROWS;
constexpr int PASSES = (GROUP_ROWS + PASS_ROWS - 1) / PASS_ROWS;
constexpr bool PAGED = PAGE > 0;
constexpr int PAGE_KEYS = PAGED ? PAGE : KEYS;
constexpr int THREADS = 32 * WARPS;
constexpr int TAKERS = SPLITS * WARPS;      // warps that take steps in turn
constexpr int STRIDE = TAKERS * STEP_KEYS;  // between steps of a warp

struct Place {  // of this block
  int split, pass, group;
  __device__ __forceinline__ int batch() const { return group / KV_HEADS; }
  __device__ __forceinline__ int first_row() const { return pass * PASS_ROWS; }
};

struct Reach {
  int begin, end;          // some row sees a key of these
  int all_begin, all_end;  // every row sees every key of these
  int position;            // of the first query
  int length;
  __device__ __forceinline__ bool is_whole(int key) const {
    return key >= all_begin && key + STEP_KEYS <= all_end;
  }
  __device__ __forceinline__ bool sees(int query, int key) const {
    bool inside = key < length;
    if constexpr (HAS_LEFT) inside = inside && key >= position + query - LEFT;
    if constexpr (HAS_RIGHT) inside = inside && key <= position + query + RIGHT;
    return inside;
  }
};

__device__ __forceinline__ Reach reach_of(const length_t* lengths, int batch) {
  Reach r;
  r.length = KEYS;
  if constexpr (HAS_LENGTHS) {
    long long given = load_behind(lengths + batch);
    r.length = given < 0 ? 0 : given < KEYS ? (int)given : KEYS;
  }
  r.position = HAS_LENGTHS && AT_END ? r.length - QUERIES : OFFSET;
  int last = r.position + QUERIES - 1;
  r.begin = r.all_begin = 0;
  r.end = r.all_end = r.length;
  if constexpr (HAS_LEFT) {
    r.begin = max(0, r.position - LEFT);
    r.all_begin = last - LEFT;
    if constexpr (PAGED) r.begin -= r.begin % BOX_KEYS;  // a step lies in a page, or pages in a step
  }
  if constexpr (HAS_RIGHT) {
    r.end = min(r.length, last + RIGHT + 1);
    r.all_end = min(r.length, r.position + RIGHT + 1);
  }
  return r;
}

// The steps of a warp: `n` of them, the first at key `first`, STRIDE keys apart.
struct Share {
  int first, n;
};

// Warps of all blocks take steps in turn.
__device__ __forceinline__ Share share_of(const Reach& reach, int split, int warp) {
  int n_steps = (max(0, reach.end - reach.begin) + STEP_KEYS - 1) / STEP_KEYS;
  int first = split * WARPS + warp;
  return {reach.begin + first * STEP_KEYS, max(0, (n_steps - first + TAKERS - 1) / TAKERS)};
}
