// Kernels that merge rows: means, mixtures, cosines, partial softmax results.
//
// All sizes are template parameters. A row of WIDTH elements is moved in chunks of VECTOR
// elements, at most 16 bytes each. threadIdx.x is a lane within a row, threadIdx.y a row within
// the block. Sums are float32 and in a fixed order: no atomics, the same bits on every run.
namespace effcompile_merge {

using namespace effcompile_rows;

__device__ __forceinline__ int clamped(int x, int low, int high) {
  return min(max(x, low), high);
}

// Which rows and chunks a thread works on: EACH rows, a block's height apart, and CHUNKS
// chunks, LANES apart. Neighbouring blocks share rows before they move on to the next.
template <int LANES, int HEIGHT, int EACH, int CHUNKS, int PER_ROW> struct Share {
  static const int TILES = (PER_ROW + LANES * CHUNKS - 1) / (LANES * CHUNKS);
  long long first_row;
  int first_chunk;
  __device__ __forceinline__ Share() {
    first_row = (long long)(blockIdx.x / TILES) * (HEIGHT * EACH) + threadIdx.y;
    first_chunk = (int)(blockIdx.x % TILES) * (LANES * CHUNKS) + threadIdx.x;
  }
  __device__ __forceinline__ long long row(int r) const { return first_row + r * HEIGHT; }
  __device__ __forceinline__ int chunk(int c) const { return first_chunk + c * LANES; }
};

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

enum Kind { GATHER, BLEND, RENOISE, SELECT };

// One row of a result: at most two source rows and their weights.
template <typename T> struct Mixture {
  const T* first;
  const T* second;
  float first_weight;
  float second_weight;
};

template <typename T, Kind KIND, int ROWS, int OTHER, int GROUPS, int WIDTH>
__device__ __forceinline__ Mixture<T> mixture(
    const T* x, const T* other, const int* low, const int* high, const float* weight,
    long long position) {
  const int outer = (int)(position / GROUPS), group = (int)(position % GROUPS);
  const T* here = x + (long long)outer * ROWS * WIDTH;
  const T* there = other + (long long)outer * OTHER * WIDTH;
  Mixture<T> made = {here, nullptr, 1.0f, 0.0f};
  const int index = __ldg(low + group);
  if (KIND == SELECT) {
    made.first = index < 0 ? here + (long long)group * WIDTH
                           : there + (long long)min(index, OTHER - 1) * WIDTH;
    return made;
  }
  made.first = here + (long long)clamped(index, 0, ROWS - 1) * WIDTH;
  if (KIND == GATHER) return made;
  const float share = __ldg(weight + (KIND == BLEND ? group : 0));
  if (KIND == BLEND) {
    made.first_weight = 1.0f - share;
    made.second_weight = share;
    made.second = here + (long long)clamped(__ldg(high + group), 0, ROWS - 1) * WIDTH;
  } else {
    made.first_weight = share;
    made.second_weight = 1.0f - share;
    made.second = there + (long long)group * WIDTH;
  }
  // A weight of zero costs no bytes, and keeps what it would multiply out of the result.
  if (made.second_weight == 0.0f) made.second = nullptr;
  if (made.first_weight == 0.0f) made.first = nullptr;
  return made;
}

template <typename T, Kind KIND, int VECTOR, int LANES, int HEIGHT, int EACH, int CHUNKS,
          bool STREAM, int OUTER, int ROWS, int OTHER, int GROUPS, int WIDTH>
__device__ __forceinline__ void mix_rows(
    const T* __restrict__ x, const T* __restrict__ other, const int* __restrict__ low,
    const int* __restrict__ high, const float* __restrict__ weight, T* __restrict__ y) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  constexpr bool TWO = KIND == BLEND || KIND == RENOISE;
  constexpr long long TOTAL = (long long)OUTER * GROUPS;
  const Share<LANES, HEIGHT, EACH, CHUNKS, PER_ROW> share;
  Mixture<T> made[EACH];
  Chunk<T, VECTOR> first[EACH][CHUNKS], second[TWO ? EACH : 1][TWO ? CHUNKS : 1];
#pragma unroll
  for (int r = 0; r < EACH; ++r)
    made[r] = mixture<T, KIND, ROWS, OTHER, GROUPS, WIDTH>(
        x, other, low, high, weight, share.row(r) < TOTAL ? share.row(r) : TOTAL - 1);
#pragma unroll
  for (int r = 0; r < EACH; ++r) {
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const bool wanted = share.row(r) < TOTAL && share.chunk(c) < PER_ROW;
      const int at = share.chunk(c) * VECTOR;
      first[r][c].template load<STREAM>(wanted && made[r].first != nullptr, made[r].first + at);
      if (TWO)
        second[TWO ? r : 0][TWO ? c : 0].template load<STREAM>(
            wanted && made[r].second != nullptr, made[r].second + at);
    }
  }
#pragma unroll
  for (int r = 0; r < EACH; ++r) {
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      if (share.row(r) >= TOTAL || share.chunk(c) >= PER_ROW) continue;
      if (TWO) {
        float one[VECTOR], two[VECTOR];
        first[r][c].widen(one);
        second[TWO ? r : 0][TWO ? c : 0].widen(two);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i)
          one[i] = made[r].first_weight * one[i] + made[r].second_weight * two[i];
        first[r][c].fill(one);
      }
      first[r][c].template store<STREAM>(y + share.row(r) * WIDTH + share.chunk(c) * VECTOR);
    }
  }
}

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
