// Cosines of rows. After merge.cuh.
namespace effcompile_merge {

__device__ __forceinline__ float cosine(float dot, float one, float two) {
  return dot / (sqrtf(fmaxf(one, 1e-16f)) * sqrtf(fmaxf(two, 1e-16f)));
}

// y[i] = cosine of rows i and i - PLACES, -2 for the first PLACES rows. A group of lanes walks
// FRAMES consecutive frames of one place and keeps the row before in registers; AHEAD more rows
// are on their way.
template <typename T, int VECTOR, int LANES, int HEIGHT, int FRAMES, int AHEAD, bool STREAM,
          int ROWS, int PLACES, int WIDTH>
__device__ __forceinline__ void frame_cosine(const T* __restrict__ x, float* __restrict__ y) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  constexpr int CHUNKS = (PER_ROW + LANES - 1) / LANES;
  constexpr int RING = AHEAD + 2;
  constexpr int N = 2 * FRAMES + 1;
  __shared__ float shared[HEIGHT * (LANES > 32 ? LANES / 32 : 1) * N];
  const long long group = (long long)blockIdx.x * HEIGHT + threadIdx.y;
  const int place = (int)(group % PLACES);
  const long long before = group / PLACES * FRAMES - 1;  // the frame before the first one
  Chunk<T, VECTOR> ring[RING][CHUNKS];
  float values[N];
#pragma unroll
  for (int v = 0; v < N; ++v) values[v] = 0.0f;
#pragma unroll
  for (int step = -AHEAD; step <= FRAMES; ++step) {
    const int coming = step + AHEAD;
    if (coming <= FRAMES) {
      const long long row = (before + coming) * PLACES + place;
#pragma unroll
      for (int c = 0; c < CHUNKS; ++c) {
        const int chunk = c * LANES + threadIdx.x;
        ring[coming % RING][c].template load<STREAM>(
            row >= 0 && row < ROWS && chunk < PER_ROW, x + row * WIDTH + chunk * VECTOR);
      }
    }
    if (step < 0) continue;
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      float now[VECTOR], then[VECTOR];
      ring[step % RING][c].widen(now);
      if (step > 0) ring[(step + RING - 1) % RING][c].widen(then);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) {
        values[step] += now[i] * now[i];
        if (step > 0) values[FRAMES + step] += now[i] * then[i];
      }
    }
  }
  sum_over_lanes<N, LANES, HEIGHT>(values, shared);
#pragma unroll
  for (int step = 1; step <= FRAMES; ++step) {
    const long long frame = before + step, row = frame * PLACES + place;
    if (threadIdx.x == 0 && row < ROWS)
      y[row] = frame == 0 ? -2.0f : cosine(values[FRAMES + step], values[step - 1], values[step]);
  }
}

// y[i] = cosine of rows i and previous[i], -2 where previous[i] is negative. A group of lanes
// takes FRAMES rows one after the other.
template <typename T, int VECTOR, int LANES, int HEIGHT, int FRAMES, bool STREAM, int ROWS,
          int WIDTH>
__device__ __forceinline__ void pair_cosine(
    const T* __restrict__ x, const int* __restrict__ previous, float* __restrict__ y) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  constexpr int CHUNKS = (PER_ROW + LANES - 1) / LANES;
  constexpr int N = 3 * FRAMES;
  __shared__ float shared[HEIGHT * (LANES > 32 ? LANES / 32 : 1) * N];
  const long long first = ((long long)blockIdx.x * HEIGHT + threadIdx.y) * FRAMES;
  float values[N];
  int mates[FRAMES];
#pragma unroll
  for (int v = 0; v < N; ++v) values[v] = 0.0f;
#pragma unroll
  for (int r = 0; r < FRAMES; ++r)
    mates[r] = first + r < ROWS ? min(__ldg(previous + first + r), ROWS - 1) : -1;
#pragma unroll
  for (int r = 0; r < FRAMES; ++r) {
    Chunk<T, VECTOR> now[CHUNKS], then[CHUNKS];
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const int chunk = c * LANES + threadIdx.x;
      const bool wanted = mates[r] >= 0 && chunk < PER_ROW;
      now[c].template load<STREAM>(wanted, x + (first + r) * WIDTH + chunk * VECTOR);
      then[c].template load<STREAM>(wanted, x + (long long)mates[r] * WIDTH + chunk * VECTOR);
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      float one[VECTOR], two[VECTOR];
      now[c].widen(one);
      then[c].widen(two);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) {
        values[3 * r] += one[i] * two[i];
        values[3 * r + 1] += one[i] * one[i];
        values[3 * r + 2] += two[i] * two[i];
      }
    }
  }
  sum_over_lanes<N, LANES, HEIGHT>(values, shared);
#pragma unroll
  for (int r = 0; r < FRAMES; ++r)
    if (threadIdx.x == 0 && first + r < ROWS)
      y[first + r] =
          mates[r] < 0 ? -2.0f : cosine(values[3 * r], values[3 * r + 1], values[3 * r + 2]);
}

}  // namespace effcompile_merge
