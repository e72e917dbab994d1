// Matrix product of 16-bit floats by products of warps (compute capability 8.0 and later): the
// block copies tiles of both operands into a ring of stages, and every warp multiplies its part of
// the block's tile from there.
//
//   for 16 terms each: read the next ones | multiply
//   at the first of a stage: copy stage s + STAGES - 1; at the last: wait for stage s + 1
//
// Config: numbers of matmul_mma_cuda.py, with an operand A of the rows and B of the columns.

namespace effcompile_mma {

using namespace ampere;
using warp_tiles::Lines;

// One operand's part of a stage: a line per row where terms are neighbours in memory, else a line
// per term. WARP of its rows belong to a warp.
template <class C, class O>
struct Tile {
  using L = Lines<O::BY_DEPTH ? C::STEP : O::TILE>;
  static constexpr int LINES = O::BY_DEPTH ? O::TILE : C::STEP;
  static constexpr int BYTES = LINES * L::PITCH;
  static constexpr int SIXTEENS = O::WARP / 16;

  // Rows from `row` and terms from `term`, zeros for those that are not there.
  template <class T>
  static __device__ __forceinline__ void copy(unsigned char* to, const T* from, int row, int term) {
    constexpr int PER_LINE = L::PIECES * 8 / O::CHUNK, COPIES = LINES * PER_LINE;
    const int first = O::BY_DEPTH ? term : row, first_line = O::BY_DEPTH ? row : term;
    constexpr int EXTENT = O::BY_DEPTH ? C::TERMS : O::EXTENT;
    constexpr int LINE_EXTENT = O::BY_DEPTH ? O::EXTENT : C::TERMS;
    constexpr long long STRIDE = O::BY_DEPTH ? O::ROW : O::DEPTH;
    using Own = warp_tiles::Share<C::THREADS, PER_LINE>;
    const u32 address = shared_address(to);
    const T* own = from + (first_line * STRIDE + first);
#pragma unroll
    for (int turn = 0; turn < (COPIES + C::THREADS - 1) / C::THREADS; ++turn) {
      if (COPIES % C::THREADS && turn * C::THREADS + threadIdx.x >= COPIES) break;
      const int line = Own::line(turn), along = Own::along(turn) * O::CHUNK;
      const u32 place = L::at(line, along / 8) + along % 8 * 2;
      bool is_there = true;
      if (EXTENT % (O::BY_DEPTH ? C::STEP : O::TILE)) is_there = first + along < EXTENT;
      if (LINE_EXTENT % LINES) is_there &= first_line + line < LINE_EXTENT;
      const T* source = is_there ? own + Own::template place<STRIDE, O::CHUNK>(turn) : from;
      if constexpr (O::CHUNK > 1)
        copy_bytes<2 * O::CHUNK>(address + place, source, is_there ? 2 * O::CHUNK : 0);
      else
        *(unsigned short*)(to + place) = is_there ? *(const unsigned short*)source : 0;
    }
  }
};

// Places of fragments are those of the left or of the right operand, for the warp's rows that begin
// at sixteen times `first`.
template <class C, class O, bool RIGHT>
__device__ __forceinline__ u32 place_of(u32 lane, int first) {
  using L = typename Tile<C, O>::L;
  // Transposed, the order of the matrices is that of the other operand.
  const u32 place = RIGHT == (bool)O::BY_DEPTH ? warp_tiles::pieces_first<L>(lane)
                                               : warp_tiles::lines_first<L>(lane);
  return O::BY_DEPTH ? place + 16 * first * L::PITCH : L::moved(place, first);
}

// 16 terms of all rows of the warp.
template <class C, class O>
__device__ __forceinline__ void read(u32 (&held)[O::WARP / 16][4], u32 tile, u32 place, int step) {
  using L = typename Tile<C, O>::L;
#pragma unroll
  for (int i = 0; i < O::WARP / 16; ++i) {
    if constexpr (O::BY_DEPTH)
      load_matrices(held[i], tile + L::moved(place, step) + 16 * i * L::PITCH);
    else
      load_transposed(held[i], tile + L::moved(place, i) + 16 * step * L::PITCH);
  }
}

template <class C, class Ending, class T>
__device__ __forceinline__ void run(const T* a, const T* b,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  using A = typename C::A;
  using B = typename C::B;
  constexpr int TILES_ROW = (A::EXTENT + A::TILE - 1) / A::TILE;
  constexpr int TILES_COLUMN = (B::EXTENT + B::TILE - 1) / B::TILE;
  constexpr int STAGE = Tile<C, A>::BYTES + Tile<C, B>::BYTES;
  constexpr int STEPS = (C::TERMS + C::STEP - 1) / C::STEP;
  constexpr int SIXTEENS = C::STEP / 16;  // an even number
  const int split = blockIdx.x % C::SPLITS, work = blockIdx.x / C::SPLITS;
  const int batch = work / (TILES_ROW * TILES_COLUMN), place = work % (TILES_ROW * TILES_COLUMN);
  // Neighbours share columns for GROUP rows of tiles, then move on.
  const int group = place / (C::GROUP * TILES_COLUMN), inside = place % (C::GROUP * TILES_COLUMN);
  const int height = min(C::GROUP, TILES_ROW - group * C::GROUP);
  const int row = (group * C::GROUP + inside % height) * A::TILE, column = inside / height * B::TILE;
  const int first_step = split * C::STEPS_PER_SPLIT;
  const int n_steps = min(C::STEPS_PER_SPLIT, STEPS - first_step);
  a += batch * A::BATCH;
  b += batch * B::BATCH;

  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp / (B::TILE / B::WARP), warp_column = warp % (B::TILE / B::WARP);
  const u32 a_place = place_of<C, A, false>(lane, warp_row * (A::WARP / 16));
  const u32 b_place = place_of<C, B, true>(lane, warp_column * (B::WARP / 16));
  const u32 stages = shared_address(raw);
  auto fetch = [&](int step) {
    if (step < n_steps) {
      unsigned char* to = raw + step % C::STAGES * STAGE;
      const int term = (first_step + step) * C::STEP;
      Tile<C, A>::copy(to, a, row, term);
      Tile<C, B>::copy(to + Tile<C, A>::BYTES, b, column, term);
    }
    close_copies();
  };
#pragma unroll
  for (int step = 0; step < C::STAGES - 1; ++step) fetch(step);

  float sum[A::WARP / 16][B::WARP / 8][4];
#pragma unroll
  for (int i = 0; i < A::WARP / 16; ++i)
#pragma unroll
    for (int j = 0; j < B::WARP / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[i][j][e] = 0.0f;
  u32 left[2][A::WARP / 16][4], right[2][B::WARP / 16][4];
  auto read_both = [&](int buffer, int step, int sixteen) {
    const u32 tile = stages + step % C::STAGES * STAGE;
    read<C, A>(left[buffer], tile, a_place, sixteen);
    read<C, B>(right[buffer], tile + Tile<C, A>::BYTES, b_place, sixteen);
  };
  wait_for_copies<C::STAGES - 2>();
  __syncthreads();
  read_both(0, 0, 0);
#pragma unroll 1
  for (int step = 0; step < n_steps; ++step) {
#pragma unroll
    for (int s = 0; s < SIXTEENS; ++s) {
      // The last terms of a stage are multiplied while the first ones of the next are read.
      if (s == SIXTEENS - 1) {
        wait_for_copies<C::STAGES - 2>();
        __syncthreads();
      }
      read_both((s + 1) % 2, s == SIXTEENS - 1 ? step + 1 : step, (s + 1) % SIXTEENS);
      if (s == 0) fetch(step + C::STAGES - 1);
#pragma unroll
      for (int j = 0; j < B::WARP / 8; ++j)
#pragma unroll
        for (int i = 0; i < A::WARP / 16; ++i)
          multiply(sum[i][j], left[s % 2][i], right[s % 2][j / 2][j % 2 * 2],
                   right[s % 2][j / 2][j % 2 * 2 + 1], (const T*)nullptr);
    }
  }
#pragma unroll
  for (int i = 0; i < A::WARP / 16; ++i)
    product_store::rows<C, Ending>((const float(&)[B::WARP / 2])sum[i],
                                   row + warp_row * A::WARP + 16 * i + (int)lane / 4,
                                   column + warp_column * B::WARP, split * C::BATCH + batch,
                                   arguments);
}

}  // namespace effcompile_mma
