// Product of a few rows with a matrix of half precision, which is read once, straight into the
// registers of the tensor cores.
//
// The matrix takes the side with 16 places of m16n8k16, the rows the side with 8. Which terms an
// instruction adds does not matter as long as both sides agree, so every thread loads 16 bytes as
// they lie in memory:
//
//   terms are neighbours:    columns g, g + 8     x terms 8 t .. 8 t + 7     (16 x 32 per warp)
//   columns are neighbours:  columns 8 g .. + 7   x terms 4 t .. 4 t + 3     (64 x 16 per warp)
//
// for lane 4 g + t. The warps of a block and the blocks of a cluster share the terms; their parts
// meet in shared memory and are added in a fixed order.

namespace effcompile_rows {

using namespace ampere;

__device__ __forceinline__ u32 word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// The matrix's part of one unit, of a thread: what its terms begin with, and how to multiply it.
// Columns of sum 4 * tile + 2 * h + e: `column`.
template <class C, bool BY_DEPTH>
struct Unit;

template <class C>
struct Unit<C, true> {
  static constexpr int COLUMNS = 16, TERMS = 32, TILES = 1, OWN_TERMS = 8;
  uint4 held[2];

  static __device__ __forceinline__ int own_term(int lane) { return lane % 4 * 8; }
  static __device__ __forceinline__ int column(int lane, int, int h) { return lane / 4 + 8 * h; }

  template <class T>
  __device__ __forceinline__ void load(const T* w, int first_column, int term, int last_term,
                                       int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int c = first_column + column(lane, 0, h);
      held[h] = (C::WHOLE_TERMS || term < last_term) && (C::WHOLE_COLUMNS || c < C::N)
                    ? streamed(w + c * C::W_COLUMN + term)
                    : make_uint4(0, 0, 0, 0);
    }
  }

  template <class T>
  __device__ __forceinline__ void add(float (&sum)[TILES][C::ROW_TILES][4],
                                      const uint4 (&x)[C::ROW_TILES]) const {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      u32 a[4] = {word(held[0], 2 * q), word(held[1], 2 * q), word(held[0], 2 * q + 1),
                  word(held[1], 2 * q + 1)};
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r)
        multiply(sum[0][r], a, word(x[r], 2 * q), word(x[r], 2 * q + 1), (const T*)nullptr);
    }
  }
};

template <class C>
struct Unit<C, false> {
  static constexpr int COLUMNS = 64, TERMS = 16, TILES = 4, OWN_TERMS = 4;
  uint4 held[4];

  static __device__ __forceinline__ int own_term(int lane) { return lane % 4 * 4; }
  static __device__ __forceinline__ int column(int lane, int tile, int h) {
    return lane / 4 * 8 + 2 * tile + h;
  }

  template <class T>
  __device__ __forceinline__ void load(const T* w, int first_column, int term, int last_term,
                                       int lane) {
    int c = first_column + column(lane, 0, 0);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      held[i] = (C::WHOLE_TERMS || term < last_term) && (C::WHOLE_COLUMNS || c < C::N)
                    ? streamed(w + (term + i) * C::W_TERM + c)
                    : make_uint4(0, 0, 0, 0);
  }

  template <class T>
  __device__ __forceinline__ void add(float (&sum)[TILES][C::ROW_TILES][4],
                                      const uint4 (&x)[C::ROW_TILES]) const {
#pragma unroll
    for (int s = 0; s < TILES; ++s) {
      u32 a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a[i] = __byte_perm(word(held[i / 2 * 2], s), word(held[i / 2 * 2 + 1], s),
                           i % 2 ? 0x7632 : 0x5410);
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r)
        multiply(sum[s][r], a, x[r].x, x[r].y, (const T*)nullptr);
    }
  }
};

// The own terms of this thread's row in every tile of eight rows.
template <class C, int OWN_TERMS, class T>
__device__ __forceinline__ void load_rows(uint4 (&held)[C::ROW_TILES], const T* x, int term,
                                          int last_term, int lane) {
#pragma unroll
  for (int r = 0; r < C::ROW_TILES; ++r) {
    int row = 8 * r + lane / 4;
    held[r] = make_uint4(0, 0, 0, 0);
    if ((C::M % 8 == 0 || row < C::M) && (C::WHOLE_TERMS || term < last_term)) {
      const T* from = x + row * C::X_ROW + term;
      if constexpr (OWN_TERMS == 8) {
        held[r] = __ldg((const uint4*)from);
      } else {
        uint2 half_of_it = __ldg((const uint2*)from);
        held[r].x = half_of_it.x;
        held[r].y = half_of_it.y;
      }
    }
  }
}

template <class C, class Ending>
__device__ __forceinline__ void finish(const typename Ending::Arguments& arguments, float4 sum,
                                       int batch, int row, int column) {
  float four[4] = {sum.x, sum.y, sum.z, sum.w};
  if constexpr (C::N % 4 == 0) {
    if (column < C::N) Ending::template finish<4>(arguments, four, batch, row, column);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float one[1] = {four[i]};
      if (column + i < C::N) Ending::template finish<1>(arguments, one, batch, row, column + i);
    }
  }
}

template <class C, class Ending, class T>
__device__ __forceinline__ void run(const T* x, const T* w,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  using U = Unit<C, C::BY_DEPTH>;
  constexpr int WARP_COLUMNS = C::UNITS * U::COLUMNS;
  constexpr int BLOCK_COLUMNS = C::WARPS_COLUMN * WARP_COLUMNS;
  constexpr int TILES = (C::N + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
  // A step is what a warp loads before it multiplies; warps take steps in turn.
  constexpr int STEP = C::IN_FLIGHT * U::TERMS;
  const int rank = blockIdx.x % C::CLUSTER, split = blockIdx.x / C::CLUSTER % C::SPLITS;
  const int tile = blockIdx.x / (C::CLUSTER * C::SPLITS);
  const int batch = tile / TILES, block_column = tile % TILES * BLOCK_COLUMNS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int layer = warp / C::WARPS_COLUMN;
  const int warp_column = warp % C::WARPS_COLUMN * WARP_COLUMNS;
  const int own_column = block_column + warp_column;
  const int first = (split * C::CLUSTER + rank) * C::TERMS_PER_BLOCK;
  const int last_term =
      C::EVEN_BLOCKS ? first + C::TERMS_PER_BLOCK : min(C::TERMS, first + C::TERMS_PER_BLOCK);
  x += batch * C::X_BATCH;
  w += batch * C::W_BATCH;
  float sum[C::UNITS][U::TILES][C::ROW_TILES][4] = {};
  const int n_steps =
      ((C::EVEN_BLOCKS ? C::TERMS_PER_BLOCK : last_term - first) + STEP - 1) / STEP;
#pragma unroll 1
  for (int step = layer; step < n_steps; step += C::WARPS_DEPTH) {
    U held[C::IN_FLIGHT][C::UNITS];
    uint4 rows[C::IN_FLIGHT][C::ROW_TILES];
    const int term = first + step * STEP + U::own_term(lane);
#pragma unroll
    for (int i = 0; i < C::IN_FLIGHT; ++i)
#pragma unroll
      for (int u = 0; u < C::UNITS; ++u)
        held[i][u].load(w, own_column + u * U::COLUMNS, term + i * U::TERMS, last_term, lane);
#pragma unroll
    for (int i = 0; i < C::IN_FLIGHT; ++i)
      load_rows<C, U::OWN_TERMS>(rows[i], x, term + i * U::TERMS, last_term, lane);
#pragma unroll
    for (int i = 0; i < C::IN_FLIGHT; ++i)
#pragma unroll
      for (int u = 0; u < C::UNITS; ++u) held[i][u].template add<T>(sum[u], rows[i]);
  }
  // [layer][row][column], padded so that the rows of a quad lie in different banks.
  constexpr int LINE = BLOCK_COLUMNS + 4;
  float* parts = (float*)raw;
  float* own = parts + layer * C::M * LINE + warp_column;
#pragma unroll
  for (int u = 0; u < C::UNITS; ++u)
#pragma unroll
    for (int t = 0; t < U::TILES; ++t)
#pragma unroll
      for (int r = 0; r < C::ROW_TILES; ++r)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          int row = 8 * r + lane % 4 * 2 + e % 2;
          if (C::M % 8 == 0 || row < C::M)
            own[row * LINE + u * U::COLUMNS + U::column(lane, t, e / 2)] = sum[u][t][r][e];
        }
  meet<C::CLUSTER>();
  const int written = split * C::BATCH + batch;
  constexpr int FOURS = BLOCK_COLUMNS / 4;
  for (int i = rank * C::THREADS + threadIdx.x; i < C::M * FOURS; i += C::CLUSTER * C::THREADS) {
    const int row = i / FOURS, column = i % FOURS * 4;
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int part = 0; part < C::WARPS_DEPTH * C::CLUSTER; ++part) {
      const float* line = parts + (part / C::CLUSTER * C::M + row) * LINE;
      float4 more = four_of<C::CLUSTER>(shared_address(line + column), part % C::CLUSTER);
      total.x += more.x;
      total.y += more.y;
      total.z += more.z;
      total.w += more.w;
    }
    finish<C, Ending>(arguments, total, written, row, block_column + column);
  }
  // Nobody leaves while others still read its shared memory.
  if constexpr (C::CLUSTER > 1) meet<C::CLUSTER>();
}

}  // namespace effcompile_rows
