// Matrix product in float32 on the ordinary arithmetic units: a ring of tiles in shared memory that
// asynchronous copies fill, and a small tile of sums in the registers of every thread.
//
//   step i:   wait for tile i | copy tile i + STAGES - 1 | sums += A(tile i) * B(tile i)
//
// Warps along the depth work on different terms of the same sums, and so do the blocks of a
// cluster. Their parts meet in shared memory, where they are added in a fixed order. Needs
// matmul_simt_tiles.cuh.

namespace effcompile_simt {

using namespace ampere;

// Where a thread works: its layer along the depth, its number there, its first row and column.
template <class C>
struct Thread {
  using A = typename C::A;
  using B = typename C::B;
  static constexpr int LAYER = C::THREADS / C::WARPS_DEPTH;
  int layer, number, row, column;

  __device__ __forceinline__ Thread() {
    layer = threadIdx.x / LAYER;
    number = threadIdx.x % LAYER;
    int lane = number % 32, warp = number / 32;
    row = warp / C::WARPS_COLUMN * A::LANES * A::THREAD + lane / B::LANES * A::VECTOR;
    column = warp % C::WARPS_COLUMN * B::LANES * B::THREAD + lane % B::LANES * B::VECTOR;
  }
};

template <class C>
__device__ __forceinline__ void multiply(const float* a, const float* b, int layer,
                                         float (&sum)[C::A::THREAD][C::B::THREAD]) {
  constexpr int SHARE = C::STEP / C::WARPS_DEPTH;
  // At most 1024 multiplications in a row, for the sake of the instruction cache.
  constexpr int UNROLLED = 256 / (C::A::THREAD * C::B::THREAD);
  a += Place<C, typename C::A>::of(0, layer * SHARE);
  b += Place<C, typename C::B>::of(0, layer * SHARE);
#pragma unroll UNROLLED
  for (int term = 0; term < SHARE; term += 4) {
    Fragment<C, typename C::A> left;
    Fragment<C, typename C::B> right;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      left.load(a, term, q);
      right.load(b, term, q);
#pragma unroll
      for (int i = 0; i < C::A::THREAD; ++i)
#pragma unroll
        for (int j = 0; j < C::B::THREAD; ++j)
          sum[i][j] = fmaf(left.values[q][i], right.values[q][j], sum[i][j]);
    }
  }
}

// The tile's product over `n_terms` terms.
template <class C>
__device__ __forceinline__ void sum_terms(const float* a, const float* b, int tile_row,
                                          int tile_column, int first, int n_terms,
                                          const Thread<C>& thread, unsigned char* raw,
                                          float (&sum)[C::A::THREAD][C::B::THREAD]) {
  using PlaceA = Place<C, typename C::A>;
  using PlaceB = Place<C, typename C::B>;
  constexpr int STAGE = PlaceA::FLOATS + PlaceB::FLOATS;
  Copier<C, typename C::A> left(a, tile_row, first, n_terms);
  Copier<C, typename C::B> right(b, tile_column, first, n_terms);
  const float* stages = (const float*)raw;
  const u32 to = shared_address(raw);
  const int n_steps = (n_terms + C::STEP - 1) / C::STEP;
#pragma unroll
  for (int i = 0; i < C::STAGES - 1; ++i) {
    if (i < n_steps) {
      left.copy(to + 4 * i * STAGE);
      right.copy(to + 4 * (i * STAGE + PlaceA::FLOATS));
    }
    close_copies();
  }
  const float* own_a = stages + PlaceA::of(thread.row, 0);
  const float* own_b = stages + PlaceA::FLOATS + PlaceB::of(thread.column, 0);
  int full = 0, empty = C::STAGES - 1;
#pragma unroll 1
  for (int step = 0; step < n_steps; ++step) {
    wait_for_copies<C::STAGES - 2>();
    __syncthreads();
    if (step + C::STAGES - 1 < n_steps) {
      left.copy(to + 4 * empty * STAGE);
      right.copy(to + 4 * (empty * STAGE + PlaceA::FLOATS));
    }
    close_copies();
    multiply<C>(own_a + full * STAGE, own_b + full * STAGE, thread.layer, sum);
    full = full + 1 == C::STAGES ? 0 : full + 1;
    empty = empty + 1 == C::STAGES ? 0 : empty + 1;
  }
}

template <class C, class Ending, int WIDTH>
__device__ __forceinline__ void finish(const typename Ending::Arguments& arguments,
                                       const float (&sums)[WIDTH], int batch, int row,
                                       int column) {
  if (!C::A::WHOLE_ROWS && row >= C::A::EXTENT) return;
  if constexpr (C::B::EXTENT % WIDTH == 0) {
    if (C::B::WHOLE_ROWS || column < C::B::EXTENT)
      Ending::template finish<WIDTH>(arguments, sums, batch, row, column);
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      float one[1] = {sums[i]};
      if (column + i < C::B::EXTENT)
        Ending::template finish<1>(arguments, one, batch, row, column + i);
    }
  }
}

// Every layer of every block in the cluster leaves its parts of all sums, and takes over as many
// whole sums.
template <class C, class Ending>
__device__ __forceinline__ void finish_together(const typename Ending::Arguments& arguments,
                                                const float (&sum)[C::A::THREAD][C::B::THREAD],
                                                const Thread<C>& thread, unsigned char* raw,
                                                int rank, int batch, int tile_row,
                                                int tile_column) {
  constexpr int SUMS = C::A::THREAD * C::B::THREAD, LAYER = Thread<C>::LAYER;
  constexpr int OWN = SUMS / (C::WARPS_DEPTH * C::CLUSTER);
  constexpr int WIDTH = OWN < C::B::VECTOR ? OWN : C::B::VECTOR;
  wait_for_copies<0>();
  __syncthreads();
  float* parts = (float*)raw + thread.number;
#pragma unroll
  for (int e = 0; e < SUMS; ++e)
    parts[(thread.layer * SUMS + e) * LAYER] = sum[e / C::B::THREAD][e % C::B::THREAD];
  meet<C::CLUSTER>();
  const int begin = (rank * C::WARPS_DEPTH + thread.layer) * OWN;
#pragma unroll
  for (int e = begin; e < begin + OWN; e += WIDTH) {
    float total[WIDTH];
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) {
      total[w] = 0.0f;
      u32 address = shared_address(parts + (e + w) * LAYER);
#pragma unroll
      for (int part = 0; part < C::WARPS_DEPTH * C::CLUSTER; ++part)
        total[w] += float_of<C::CLUSTER>(address + 4 * (part / C::CLUSTER) * SUMS * LAYER,
                                         part % C::CLUSTER);
    }
    int row = tile_row + thread.row + Place<C, typename C::A>::row(e / C::B::THREAD);
    int column = tile_column + thread.column + Place<C, typename C::B>::row(e % C::B::THREAD);
    finish<C, Ending, WIDTH>(arguments, total, batch, row, column);
  }
  // Nobody leaves while others still read its shared memory.
  if constexpr (C::CLUSTER > 1) meet<C::CLUSTER>();
}

template <class C, class Ending>
__device__ __forceinline__ void finish_alone(const typename Ending::Arguments& arguments,
                                             const float (&sum)[C::A::THREAD][C::B::THREAD],
                                             const Thread<C>& thread, int batch, int tile_row,
                                             int tile_column) {
  constexpr int WIDTH = C::B::VECTOR;
#pragma unroll
  for (int i = 0; i < C::A::THREAD; ++i)
#pragma unroll
    for (int j = 0; j < C::B::THREAD; j += WIDTH) {
      float some[WIDTH];
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) some[w] = sum[i][j + w];
      int row = tile_row + thread.row + Place<C, typename C::A>::row(i);
      int column = tile_column + thread.column + Place<C, typename C::B>::row(j);
      finish<C, Ending, WIDTH>(arguments, some, batch, row, column);
    }
}

template <class C, class Ending>
__device__ __forceinline__ void run(const float* a, const float* b,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  constexpr int TILES_ROW = (C::A::EXTENT + C::A::TILE - 1) / C::A::TILE;
  constexpr int TILES_COLUMN = (C::B::EXTENT + C::B::TILE - 1) / C::B::TILE;
  const int rank = blockIdx.x % C::CLUSTER, split = blockIdx.x / C::CLUSTER % C::SPLITS;
  const int tile = blockIdx.x / (C::CLUSTER * C::SPLITS);
  const int batch = tile / (TILES_ROW * TILES_COLUMN), place = tile % (TILES_ROW * TILES_COLUMN);
  // Neighbours share columns for GROUP rows of tiles, then move on.
  const int group = place / (C::GROUP * TILES_COLUMN), inside = place % (C::GROUP * TILES_COLUMN);
  const int height = min(C::GROUP, TILES_ROW - group * C::GROUP);
  const int tile_row = (group * C::GROUP + inside % height) * C::A::TILE;
  const int tile_column = inside / height * C::B::TILE;
  const int first = (split * C::CLUSTER + rank) * C::TERMS_PER_BLOCK;
  const int n_terms =
      C::EVEN_BLOCKS ? C::TERMS_PER_BLOCK : min(C::TERMS - first, C::TERMS_PER_BLOCK);
  const Thread<C> thread;
  float sum[C::A::THREAD][C::B::THREAD] = {};
  sum_terms<C>(a + batch * C::A::BATCH, b + batch * C::B::BATCH, tile_row, tile_column, first,
               n_terms, thread, raw, sum);
  const int written = split * C::BATCH + batch;
  if constexpr (C::WARPS_DEPTH * C::CLUSTER > 1)
    finish_together<C, Ending>(arguments, sum, thread, raw, rank, written,
                               tile_row, tile_column);
  else
    finish_alone<C, Ending>(arguments, sum, thread, written, tile_row, tile_column);
}

}  // namespace effcompile_simt
