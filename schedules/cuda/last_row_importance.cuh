// Importance of keys to the last query: the mean over query heads of its softmax weights. Namespace
// `importance` holds the constants that schedules/importance_cuda.py writes in front. The first
// launch writes scores in base 2 and, for every part of the keys, their maximum and the sum of
// exponentials; the second one combines them in a fixed order, so results are the same every time.

namespace importance {

using ampere::u32;

constexpr int GROUP = HEADS / KV_HEADS;
constexpr int EIGHTS = (GROUP + 7) / 8;            // groups of 8 query heads, the columns of a product
constexpr int CHUNKS = (WIDTH + 31) / 32;         // of 32 elements, 8 of each of 4 lanes
constexpr int PART = 16 * WARPS * TILES;          // keys of a block
constexpr int PARTS = (KEYS + PART - 1) / PART;

__device__ __forceinline__ float lowest() { return __int_as_float(0xff800000); }

// Elements 8 of which a lane holds serve two products: which of them counts as which element of
// the reduction is free as long as keys and queries agree.
struct Rows {
  uint4 held[CHUNKS];
  __device__ __forceinline__ void load(const element* row, bool there) {
    int first = threadIdx.x % 4 * 8;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      bool inside = there && (WIDTH % 32 == 0 || 32 * i + first < WIDTH);
      held[i] = inside ? *reinterpret_cast<const uint4*>(row + 32 * i + first)
                       : make_uint4(0, 0, 0, 0);
    }
  }
};

__device__ __forceinline__ void multiply(float (&d)[4], const Rows& low, const Rows& high,
                                         const Rows& query) {
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    u32 first[4] = {low.held[i].x, high.held[i].x, low.held[i].y, high.held[i].y};
    u32 second[4] = {low.held[i].z, high.held[i].z, low.held[i].w, high.held[i].w};
    ampere::multiply(d, first, query.held[i].x, query.held[i].y, (const element*)nullptr);
    ampere::multiply(d, second, query.held[i].z, query.held[i].w, (const element*)nullptr);
  }
}

__device__ __forceinline__ float max_of_rows(float x) {
  for (int step = 4; step < 32; step *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
__device__ __forceinline__ float sum_of_rows(float x) {
  for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// What a block learns of one query head.
struct Share {
  float most, sum;
  __device__ __forceinline__ void add(Share other) {
    float now = fmaxf(most, other.most);
    if (now == lowest()) return;
    sum = sum * exp2f(most - now) + other.sum * exp2f(other.most - now);
    most = now;
  }
};

__device__ __forceinline__ void score(const element* __restrict__ query,
                                      const element* __restrict__ key, float* scores,
                                      float* shares) {
  __shared__ Share own[WARPS][8 * EIGHTS];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
  int batch = blockIdx.y / KV_HEADS, head = blockIdx.y % KV_HEADS * GROUP;
  int first = blockIdx.x * PART + warp * 16 * TILES + row;
  const element* keys = key + (long long)blockIdx.y * KEYS * WIDTH;
  const element* last = query + ((long long)(batch * HEADS + head) * QUERIES + QUERIES - 1) * WIDTH;
  Rows asked[EIGHTS];
#pragma unroll
  for (int n = 0; n < EIGHTS; ++n)
    asked[n].load(last + (long long)(8 * n + row) * QUERIES * WIDTH, 8 * n + row < GROUP);
  float d[TILES][EIGHTS][4];
#pragma unroll
  for (int tile = 0; tile < TILES; ++tile) {
    Rows low, high;
    int at = first + 16 * tile;
    low.load(keys + (long long)at * WIDTH, at < KEYS);
    high.load(keys + (long long)(at + 8) * WIDTH, at + 8 < KEYS);
#pragma unroll
    for (int n = 0; n < EIGHTS; ++n) {
      float (&sum)[4] = d[tile][n];
      sum[0] = sum[1] = sum[2] = sum[3] = 0.0f;
      multiply(sum, low, high, asked[n]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int of_head = 8 * n + column + i % 2, of_key = at + i / 2 * 8;
        sum[i] = of_key < KEYS ? sum[i] * SCALE_LOG2 : lowest();
        if (of_head < GROUP && of_key < KEYS)
          scores[(long long)(batch * HEADS + head + of_head) * KEYS + of_key] = sum[i];
      }
    }
  }
#pragma unroll
  for (int n = 0; n < EIGHTS; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float most = lowest(), sum = 0.0f;
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile)
        most = fmaxf(most, fmaxf(d[tile][n][e], d[tile][n][2 + e]));
      most = max_of_rows(most);
      float shift = most == lowest() ? 0.0f : most;
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile)
        sum += exp2f(d[tile][n][e] - shift) + exp2f(d[tile][n][2 + e] - shift);
      sum = sum_of_rows(sum);
      if (row == 0) own[warp][8 * n + column + e] = {most, sum};
    }
  __syncthreads();
  if (threadIdx.x < GROUP) {
    Share all = own[0][threadIdx.x];
    for (int other = 1; other < WARPS; ++other) all.add(own[other][threadIdx.x]);
    long long to = (long long)(batch * HEADS + head + threadIdx.x) * PARTS + blockIdx.x;
    reinterpret_cast<float2*>(shares)[to] = make_float2(all.most, all.sum);
  }
}

// A thread per key; first the block finds what every head's exponentials are to be divided by.
__device__ __forceinline__ void combine(const float* __restrict__ scores,
                                        const float* __restrict__ shares, float* out) {
  __shared__ float logs[HEADS];
  int batch = blockIdx.y;
  for (int head = threadIdx.x / 32; head < HEADS; head += THREADS / 32) {
    const float2* from = reinterpret_cast<const float2*>(shares) + (long long)(batch * HEADS + head) * PARTS;
    Share all{lowest(), 0.0f};
    for (int part = threadIdx.x % 32; part < PARTS; part += 32)
      all.add({from[part].x, from[part].y});
    for (int step = 1; step < 32; step *= 2)
      all.add({__shfl_xor_sync(0xffffffffu, all.most, step),
               __shfl_xor_sync(0xffffffffu, all.sum, step)});
    if (threadIdx.x % 32 == 0) logs[head] = all.most + log2f(all.sum);
  }
  __syncthreads();
  int key = blockIdx.x * THREADS + threadIdx.x;
  if (key >= KEYS) return;
  const float* from = scores + (long long)batch * HEADS * KEYS + key;
  float sum = 0.0f;
#pragma unroll 8
  for (int head = 0; head < HEADS; ++head)
    sum += exp2f(__ldg(from + (long long)head * KEYS) - logs[head]);
  out[(long long)batch * KEYS + key] = sum * (1.0f / HEADS);
}

}  // namespace importance
