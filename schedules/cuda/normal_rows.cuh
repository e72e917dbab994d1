// Rows that lie in the registers of their threads, and what a norm takes and gives. Before this text
// stand elem, WIDTH, VECTOR, LANES, HEIGHT, CENTRED and EPSILON, as in row_norm.cuh.
//
// Statistics are float32 of the values themselves: the mean first, then squares of differences.

using namespace effcompile_rows;

constexpr int PER_ROW = WIDTH / VECTOR;
constexpr int CHUNKS = (PER_ROW + LANES - 1) / LANES;
constexpr int WARPS = LANES > 32 ? LANES / 32 : 1;

// VECTOR elements of a vector that every row reads, in float32. Loads are at most 16 bytes.
template <typename T> __device__ __forceinline__ void shared_values(const T* from, float (&to)[VECTOR]) {
  constexpr int PART = VECTOR * sizeof(T) > 16 ? 16 / sizeof(T) : VECTOR;
#pragma unroll
  for (int p = 0; p < VECTOR; p += PART) {
    Chunk<T, PART> chunk;
    chunk.template load<false>(true, from + p);
    float some[PART];
    chunk.widen(some);
#pragma unroll
    for (int i = 0; i < PART; ++i) to[p + i] = some[i];
  }
}

// A row without its mean, and what it is multiplied by. Every thread of the block calls it.
__device__ __forceinline__ float centred(const Chunk<elem, VECTOR> (&held)[CHUNKS],
                                         float (&value)[CHUNKS][VECTOR]) {
  __shared__ float partial_means[HEIGHT * WARPS], partial_squares[HEIGHT * WARPS];
  float sum[1] = {0.0f};
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    held[c].widen(value[c]);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) sum[0] += value[c][i];
  }
  float mean = 0.0f;
  if constexpr (CENTRED) {
    sum_over_lanes<1, LANES, HEIGHT>(sum, partial_means);
    mean = sum[0] / (float)WIDTH;
  }
  float square[1] = {0.0f};
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    if (c * LANES + threadIdx.x >= PER_ROW) continue;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
      value[c][i] -= mean;
      square[0] += value[c][i] * value[c][i];
    }
  }
  sum_over_lanes<1, LANES, HEIGHT>(square, partial_squares);
  return rsqrtf(square[0] / (float)WIDTH + EPSILON);
}
