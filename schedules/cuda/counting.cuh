// One block that counts over rows: sums over the threads before, and the key of the n-th largest.
// THREADS, a multiple of 32, stands before this text.

constexpr int WARPS = THREADS / 32;

struct Pair {
  int first, second;
  __device__ __forceinline__ Pair operator+(Pair other) const {
    return {first + other.first, second + other.second};
  }
};

// What the threads before this one hold, and what all hold.
__device__ __forceinline__ Pair before(Pair own, Pair& all) {
  __shared__ Pair warps[WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Pair sum = own;
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const Pair lower = {__shfl_up_sync(0xffffffffu, sum.first, apart),
                        __shfl_up_sync(0xffffffffu, sum.second, apart)};
    if (lane >= apart) sum = sum + lower;
  }
  __syncthreads();
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  Pair base = {0, 0};
  all = {0, 0};
#pragma unroll
  for (int w = 0; w < WARPS; ++w) {
    if (w < warp) base = base + warps[w];
    all = all + warps[w];
  }
  return {base.first + sum.first - own.first, base.second + sum.second - own.second};
}

// Numbers in the order of floats that are no NaN; 0 is below all of them.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Where the largest `most` of some keys end: all above `key`, and `ties` of those that equal it.
struct Cut {
  unsigned key;
  int ties;
};
template <typename Key>
__device__ __forceinline__ Cut cut_after(int most, int begin, int end, Key key_of) {
  auto count = [&](auto holds) {
    Pair own = {0, 0}, all;
    for (int row = begin; row < end; ++row) own.first += holds(key_of(row));
    before(own, all);
    return all.first;
  };
  unsigned key = 0;
  for (int bit = 31; bit >= 0; --bit) {
    const unsigned higher = key | 1u << bit;
    if (count([&](unsigned one) { return one >= higher; }) >= most) key = higher;
  }
  return {key, most - count([&](unsigned one) { return one > key; })};
}
