// Matrix product for Hopper: one warpgroup copies tiles by tensor memory accelerator into a ring
// of stages, the others multiply them with wgmma and finish the elements in registers.
//
//   copier      empty[s] ->  copy A, B into stage s  -> full[s]
//   multipliers full[s]  ->  wgmma, one step behind:    empty[s-1]   ... ending, store
//
// Rows and columns are those of the tensor-core product; when Config::SWAPPED they are the columns
// and rows of the problem. Stages lie at multiples of 1024 bytes, in the 128-byte swizzle.
//
// The CLUSTER neighbouring blocks of a cluster have tiles of the same columns: each copies its share
// of B into all of them, and may do so once the multipliers of all of them have left the stage.
//
// Or the PARTS blocks of a cluster have one tile, and a part of the sum each. In the end their parts lie
// where the terms were, and each block adds and stores a share of the columns, parts in order.

namespace effcompile_matmul {

using namespace hopper;

// Into CLUSTER blocks; into this one alone if that is 1.
template <int DIMENSIONS, int CLUSTER>
__device__ __forceinline__ void copy_box(u32 to, const CUtensorMap& map, u32 barrier, int inner,
                                         int outer, int batch) {
  constexpr unsigned short ALL = (1 << CLUSTER) - 1;
  if constexpr (DIMENSIONS == 2 && CLUSTER == 1)
    tma_load_2d(to, map, barrier, inner, outer);
  else if constexpr (DIMENSIONS == 2)
    tma_share_2d(to, map, barrier, inner, outer, ALL);
  else if constexpr (CLUSTER == 1)
    tma_load_3d(to, map, barrier, inner, outer, batch);
  else
    tma_share_3d(to, map, barrier, inner, outer, batch, ALL);
}

// One stage of one operand: ROWS of it and 64 terms. If the terms are neighbours in memory, it is
// one box of 128-byte lines, a line per row; else a box of 64 rows by 64 terms for every 64 rows, a
// line per term.
template <bool BY_DEPTH, int ROWS, class Box>
__device__ __forceinline__ void each_box(int row, int depth, const Box& box) {
  if constexpr (BY_DEPTH) {
    box(0, depth, row);
  } else {
#pragma unroll
    for (int part = 0; part < ROWS / 64; ++part) box(part * 8192, row + part * 64, depth);
  }
}

template <bool BY_DEPTH, int ROWS, int DIMENSIONS, int CLUSTER = 1>
__device__ __forceinline__ void copy_operand(u32 to, const CUtensorMap& map, u32 barrier, int row,
                                             int depth, int batch) {
  each_box<BY_DEPTH, ROWS>(row, depth, [&](int place, int inner, int outer) {
    copy_box<DIMENSIONS, CLUSTER>(to + place, map, barrier, inner, outer, batch);
  });
}

template <bool BY_DEPTH, int ROWS, int DIMENSIONS>
__device__ __forceinline__ void ask_operand(const CUtensorMap& map, int row, int depth, int batch) {
  each_box<BY_DEPTH, ROWS>(row, depth, [&](int, int inner, int outer) {
    if constexpr (DIMENSIONS == 2)
      tma_ask_2d(map, inner, outer);
    else
      tma_ask_3d(map, inner, outer, batch);
  });
}

// 64 rows by 64 terms in lines of terms are 8192 bytes.
__device__ __forceinline__ u64 descriptor(u32 address) { return descriptor_128b(address, 8192); }

// Where 16 of a stage's 64 terms begin.
template <bool BY_DEPTH>
__device__ __forceinline__ u32 depth_offset(int sixteen) {
  return BY_DEPTH ? sixteen * 32 : sixteen * 2048;
}

struct Tile {
  int row, column, batch, split, first_step, n_steps;
};

template <class C>
__device__ __forceinline__ Tile tile_of(int work) {
  constexpr int PER_PRODUCT = C::TILES_ROW * C::TILES_COLUMN;
  Tile tile;
  const int whole = work / C::PARTS;
  int rest = whole / PER_PRODUCT, position = whole % PER_PRODUCT;
  tile.batch = rest % C::BATCH;
  tile.split = rest / C::BATCH * C::PARTS + work % C::PARTS;
  int group = position / (C::GROUP * C::TILES_COLUMN);
  int inside = position % (C::GROUP * C::TILES_COLUMN);
  int n_rows = min(C::GROUP, C::TILES_ROW - group * C::GROUP);
  tile.row = (group * C::GROUP + inside % n_rows) * C::TILE_ROW;
  tile.column = (inside / n_rows) * C::TILE_COLUMN;
  tile.first_step = tile.split * C::STEPS_PER_SPLIT;
  tile.n_steps = min(C::STEPS_PER_SPLIT, C::STEPS - tile.first_step);
  return tile;
}

// What the first tiles are made of, into the second-level cache: blocks of the same rows, and clusters
// of the same columns, ask for some of the steps each.
template <class C>
__device__ __forceinline__ void ask_ahead(const CUtensorMap& a, const CUtensorMap& b) {
  constexpr int SHARE = C::TILE_COLUMN / C::CLUSTER;
  const Tile tile = tile_of<C>(blockIdx.x);
  const int end = tile.first_step + tile.n_steps;
  for (int step = tile.first_step + tile.column / C::TILE_COLUMN; step < end; step += C::TILES_COLUMN)
    ask_operand<C::A_BY_DEPTH, C::TILE_ROW, C::A_DIMENSIONS>(a, tile.row, step * 64, tile.batch);
  const int column = tile.column + blockIdx.x % C::CLUSTER * SHARE;
  for (int step = tile.first_step + tile.row / C::TILE_ROW / C::CLUSTER; step < end;
       step += C::TILES_ROW / C::CLUSTER)
    ask_operand<C::B_BY_DEPTH, SHARE, C::B_DIMENSIONS>(b, column, step * 64, tile.batch);
}

template <class C>
__device__ __forceinline__ void copy_tiles(const CUtensorMap& a, const CUtensorMap& b, u32 stages,
                                           u32 barriers) {
  constexpr int SHARE = C::TILE_COLUMN / C::CLUSTER;
  int own = blockIdx.x % C::CLUSTER * SHARE;
  int stage = 0;
  u32 parity = 1;
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    Tile tile = tile_of<C>(work);
    for (int step = 0; step < tile.n_steps; ++step) {
      u32 full = barriers + 16 * stage, empty = full + 8, to = stages + stage * C::STAGE_BYTES;
      mbarrier_await(empty, parity);
      mbarrier_expect(full, C::STAGE_BYTES);
      int depth = (tile.first_step + step) * 64;
      copy_operand<C::A_BY_DEPTH, C::TILE_ROW, C::A_DIMENSIONS>(to, a, full, tile.row, depth,
                                                                tile.batch);
      copy_operand<C::B_BY_DEPTH, SHARE, C::B_DIMENSIONS, C::CLUSTER>(
          to + (C::TILE_ROW + own) * 128, b, full, tile.column + own, depth, tile.batch);
      if (++stage == C::STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

// Four sums of every thread belong to eight columns: pieces of them lie side by side, thread by thread.
template <class C, class Ending, int HEIGHT>
__device__ __forceinline__ void add_parts(const float (&sum)[HEIGHT][C::TILE_COLUMN / 2], const Tile& tile,
                                          int lane_row, const typename Ending::Arguments& arguments,
                                          unsigned char* stages) {
  constexpr int PIECES = C::TILE_COLUMN / 8, SHARE = PIECES / C::PARTS;
  constexpr int THREADS = C::MULTIPLIERS * 128;
  const int own = (int)(blockIdx.x % C::PARTS) * SHARE;
  float4* place = (float4*)stages + threadIdx.x - 128;
  // All of them have multiplied the last terms.
  named_sync(1, THREADS);
#pragma unroll
  for (int height = 0; height < HEIGHT; ++height)
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) {
      const float* four = sum[height] + piece * 4;
      place[(height * PIECES + piece) * THREADS] = make_float4(four[0], four[1], four[2], four[3]);
    }
  meet_cluster<C::PARTS>();
  // What the ending takes at once.
  constexpr int SOME = SHARE % 4 == 0 ? 4 : SHARE;
#pragma unroll 1
  for (int first = 0; first < HEIGHT * SHARE; first += SOME) {
    const int height = first / SHARE, piece = own + first % SHARE;
    float whole[SOME * 4];
#pragma unroll
    for (int i = 0; i < SOME; ++i) {
      const u32 from = shared_address(place + (height * PIECES + piece + i) * THREADS);
      float4 four = ampere::four_of<C::PARTS>(from, 0);
#pragma unroll
      for (int rank = 1; rank < C::PARTS; ++rank) {
        const float4 more = ampere::four_of<C::PARTS>(from, rank);
        four = make_float4(four.x + more.x, four.y + more.y, four.z + more.z, four.w + more.w);
      }
      whole[4 * i] = four.x;
      whole[4 * i + 1] = four.y;
      whole[4 * i + 2] = four.z;
      whole[4 * i + 3] = four.w;
    }
    product_store::rows<C, Ending>(whole, tile.row + lane_row + height * 64,
                                   tile.column + piece * 8, tile.batch, arguments);
  }
}

template <class C, class Ending>
__device__ __forceinline__ void multiply_tiles(const typename Ending::Arguments& arguments,
                                               unsigned char* raw, u32 stages, u32 barriers) {
  constexpr int PARTS = C::TILE_ROW / 64 / C::MULTIPLIERS;
  int own_row = (threadIdx.x / 128 - 1) * PARTS * 64;
  int lane_row = own_row + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  bool signals = threadIdx.x % 32 == 0;
  int stage = 0;
  u32 parity = 0;
  for (int work = blockIdx.x; work < C::WORKS; work += C::BLOCKS) {
    Tile tile = tile_of<C>(work);
    float sum[PARTS][C::TILE_COLUMN / 2];
    u32 previous = 0;
    for (int step = 0; step < tile.n_steps; ++step) {
      u32 full = barriers + 16 * stage, from = stages + stage * C::STAGE_BYTES;
      mbarrier_await(full, parity);
      wgmma_fence();
#pragma unroll
      for (int sixteen = 0; sixteen < 4; ++sixteen) {
        u64 right =
            descriptor(from + C::TILE_ROW * 128 + depth_offset<C::B_BY_DEPTH>(sixteen));
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
          u64 left = descriptor(from + (own_row + part * 64) * 128 +
                                depth_offset<C::A_BY_DEPTH>(sixteen));
          C::multiply(sum[part], left, right, step > 0 || sixteen > 0);
        }
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0 && signals) mbarrier_arrive_all_as_reader<C::CLUSTER>(previous);
      previous = full + 8;
      if (++stage == C::STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
    wgmma_wait<0>();
    if (signals) mbarrier_arrive_all_as_reader<C::CLUSTER>(previous);
    if constexpr (C::PARTS > 1) {
      add_parts<C, Ending>(sum, tile, lane_row, arguments, raw + (stages - shared_address(raw)));
    } else {
#pragma unroll
      for (int part = 0; part < PARTS; ++part)
        product_store::rows<C, Ending>(sum[part], tile.row + lane_row + part * 64, tile.column,
                                       tile.split * C::BATCH + tile.batch, arguments);
    }
  }
}

// Barriers of the stages, known to all blocks of the cluster: one arrives when a stage is full, the
// multiplying warps of all blocks when it is empty again.
template <class C>
__device__ __forceinline__ void open_ring(u32 barriers) {
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < C::STAGES; ++stage) {
      mbarrier_init(barriers + 16 * stage, 1);
      mbarrier_init(barriers + 16 * stage + 8, 4 * C::MULTIPLIERS * C::CLUSTER);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  meet_cluster<C::CLUSTER>();
}

template <class C, class Ending>
__device__ __forceinline__ void run(const CUtensorMap& a, const CUtensorMap& b,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  u32 stages = (shared_address(raw) + 1023) & ~1023u;
  u32 barriers = stages + C::STAGES * C::STAGE_BYTES;
  if (C::EARLY && threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(b);
  }
  open_ring<C>(barriers);
  if (C::AHEAD && threadIdx.x == 0) ask_ahead<C>(a, b);
  if constexpr (C::EARLY) {
    // In this order, so that no third kernel is on its way: what a second one reads through the first
    // cache cannot have changed since it started.
    early::wait_for_previous_kernel();
    early::release_next_kernel();
  }
  if (threadIdx.x < 128) {
    fewer_registers<C::COPIER_REGISTERS>();
    if (threadIdx.x == 0) copy_tiles<C>(a, b, stages, barriers);
    meet_cluster<C::PARTS>();  // before parts are added
  } else {
    more_registers<C::MULTIPLIER_REGISTERS>();
    multiply_tiles<C, Ending>(arguments, raw, stages, barriers);
  }
  // Nobody leaves while others still copy into its memory or arrive at its barriers.
  meet_cluster<C::CLUSTER * C::PARTS>();
}

}  // namespace effcompile_matmul
