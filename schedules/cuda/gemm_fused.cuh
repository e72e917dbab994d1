// Many rows of x times a packed matrix (schedules/packing.py) on Hopper, y^T = W x^T: codes become
// 16-bit floats in registers, in the places of the tensor cores' left operand, while the product of
// the 64 terms before runs. Rows are the matrix's columns in packed order, columns the rows of x.
//
//   copier      empty[s] ->  copy x into stage s                      -> full[s]
//   multipliers full[s]  ->  wgmma | floats of the next 64 codes | wait:  empty[s-1]   ... ending
//
// After matmul.cuh and gemm_fused_pieces.cuh. Defined before: FIRST_TILE of this output, GATED; struct
// Config: numbers of gemm_fused_cuda.py, multiply, and joined (of a gate's sum and the other one).

using effcompile_matmul::Tile;
using effcompile_matmul::copy_box;
using effcompile_matmul::open_ring;
using effcompile_matmul::tile_of;

// The ring of stages from a multiplier's or the copier's side.
template <class C>
struct Ring {
  u32 stages, barriers, parity;
  int stage = 0;
  __device__ __forceinline__ u32 full() const { return barriers + 16 * stage; }
  __device__ __forceinline__ u32 empty() const { return full() + 8; }
  __device__ __forceinline__ u32 place() const { return stages + stage * C::STAGE_BYTES; }
  __device__ __forceinline__ void advance() {
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <class C>
__device__ __forceinline__ void copy_rows(const CUtensorMap& x, Ring<C> ring) {
  constexpr int SHARE = C::TILE_COLUMN / C::CLUSTER;
  const int own = blockIdx.x % C::CLUSTER * SHARE;
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    const Tile tile = tile_of<C>(work);
    for (int step = 0; step < tile.n_steps; ++step, ring.advance()) {
      mbarrier_await(ring.empty(), ring.parity);
      mbarrier_expect(ring.full(), C::STAGE_BYTES);
      copy_box<2, C::CLUSTER>(ring.place() + own * 128, x, ring.full(), (tile.first_step + step) * 64,
                              tile.column + own, 0);
    }
  }
}

// Multipliers take turns at the tensor cores: while those of one are busy with its products, the
// others make floats. The last one lets the first begin.
template <class C, int OWN_TURN>
__device__ __forceinline__ void take_turn() {
  if constexpr (C::TURNS) named_sync(OWN_TURN + 1, 256);
}

template <class C, int OWN_TURN>
__device__ __forceinline__ void pass_turn() {
  if constexpr (C::TURNS) named_arrive((OWN_TURN + 1) % C::MULTIPLIERS + 1, 256);
}

// One multiplier's way through a tile.
template <class C, int OWN_TURN>
struct Walk {
  // Steps that are written out: an even number, since floats have two places.
  static constexpr int ROUND = C::AHEAD * PIECE_STEPS;
  Piece pieces[C::AHEAD];
  u32 left[2][4][4], previous;
  int lane, step, n_steps, first_piece;
  Packed packed;

  // Floats of step I of a round; a piece that is used up makes room for another.
  template <int I>
  __device__ __forceinline__ void prepare(int number) {
    constexpr int INSIDE = I % PIECE_STEPS;
    Piece& piece = pieces[I / PIECE_STEPS];
    if constexpr (INSIDE == 0) change_places(piece, lane);
    fragment_floats<2 * INSIDE>(left[I % 2], piece);
    fragment_floats<2 * INSIDE + 1>(left[I % 2], piece);
    if constexpr (INSIDE == PIECE_STEPS - 1) ask_for(piece, first_piece + number / PIECE_STEPS + C::AHEAD);
  }

  __device__ __forceinline__ void ask_for(Piece& piece, int number) {
    if (number < N_PIECES) load(piece, packed, number);
  }

  template <int I>
  __device__ __forceinline__ void steps_from(float (&sum)[C::TILE_COLUMN / 2], Ring<C>& ring) {
    if constexpr (I < ROUND) {
      if (step >= n_steps) return;
      if (!mbarrier_done(ring.full(), ring.parity)) mbarrier_await(ring.full(), ring.parity);
      take_turn<C, OWN_TURN>();
      wgmma_fence();
#pragma unroll
      for (int s = 0; s < 4; ++s)
        C::multiply(sum, left[I % 2][s], descriptor_128b(ring.place() + 32 * s, 8192), step > 0 || s > 0);
      wgmma_commit();
      pass_turn<C, OWN_TURN>();
      wgmma_wait<1>();
      if (step > 0 && lane == 0) mbarrier_arrive_all_as_reader<C::CLUSTER>(previous);
      previous = ring.empty();
      ring.advance();
      ++step;
      prepare<(I + 1) % ROUND>(step);
      steps_from<I + 1>(sum, ring);
    }
  }
};

// Elements of a row of y that a warp has, and where it keeps them between its sums and the ending.
constexpr int OWN = GATED ? 8 : 16, LINE = OWN + 4, AT_ONCE = 16;

// Sums lie across the lanes along a row of y: by way of shared memory, AT_ONCE rows at a time, up to eight
// neighbours come together, of 16 bytes: a store fills whole sectors. Sums of a gate and of the other
// matrix lie side by side in a thread.
template <class C, class Ending>
__device__ __forceinline__ void store(const float (&sum)[C::TILE_COLUMN / 2], float* held, int n, int m, int split,
                                      int lane, const typename Ending::Arguments& arguments) {
  constexpr int WIDTH = Ending::BYTES < 4 ? 8 : 4, PER_LINE = OWN / WIDTH;
  float* to = held + lane % 4 * 2 * LINE + lane / 4;
#pragma unroll
  for (int first = 0; first < C::TILE_COLUMN; first += AT_ONCE) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < AT_ONCE / 4; ++i) {
      const int at = first / 2 + i / 2 * 4 + i % 2;
      float* place = to + (i / 2 * 8 + i % 2) * LINE;
      place[0] = GATED ? C::joined(sum[at], sum[at + 2]) : sum[at];
      if constexpr (!GATED) place[8] = sum[at + 2];
    }
    __syncwarp();
#pragma unroll
    for (int piece = lane; piece < AT_ONCE * PER_LINE; piece += 32) {
      const int row = m + first + piece / PER_LINE, column = n + piece % PER_LINE * WIDTH;
      if (row >= C::COLUMNS || column >= C::ROWS) continue;
      float some[WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i += 4) {
        const float4 four = *(const float4*)(held + piece / PER_LINE * LINE + piece % PER_LINE * WIDTH + i);
        some[i] = four.x, some[i + 1] = four.y, some[i + 2] = four.z, some[i + 3] = four.w;
      }
      if constexpr (Ending::WIDE) {
        Ending::template finish<WIDTH>(arguments, some, split, row, column);
      } else {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
          const float one[1] = {some[i]};
          if (column + i < C::ROWS) Ending::template finish<1>(arguments, one, split, row, column + i);
        }
      }
    }
  }
}

template <class C, class Ending, int OWN_TURN>
__device__ __forceinline__ void multiply_rows(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                              const typename Ending::Arguments& arguments, float* held, Ring<C> ring) {
  const int sixteen = (threadIdx.x / 128 - 1) * 4 + threadIdx.x % 128 / 32;
  Walk<C, OWN_TURN> walk;
  walk.lane = threadIdx.x % 32;
  if constexpr (OWN_TURN + 1 == C::MULTIPLIERS) pass_turn<C, OWN_TURN>();
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    const Tile tile = tile_of<C>(work);
    const int packed_tile = tile.row / 16 + sixteen;
    walk.packed = part_of(codes, scales, zeros, FIRST_TILE + packed_tile, walk.lane);
    walk.step = 0;
    walk.n_steps = tile.n_steps;
    walk.first_piece = tile.first_step / PIECE_STEPS;
    float sum[C::TILE_COLUMN / 2];
#pragma unroll
    for (int i = 0; i < C::AHEAD; ++i) walk.ask_for(walk.pieces[i], walk.first_piece + i);
    walk.template prepare<0>(0);
#pragma unroll 1
    while (walk.step < walk.n_steps) walk.template steps_from<0>(sum, ring);
    wgmma_wait<0>();
    hold(sum);
    if (walk.lane == 0) mbarrier_arrive_all_as_reader<C::CLUSTER>(walk.previous);
    store<C, Ending>(sum, held + sixteen * AT_ONCE * LINE, packed_tile * OWN, tile.column, tile.split, walk.lane,
                     arguments);
  }
}

template <class C, class Ending>
__device__ __forceinline__ void multiply_packed(const unsigned* codes, const elem* scales, const unsigned char* zeros,
                                                const CUtensorMap& x, const typename Ending::Arguments& arguments,
                                                unsigned char* raw) {
  const u32 stages = (shared_address(raw) + 1023) & ~1023u;
  const u32 barriers = stages + C::STAGES * C::STAGE_BYTES;
  open_ring<C>(barriers);
  if (threadIdx.x < 128) {
    fewer_registers<C::COPIER_REGISTERS>();
    if (threadIdx.x == 0) copy_rows<C>(x, {stages, barriers, 1});
  } else {
    more_registers<C::MULTIPLIER_REGISTERS>();
    float* held = (float*)(raw + (barriers + C::STAGES * 16 - shared_address(raw)));
    const Ring<C> ring = {stages, barriers, 0};
    // Equal in a warp, which the compiler cannot see by itself; turns have numbers in the text.
    const int turn = C::TURNS ? __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0) : 1;
    if (turn == 1)
      multiply_rows<C, Ending, 0>(codes, scales, zeros, arguments, held, ring);
    else if (C::TURNS && turn == 2)
      multiply_rows<C, Ending, 1>(codes, scales, zeros, arguments, held, ring);
    else if constexpr (C::TURNS && C::MULTIPLIERS > 2)
      multiply_rows<C, Ending, 2>(codes, scales, zeros, arguments, held, ring);
  }
  // Nobody leaves while others still copy into its memory or arrive at its barriers.
  meet_cluster<C::CLUSTER>();
}
