// Layer and root-mean-square norms of rows that stay in registers: one read, one write. What is
// fixed for one program stands before this text:
//
//   elem, weight_t            element types of rows and of weights
//   WIDTH, ROWS               length and number of rows
//   VECTOR, LANES, HEIGHT     elements moved at once, threads of a row, rows of a block
//   CENTRED                   layer norm; else root mean square
//   HAS_BIAS, MODULATED, ROWS_PER_GROUP
//                             bias; factor 1 + scale and shift per group of rows
//   HAS_RESIDUAL, RESIDUAL_ROWS, KEEPS_SUM
//                             rows that are added first, again and again; whether the sum,
//                             rounded as if it came from memory, is an output as well
//   EPSILON, STREAMS          added to the mean square; whether rows pass by the cache
//
// and normal_rows.cuh.

// The row with its residual, as it is stored.
__device__ __forceinline__ void add_residual(Chunk<elem, VECTOR>& row, const Chunk<elem, VECTOR>& residual) {
  float one[VECTOR], two[VECTOR];
  row.widen(one);
  residual.widen(two);
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) one[i] += two[i];
  row.fill(one);
}

__device__ __forceinline__ void row_norm(const elem* __restrict__ x, const elem* __restrict__ residual,
                                         const weight_t* __restrict__ weight,
                                         const weight_t* __restrict__ bias,
                                         const elem* __restrict__ scale,
                                         const elem* __restrict__ shift, elem* __restrict__ y,
                                         elem* __restrict__ total) {
  const long long row = (long long)blockIdx.x * HEIGHT + threadIdx.y;
  const bool exists = row < ROWS;
  Chunk<elem, VECTOR> held[CHUNKS];
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * LANES + threadIdx.x;
    held[c].template load<STREAMS>(exists && chunk < PER_ROW, x + row * WIDTH + chunk * VECTOR);
  }
  if constexpr (HAS_RESIDUAL) {
    const elem* start = residual + row % RESIDUAL_ROWS * WIDTH;
    Chunk<elem, VECTOR> added[CHUNKS];
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const int chunk = c * LANES + threadIdx.x;
      added[c].template load<STREAMS>(exists && chunk < PER_ROW, start + chunk * VECTOR);
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const int chunk = c * LANES + threadIdx.x;
      add_residual(held[c], added[c]);
      if (KEEPS_SUM && exists && chunk < PER_ROW)
        held[c].template store<false>(total + row * WIDTH + chunk * VECTOR);
    }
  }
  float value[CHUNKS][VECTOR];
  const float factor = centred(held, value);
  const long long group = row / ROWS_PER_GROUP;
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * LANES + threadIdx.x;
    if (!exists || chunk >= PER_ROW) continue;
    float by[VECTOR], to[VECTOR];
    shared_values(weight + chunk * VECTOR, by);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) value[c][i] *= factor * by[i];
    if constexpr (HAS_BIAS) {
      shared_values(bias + chunk * VECTOR, to);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) value[c][i] += to[i];
    }
    if constexpr (MODULATED) {
      shared_values(scale + group * WIDTH + chunk * VECTOR, by);
      shared_values(shift + group * WIDTH + chunk * VECTOR, to);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) value[c][i] = value[c][i] * (1.0f + by[i]) + to[i];
    }
    held[c].fill(value[c]);
    held[c].template store<STREAMS>(y + row * WIDTH + chunk * VECTOR);
  }
}
