// The rows of the largest scores, in their order, by one block. ROWS, and GROUPS, the rows that there
// is room for, stand before this text, as does counting.cuh.

constexpr int PER_THREAD = (ROWS + THREADS - 1) / THREADS;

__device__ __forceinline__ void top_rows(const float* __restrict__ scores,
                                         const int* __restrict__ wanted, int* __restrict__ rows) {
  const int first = min((int)threadIdx.x * PER_THREAD, ROWS), last = min(first + PER_THREAD, ROWS);
  auto key_of = [&](int row) { return ordered(__ldg(scores + row)); };
  const Cut cut = cut_after(__ldg(wanted), first, last, key_of);
  Pair own = {0, 0}, all;
  for (int row = first; row < last; ++row)
    own = own + Pair{key_of(row) > cut.key, key_of(row) == cut.key};
  Pair at = before(own, all);
  for (int row = first; row < last; ++row) {
    const unsigned key = key_of(row);
    const int place = at.first + min(at.second, max(cut.ties, 0));
    const bool is_kept = key > cut.key || (key == cut.key && at.second < cut.ties);
    if (is_kept && place < GROUPS) rows[place] = row;
    at = at + Pair{key > cut.key, key == cut.key};
  }
  const int n_kept = all.first + min(all.second, max(cut.ties, 0));
  for (int place = n_kept + threadIdx.x; place < GROUPS; place += THREADS) rows[place] = -1;
}
