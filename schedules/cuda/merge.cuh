// What kernels that merge rows share: which rows and chunks a thread works on.
//
// All sizes are template parameters. A row of WIDTH elements is moved in chunks of VECTOR
// elements, at most 16 bytes each. threadIdx.x is a lane within a row, threadIdx.y a row within
// the block. Sums are float32 and in a fixed order: no atomics, the same bits on every run.
namespace effcompile_merge {

using namespace effcompile_rows;

__device__ __forceinline__ int clamped(int x, int low, int high) {
  return min(max(x, low), high);
}

// Which rows and chunks a thread works on: EACH rows, a block's height apart, and CHUNKS
// chunks, LANES apart. Neighbouring blocks share rows before they move on to the next.
template <int LANES, int HEIGHT, int EACH, int CHUNKS, int PER_ROW> struct Share {
  static const int TILES = (PER_ROW + LANES * CHUNKS - 1) / (LANES * CHUNKS);
  long long first_row;
  int first_chunk;
  __device__ __forceinline__ Share() {
    first_row = (long long)(blockIdx.x / TILES) * (HEIGHT * EACH) + threadIdx.y;
    first_chunk = (int)(blockIdx.x % TILES) * (LANES * CHUNKS) + threadIdx.x;
  }
  __device__ __forceinline__ long long row(int r) const { return first_row + r * HEIGHT; }
  __device__ __forceinline__ int chunk(int c) const { return first_chunk + c * LANES; }
};

}  // namespace effcompile_merge
