// What is left to do once the sums of packed products are known: scale of x, bias, activation,
// gate, residual, and which output they belong to.
//
// Before it: `struct Outputs`, and `place_of(outputs, tile)`.

struct Ending {
  const elem* bias;            // in the order of packed columns
  const elem* residual;        // like the output
  const scale_elem* x_scales;  // of an int8 x: one, or one per row
  Outputs outputs;
};

// Columns of an output per tile; a gate and what it multiplies lie 8 columns apart.
constexpr int WIDTH = GATED ? 8 : 16;

__device__ __forceinline__ float activated(float v) {
  if constexpr (ACTIVATION == SILU) return v / (1.0f + expf(-v));
  if constexpr (ACTIVATION == GELU) return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
  if constexpr (ACTIVATION == GELU_TANH) {
    float inner = 0.79788456080286536f * (v + 0.044715f * v * v * v);
    return v / (1.0f + expf(-2.0f * inner));
  }
  if constexpr (ACTIVATION == RELU) return v > 0.0f || v != v ? v : 0.0f;
  return v;
}

// Row m of the column at `inside` of a tile, from its sum and, behind a gate, the other matrix's.
__device__ __forceinline__ void finish(const Ending& ending, int m, int tile, int inside, float v, float other) {
  Place place = place_of(ending.outputs, tile);
  int column = (tile - place.first_tile) * WIDTH + inside;
  if (column >= place.columns) return;
  long long at = (long long)m * place.columns + column;
  if constexpr (IS_INT8) {
    float scale = load_number(ending.x_scales + (SCALE_PER_ROW ? m : 0));
    v *= scale, other *= scale;
  }
  if constexpr (HAS_BIAS) {
    const elem* bias = ending.bias + tile * 16 + inside;
    v += load_number(bias);
    if constexpr (GATED) other += load_number(bias + 8);
  }
  v = activated(v);
  if constexpr (GATED) v *= other;
  if constexpr (HAS_RESIDUAL) v += load_number(ending.residual + at);
  narrow(place.y[at], v);
}
