// Sizes of packed products: what follows from the constants that stand before the text, see
// gemv_dequant.cuh.

constexpr int N_STEPS = (N_UNITS + STEP_UNITS - 1) / STEP_UNITS;
constexpr int STEP_K = STEP_UNITS * UNIT_K;
constexpr int UNIT_FRAGMENTS = UNIT_K / 32;
constexpr int STEP_FRAGMENTS = STEP_K / 32;
constexpr int WARPS = WARPS_N * WARPS_K;
constexpr int THREADS = 32 * WARPS;
// Digits of the rows of x are the columns of the right operand, eight at a time.
constexpr int X_COLUMNS = DIGITS * M_PASS;
constexpr int X_TILES = (X_COLUMNS + 7) / 8;
// Sums of the warps along the depth lie side by side, apart enough for the memory banks.
constexpr int SUMS_STRIDE = WARPS_K % 8 == 0 ? WARPS_K + 4 : WARPS_K;
// Steps of a tile that a warp has: shares differ by one at most.
constexpr int LEAST_STEPS = N_STEPS / (WARPS_K * BLOCKS_K);
constexpr int MOST_STEPS = (N_STEPS + WARPS_K * BLOCKS_K - 1) / (WARPS_K * BLOCKS_K);
// Tiles of a group of warps that share the depth: shares differ by one at most, too.
constexpr int TILE_SHARES = BLOCKS_N * WARPS_N;
constexpr int MOST_TILES = (N_TILES + TILE_SHARES - 1) / TILE_SHARES;
// Warps that bring a part of x to shared memory.
constexpr int X_WORKERS = OWN_X ? WARPS_N : WARPS;
constexpr int STAGED_K = (OWN_X ? MOST_STEPS : (N_STEPS + BLOCKS_K - 1) / BLOCKS_K) * STEP_K;
constexpr int MIDDLE = 1 << (BITS - 1);

// Where the codes of a fragment lie in the bytes of a word, and their classes by shifts.
constexpr int CLASSES = BITS == 8 ? 1 : BITS == 4 ? 2 : BITS == 3 ? 3 : 4;
__device__ constexpr int shift_of_class(int c) { return BITS == 3 && c == 2 ? 5 : c * BITS; }
constexpr int TOP_SHIFT = BITS == 8 ? 0 : BITS == 4 ? 4 : BITS == 3 ? 5 : 6;
__device__ constexpr int class_of(int fragment) {
  return BITS == 3 ? (fragment < 6 ? fragment % 2 : 2) : fragment % CLASSES;
}
// What sums of the first class begin with, so that all classes together begin with MAGIC.
constexpr int FIRST = MAGIC >> TOP_SHIFT;
