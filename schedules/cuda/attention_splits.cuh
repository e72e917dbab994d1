// Combines what attention_tiles.cuh keeps of splits: one warp per row.

namespace splits {

__device__ __forceinline__ void combine(const float* __restrict__ partial,
                                        element* __restrict__ out) {
  int lane = threadIdx.x % 32;
  long long row = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= ROWS) return;
  const float* largest = partial + SPLITS * ROWS * VALUE_WIDTH;
  const float* sums = largest + SPLITS * ROWS;
  float shares[SPLITS], most = __int_as_float(0xff800000), total = 0.0f;
#pragma unroll
  for (int split = 0; split < SPLITS; ++split) {
    shares[split] = __ldg(largest + split * ROWS + row);
    most = fmaxf(most, shares[split]);
  }
  float shift = most == __int_as_float(0xff800000) ? 0.0f : most;
#pragma unroll
  for (int split = 0; split < SPLITS; ++split) {
    shares[split] = exp2f(shares[split] - shift) * __ldg(sums + split * ROWS + row);
    total += shares[split];
  }
  float inverse = total > 0.0f ? 1.0f / total : 0.0f;
  for (int column = lane; column < VALUE_WIDTH; column += 32) {
    float sum = 0.0f;
#pragma unroll
    for (int split = 0; split < SPLITS; ++split)
      sum += shares[split] * __ldg(partial + (split * ROWS + row) * VALUE_WIDTH + column);
    out[row * VALUE_WIDTH + column] = element(sum * inverse);
  }
}

}  // namespace splits
