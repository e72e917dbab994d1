// Rows that are one or two others: gathered, blended, renoised, selected. After merge.cuh.
namespace effcompile_merge {

enum Kind { GATHER, BLEND, RENOISE, SELECT };

// One row of a result: at most two source rows and their weights.
template <typename T> struct Mixture {
  const T* first;
  const T* second;
  float first_weight;
  float second_weight;
};

template <typename T, Kind KIND, int ROWS, int OTHER, int GROUPS, int WIDTH>
__device__ __forceinline__ Mixture<T> mixture(
    const T* x, const T* other, const int* low, const int* high, const float* weight,
    long long position) {
  const int outer = (int)(position / GROUPS), group = (int)(position % GROUPS);
  const T* here = x + (long long)outer * ROWS * WIDTH;
  const T* there = other + (long long)outer * OTHER * WIDTH;
  Mixture<T> made = {here, nullptr, 1.0f, 0.0f};
  const int index = __ldg(low + group);
  if (KIND == SELECT) {
    made.first = index < 0 ? here + (long long)group * WIDTH
                           : there + (long long)min(index, OTHER - 1) * WIDTH;
    return made;
  }
  made.first = here + (long long)clamped(index, 0, ROWS - 1) * WIDTH;
  if (KIND == GATHER) return made;
  const float share = __ldg(weight + (KIND == BLEND ? group : 0));
  if (KIND == BLEND) {
    made.first_weight = 1.0f - share;
    made.second_weight = share;
    made.second = here + (long long)clamped(__ldg(high + group), 0, ROWS - 1) * WIDTH;
  } else {
    made.first_weight = share;
    made.second_weight = 1.0f - share;
    made.second = there + (long long)group * WIDTH;
  }
  // A weight of zero costs no bytes, and keeps what it would multiply out of the result.
  if (made.second_weight == 0.0f) made.second = nullptr;
  if (made.first_weight == 0.0f) made.first = nullptr;
  return made;
}

template <typename T, Kind KIND, int VECTOR, int LANES, int HEIGHT, int EACH, int CHUNKS,
          bool STREAM, int OUTER, int ROWS, int OTHER, int GROUPS, int WIDTH>
__device__ __forceinline__ void mix_rows(
    const T* __restrict__ x, const T* __restrict__ other, const int* __restrict__ low,
    const int* __restrict__ high, const float* __restrict__ weight, T* __restrict__ y) {
  constexpr int PER_ROW = WIDTH / VECTOR;
  constexpr bool TWO = KIND == BLEND || KIND == RENOISE;
  constexpr long long TOTAL = (long long)OUTER * GROUPS;
  const Share<LANES, HEIGHT, EACH, CHUNKS, PER_ROW> share;
  Mixture<T> made[EACH];
  Chunk<T, VECTOR> first[EACH][CHUNKS], second[TWO ? EACH : 1][TWO ? CHUNKS : 1];
#pragma unroll
  for (int r = 0; r < EACH; ++r)
    made[r] = mixture<T, KIND, ROWS, OTHER, GROUPS, WIDTH>(
        x, other, low, high, weight, share.row(r) < TOTAL ? share.row(r) : TOTAL - 1);
#pragma unroll
  for (int r = 0; r < EACH; ++r) {
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const bool wanted = share.row(r) < TOTAL && share.chunk(c) < PER_ROW;
      const int at = share.chunk(c) * VECTOR;
      first[r][c].template load<STREAM>(wanted && made[r].first != nullptr, made[r].first + at);
      if (TWO)
        second[TWO ? r : 0][TWO ? c : 0].template load<STREAM>(
            wanted && made[r].second != nullptr, made[r].second + at);
    }
  }
#pragma unroll
  for (int r = 0; r < EACH; ++r) {
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      if (share.row(r) >= TOTAL || share.chunk(c) >= PER_ROW) continue;
      if (TWO) {
        float one[VECTOR], two[VECTOR];
        first[r][c].widen(one);
        second[TWO ? r : 0][TWO ? c : 0].widen(two);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i)
          one[i] = made[r].first_weight * one[i] + made[r].second_weight * two[i];
        first[r][c].fill(one);
      }
      first[r][c].template store<STREAM>(y + share.row(r) * WIDTH + share.chunk(c) * VECTOR);
    }
  }
}

}  // namespace effcompile_merge
