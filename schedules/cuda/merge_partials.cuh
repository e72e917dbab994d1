// Partial softmax results as one. After merge.cuh.
namespace effcompile_merge {

// Softmax-weighted results of SPLITS parts of the keys into one: y = sum_s w_s part_s with
// w_s = exp(lse_s - lse), lse = log sum_s exp(lse_s). A row without any key gives zeros.
template <typename T, typename R, int VECTOR, int LANES, int HEIGHT, int CHUNKS, int UNROLL,
          bool STREAM, int SPLITS, int ROWS, int WIDTH>
__device__ __forceinline__ void combine_partials(
    const T* __restrict__ parts, const float* __restrict__ sums, R* __restrict__ y,
    float* __restrict__ total) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  const Share<LANES, HEIGHT, 1, CHUNKS, PER_ROW> share;
  const long long row = share.row(0);
  if (row >= ROWS) return;
  const float none = -__int_as_float(0x7f800000);
  float largest = none;
  for (int s = 0; s < SPLITS; ++s)
    largest = fmaxf(largest, __ldg(sums + (long long)s * ROWS + row));
  const float base = largest == none ? 0.0f : largest;
  float weight_sum = 0.0f;
  for (int s = 0; s < SPLITS; ++s)
    weight_sum += expf(__ldg(sums + (long long)s * ROWS + row) - base);
  const float scale = weight_sum > 0.0f ? 1.0f / weight_sum : 0.0f;
  float sum[CHUNKS][VECTOR];
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c)
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) sum[c][i] = 0.0f;
  for (int s = 0; s < SPLITS; s += UNROLL) {
    Chunk<T, VECTOR> held[UNROLL][CHUNKS];
    float weight[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const bool inside = SPLITS % UNROLL == 0 || s + u < SPLITS;
      const long long at = (long long)(inside ? s + u : 0) * ROWS + row;
      weight[u] = inside ? expf(__ldg(sums + at) - base) * scale : 0.0f;
#pragma unroll
      for (int c = 0; c < CHUNKS; ++c) {
        // A part without keys is not read: it may hold anything.
        held[u][c].template load<STREAM>(weight[u] != 0.0f && share.chunk(c) < PER_ROW,
                                         parts + at * WIDTH + share.chunk(c) * VECTOR);
      }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
      for (int c = 0; c < CHUNKS; ++c) {
        float value[VECTOR];
        held[u][c].widen(value);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) sum[c][i] += weight[u] * value[i];
      }
    }
  }
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    if (share.chunk(c) >= PER_ROW) continue;
    Chunk<R, VECTOR> result;
    result.fill(sum[c]);
    result.template store<STREAM>(y + row * WIDTH + share.chunk(c) * VECTOR);
  }
  if (share.first_chunk == 0) total[row] = weight_sum > 0.0f ? base + logf(weight_sum) : none;
}

}  // namespace effcompile_merge
