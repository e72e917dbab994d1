// Attention forward in float32 on the ordinary arithmetic units, for any number of tokens.
//
// A block owns ROWS * WARPS_ROW queries of one head. Every warp owns ROWS of them and, of each step's
// keys, one tile: lanes stand for keys while scores are formed and for columns while values are
// added. Warps with other keys of the same rows keep sums of their own, which meet at the end.
//
//   step i:   wait for keys and values i | copy those of step i + STAGES - 1 |
//             scores, maximum, exponentials -> shared memory -> sums of values

namespace effcompile_attention_simt {

using namespace ampere;

// `n_rows` lines of WIDTH floats at `row` and beyond, PITCH apart in shared memory.
template <int THREADS, int LINES, int WIDTH, int PITCH>
__device__ __forceinline__ void copy_lines(float* to, const float* from, int row, int n_rows) {
  constexpr int FOURS = WIDTH / 4;
  for (int i = threadIdx.x; i < LINES * FOURS; i += THREADS) {
    int line = i / FOURS, at = i % FOURS * 4;
    bool exists = row + line < n_rows;
    copy_async<4>(shared_address(to + line * PITCH + at),
                  from + (exists ? (long long)(row + line) * WIDTH + at : 0), exists ? 4 : 0);
  }
}

template <class C>
struct Arena {
  // Rows of keys begin 16 bytes apart modulo 128, so that lanes with a key each read all banks.
  static constexpr int PITCH = C::WIDTH / 4 % 2 ? C::WIDTH : C::WIDTH + 4;
  static constexpr int STEP_KEYS = C::WARPS_KEY * C::KEY_TILE;
  static constexpr int STAGE = STEP_KEYS * (PITCH + C::VALUE_WIDTH);
  static constexpr int BLOCK_QUERIES = C::ROWS * C::WARPS_ROW;
  static constexpr int WARPS = C::WARPS_ROW * C::WARPS_KEY;
  static constexpr int THREADS = 32 * WARPS;
};

template <class C>
struct Sums {
  static constexpr int PIECES = (C::VALUE_WIDTH + 32 * C::VECTOR - 1) / (32 * C::VECTOR);
  static constexpr int OWN = PIECES * C::VECTOR;
  float values[C::ROWS][OWN];
  float largest[C::ROWS];
  float total[C::ROWS];  // of the keys of this lane
};

// Adds one tile of keys, which begin at `key`, to the sums of rows that begin at `row`.
template <class C>
__device__ __forceinline__ void add_tile(Sums<C>& sums, const float* q, const float* k,
                                         const float* v, float* p, const Hiding<C>& hiding,
                                         int row, int key, int lane) {
  using A = Arena<C>;
  constexpr int PER_LANE = C::KEY_TILE / 32;
  float score[C::ROWS][PER_LANE] = {};
#pragma unroll 4
  for (int d = 0; d < C::WIDTH; d += 4) {
    float4 keys[PER_LANE];
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j)
      keys[j] = *(const float4*)(k + (lane + 32 * j) * A::PITCH + d);
#pragma unroll
    for (int r = 0; r < C::ROWS; ++r) {
      float4 query = *(const float4*)(q + r * C::WIDTH + d);
#pragma unroll
      for (int j = 0; j < PER_LANE; ++j) {
        score[r][j] = fmaf(query.x, keys[j].x, score[r][j]);
        score[r][j] = fmaf(query.y, keys[j].y, score[r][j]);
        score[r][j] = fmaf(query.z, keys[j].z, score[r][j]);
        score[r][j] = fmaf(query.w, keys[j].w, score[r][j]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < C::ROWS; ++r) {
    float largest = sums.largest[r];
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j) {
      score[r][j] = hiding.score(score[r][j], row + r, key + lane + 32 * j);
      largest = fmaxf(largest, score[r][j]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
    const float base = largest == lowest() ? 0.0f : largest;
    const float kept = exp2f(sums.largest[r] - base);
    sums.largest[r] = largest;
    sums.total[r] *= kept;
#pragma unroll
    for (int i = 0; i < Sums<C>::OWN; ++i) sums.values[r][i] *= kept;
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j) {
      const float probability = exp2f(score[r][j] - base);
      sums.total[r] += probability;
      p[r * C::KEY_TILE + lane + 32 * j] = probability;
    }
  }
  __syncwarp();
#pragma unroll 2
  for (int j = 0; j < C::KEY_TILE; j += 4) {
    float4 probability[C::ROWS];
#pragma unroll
    for (int r = 0; r < C::ROWS; ++r)
      probability[r] = *(const float4*)(p + r * C::KEY_TILE + j);
#pragma unroll
    for (int i = 0; i < Sums<C>::PIECES; ++i) {
      const int column = (lane + 32 * i) * C::VECTOR;
      if (C::VALUE_WIDTH % (32 * C::VECTOR) == 0 || column < C::VALUE_WIDTH) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          struct alignas(4 * C::VECTOR) Some {
            float values[C::VECTOR];
          };
          Some some = *(const Some*)(v + (j + e) * C::VALUE_WIDTH + column);
#pragma unroll
          for (int r = 0; r < C::ROWS; ++r) {
            const float one = e == 0   ? probability[r].x
                              : e == 1 ? probability[r].y
                              : e == 2 ? probability[r].z
                                       : probability[r].w;
#pragma unroll
            for (int w = 0; w < C::VECTOR; ++w) {
              float& sum = sums.values[r][i * C::VECTOR + w];
              sum = fmaf(one, some.values[w], sum);
            }
          }
        }
      }
    }
  }
  __syncwarp();
}

// The sums of all warps meet: [warp along keys][query](columns, largest, total).
template <class C>
__device__ __forceinline__ void finish(Sums<C>& sums, float* shared, float* out, int row,
                                       int warp_row, int warp_key, int lane) {
  using A = Arena<C>;
  constexpr int LINE = C::VALUE_WIDTH + 4;
  __syncthreads();
#pragma unroll
  for (int r = 0; r < C::ROWS; ++r) {
    float total = sums.total[r];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    float* line = shared + (warp_key * A::BLOCK_QUERIES + warp_row * C::ROWS + r) * LINE;
#pragma unroll
    for (int i = 0; i < Sums<C>::OWN; ++i) {
      int column = (lane + 32 * (i / C::VECTOR)) * C::VECTOR + i % C::VECTOR;
      if (C::VALUE_WIDTH % (32 * C::VECTOR) == 0 || column < C::VALUE_WIDTH)
        line[column] = sums.values[r][i];
    }
    if (lane == 0) {
      line[C::VALUE_WIDTH] = sums.largest[r];
      line[C::VALUE_WIDTH + 1] = total;
    }
  }
  __syncthreads();
  constexpr int FOURS = C::VALUE_WIDTH / 4;
  for (int i = threadIdx.x; i < A::BLOCK_QUERIES * FOURS; i += A::THREADS) {
    const int query = i / FOURS, column = i % FOURS * 4;
    if (row + query >= C::QUERIES) continue;
    float largest = lowest();
#pragma unroll
    for (int w = 0; w < C::WARPS_KEY; ++w)
      largest = fmaxf(largest, shared[(w * A::BLOCK_QUERIES + query) * LINE + C::VALUE_WIDTH]);
    const float base = largest == lowest() ? 0.0f : largest;
    float total = 0.0f;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int w = 0; w < C::WARPS_KEY; ++w) {
      const float* line = shared + (w * A::BLOCK_QUERIES + query) * LINE;
      const float share = exp2f(line[C::VALUE_WIDTH] - base);
      const float4 part = *(const float4*)(line + column);
      total += share * line[C::VALUE_WIDTH + 1];
      sum.x = fmaf(share, part.x, sum.x);
      sum.y = fmaf(share, part.y, sum.y);
      sum.z = fmaf(share, part.z, sum.z);
      sum.w = fmaf(share, part.w, sum.w);
    }
    const float scale = total > 0.0f ? 1.0f / total : 0.0f;
    *(float4*)(out + (long long)(row + query) * C::VALUE_WIDTH + column) =
        make_float4(sum.x * scale, sum.y * scale, sum.z * scale, sum.w * scale);
  }
}

template <class C>
__device__ __forceinline__ void run(const float* q, const float* k, const float* v,
                                    const typename C::mask_type* mask, const int* patterns,
                                    const typename C::length_type* lengths, float* out,
                                    unsigned char* raw) {
  using A = Arena<C>;
  constexpr int TILES = (C::QUERIES + A::BLOCK_QUERIES - 1) / A::BLOCK_QUERIES;
  const int head = blockIdx.x / TILES;
  // The last queries of a causal head have most keys, so they go first.
  const int row = (TILES - 1 - blockIdx.x % TILES) * A::BLOCK_QUERIES;
  const int kv = head / C::HEADS * C::KV_HEADS + head % C::HEADS / (C::HEADS / C::KV_HEADS);
  q += (long long)head * C::QUERIES * C::WIDTH;
  k += (long long)kv * C::KEYS * C::WIDTH;
  v += (long long)kv * C::KEYS * C::VALUE_WIDTH;
  out += (long long)head * C::QUERIES * C::VALUE_WIDTH;
  const Hiding<C> hiding(mask, patterns, lengths, head);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp % C::WARPS_ROW, warp_key = warp / C::WARPS_ROW;
  const int last_row = min(row + A::BLOCK_QUERIES, C::QUERIES) - 1;
  const int first_key = C::LEFT < 0 ? 0 : max(0, row + hiding.offset - C::LEFT);
  const int end_key =
      C::RIGHT < 0 ? hiding.keys : min(hiding.keys, last_row + hiding.offset + C::RIGHT + 1);
  const int n_steps = max(0, end_key - first_key + A::STEP_KEYS - 1) / A::STEP_KEYS;

  float* queries = (float*)raw;
  float* probabilities = queries + A::BLOCK_QUERIES * C::WIDTH;
  float* stages = probabilities + A::WARPS * C::ROWS * C::KEY_TILE;
  auto fetch = [&](int step) {
    if (step < n_steps) {
      float* to = stages + step % C::STAGES * A::STAGE;
      const int key = first_key + step * A::STEP_KEYS;
      copy_lines<A::THREADS, A::STEP_KEYS, C::WIDTH, A::PITCH>(to, k, key, C::KEYS);
      copy_lines<A::THREADS, A::STEP_KEYS, C::VALUE_WIDTH, C::VALUE_WIDTH>(to + A::STEP_KEYS * A::PITCH, v,
                                                                     key, C::KEYS);
    }
    close_copies();
  };
  copy_lines<A::THREADS, A::BLOCK_QUERIES, C::WIDTH, C::WIDTH>(queries, q, row, C::QUERIES);
#pragma unroll
  for (int step = 0; step < C::STAGES; ++step) fetch(step);

  Sums<C> sums;
#pragma unroll
  for (int r = 0; r < C::ROWS; ++r) {
    sums.largest[r] = lowest();
    sums.total[r] = 0.0f;
#pragma unroll
    for (int i = 0; i < Sums<C>::OWN; ++i) sums.values[r][i] = 0.0f;
  }
  const int own_row = row + warp_row * C::ROWS;
#pragma unroll 1
  for (int step = 0; step < n_steps; ++step) {
    wait_for_copies<C::STAGES - 1>();
    __syncthreads();
    const float* stage = stages + step % C::STAGES * A::STAGE;
    const int inside = warp_key * C::KEY_TILE, key = first_key + step * A::STEP_KEYS + inside;
    if (key < end_key &&
        (C::RIGHT < 0 || key <= own_row + C::ROWS - 1 + hiding.offset + C::RIGHT))
      add_tile<C>(sums, queries + warp_row * C::ROWS * C::WIDTH, stage + inside * A::PITCH,
                  stage + A::STEP_KEYS * A::PITCH + inside * C::VALUE_WIDTH,
                  probabilities + warp * C::ROWS * C::KEY_TILE, hiding, own_row, key, lane);
    if (step + C::STAGES < n_steps) __syncthreads();
    fetch(step + C::STAGES);
  }
  wait_for_copies<0>();
  finish<C>(sums, queries, out, row, warp_row, warp_key, lane);
}

}  // namespace effcompile_attention_simt
