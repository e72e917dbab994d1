// What the four threads of a quad, which share a row of a tensor core's result, do together.

namespace quad {

// Transposes a 4 x 4 matrix of pairs over the four threads of a quad: afterwards thread t holds in
// v[s] what thread s held in v[t].
__device__ __forceinline__ void transpose(float2 (&v)[4], int lane) {
  bool odd = lane & 1, high = lane & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    float2 sent = odd ? v[i] : v[i + 1];
    sent.x = __shfl_xor_sync(0xffffffffu, sent.x, 1);
    sent.y = __shfl_xor_sync(0xffffffffu, sent.y, 1);
    if (odd) v[i] = sent; else v[i + 1] = sent;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float2 sent = high ? v[i] : v[i + 2];
    sent.x = __shfl_xor_sync(0xffffffffu, sent.x, 2);
    sent.y = __shfl_xor_sync(0xffffffffu, sent.y, 2);
    if (high) v[i] = sent; else v[i + 2] = sent;
  }
}

}  // namespace quad
