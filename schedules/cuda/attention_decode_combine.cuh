// Weighted sums of what warps, then blocks, found; in a fixed order. A thread has four neighbouring
// elements of a row at a time.

constexpr int HELD = ROWS * VALUE_WIDTH;
constexpr int QUADS = HELD / 4;
constexpr int PITCH = VALUE_WIDTH + 4;  // of a row in shared memory: another bank for every second row
// Floats of all warps, and of all blocks of a group and pass; multiples of four.
constexpr int WARPS_FOUND = (WARPS * ROWS * (PITCH + 2) + 3) / 4 * 4;
constexpr int BLOCKS_FOUND = (SPLITS * ROWS * (VALUE_WIDTH + 2) + 3) / 4 * 4;
// Threads for each quad, as far as their results fit where those of the warps were; blocks of each.
constexpr int SHARERS = THREADS / QUADS < 1 ? 1 : THREADS / QUADS < WARPS ? THREADS / QUADS : WARPS;
constexpr int PART = (SPLITS + SHARERS - 1) / SHARERS;
constexpr int PARTS = (SPLITS + PART - 1) / PART;

// What several of them found: values (who, row, pitch), maxima and sums (who, row).
struct Found {
  float *values, *tops, *sums;
  int pitch;
  __device__ __forceinline__ Found(float* memory, int n, int row_pitch)
      : values(memory), tops(memory + n * ROWS * row_pitch), sums(tops + n * ROWS), pitch(row_pitch) {}
  __device__ __forceinline__ float* quad(int who, int i) const {
    return values + (who * ROWS + row_of(i)) * pitch + i * 4 % VALUE_WIDTH;
  }
  static __device__ __forceinline__ int row_of(int i) { return i * 4 / VALUE_WIDTH; }
};

struct Weighted {  // a running sum of four elements
  float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
  float top = LOWEST, sum = 0.0f;

  template <int N>
  __device__ __forceinline__ void add(const float4 (&values)[N], const float (&tops)[N],
                                      const float (&sums)[N], int n) {
    float higher = top;
#pragma unroll
    for (int j = 0; j < N; ++j) higher = fmaxf(higher, j < n ? tops[j] : LOWEST);
    scale(power_of_two(top - higher));
    top = higher;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float factor = j < n ? power_of_two(tops[j] - top) : 0.0f;
      sum += factor * sums[j];
      v.x += factor * values[j].x;
      v.y += factor * values[j].y;
      v.z += factor * values[j].z;
      v.w += factor * values[j].w;
    }
  }
  __device__ __forceinline__ void scale(float factor) {
    sum *= factor;
    v.x *= factor;
    v.y *= factor;
    v.z *= factor;
    v.w *= factor;
  }
};

__device__ __forceinline__ void store_result(elem* y, const Place& place, int i, Weighted found) {
  int row = place.first_row() + Found::row_of(i);
  if (row >= GROUP_ROWS) return;
  found.scale(found.sum > 0.0f ? 1.0f / found.sum : 0.0f);
  uint2 packed = {pair_of(found.v.x, found.v.y), pair_of(found.v.z, found.v.w)};
  long long at = ((long long)place.group * GROUP_ROWS + row) * VALUE_WIDTH + i * 4 % VALUE_WIDTH;
  *(uint2*)(y + at) = packed;
}

__device__ __forceinline__ void leave(const Found& found, int who, int i, const Weighted& one) {
  *(float4*)found.quad(who, i) = one.v;
  if (i * 4 % VALUE_WIDTH == 0) {
    found.tops[who * ROWS + Found::row_of(i)] = one.top;
    found.sums[who * ROWS + Found::row_of(i)] = one.sum;
  }
}

// A warp's totals into shared memory.
__device__ __forceinline__ void leave_totals(const Totals& totals, const Lane& lane, int warp,
                                             const Found& found) {
#pragma unroll
  for (int j = 0; j < ROW_TILES * 2; ++j) {
    int t = j / 2, e = j % 2, row = t * 8 + lane.c * 2 + e;
    float sum = totals.sum[t][e];
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(ALL, sum, lanes);
    if (row >= ROWS) continue;
    if (lane.g == 0) {
      found.tops[warp * ROWS + row] = totals.top[t][e] * POWER_UNIT;
      found.sums[warp * ROWS + row] = sum;
    }
#pragma unroll
    for (int i = 0; i < V_BLOCKS * 2; ++i) {
      int column = i * 8 + lane.g;
      if (VALUE_WIDTH % 16 == 0 || column < VALUE_WIDTH)
        found.values[(warp * ROWS + row) * PITCH + column] = totals.out[t][i / 2][i % 2 * 2 + e];
    }
  }
}

// Of what N left in shared memory.
template <int N>
__device__ __forceinline__ Weighted of_shared(const Found& found, int i) {
  float4 values[N];
  float tops[N], sums[N];
#pragma unroll
  for (int j = 0; j < N; ++j) {
    values[j] = *(const float4*)found.quad(j, i);
    tops[j] = found.tops[j * ROWS + Found::row_of(i)];
    sums[j] = found.sums[j * ROWS + Found::row_of(i)];
  }
  Weighted one;
  one.add(values, tops, sums, N);
  return one;
}

// Of blocks from `first` in device memory, at most PART; loads of several are outstanding at once.
__device__ __forceinline__ Weighted of_blocks(const Found& found, int i, int first) {
  constexpr int AT_ONCE = PART < 8 ? PART : 8;
  int row = Found::row_of(i), end = min(first + PART, SPLITS);
  Weighted one;
  for (; first < end; first += AT_ONCE) {
    float4 values[AT_ONCE];
    float tops[AT_ONCE], sums[AT_ONCE];
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j) {
      int split = min(first + j, end - 1);
      tops[j] = load_behind(found.tops + split * ROWS + row);
      sums[j] = load_behind(found.sums + split * ROWS + row);
      values[j] = load_four(found.quad(split, i));
    }
    one.add(values, tops, sums, end - first);
  }
  return one;
}

// Of a group's and pass's blocks; threads that would have no elements take a part of the blocks.
__device__ __forceinline__ void combine_blocks(const Found& blocks, const Found& parts, elem* y,
                                               const Place& place) {
  if constexpr (PARTS == 1) {
    for (int i = threadIdx.x; i < QUADS; i += THREADS) store_result(y, place, i, of_blocks(blocks, i, 0));
  } else {
    int part = threadIdx.x / QUADS, i = threadIdx.x % QUADS;
    if (part < PARTS) leave(parts, part, i, of_blocks(blocks, i, part * PART));
    __syncthreads();
    if (part == 0) store_result(y, place, i, of_shared<PARTS>(parts, i));
  }
}

// Of a cluster's blocks in their shared memory; each block takes a part of the elements.
__device__ __forceinline__ void combine_cluster(const Found& mine, elem* y, const Place& place) {
  meet_cluster();
  for (int i = place.split * THREADS + threadIdx.x; i < QUADS; i += SPLITS * THREADS) {
    int row = Found::row_of(i);
    float4 values[SPLITS];
    float tops[SPLITS], sums[SPLITS];
#pragma unroll
    for (int j = 0; j < SPLITS; ++j) {
      tops[j] = of_block(mine.tops + row, j);
      sums[j] = of_block(mine.sums + row, j);
      values[j] = four_of_block(mine.quad(0, i), j);
    }
    Weighted one;
    one.add(values, tops, sums, SPLITS);
    store_result(y, place, i, one);
  }
  meet_cluster();  // nobody leaves while others read
}

__device__ unsigned arrived[COMBINES_LAST ? GROUPS * PASSES : 1];  // zero again after every launch

// Whether all other blocks of the group and pass have left their results; one thread's atomic
// passes on what the barriers gave it.
__device__ __forceinline__ bool is_last(int at) {
  __syncthreads();
  bool last = threadIdx.x == 0 && count_arrival(&arrived[at]) == SPLITS - 1;
  return __syncthreads_or(last);
}

// The place of all blocks of a group and pass in the workspace.
__device__ __forceinline__ Found partials_of(float* workspace, int at) {
  return Found(workspace + (long long)at * BLOCKS_FOUND, SPLITS, VALUE_WIDTH);
}

__device__ __forceinline__ void combine(const Found& warps, float* partial, elem* y, const Place& place) {
  int at = place.group * PASSES + place.pass, slot = IN_CLUSTER ? 0 : place.split;
  Found blocks = IN_CLUSTER ? Found(warps.values + WARPS_FOUND, 1, PITCH) : partials_of(partial, at);
  for (int i = threadIdx.x; i < QUADS; i += THREADS) {
    Weighted own = of_shared<WARPS>(warps, i);
    if constexpr (SPLITS == 1) store_result(y, place, i, own);
    else leave(blocks, slot, i, own);
  }
  if constexpr (IN_CLUSTER) combine_cluster(blocks, y, place);
  if constexpr (COMBINES_LAST)
    if (is_last(at)) combine_blocks(blocks, Found(warps.values, PARTS, PITCH), y, place);
}
