// Attention of a few queries over many keys: keys shared out among warps and blocks, all query
// rows of a key head in one pass. Both products are on tensor cores with fragments as memory
// delivers them in 16-byte pieces: no transposition, no exchange between threads.
//
// Lane = 4 * g + c, 16 bytes per load and lane.
//
// Scores = Q K^T, a tile of 8 keys at a time. With 64 bytes of a key per load (KEY_ROWS 1), the lane
// has elements c * 8 ... of key g, an operand as it is; queries are held in the same changed order
// of elements. With 128 bytes (KEY_ROWS 2), load h gives an even lane (by g) elements c * 8 ... of
// key g + h, and the odd lane above it elements 32 + c * 8 ... of the same key. In a product with
// the first halves of the queries, columns of even lanes are half a score; in one with the second
// halves, those of odd lanes. Both columns of a key end up in one lane, so no lane has to ask another.
//
// Output^T = V^T P^T: the lane has elements g * 8 ... of the values of keys 2c, 2c + 1, 2c + 8,
// 2c + 9, which are the keys whose probabilities the scores left in it.
//
// Before this text: the constants of schedules/attention_decode_cuda.py, and the types elem,
// length_t and mask_t.

constexpr int STEP_KEYS = 16 * SUBS;
constexpr int STRIDE = (IN_TURNS ? SPLITS : 1) * WARPS * STEP_KEYS;  // between steps of a warp
constexpr int KEY_SPAN = 32 * KEY_ROWS;  // elements of a key in one load of a warp
constexpr int K_PIECES = (WIDTH + KEY_SPAN - 1) / KEY_SPAN;
constexpr int V_PIECES = (VALUE_WIDTH + 63) / 64;
constexpr int K_LOADS = 2 * SUBS * KEY_ROWS * K_PIECES;
constexpr int V_LOADS = 4 * SUBS * V_PIECES;
constexpr int ROW_TILES = PASS_ROWS / 8;
constexpr int SCORE_TILES = (ROW_TILES + 1) / 2;
constexpr int ROWS = GROUP_ROWS < PASS_ROWS ? GROUP_ROWS : PASS_ROWS;
constexpr int PASSES = (GROUP_ROWS + PASS_ROWS - 1) / PASS_ROWS;
constexpr int THREADS = 32 * WARPS;
constexpr int HELD = ROWS * VALUE_WIDTH;
constexpr float LOWEST = -3.402823466e38f;
constexpr float LATEST_RAISE = 8.0f;  // a maximum may be behind by this power of two
constexpr unsigned ALL = 0xffffffffu;

__device__ __forceinline__ uint4 load_piece(const elem* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
  return v;
}
__device__ __forceinline__ void copy_piece(uint4* to, const elem* from, bool inside) {
  unsigned at = (unsigned)__cvta_generic_to_shared(to);
  int n = inside ? 16 : 0;  // the rest is filled with zeros
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(n)
               : "memory");
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
__device__ __forceinline__ void multiply(float (&d)[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (IS_HALF)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
        " {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7},"
        " {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// Counts to SPLITS - 1, then from zero again.
__device__ __forceinline__ unsigned count_arrival(unsigned* at) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before) : "l"(at), "r"(SPLITS - 1) : "memory");
  return before;
}
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ float of_block(const float* mine, int rank) {
  unsigned at = (unsigned)__cvta_generic_to_shared(mine), there;
  float v;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
  return v;
}
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ unsigned pair_of(float low, float high) {
  unsigned v;
  if constexpr (IS_HALF) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}
__device__ __forceinline__ float widened(half v) { return __half2float(v); }
__device__ __forceinline__ float widened(nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float widened(float v) { return v; }
__device__ __forceinline__ float widened(bool v) { return v ? 1.0f : 0.0f; }
__device__ __forceinline__ void narrow(half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void narrow(nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }
__device__ __forceinline__ unsigned& word(uint4& v, int i) { return (&v.x)[i]; }

// Which keys the rows of this block see.
struct Reach {
  int begin, end;          // some row sees a key of these
  int all_begin, all_end;  // every row sees every key of these
  int position;            // of the first query
  int length;
  __device__ __forceinline__ bool sees(int query, int key) const {
    bool inside = key < length;
    if constexpr (HAS_LEFT) inside = inside && key >= position + query - LEFT;
    if constexpr (HAS_RIGHT) inside = inside && key <= position + query + RIGHT;
    return inside;
  }
};

__device__ __forceinline__ Reach reach_of(const length_t* lengths, int batch) {
  Reach r;
  r.length = KEYS;
  if constexpr (HAS_LENGTHS) {
    long long given = lengths[batch];
    r.length = given < 0 ? 0 : given < KEYS ? (int)given : KEYS;
  }
  r.position = HAS_LENGTHS && AT_END ? r.length - QUERIES : OFFSET;
  int last = r.position + QUERIES - 1;
  r.begin = r.all_begin = 0;
  r.end = r.all_end = r.length;
  if constexpr (HAS_LEFT) {
    r.begin = max(0, r.position - LEFT);
    r.all_begin = last - LEFT;
  }
  if constexpr (HAS_RIGHT) {
    r.end = min(r.length, last + RIGHT + 1);
    r.all_end = min(r.length, r.position + RIGHT + 1);
  }
  return r;
}

// The pieces of a lane of one step, in registers or in shared memory that no other lane touches.
struct Pieces {
  uint4 k[IN_SHARED ? 1 : K_LOADS];
  uint4 v[IN_SHARED ? 1 : V_LOADS];
};

struct Lane {
  int g, c;
  uint4* shared;  // of the warp's ring, at this lane
  __device__ __forceinline__ uint4* place(int slot, int index) const {
    return shared + (slot * (K_LOADS + V_LOADS) + index) * 32;
  }
};

__device__ __forceinline__ void fetch(uint4& held, uint4* place, const elem* from, bool inside) {
  if constexpr (IN_SHARED) copy_piece(place, from, inside);
  else held = inside ? load_piece(from) : make_uint4(0, 0, 0, 0);
}

// Keys behind the last one are that one again: what they would hold may be no number.
__device__ __forceinline__ void fetch_keys(Pieces& held, const Lane& lane, int slot, const elem* keys,
                                           int first, int end) {
  int column = lane.g % KEY_ROWS * 32 + lane.c * 8;
#pragma unroll
  for (int u = 0; u < 2 * SUBS * KEY_ROWS; ++u) {
    int key = first + u / KEY_ROWS * 8 + lane.g / KEY_ROWS * KEY_ROWS + u % KEY_ROWS;
    const elem* from = keys + (long long)min(key, end - 1) * WIDTH + column;
#pragma unroll
    for (int p = 0; p < K_PIECES; ++p) {
      int i = u * K_PIECES + p;
      bool inside = WIDTH % KEY_SPAN == 0 || p * KEY_SPAN + column < WIDTH;
      fetch(held.k[IN_SHARED ? 0 : i], lane.place(slot, i), inside ? from + p * KEY_SPAN : keys, inside);
    }
  }
  if constexpr (IN_SHARED) end_copies();
}

__device__ __forceinline__ void fetch_values(Pieces& held, const Lane& lane, int slot, const elem* values,
                                             int first, int end) {
#pragma unroll
  for (int u = 0; u < 4 * SUBS; ++u) {
    int key = first + u / 2 * 8 + lane.c * 2 + u % 2;
    const elem* from = values + (long long)min(key, end - 1) * VALUE_WIDTH + lane.g * 8;
#pragma unroll
    for (int p = 0; p < V_PIECES; ++p) {
      int i = u * V_PIECES + p;
      bool inside = VALUE_WIDTH % 64 == 0 || p * 64 + lane.g * 8 < VALUE_WIDTH;
      fetch(held.v[IN_SHARED ? 0 : i], lane.place(slot, K_LOADS + i), inside ? from + p * 64 : values,
            inside);
    }
  }
  if constexpr (IN_SHARED) end_copies();
}

__device__ __forceinline__ uint4 key_piece(const Pieces& held, const Lane& lane, int slot, int i) {
  return IN_SHARED ? *lane.place(slot, i) : held.k[IN_SHARED ? 0 : i];
}
__device__ __forceinline__ uint4 value_piece(const Pieces& held, const Lane& lane, int slot, int i) {
  return IN_SHARED ? *lane.place(slot, K_LOADS + i) : held.v[IN_SHARED ? 0 : i];
}

struct Queries {
  uint4 rows[ROW_TILES][KEY_ROWS * K_PIECES];
};

__device__ __forceinline__ void load_queries(Queries& q, const elem* query, int first_row, const Lane& lane) {
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    int row = first_row + t * 8 + lane.g;
#pragma unroll
    for (int p = 0; p < KEY_ROWS * K_PIECES; ++p) {
      int column = p * 32 + lane.c * 8;
      bool inside = row < GROUP_ROWS && column < WIDTH;
      q.rows[t][p] = inside ? load_piece(query + row * WIDTH + column) : make_uint4(0, 0, 0, 0);
    }
  }
}

struct Totals {  // of a warp
  float out[ROW_TILES][V_PIECES][4][4];  // V^T P^T: piece g of the value, rows 2c and 2c + 1
  float top[ROW_TILES];                  // of row g, equal in its four lanes
  float sum[ROW_TILES];                  // of row g, this lane's keys
};

typedef float Scores[SCORE_TILES][2 * SUBS][4];

__device__ __forceinline__ void score(Scores& s, const Queries& q, const Pieces& held, const Lane& lane,
                                      int slot) {
#pragma unroll
  for (int u = 0; u < 2 * SUBS; ++u) {
    float parts[SCORE_TILES][KEY_ROWS][KEY_ROWS][4] = {};  // by load and part of the width
#pragma unroll
    for (int i = 0; i < KEY_ROWS * K_PIECES; ++i) {
      int load = i / K_PIECES, piece = i % K_PIECES;
      uint4 k = key_piece(held, lane, slot, u * KEY_ROWS * K_PIECES + i);
#pragma unroll
      for (int m = 0; m < SCORE_TILES; ++m)
#pragma unroll
        for (int part = 0; part < KEY_ROWS; ++part) {
          uint4 low = q.rows[2 * m][piece * KEY_ROWS + part], high = make_uint4(0, 0, 0, 0);
          if constexpr (ROW_TILES > 1) high = q.rows[2 * m + 1][piece * KEY_ROWS + part];
          multiply(parts[m][load][part], low.x, high.x, low.y, high.y, k.x, k.y);
          multiply(parts[m][load][part], low.z, high.z, low.w, high.w, k.z, k.w);
        }
    }
#pragma unroll
    for (int m = 0; m < SCORE_TILES; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        s[m][u][i] = KEY_ROWS == 1 ? parts[m][0][0][i]
                                   : parts[m][i % 2 % KEY_ROWS][0][i / 2 * 2] +
                                         parts[m][i % 2 % KEY_ROWS][KEY_ROWS - 1][i / 2 * 2 + 1];
  }
}

struct Place {  // of this block
  int batch, kv_head, first_row;
};

typedef float Given[MASK ? ROW_TILES : 1][2 * SUBS][2];

// The mask of a step; asked for before the keys are waited for.
__device__ __forceinline__ void load_mask(Given& given, const mask_t* mask, const Place& place, int first,
                                          const Lane& lane) {
  if constexpr (MASK == 0) return;
#pragma unroll
  for (int i = 0; i < ROW_TILES * 4 * SUBS; ++i) {
    int t = i / (4 * SUBS), u = i / 2 % (2 * SUBS), e = i % 2;
    int row = place.first_row + t * 8 + lane.g, key = first + u * 8 + lane.c * 2 + e;
    int head = place.kv_head * (GROUP_ROWS / QUERIES) + row / QUERIES;
    long long at = (long long)place.batch * MASK_BATCH + (long long)head * MASK_HEAD +
                   (long long)(row % QUERIES) * MASK_QUERY + (long long)key * MASK_KEY;
    given[MASK ? t : 0][u][e] = row < GROUP_ROWS && key < KEYS ? widened(mask[at]) : 0.0f;
  }
}

// Scaled scores of a row tile; minus infinity where a key may not be seen.
__device__ __forceinline__ void finish_scores(float (&x)[2 * SUBS][2], const Scores& s, int t, int first,
                                              const Lane& lane, const Place& place, const Reach& reach,
                                              const Given& given) {
  bool whole = MASK == 0 && first >= reach.all_begin && first + STEP_KEYS <= reach.all_end;
  int row = place.first_row + t * 8 + lane.g;
#pragma unroll
  for (int u = 0; u < 2 * SUBS; ++u)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float v = s[t / 2][u][t % 2 * 2 + e] * SCALE;
      if constexpr (HAS_SOFTCAP) v = tanhf(v * (1.0f / SOFTCAP)) * SOFTCAP;
      x[u][e] = v;
    }
  if (whole) return;
#pragma unroll
  for (int u = 0; u < 2 * SUBS; ++u)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int key = first + u * 8 + lane.c * 2 + e;
      bool seen = row < GROUP_ROWS && reach.sees(row % QUERIES, key);
      if constexpr (MASK == 1) seen = seen && given[t][u][e] != 0.0f;
      if constexpr (MASK == 2) x[u][e] += given[t][u][e];
      if (!seen) x[u][e] = -INFINITY;
    }
}

// Higher maxima for all rows, and the totals in their terms.
__device__ __forceinline__ void raise(Totals& totals, const float (&found)[ROW_TILES], const Lane& lane) {
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    float top = fmaxf(totals.top[t], found[t]);
    float factor = power_of_two((totals.top[t] - top) * UNIT);
    totals.top[t] = top;
    totals.sum[t] *= factor;
    float factors[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) factors[e] = __shfl_sync(ALL, factor, (lane.c * 2 + e) * 4);
#pragma unroll
    for (int i = 0; i < V_PIECES * 16; ++i) totals.out[t][i / 16][i / 4 % 4][i % 4] *= factors[i % 2];
  }
}

typedef unsigned Shares[ROW_TILES][2 * SUBS];

// Probabilities up to a factor per row, in pairs of neighbouring keys.
__device__ __forceinline__ void share(Shares& shares, Totals& totals, const Scores& s, int first,
                                      const Lane& lane, const Place& place, const Reach& reach,
                                      const Given& given) {
  float x[ROW_TILES][2 * SUBS][2], found[ROW_TILES];
  bool higher = false;
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    finish_scores(x[t], s, t, first, lane, place, reach, given);
    float top = x[t][0][0];
#pragma unroll
    for (int i = 1; i < 4 * SUBS; ++i) top = fmaxf(top, x[t][i / 2][i % 2]);
    top = fmaxf(top, __shfl_xor_sync(ALL, top, 1));
    found[t] = fmaxf(top, __shfl_xor_sync(ALL, top, 2));
    higher = higher || (found[t] - totals.top[t]) * UNIT > LATEST_RAISE;
  }
  if (__any_sync(ALL, higher)) raise(totals, found, lane);
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t)
#pragma unroll
    for (int u = 0; u < 2 * SUBS; ++u) {
      float low = power_of_two((x[t][u][0] - totals.top[t]) * UNIT);
      float high = power_of_two((x[t][u][1] - totals.top[t]) * UNIT);
      totals.sum[t] += low + high;
      shares[t][u] = pair_of(low, high);
    }
}

__device__ __forceinline__ void gather_values(Totals& totals, const Shares& shares, const Pieces& held,
                                              const Lane& lane, int slot) {
#pragma unroll
  for (int sub = 0; sub < SUBS; ++sub)
#pragma unroll
    for (int p = 0; p < V_PIECES; ++p) {
      uint4 v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] = value_piece(held, lane, slot, (sub * 4 + j) * V_PIECES + p);
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        unsigned a0 = __byte_perm(word(v[0], w), word(v[1], w), 0x5410);
        unsigned a1 = __byte_perm(word(v[0], w), word(v[1], w), 0x7632);
        unsigned a2 = __byte_perm(word(v[2], w), word(v[3], w), 0x5410);
        unsigned a3 = __byte_perm(word(v[2], w), word(v[3], w), 0x7632);
#pragma unroll
        for (int t = 0; t < ROW_TILES; ++t)
          multiply(totals.out[t][p][w], a0, a1, a2, a3, shares[t][2 * sub], shares[t][2 * sub + 1]);
      }
    }
}

// Weighted sums of the warps' totals in a fixed order.
template <class Store>
__device__ __forceinline__ void combine_warps(const float* held, Store store) {
  const float* tops = held + WARPS * HELD;
  const float* sums = tops + WARPS * ROWS;
  for (int i = threadIdx.x; i < HELD; i += THREADS) {
    int row = i / VALUE_WIDTH;
    float top = LOWEST, sum = 0.0f, v = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) top = fmaxf(top, tops[w * ROWS + row]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
      float factor = power_of_two((tops[w * ROWS + row] - top) * UNIT);
      sum += factor * sums[w * ROWS + row];
      v += factor * held[w * HELD + i];
    }
    store(i, v, top, sum);
  }
}

__device__ __forceinline__ void store_result(elem* y, int group, int pass, int i, float v, float sum) {
  int row = pass * PASS_ROWS + i / VALUE_WIDTH;
  if (row < GROUP_ROWS)
    narrow(y[((long long)group * GROUP_ROWS + row) * VALUE_WIDTH + i % VALUE_WIDTH], sum > 0.0f ? v / sum : 0.0f);
}

// Partial results: of all blocks of one group and pass, or of one block in its shared memory.
struct Partials {
  float* values;  // (split, row, value width)
  float* tops;    // (split, row)
  float* sums;
  __device__ __forceinline__ Partials(float* memory, int n_splits) {
    values = memory;
    tops = values + n_splits * HELD;
    sums = tops + n_splits * ROWS;
  }
};

__device__ __forceinline__ Partials partials_of(float* workspace, int at) {
  return Partials(workspace + (long long)at * SPLITS * (HELD + 2 * ROWS), SPLITS);
}

// Loads of several blocks' results are outstanding at once; order and result are fixed.
__device__ __forceinline__ void combine_partials(const Partials& partials, elem* y, int group, int pass,
                                                 int n_threads) {
  constexpr int AT_ONCE = SPLITS < 8 ? SPLITS : 8;
  for (int i = threadIdx.x; i < HELD; i += n_threads) {
    int row = i / VALUE_WIDTH;
    float top = LOWEST, sum = 0.0f, v = 0.0f;
    for (int first = 0; first < SPLITS; first += AT_ONCE) {
      float values[AT_ONCE], tops[AT_ONCE], sums[AT_ONCE], higher = top;
#pragma unroll
      for (int j = 0; j < AT_ONCE; ++j) {
        int split = min(first + j, SPLITS - 1);
        tops[j] = __ldcg(partials.tops + split * ROWS + row);
        sums[j] = __ldcg(partials.sums + split * ROWS + row);
        values[j] = __ldcg(partials.values + split * HELD + i);
      }
#pragma unroll
      for (int j = 0; j < AT_ONCE; ++j) higher = fmaxf(higher, tops[j]);
      float before = power_of_two((top - higher) * UNIT);
      top = higher;
      sum *= before;
      v *= before;
#pragma unroll
      for (int j = 0; j < AT_ONCE; ++j) {
        float factor = first + j < SPLITS ? power_of_two((tops[j] - top) * UNIT) : 0.0f;
        sum += factor * sums[j];
        v += factor * values[j];
      }
    }
    store_result(y, group, pass, i, v, sum);
  }
}

// The same, of a cluster's blocks in their shared memory; each block takes a part of the elements.
__device__ __forceinline__ void combine_cluster(const Partials& mine, elem* y, int group, int pass, int rank) {
  meet_cluster();
  for (int i = rank * THREADS + threadIdx.x; i < HELD; i += SPLITS * THREADS) {
    int row = i / VALUE_WIDTH;
    float values[SPLITS], tops[SPLITS], sums[SPLITS], top = LOWEST, sum = 0.0f, v = 0.0f;
#pragma unroll
    for (int j = 0; j < SPLITS; ++j) {
      tops[j] = of_block(mine.tops + row, j);
      sums[j] = of_block(mine.sums + row, j);
      values[j] = of_block(mine.values + i, j);
    }
#pragma unroll
    for (int j = 0; j < SPLITS; ++j) top = fmaxf(top, tops[j]);
#pragma unroll
    for (int j = 0; j < SPLITS; ++j) {
      float factor = power_of_two((tops[j] - top) * UNIT);
      sum += factor * sums[j];
      v += factor * values[j];
    }
    store_result(y, group, pass, i, v, sum);
  }
  meet_cluster();  // nobody leaves while others read
}

__device__ unsigned arrived[COMBINES_LAST ? GROUPS * PASSES : 1];  // zero again after every launch

// Whether all other blocks of the group and pass have left their results; one thread's atomic
// passes on what the barriers gave it.
__device__ __forceinline__ bool is_last(int at) {
  __syncthreads();
  bool last = threadIdx.x == 0 && count_arrival(&arrived[at]) == SPLITS - 1;
  return __syncthreads_or(last);
}

__device__ __forceinline__ void walk(Totals& totals, const Queries& q, const Lane& lane, const Place& place,
                                     const Reach& reach, const elem* keys, const elem* values,
                                     const mask_t* mask, int first, int n) {
  Pieces ring[IN_SHARED ? 1 : DEPTH];
#pragma unroll
  for (int d = 0; d < DEPTH; ++d) {
    Pieces& held = ring[IN_SHARED ? 0 : d];
    if (d < n) fetch_keys(held, lane, d, keys, first + d * STRIDE, reach.end);
    else if (IN_SHARED) end_copies();
    if (d < n) fetch_values(held, lane, d, values, first + d * STRIDE, reach.end);
    else if (IN_SHARED) end_copies();
  }
  for (int base = 0; base < n; base += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      int i = base + d;
      if (i >= n) break;
      Pieces& held = ring[IN_SHARED ? 0 : d];
      int key = first + i * STRIDE, later = key + DEPTH * STRIDE;
      bool more = i + DEPTH < n;
      Scores s;
      Shares shares;
      Given given;
      load_mask(given, mask, place, key, lane);
      if constexpr (IN_SHARED) await_copies<2 * DEPTH - 1>();
      score(s, q, held, lane, d);
      if (more) fetch_keys(held, lane, d, keys, later, reach.end);
      else if (IN_SHARED) end_copies();
      share(shares, totals, s, key, lane, place, reach, given);
      if constexpr (IN_SHARED) await_copies<2 * DEPTH - 1>();
      gather_values(totals, shares, held, lane, d);
      if (more) fetch_values(held, lane, d, values, later, reach.end);
      else if (IN_SHARED) end_copies();
    }
  }
}

// The warps' totals in shared memory: values (warp, row, value width), tops and sums (warp, row).
__device__ __forceinline__ void leave_totals(const Totals& totals, const Lane& lane, int warp, float* held) {
  float* tops = held + WARPS * HELD;
  float* sums = tops + WARPS * ROWS;
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    float sum = totals.sum[t] + __shfl_xor_sync(ALL, totals.sum[t], 1);
    sum += __shfl_xor_sync(ALL, sum, 2);
    int row = t * 8 + lane.g;
    if (lane.c == 0 && row < ROWS) {
      tops[warp * ROWS + row] = totals.top[t];
      sums[warp * ROWS + row] = sum;
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int out_row = t * 8 + lane.c * 2 + e;
      if (out_row >= ROWS) continue;
#pragma unroll
      for (int p = 0; p < V_PIECES; ++p) {
        int column = p * 64 + lane.g * 8;
        if (column >= VALUE_WIDTH) continue;
        float* to = held + warp * HELD + out_row * VALUE_WIDTH + column;
#pragma unroll
        for (int h = 0; h < 2; ++h)
          ((float4*)to)[h] = make_float4(totals.out[t][p][2 * h][e], totals.out[t][p][2 * h][2 + e],
                                         totals.out[t][p][2 * h + 1][e], totals.out[t][p][2 * h + 1][2 + e]);
      }
    }
  }
}

__device__ __forceinline__ void attention_decode(const elem* __restrict__ query, const elem* __restrict__ key,
                                                 const elem* __restrict__ value,
                                                 const mask_t* __restrict__ mask,
                                                 const length_t* __restrict__ lengths,
                                                 elem* __restrict__ y, float* partial,
                                                 unsigned char* arena) {
  int split = blockIdx.x, pass = blockIdx.y, group = blockIdx.z;
  int warp = __shfl_sync(ALL, threadIdx.x / 32, 0), place_in_warp = threadIdx.x % 32;
  Place place = {group / KV_HEADS, group % KV_HEADS, pass * PASS_ROWS};
  Lane lane = {place_in_warp / 4, place_in_warp % 4,
               (uint4*)arena + warp * (DEPTH * (K_LOADS + V_LOADS) * 32) + place_in_warp};
  Reach reach = reach_of(lengths, place.batch);
  int n_keys = max(0, reach.end - reach.begin);
  int n_steps = (n_keys + STEP_KEYS - 1) / STEP_KEYS;
  // Warps take steps in turn: those of all blocks, or those of this block in its own range.
  int begin = IN_TURNS ? split * WARPS : (int)((long long)split * n_steps / SPLITS);
  int end = IN_TURNS ? n_steps : (int)((long long)(split + 1) * n_steps / SPLITS);
  constexpr int TAKERS = STRIDE / STEP_KEYS;
  int n = max(0, (end - begin - warp + TAKERS - 1) / TAKERS);

  Queries q;
  load_queries(q, query + (long long)group * GROUP_ROWS * WIDTH, place.first_row, lane);
  Totals totals = {};
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) totals.top[t] = LOWEST;
  walk(totals, q, lane, place, reach, key + (long long)group * KEYS * WIDTH,
       value + (long long)group * KEYS * VALUE_WIDTH, mask, reach.begin + (begin + warp) * STEP_KEYS, n);

  float* held = (float*)arena;
  if constexpr (IN_SHARED) {
    await_copies<0>();
    __syncthreads();
  }
  leave_totals(totals, lane, warp, held);
  __syncthreads();
  int at = group * PASSES + pass;
  if constexpr (SPLITS == 1) {
    combine_warps(held, [&](int i, float v, float, float sum) { store_result(y, group, pass, i, v, sum); });
  } else {
    Partials partials = IN_CLUSTER ? Partials(held + WARPS * (HELD + 2 * ROWS), 1) : partials_of(partial, at);
    int slot = IN_CLUSTER ? 0 : split;
    combine_warps(held, [&](int i, float v, float top, float sum) {
      partials.values[slot * HELD + i] = v;
      if (i % VALUE_WIDTH == 0) {
        partials.tops[slot * ROWS + i / VALUE_WIDTH] = top;
        partials.sums[slot * ROWS + i / VALUE_WIDTH] = sum;
      }
    });
    if constexpr (IN_CLUSTER) combine_cluster(partials, y, group, pass, split);
    if constexpr (COMBINES_LAST) {
      if (is_last(at)) combine_partials(partials, y, group, pass, THREADS);
    }
  }
}

__device__ __forceinline__ void attention_decode_combine(const float* partial, elem* __restrict__ y) {
  int at = blockIdx.x;
  combine_partials(partials_of(const_cast<float*>(partial), at), y, at / PASSES, at % PASSES,
                   COMBINE_THREADS);
}
