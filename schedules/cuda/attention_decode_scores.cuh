// Scores of a step, transposed: 16 keys are the rows of a product, 8 query rows its columns, so that no
// part of it is wasted on rows that do not exist. A lane has keys g and g + 8 of query rows 2c and 2c + 1.

constexpr int K_BLOCKS = (WIDTH + 15) / 16;

struct Queries {
  unsigned pairs[ROW_TILES][K_BLOCKS][2];
};

__device__ __forceinline__ void load_queries(Queries& q, const elem* query, const Place& place,
                                             const Lane& lane) {
  const elem* rows = query + (long long)place.group * GROUP_ROWS * WIDTH;
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    int row = place.first_row() + t * 8 + lane.g;
#pragma unroll
    for (int i = 0; i < 2 * K_BLOCKS; ++i) {
      int column = i * 8 + lane.c * 2;
      const unsigned* from = (const unsigned*)(rows + row * WIDTH + column);
      q.pairs[t][i / 2][i % 2] = row < GROUP_ROWS && column < WIDTH ? load_behind(from) : 0;
    }
  }
}

typedef float Scores[SUBS][ROW_TILES][4];  // i: key g + i / 2 * 8, row 2c + i % 2

__device__ __forceinline__ void score(Scores& s, const Queries& q, const unsigned char* keys,
                                      const Lane& lane) {
#pragma unroll
  for (int i = 0; i < SUBS * ROW_TILES * 4; ++i) s[i / (ROW_TILES * 4)][i / 4 % ROW_TILES][i % 4] = 0.0f;
#pragma unroll
  for (int b = 0; b < K_BLOCKS; ++b)
#pragma unroll
    for (int sub = 0; sub < SUBS; ++sub) {
      unsigned k[4];
      load_matrices(k, block_at(keys, lane.in_keys, sub, b));
#pragma unroll
      for (int t = 0; t < ROW_TILES; ++t) multiply(s[sub][t], k, q.pairs[t][b][0], q.pairs[t][b][1]);
    }
}

// The mask of a step; asked for before the keys are waited for.
typedef float Given[MASK ? SUBS : 1][ROW_TILES][4];

__device__ __forceinline__ void load_mask(Given& given, const mask_t* mask, const Place& place, int first,
                                          const Lane& lane) {
  if constexpr (MASK == 0) return;
#pragma unroll
  for (int j = 0; j < SUBS * ROW_TILES * 4; ++j) {
    int sub = j / (ROW_TILES * 4), t = j / 4 % ROW_TILES, i = j % 4;
    int row = place.first_row() + t * 8 + lane.c * 2 + i % 2, key = first + sub * 16 + lane.g + i / 2 * 8;
    int head = place.group % KV_HEADS * (GROUP_ROWS / QUERIES) + row / QUERIES;
    long long at = (long long)place.batch() * MASK_BATCH + (long long)head * MASK_HEAD +
                   (long long)(row % QUERIES) * MASK_QUERY + (long long)key * MASK_KEY;
    bool inside = row < GROUP_ROWS && key < KEYS;
    given[MASK ? sub : 0][t][i] = inside ? widened(load_behind(mask + at)) : 0.0f;
  }
}

// Scores as a mask or a soft cap want them.
__device__ __forceinline__ void scale_scores(Scores& s) {
  if constexpr (!SCALES_FIRST) return;
#pragma unroll
  for (int j = 0; j < SUBS * ROW_TILES * 4; ++j) {
    float& v = s[j / (ROW_TILES * 4)][j / 4 % ROW_TILES][j % 4];
    v *= SCALE;
    if constexpr (HAS_SOFTCAP) v = tanhf(v * (1.0f / SOFTCAP)) * SOFTCAP;
  }
}

// Of a mask's numbers, which are added in float32: finite in powers of two as well, so that a row of
// which all keys have the least float32 attends them alike.
constexpr float LEAST_SCORE = -1e36f;

__device__ __forceinline__ float masked(float score, float given) {
  float sum = score + given;
  return sum == -INFINITY ? sum : fmaxf(sum, LEAST_SCORE);
}

// The mask, and minus infinity where a key may not be seen.
__device__ __forceinline__ void restrict_scores(Scores& s, int first, const Lane& lane, const Place& place,
                                                const Reach& reach, const Given& given) {
#pragma unroll
  for (int j = 0; j < SUBS * ROW_TILES * 4; ++j) {
    int sub = j / (ROW_TILES * 4), t = j / 4 % ROW_TILES, i = j % 4;
    int row = place.first_row() + t * 8 + lane.c * 2 + i % 2, key = first + sub * 16 + lane.g + i / 2 * 8;
    bool seen = row < GROUP_ROWS && reach.sees(row % QUERIES, key);
    if constexpr (MASK == 1) seen = seen && given[sub][t][i] != 0.0f;
    if constexpr (MASK == 2) s[sub][t][i] = masked(s[sub][t][i], given[sub][t][i]);
    if (!seen) s[sub][t][i] = -INFINITY;
  }
}
