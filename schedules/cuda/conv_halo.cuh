// The same convolution without stride, where a box of the images is copied once for all places of
// the kernel: the box with its halo lies in shared memory, and what is under a place begins some
// lines later.
//
//   lines of a box, 3 x 3 kernel:   y x x x y   Rows of the product are lines from the first x on:
//                                   y x x x y   the y between them are multiplied too, and never
//                                   ...         looked at. A place of the kernel shifts the first.
//
// Images and weights have rings of their own: one step of the images are 64 channels, one step of
// the weights is a place of them.

namespace effcompile_conv {

template <class C>
__device__ __forceinline__ void copy_tile_once(const CUtensorMap& a, const CUtensorMap& b,
                                               u32 stages, u32 barriers, const Tile& tile) {
  int stage = 0;
  u32 parity = 1;
  for (int chunk = 0; chunk < tile.n_steps / C::PLACES; ++chunk) {
    int channel = (tile.first_step / C::PLACES + chunk) * C::CHANNELS;
    u32 box = chunk % C::BOX_STAGES, box_full = barriers + 16 * (C::STAGES + box);
    mbarrier_await(box_full + 8, chunk / C::BOX_STAGES % 2 ^ 1);
    mbarrier_expect(box_full, C::BOX_BYTES);
    tma_load_4d(stages + C::STAGES * C::STAGE_BYTES + box * C::BOX_STAGE_BYTES, a, box_full,
                channel, tile.x - C::PADDING_X, tile.y - C::PADDING_Y, tile.image);
    for (int place = 0; place < C::PLACES; ++place) {
      u32 full = barriers + 16 * stage;
      mbarrier_await(full + 8, parity);
      mbarrier_expect(full, C::STAGE_BYTES);
      tma_load_3d(stages + stage * C::STAGE_BYTES, b, full, channel, place, tile.column);
      if (++stage == C::STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

template <class C, int PARTS>
__device__ __forceinline__ void multiply_tile_once(float (&sum)[PARTS][C::TILE_COLUMN / 2],
                                                   u32 stages, u32 barriers, int n_steps) {
  int own_row = (threadIdx.x / 128 - 1) * PARTS * 64;
  bool signals = threadIdx.x % 32 == 0;
  int stage = 0;
  u32 parity = 0, previous = 0, previous_box = 0;
  for (int chunk = 0; chunk < n_steps / C::PLACES; ++chunk) {
    u32 box = chunk % C::BOX_STAGES, box_full = barriers + 16 * (C::STAGES + box);
    u32 lines = stages + C::STAGES * C::STAGE_BYTES + box * C::BOX_STAGE_BYTES;
    mbarrier_await(box_full, chunk / C::BOX_STAGES % 2);
    for (int place = 0; place < C::PLACES; ++place) {
      int shift = place / C::KERNEL_X * C::DILATION_Y * C::ROW_LINE +
                  place % C::KERNEL_X * C::DILATION_X;
      u32 full = barriers + 16 * stage, from = stages + stage * C::STAGE_BYTES;
      mbarrier_await(full, parity);
      wgmma_fence();
#pragma unroll
      for (int sixteen = 0; sixteen < 4; ++sixteen) {
        u64 right = terms<C::LINE, C::TILE_COLUMN>(from, sixteen);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
          u32 first = lines + (own_row + part * 64 + shift) * C::LINE;
          C::multiply(sum[part], terms<C::LINE, C::TILE_ROW>(first, sixteen), right,
                      chunk + place + sixteen > 0);
        }
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (signals && chunk + place > 0) mbarrier_arrive(previous);
      if (signals && chunk > 0 && place == 0) mbarrier_arrive(previous_box);
      previous = full + 8;
      if (++stage == C::STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
    previous_box = box_full + 8;
  }
  wgmma_wait<0>();
#pragma unroll
  for (int part = 0; part < PARTS; ++part) hold(sum[part]);
}

}  // namespace effcompile_conv
