// Tiles of 16-bit numbers in shared memory, as copies fill them and warps read them into the
// fragments of m16n8k16. Needs ampere.cuh.
//
// A fragment is four matrices of 8 x 8, so a lane gives the place of one line of one of them: lines
// of a tile as they are where the terms of a sum are neighbours in memory, transposed where they
// are not.

namespace warp_tiles {

using ampere::u32;

// Lines of ELEMENTS numbers, a multiple of 16. The same 16 bytes of eight neighbouring lines lie in
// different banks: pieces of 16 bytes change places where a line is a power of two, else lines are
// an odd number of pieces apart.
template <int ELEMENTS>
struct Lines {
  static constexpr int PIECES = ELEMENTS / 8;
  static constexpr bool TURNED = PIECES % 8 == 0 || PIECES == 4 || PIECES == 2;
  static constexpr int PITCH = 16 * (TURNED ? PIECES : PIECES + 1);

  // Bytes from the start of the tile.
  static __device__ __forceinline__ u32 at(u32 line, u32 piece) {
    if constexpr (PIECES % 8 == 0) piece ^= line & 7;
    if constexpr (PIECES == 4) piece ^= line >> 1 & 3;
    if constexpr (PIECES == 2) piece ^= line >> 2 & 1;
    return line * PITCH + piece * 16;
  }

  // From the place of piece 0 or 1 of a line to that of `pairs` * 2 pieces later.
  static __device__ __forceinline__ u32 moved(u32 place, int pairs) {
    return TURNED ? place ^ pairs * 32 : place + pairs * 32;
  }
};

// How THREADS, a power of two, share copies of lines, PER_LINE of each, in turns: thread by thread
// along the lines. What differs between turns is a constant wherever it can be, so that it stands
// in the copy and not in registers.
template <int THREADS, int PER_LINE>
struct Share {
  static constexpr bool EVEN = (PER_LINE & (PER_LINE - 1)) == 0;

  static __device__ __forceinline__ int line(int turn) {
    return EVEN ? threadIdx.x / PER_LINE + turn * THREADS / PER_LINE
                : (turn * THREADS + threadIdx.x) / PER_LINE;
  }
  // Copies before it in its line.
  static __device__ __forceinline__ int along(int turn) {
    return EVEN ? threadIdx.x % PER_LINE + turn * THREADS % PER_LINE
                : (turn * THREADS + threadIdx.x) % PER_LINE;
  }
  // Elements before it in a matrix whose lines are STRIDE apart.
  template <long long STRIDE, int CHUNK>
  static __device__ __forceinline__ long long place(int turn) {
    if (!EVEN) return line(turn) * STRIDE + along(turn) * CHUNK;
    const long long own = threadIdx.x / PER_LINE * STRIDE + threadIdx.x % PER_LINE * CHUNK;
    return own + (turn * THREADS / PER_LINE * STRIDE + turn * THREADS % PER_LINE * CHUNK);
  }
};

// The place a lane gives for the 16 x 16 numbers at the start of a tile whose matrices come in the
// order of the left operand's registers: both halves of the lines, then the later pieces.
template <class L>
__device__ __forceinline__ u32 lines_first(u32 lane) {
  return L::at(lane % 16, lane / 16);
}

// Likewise, in the order of the right operand's registers of two neighbouring n8: both pieces, then
// the later half of the lines.
template <class L>
__device__ __forceinline__ u32 pieces_first(u32 lane) {
  return L::at(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

}  // namespace warp_tiles
