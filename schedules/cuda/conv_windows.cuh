// Convolution for Hopper of images with so few channels that a row of the kernel is one window of
// neighbours in memory, and windows of neighbouring pixels overlap (conv_problem.py):
//
//   row of an image, pieces of 16 bytes    p0 p1 p2 p3 p4 p5 ...
//   windows of 32 terms                    p0 p1 p2 p3              pixel 0
//                                             p1 p2 p3 p4           pixel 1
//
// Rows lie in shared memory as they do in the images, once: without a swizzle, eight rows of an
// operand are eight neighbouring pieces, and its next eight terms begin one piece later. So the
// tensor cores read windows where they are, although they overlap.
//
// A block keeps the weights of its filters and takes one box of rows after another. One thread copies
// the rows under the next boxes, warpgroups multiply 64 pixels of a row at a time and store them.

namespace effcompile_conv_windows {

using namespace hopper;

template <class C>
struct Places {
  u32 weights, stages, barriers;
  __device__ __forceinline__ explicit Places(const unsigned char* raw) {
    weights = (shared_address(raw) + 1023) & ~1023u;
    stages = weights + C::WEIGHTS_BYTES;
    barriers = stages + C::STAGES * C::STAGE_BYTES + C::BEHIND_BYTES;
  }
  __device__ __forceinline__ u32 full(int stage) const { return barriers + 16 * stage; }
  __device__ __forceinline__ u32 empty(int stage) const { return full(stage) + 8; }
  // Of the weights.
  __device__ __forceinline__ u32 ready() const { return full(C::STAGES); }
};

struct Box {
  int image, y;
};

template <class C>
__device__ __forceinline__ Box box_of(int number) {
  return {number / C::BOXES_HEIGHT, number % C::BOXES_HEIGHT * C::BOX_HEIGHT};
}

template <class C>
__device__ __forceinline__ void copy(const CUtensorMap& a, const CUtensorMap& b,
                                     const Places<C>& places, int column) {
  mbarrier_expect(places.ready(), C::KERNEL_Y * C::PLACE_BYTES);
  for (int place = 0; place < C::KERNEL_Y; ++place)
    tma_load_3d(places.weights + place * C::PLACE_BYTES, b, places.ready(), 0, place, column);
  int stage = 0;
  u32 parity = 1;
  for (int number = blockIdx.x / C::TILES_COLUMN; number < C::BOXES; number += C::BLOCKS) {
    Box box = box_of<C>(number);
    mbarrier_await(places.empty(stage), parity);
    mbarrier_expect(places.full(stage), C::COPIED_BYTES);
    tma_load_4d(places.stages + stage * C::STAGE_BYTES, a, places.full(stage), 0, 0,
                box.y * C::STRIDE_Y - C::PADDING_Y, box.image);
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// 64 pixels of a row, whose windows begin at `rows`.
template <class C>
__device__ __forceinline__ void multiply_part(float (&sum)[C::TILE_COLUMN / 2], u32 rows,
                                              u32 weights) {
  wgmma_fence();
  for (int place = 0; place < C::KERNEL_Y; ++place) {
#pragma unroll
    for (int sixteen = 0; sixteen < C::LINE / 32; ++sixteen)
      C::multiply(sum, descriptor_lines<16>(rows + sixteen * 32, 16),
                  descriptor_lines<C::LINE>(weights + sixteen * 32, 16), place + sixteen > 0);
    rows += C::DILATION_Y * C::ROW_BYTES;
    weights += C::PLACE_BYTES;
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(sum);
}

template <class C, class Ending>
__device__ __forceinline__ void multiply(const typename Ending::Arguments& arguments,
                                         const Places<C>& places, int column) {
  constexpr int PARTS = C::BOX_HEIGHT * C::ROW_PARTS;
  const int lane_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  int stage = 0;
  u32 parity = 0;
  mbarrier_await(places.ready(), 0);
  for (int number = blockIdx.x / C::TILES_COLUMN; number < C::BOXES; number += C::BLOCKS) {
    Box box = box_of<C>(number);
    mbarrier_await(places.full(stage), parity);
    for (int part = threadIdx.x / 128 - 1; part < PARTS; part += C::MULTIPLIERS) {
      int y = part / C::ROW_PARTS, x = part % C::ROW_PARTS * 64;
      if (C::HEIGHT % C::BOX_HEIGHT != 0 && box.y + y >= C::HEIGHT) break;
      float sum[C::TILE_COLUMN / 2];
      u32 rows = places.stages + stage * C::STAGE_BYTES + y * C::STRIDE_Y * C::ROW_BYTES + x * 16;
      multiply_part<C>(sum, rows, places.weights);
      int first = (box.image * C::HEIGHT + box.y + y) * C::WIDTH;
      product_store::rows<C, Ending>(sum, first + x + lane_row, column, 0, arguments,
                                     first + C::WIDTH);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(places.empty(stage));
    if (++stage == C::STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
}

template <class C, class Ending>
__device__ __forceinline__ void run(const CUtensorMap& a, const CUtensorMap& b,
                                    const typename Ending::Arguments& arguments,
                                    unsigned char* raw) {
  const Places<C> places(raw);
  const int column = blockIdx.x % C::TILES_COLUMN * C::TILE_COLUMN;
  if (threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(b);
    for (int stage = 0; stage < C::STAGES; ++stage) {
      mbarrier_init(places.full(stage), 1);
      mbarrier_init(places.empty(stage), 4 * C::MULTIPLIERS);
    }
    mbarrier_init(places.ready(), 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  early::wait_for_previous_kernel();
  early::release_next_kernel();
  if (threadIdx.x < 128) {
    fewer_registers<C::COPIER_REGISTERS>();
    if (threadIdx.x == 0) copy<C>(a, b, places, column);
  } else {
    more_registers<C::MULTIPLIER_REGISTERS>();
    multiply<C, Ending>(arguments, places, column);
  }
}

}  // namespace effcompile_conv_windows
