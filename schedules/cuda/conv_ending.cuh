// Behind the products of a convolution's tile (conv.cuh, conv_halo.cuh): the sums meet in shared
// memory, those of a cluster's blocks are added, and elements are finished and stored.

namespace effcompile_conv {

// The sums of 64 rows into lines of floats: element 4 j + 2 h + e of a thread is row
// 16 warp + lane / 4 + 8 h, column 8 j + 2 (lane % 4) + e.
template <class C>
__device__ __forceinline__ void keep_sums(const float (&sum)[C::TILE_COLUMN / 2], float* rows) {
  int lane = threadIdx.x % 32, first = threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < C::TILE_COLUMN / 8; ++j)
      *(float2*)(rows + (first + 8 * h) * C::SUM_LINE + 8 * j + 2 * (lane % 4)) =
          make_float2(sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]);
}

// Adds what the blocks of the cluster hold, in order, and finishes: every thread some neighbours.
template <class C, class Ending>
__device__ __forceinline__ void finish_tile(const typename Ending::Arguments& arguments,
                                            const Tile& tile, u32 sums) {
  // Neighbours of 16 bytes at most: a store fills whole sectors.
  constexpr int WIDTH = Ending::WIDE && Ending::BYTES < 4 ? 8 : 4, PER_ROW = C::TILE_COLUMN / WIDTH;
  constexpr int THREADS = 128 * C::MULTIPLIERS, BOX = C::BOX_HEIGHT * C::BOX_WIDTH;
  int first = threadIdx.x - 128 + tile.part % C::CLUSTER * THREADS;
  for (int i = first; i < C::BOX_IMAGES * BOX * PER_ROW; i += THREADS * C::CLUSTER) {
    int pixel = i / PER_ROW, column = i % PER_ROW * WIDTH, n = tile.column + column;
    int image = pixel / BOX, y = pixel % BOX / C::BOX_WIDTH, x = pixel % C::BOX_WIDTH;
    int row = image * C::ROW_IMAGE + y * C::ROW_LINE + x;
    image += tile.image, y += tile.y, x += tile.x;
    if (image >= C::IMAGES || y >= C::HEIGHT || x >= C::WIDTH || n >= C::COLUMNS) continue;
    float sum[WIDTH] = {};
#pragma unroll
    for (int rank = 0; rank < C::CLUSTER; ++rank)
#pragma unroll
      for (int four = 0; four < WIDTH; four += 4) {
        u32 address = sums + 4 * (row * C::SUM_LINE + column + four);
        float4 more = ampere::four_of<C::CLUSTER>(address, rank);
        sum[four] += more.x;
        sum[four + 1] += more.y;
        sum[four + 2] += more.z;
        sum[four + 3] += more.w;
      }
    int m = (image * C::HEIGHT + y) * C::WIDTH + x;
    if constexpr (Ending::WIDE) {
      Ending::template finish<WIDTH>(arguments, sum, tile.part / C::CLUSTER, m, n);
    } else {
#pragma unroll
      for (int e = 0; e < WIDTH; ++e) {
        float one[1] = {sum[e]};
        if (n + e < C::COLUMNS)
          Ending::template finish<1>(arguments, one, tile.part / C::CLUSTER, m, n + e);
      }
    }
  }
}

// All blocks of a cluster, whose other threads have nothing else to do; else the multipliers.
template <class C>
__device__ __forceinline__ void meet() {
  if constexpr (C::CLUSTER > 1)
    ampere::meet<C::CLUSTER>();
  else
    named_sync(1, 128 * C::MULTIPLIERS);
}

template <class C, class Ending>
__device__ __forceinline__ void run(const CUtensorMap& a, const CUtensorMap& b,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  u32 start = shared_address(raw), stages = (start + 1023) & ~1023u;
  u32 barriers = stages + C::ARENA_BYTES;
  Tile tile = tile_of<C>(blockIdx.x);
  if (threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(b);
    for (int stage = 0; stage < C::STAGES + C::BOX_STAGES; ++stage) {
      mbarrier_init(barriers + 16 * stage, 1);
      mbarrier_init(barriers + 16 * stage + 8, 4 * C::MULTIPLIERS);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  // In this order, so that no third kernel is on its way: what a second one reads through the first
  // cache cannot have changed since it started.
  early::wait_for_previous_kernel();
  early::release_next_kernel();
  if (threadIdx.x < 128) {
    fewer_registers<C::COPIER_REGISTERS>();
    if (threadIdx.x == 0) {
      if constexpr (C::BOX_STAGES > 0)
        copy_tile_once<C>(a, b, stages, barriers, tile);
      else
        copy_tile<C>(a, b, stages, barriers, tile);
    }
    if constexpr (C::CLUSTER > 1) {
      __syncwarp();
      meet<C>();
      meet<C>();
    }
  } else {
    more_registers<C::MULTIPLIER_REGISTERS>();
    constexpr int PARTS = C::TILE_ROW / 64 / C::MULTIPLIERS;
    float sum[PARTS][C::TILE_COLUMN / 2];
    if constexpr (C::BOX_STAGES > 0)
      multiply_tile_once<C, PARTS>(sum, stages, barriers, tile.n_steps);
    else
      multiply_tile<C, PARTS>(sum, stages, barriers, tile.n_steps);
    // The sums take the place of the stages, once nobody multiplies any more.
    named_sync(1, 128 * C::MULTIPLIERS);
    float* sums = (float*)(raw + (stages - start));
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      int row = ((threadIdx.x / 128 - 1) * PARTS + part) * 64;
      keep_sums<C>(sum[part], sums + row * C::SUM_LINE);
    }
    meet<C>();
    finish_tile<C, Ending>(arguments, tile, stages);
    if constexpr (C::CLUSTER > 1) meet<C>();
  }
}

}  // namespace effcompile_conv
