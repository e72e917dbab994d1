// Chains of linked rows as segments, by one block. Row i is linked to row i - PLACES where its
// cosine is at least the threshold; a chain is a row that is not linked, its head, and the rows
// linked to it one after the other. What is fixed for one program stands before this text:
//
//   ROWS, PLACES      rows of the sequence and of one frame
//   GROUPS            segments that the outputs have room for
//   THREADS           threads of the block, a multiple of 32
//
// Each thread owns consecutive rows, so two sums over the threads before it place its chains.

constexpr int PER_THREAD = (ROWS + THREADS - 1) / THREADS;
constexpr int WARPS = THREADS / 32;

struct Extent {
  int chains, rows;
  __device__ __forceinline__ Extent operator+(Extent other) const {
    return {chains + other.chains, rows + other.rows};
  }
};

// What the threads before this one hold, and what all hold.
__device__ __forceinline__ Extent before(Extent own, Extent& all) {
  __shared__ Extent warps[WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Extent sum = own;
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const Extent lower = {__shfl_up_sync(0xffffffffu, sum.chains, apart),
                          __shfl_up_sync(0xffffffffu, sum.rows, apart)};
    if (lane >= apart) sum = sum + lower;
  }
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  Extent base = {0, 0};
  all = {0, 0};
#pragma unroll
  for (int w = 0; w < WARPS; ++w) {
    if (w < warp) base = base + warps[w];
    all = all + warps[w];
  }
  return {base.chains + sum.chains - own.chains, base.rows + sum.rows - own.rows};
}

__device__ __forceinline__ void chain_segments(const float* __restrict__ cosine,
                                               const float* __restrict__ threshold,
                                               int* __restrict__ rows, int* __restrict__ starts,
                                               int* __restrict__ heads, int* __restrict__ count) {
  const float least = __ldg(threshold);
  const int first = threadIdx.x * PER_THREAD, last = min(first + PER_THREAD, ROWS);
  auto is_linked = [&](int row) { return row >= PLACES && __ldg(cosine + row) >= least; };
  auto length = [&](int head) {
    int row = head + PLACES;
    while (row < ROWS && is_linked(row)) row += PLACES;
    return (row - head) / PLACES;
  };
  Extent own = {0, 0}, all;
  for (int row = first; row < last; ++row)
    if (!is_linked(row)) own = own + Extent{1, length(row)};
  Extent at = before(own, all);
  for (int row = first; row < last; ++row) {
    if (is_linked(row)) continue;
    if (at.chains < GROUPS) {
      starts[at.chains] = at.rows;
      heads[at.chains] = row;
    } else if (at.chains == GROUPS) {
      starts[GROUPS] = at.rows;
    }
    const int n = length(row);
    for (int k = 0; k < n; ++k) rows[at.rows + k] = row + k * PLACES;
    at = at + Extent{1, n};
  }
  for (int group = all.chains + threadIdx.x; group <= GROUPS; group += THREADS) {
    starts[group] = ROWS;
    if (group < GROUPS) heads[group] = -1;
  }
  if (threadIdx.x == 0) *count = all.chains;
}
