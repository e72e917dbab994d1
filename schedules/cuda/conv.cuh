// Convolution for Hopper, channels last: the product of all pixels with all filters. One thread
// copies boxes of pixels and of weights by tensor memory accelerator into a ring of stages, the
// warpgroups behind it multiply them with wgmma and finish the elements.
//
//   copier      empty[s] ->  pixels under one place of the kernel, weights of it  -> full[s]
//   multipliers full[s]  ->  wgmma, one step behind:  empty[s-1]  ... ending, store
//
// A tile of rows is a box of BOX_IMAGES x BOX_HEIGHT x BOX_WIDTH pixels of the output. Under one
// place of the kernel it reads a box of the images, with the stride as the box's step; what lies
// outside of the images is zero. A stage holds PER_STAGE units of CHANNELS terms; a unit is a line
// of LINE = 2 CHANNELS bytes for every row, in the swizzle of that size.

namespace effcompile_conv {

using namespace hopper;

struct Tile {
  int image, y, x, column, part, first_step, n_steps;
};

template <class C>
__device__ __forceinline__ Tile tile_of(int block) {
  constexpr int TILES_PIXEL = C::TILES_IMAGE * C::TILES_HEIGHT * C::TILES_WIDTH;
  Tile tile;
  tile.part = block % (C::CLUSTER * C::SPLITS);
  int number = block / (C::CLUSTER * C::SPLITS);
  int columns = C::COLUMNS_FIRST ? number % C::TILES_COLUMN : number / TILES_PIXEL;
  int pixels = C::COLUMNS_FIRST ? number / C::TILES_COLUMN : number % TILES_PIXEL;
  tile.column = columns * C::TILE_COLUMN;
  tile.x = pixels % C::TILES_WIDTH * C::BOX_WIDTH;
  tile.y = pixels / C::TILES_WIDTH % C::TILES_HEIGHT * C::BOX_HEIGHT;
  tile.image = pixels / (C::TILES_WIDTH * C::TILES_HEIGHT) * C::BOX_IMAGES;
  tile.first_step = tile.part * C::STEPS_PER_PART;
  tile.n_steps = C::STEPS_PER_PART;
  if constexpr (C::STEPS % C::STEPS_PER_PART != 0)
    tile.n_steps = min(tile.n_steps, C::STEPS - tile.first_step);
  return tile;
}

// Units behind the last one lie outside of all channels: zeros.
template <class C>
__device__ __forceinline__ void copy_unit(const CUtensorMap& a, const CUtensorMap& b, u32 to,
                                          u32 full, const Tile& tile, int unit, int number) {
  int place = unit / C::CHANNEL_STEPS, channel = unit % C::CHANNEL_STEPS * C::CHANNELS;
  if (C::UNITS % C::PER_STAGE != 0 && unit >= C::UNITS) channel = C::CHANNEL_STEPS * C::CHANNELS;
  int x = tile.x * C::STRIDE_X + place % C::KERNEL_X * C::DILATION_X - C::PADDING_X;
  int y = tile.y * C::STRIDE_Y + place / C::KERNEL_X * C::DILATION_Y - C::PADDING_Y;
  tma_load_4d(to + number * C::TILE_ROW * C::LINE, a, full, channel, x, y, tile.image);
  u32 weights = to + C::TILE_ROW * 128 + number * C::TILE_COLUMN * C::LINE;
  tma_load_3d(weights, b, full, channel, place, tile.column);
}

template <class C>
__device__ __forceinline__ void copy_tile(const CUtensorMap& a, const CUtensorMap& b, u32 stages,
                                          u32 barriers, const Tile& tile) {
  int stage = 0;
  u32 parity = 1;
  for (int step = 0; step < tile.n_steps; ++step) {
    u32 full = barriers + 16 * stage, to = stages + stage * C::STAGE_BYTES;
    mbarrier_await(full + 8, parity);
    mbarrier_expect(full, C::COPIED_BYTES);
#pragma unroll
    for (int number = 0; number < C::PER_STAGE; ++number)
      copy_unit<C>(a, b, to, full, tile, (tile.first_step + step) * C::PER_STAGE + number, number);
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// 16 of a stage's 64 terms, of an operand with ROWS rows.
template <int LINE, int ROWS>
__device__ __forceinline__ u64 terms(u32 address, int sixteen) {
  if constexpr (LINE == 16) {
    return descriptor_lines<LINE>(address + 2 * sixteen * ROWS * LINE, ROWS * LINE);
  } else {
    constexpr int PER_LINE = LINE / 32;
    u32 unit = sixteen / PER_LINE * ROWS * LINE;
    return descriptor_lines<LINE>(address + unit + sixteen % PER_LINE * 32, 16);
  }
}

template <class C, int PARTS>
__device__ __forceinline__ void multiply_tile(float (&sum)[PARTS][C::TILE_COLUMN / 2], u32 stages,
                                              u32 barriers, int n_steps) {
  int own_row = (threadIdx.x / 128 - 1) * PARTS * 64;
  bool signals = threadIdx.x % 32 == 0;
  int stage = 0;
  u32 parity = 0, previous = 0;
  for (int step = 0; step < n_steps; ++step) {
    u32 full = barriers + 16 * stage, from = stages + stage * C::STAGE_BYTES;
    mbarrier_await(full, parity);
    wgmma_fence();
#pragma unroll
    for (int sixteen = 0; sixteen < 4; ++sixteen) {
      u64 right = terms<C::LINE, C::TILE_COLUMN>(from + C::TILE_ROW * 128, sixteen);
#pragma unroll
      for (int part = 0; part < PARTS; ++part) {
        u64 left = terms<C::LINE, C::TILE_ROW>(from + (own_row + part * 64) * C::LINE, sixteen);
        C::multiply(sum[part], left, right, step > 0 || sixteen > 0);
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0 && signals) mbarrier_arrive(previous);
    previous = full + 8;
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  wgmma_wait<0>();
#pragma unroll
  for (int part = 0; part < PARTS; ++part) hold(sum[part]);
}

}  // namespace effcompile_conv
