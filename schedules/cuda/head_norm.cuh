// Norms whose rows other threads of theirs read afterwards. Before this text stand the constants of
// normal_rows.cuh, STREAMS, HAS_BIAS and weight_t, and that file.

// A row into registers, zeros unless it is wanted.
__device__ __forceinline__ void fetch(Chunk<elem, VECTOR> (&held)[CHUNKS], const elem* x, bool wanted) {
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * LANES + threadIdx.x;
    held[c].template load<STREAMS>(wanted && chunk < PER_ROW, x + chunk * VECTOR);
  }
}

// The normalised row into shared memory, where all of its threads may read it then.
__device__ __forceinline__ void normalise(Chunk<elem, VECTOR> (&held)[CHUNKS], const weight_t* weight,
                                          const weight_t* bias, elem* row) {
  float value[CHUNKS][VECTOR];
  const float factor = centred(held, value);
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * LANES + threadIdx.x;
    if (chunk >= PER_ROW) continue;
    float by[VECTOR];
    shared_values(weight + chunk * VECTOR, by);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) value[c][i] *= factor * by[i];
    if constexpr (HAS_BIAS) {
      shared_values(bias + chunk * VECTOR, by);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) value[c][i] += by[i];
    }
    held[c].fill(value[c]);
    *reinterpret_cast<typename Chunk<elem, VECTOR>::Raw*>(row + chunk * VECTOR) = held[c].raw;
  }
  if constexpr (LANES > 32) __syncthreads();
  else __syncwarp();
}

// Neighbours of the normalised row; zeros unless they are wanted.
template <int N> __device__ __forceinline__ void read_row(float (&to)[N], const elem* from, bool wanted) {
  Chunk<elem, N> chunk = {};
  if (wanted) chunk.raw = *reinterpret_cast<const typename Chunk<elem, N>::Raw*>(from);
  chunk.widen(to);
}
