// Matrix product in float32 on the ordinary arithmetic units: a ring of tiles in shared memory that
// asynchronous copies fill, and a small tile of sums in the registers of every thread.
//
//   step i:   wait for tile i | copy tile i + STAGES - 1 | sums += A(tile i) * B(tile i)
//
// Warps along the depth work on different terms of the same sums, and so do the blocks of a
// cluster. Their parts meet in shared memory, where they are added in a fixed order.

namespace effcompile_simt {

using namespace ampere;

// Shared memory of one operand's tile. If terms are neighbours in memory, a line holds the STEP
// terms of a row, and 16 bytes follow VECTOR rows, so that the rows which a warp reads at once
// begin in different banks; else a line holds the rows of one term.
template <class C, class O>
struct Place {
  static constexpr int FLOATS =
      O::TILE * C::STEP + (O::BY_DEPTH ? O::TILE / O::VECTOR * 4 : 0);

  static __device__ __forceinline__ constexpr int of(int row, int term) {
    return O::BY_DEPTH ? row * C::STEP + row / O::VECTOR * 4 + term : term * O::TILE + row;
  }

  // The own row `i` of a thread whose first one is 0.
  static __device__ __forceinline__ constexpr int row(int i) {
    return i / O::VECTOR * O::VECTOR * O::LANES + i % O::VECTOR;
  }
};

// What one thread copies of every tile.
template <class C, class O>
struct Copier {
  static constexpr int INNER = (O::BY_DEPTH ? C::STEP : O::TILE) / O::CHUNK;
  static constexpr int LINES = O::BY_DEPTH ? O::TILE : C::STEP;
  static constexpr int ACROSS = INNER < C::THREADS ? INNER : C::THREADS;
  static constexpr int DOWN = C::THREADS / ACROSS;

  const float* base;
  const float* from;
  int line, inner, rows, terms;

  __device__ __forceinline__ Copier(const float* operand, int row, int first, int n_terms) {
    line = threadIdx.x / ACROSS;
    inner = threadIdx.x % ACROSS * O::CHUNK;
    base = operand;
    from = operand + (row + (O::BY_DEPTH ? line : inner)) * O::ROW +
           (first + (O::BY_DEPTH ? inner : line)) * O::DEPTH;
    rows = O::EXTENT - row - (O::BY_DEPTH ? line : inner);
    terms = n_terms - (O::BY_DEPTH ? inner : line);
  }

  __device__ __forceinline__ void copy(u32 to) {
    if (DOWN <= LINES || line < LINES) {
      to += 4 * Place<C, O>::of(O::BY_DEPTH ? line : inner, O::BY_DEPTH ? inner : line);
#pragma unroll
      for (int l = 0; l < LINES; l += DOWN)
#pragma unroll
        for (int i = 0; i < INNER; i += ACROSS) {
          int row = O::BY_DEPTH ? l : i * O::CHUNK, term = O::BY_DEPTH ? i * O::CHUNK : l;
          copy_chunk(to + 4 * offset(l, i * O::CHUNK), row, term);
        }
    }
    from += C::STEP * O::DEPTH;
    terms -= C::STEP;
  }

 private:
  // Of a line `l` further down; DOWN and VECTOR are powers of two, and `line` is less than DOWN.
  static __device__ __forceinline__ constexpr int offset(int l, int i) {
    return O::BY_DEPTH ? l * C::STEP + l / O::VECTOR * 4 + i : l * O::TILE + i;
  }

  __device__ __forceinline__ void copy_chunk(u32 to, int row, int term) {
    constexpr bool WHOLE_CHUNKS = O::BY_DEPTH ? C::WHOLE_TERMS : O::WHOLE_ROWS;
    constexpr bool WHOLE_LINES = O::BY_DEPTH ? O::WHOLE_ROWS : C::WHOLE_TERMS;
    const float* first = from + row * O::ROW + term * O::DEPTH;
    int rows_left = rows - row, terms_left = terms - term;
    bool is_there = (WHOLE_CHUNKS || (O::BY_DEPTH ? terms_left : rows_left) > 0) &&
                    (WHOLE_LINES || (O::BY_DEPTH ? rows_left : terms_left) > 0);
    copy_async<O::CHUNK>(to, is_there ? first : base, is_there ? O::CHUNK : 0);
  }
};

// The own rows of a thread at four terms.
template <class C, class O>
struct Fragment {
  float values[4][O::THREAD];

  // The rows of one term, or of all four if those are neighbours.
  __device__ __forceinline__ void load(const float* from, int term, int q) {
    if constexpr (O::BY_DEPTH) {
      if (q) return;
#pragma unroll
      for (int i = 0; i < O::THREAD; ++i) {
        float4 four = *(const float4*)(from + Place<C, O>::of(Place<C, O>::row(i), term));
        values[0][i] = four.x;
        values[1][i] = four.y;
        values[2][i] = four.z;
        values[3][i] = four.w;
      }
    } else {
      struct alignas(4 * O::VECTOR) Neighbours {
        float values[O::VECTOR];
      };
#pragma unroll
      for (int i = 0; i < O::THREAD; i += O::VECTOR) {
        int row = Place<C, O>::row(i);
        Neighbours some = *(const Neighbours*)(from + Place<C, O>::of(row, term + q));
#pragma unroll
        for (int v = 0; v < O::VECTOR; ++v) values[q][i + v] = some.values[v];
      }
    }
  }
};

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
