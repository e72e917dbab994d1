// Stores the sums of tensor cores through a product's ending. Needs quad.cuh.
//
// Element 4 j + 2 h + e of a thread's sums is row `row` + 8 h, column 8 j + 2 (lane % 4) + e of a
// tile. Rows and columns are those of the tensor cores' product; when Config::SWAPPED they are the
// columns and rows of the problem. An ending that makes one element of two columns takes them
// together: where columns are rows, the second one is four lanes on. Elements of four bytes are stored
// in pairs: a quad then fills a sector of 32 bytes at once, not in two halves one after the other. Rows
// from `end` on are not stored.

namespace product_store {

template <class C, class Ending, int SUMS>
__device__ __forceinline__ void rows(const float (&sum)[SUMS], int row, int column, int batch,
                                     const typename Ending::Arguments& arguments,
                                     int end = C::ROWS) {
  constexpr int TILES = SUMS / 4;
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    int r = row + 8 * h;
    if constexpr (C::SWAPPED || !Ending::WIDE || TILES % 4 != 0) {
#pragma unroll
      for (int j = 0; j < TILES; ++j)
#pragma unroll
        for (int e = 0; e < 2; e += C::SWAPPED ? 1 : Ending::EACH) {
          int c = column + 8 * j + 2 * (lane % 4) + e;
          float some[Ending::EACH] = {sum[4 * j + 2 * h + e]};
          bool first = true;
          if constexpr (Ending::EACH == 2) {
            some[1] = C::SWAPPED ? __shfl_xor_sync(0xffffffffu, some[0], 4)
                                 : sum[4 * j + 2 * h + 1];
            first = !C::SWAPPED || lane / 4 % 2 == 0;
          }
          if (first && r < end && c < C::COLUMNS)
            Ending::template finish<Ending::EACH>(arguments, some, batch, C::SWAPPED ? c : r,
                                                  C::SWAPPED ? r : c);
        }
    } else if constexpr (Ending::BYTES == 4 && Ending::EACH == 1) {
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        int c = column + 8 * j + 2 * (lane % 4);
        const float pair[2] = {sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]};
        if (r < end && c < C::COLUMNS)
          Ending::template finish<2>(arguments, pair, batch, r, c);
      }
    } else {
#pragma unroll
      for (int j = 0; j < TILES; j += 4) {
        float2 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          v[i] = make_float2(sum[4 * (j + i) + 2 * h], sum[4 * (j + i) + 2 * h + 1]);
        quad::transpose(v, lane);
        int c = column + 8 * (j + lane % 4);
        if (r < end && c < C::COLUMNS) {
          float eight[8];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            eight[2 * i] = v[i].x;
            eight[2 * i + 1] = v[i].y;
          }
          Ending::template finish<8>(arguments, eight, batch, r, c);
        }
      }
    }
  }
}

}  // namespace product_store
