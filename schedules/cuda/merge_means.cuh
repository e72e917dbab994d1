// Means of segments of rows. After merge.cuh.
namespace effcompile_merge {

// y[o, g] = mean of x[o, rows[j]] (GATHERED) or x[o, j] over starts[g] <= j < starts[g + 1],
// of the first LONGEST of them; zeros if there is none.
template <typename T, int VECTOR, int LANES, int HEIGHT, int CHUNKS, int UNROLL, bool STREAM,
          int OUTER, int ROWS, int LISTED, int GROUPS, int WIDTH, int LONGEST, bool GATHERED>
__device__ __forceinline__ void segment_mean(
    const T* __restrict__ x, const int* __restrict__ rows, const int* __restrict__ starts,
    T* __restrict__ y) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  const Share<LANES, HEIGHT, 1, CHUNKS, PER_ROW> share;
  const long long segment = share.row(0);
  if (segment >= (long long)OUTER * GROUPS) return;
  const int outer = (int)(segment / GROUPS), group = (int)(segment % GROUPS);
  const int begin = clamped(__ldg(starts + group), 0, LISTED);
  const int limit = LISTED - begin < LONGEST ? LISTED : begin + LONGEST;
  const int end = clamped(__ldg(starts + group + 1), begin, limit);
  const T* source = x + (long long)outer * ROWS * WIDTH;
  float sum[CHUNKS][VECTOR];
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c)
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) sum[c][i] = 0.0f;
  for (int j = begin; j < end; j += UNROLL) {
    Chunk<T, VECTOR> held[UNROLL][CHUNKS];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int at = min(j + u, end - 1);
      const int row = GATHERED ? clamped(__ldg(rows + at), 0, ROWS - 1) : at;
#pragma unroll
      for (int c = 0; c < CHUNKS; ++c) {
        const bool wanted = j + u < end && share.chunk(c) < PER_ROW;
        held[u][c].template load<STREAM>(
            wanted, source + (long long)row * WIDTH + share.chunk(c) * VECTOR);
      }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
      for (int c = 0; c < CHUNKS; ++c) {
        float value[VECTOR];
        held[u][c].widen(value);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) sum[c][i] += value[i];
      }
    }
  }
  const float length = (float)max(end - begin, 1);
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    if (share.chunk(c) >= PER_ROW) continue;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) sum[c][i] = sum[c][i] / length;
    Chunk<T, VECTOR> result;
    result.fill(sum[c]);
    result.template store<STREAM>(y + segment * WIDTH + share.chunk(c) * VECTOR);
  }
}

}  // namespace effcompile_merge
