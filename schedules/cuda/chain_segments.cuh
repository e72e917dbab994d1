// Chains of linked rows as segments, by one block. A row may be linked to one row before it, and is
// where its cosine is at least the threshold (and among the largest); a chain is a row that is not
// linked, its head, and the rows linked to it one after the other. What is fixed for one program
// stands before this text, as does counting.cuh:
//
//   ROWS, PLACES      rows of the sequence and of one frame
//   GROUPS            segments that the outputs have room for
//   LISTED            whether the row before each row comes from a list, instead of PLACES before
//   LIMITED           whether the number of links is limited
//
// Each thread owns consecutive rows, so two sums over the threads before it place its chains.

constexpr int PER_THREAD = (ROWS + THREADS - 1) / THREADS;
constexpr int WORDS = (ROWS + 31) / 32;

__device__ __forceinline__ void chain_segments(const float* __restrict__ cosine,
                                               const float* __restrict__ threshold,
                                               const int* __restrict__ previous,
                                               const int* __restrict__ most,
                                               int* __restrict__ rows, int* __restrict__ starts,
                                               int* __restrict__ heads, int* __restrict__ count,
                                               int* __restrict__ next) {
  __shared__ unsigned linked[WORDS];
  const float least = __ldg(threshold);
  const int first = min((int)threadIdx.x * PER_THREAD, ROWS), last = min(first + PER_THREAD, ROWS);
  auto row_before = [&](int row) { return LISTED ? __ldg(previous + row) : row - PLACES; };
  auto key_of = [&](int row) {
    const int earlier = row_before(row);
    const bool may_be = earlier >= 0 && earlier < row && __ldg(cosine + row) >= least;
    return may_be ? ordered(__ldg(cosine + row)) : 0u;
  };
  for (int word = threadIdx.x; word < WORDS; word += THREADS) linked[word] = 0;
  if (LISTED)
    for (int row = threadIdx.x; row < ROWS; row += THREADS) next[row] = -1;
  Cut cut = {0, 0};
  Pair ties = {0, 0}, all;
  if (LIMITED) {
    cut = cut_after(__ldg(most), first, last, key_of);
    for (int row = first; row < last; ++row) ties.first += key_of(row) == cut.key;
    ties = before(ties, all);
  }
  __syncthreads();
  for (int row = first; row < last; ++row) {
    const unsigned key = key_of(row);
    const bool is_tie = LIMITED && key == cut.key && ties.first++ < cut.ties;
    if (key == 0 || !(key > cut.key || is_tie)) continue;
    atomicOr(linked + row / 32, 1u << row % 32);
    if (LISTED) next[row_before(row)] = row;
  }
  __syncthreads();
  auto is_linked = [&](int row) { return linked[row / 32] >> row % 32 & 1; };
  auto row_after = [&](int row) {
    if (LISTED) return next[row];
    return row + PLACES < ROWS && is_linked(row + PLACES) ? row + PLACES : -1;
  };
  auto length = [&](int head) {
    int n = 0;
    for (int row = head; row >= 0; row = row_after(row)) ++n;
    return n;
  };
  Pair own = {0, 0};
  for (int row = first; row < last; ++row)
    if (!is_linked(row)) own = own + Pair{1, length(row)};
  Pair at = before(own, all);
  for (int row = first; row < last; ++row) {
    if (is_linked(row)) continue;
    if (at.first < GROUPS) {
      starts[at.first] = at.second;
      heads[at.first] = row;
    } else if (at.first == GROUPS) {
      starts[GROUPS] = at.second;
    }
    int n = 0;
    for (int member = row; member >= 0; member = row_after(member)) rows[at.second + n++] = member;
    at = at + Pair{1, n};
  }
  for (int group = all.first + threadIdx.x; group <= GROUPS; group += THREADS) {
    starts[group] = ROWS;
    if (group < GROUPS) heads[group] = -1;
  }
  if (threadIdx.x == 0) *count = all.first;
}
