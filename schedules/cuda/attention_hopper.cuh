// Attention forward for compute capability 9.0. One producer warp copies Q, K and V tiles, 1 to 3
// consumer warpgroups own 64 query rows each. Namespace `attention` holds the constants that
// schedules/attention_hopper.py writes in front, and the two products. Which tiles there are, and
// what is masked in them, comes from another file: see attention_window.cuh, attention_headwise.cuh
// and attention_tiles.cuh. It defines
//
//   Sources, Plan   what it reads, and what a block shares about it
//   Work, Tile      the query tiles of a block, with VALUE_WIDTH columns of VALUE_PARTS times as many
//   Walk            the key steps of a tile as the producer (PRODUCER_THREADS threads) takes them
//   Note            what a consumer knows of a step before its scores are there, and their mask
//
// The producer and the shared memory are in attention_copies.cuh.
//
//   producer      K0 Q V0  K1 V1  K2 V2 ...        ring of STAGES, full and empty barriers
//   warpgroup     S=QK0 | S=QK1 (async), O+=P V0 (async), softmax of S, rescale O | ...

namespace attention {

__device__ __forceinline__ float lowest() { return __int_as_float(0xff800000); }

// Scores before their scale, as a soft cap of cap / scale leaves them.
__device__ __forceinline__ void soften(float (&s)[N_S]) {
  if (!SOFTCAP) return;
#pragma unroll
  for (int i = 0; i < N_S; ++i) {
    float raised = exp2_fast(s[i] * SOFTCAP_LOG2);
    s[i] = CAP - 2.0f * CAP * __frcp_rn(raised + 1.0f);
  }
}

// S = Q K^T; q is the address of this warpgroup's 64 rows, k that of the tile.
__device__ __forceinline__ void scores(float (&s)[N_S], u32 q, u32 k) {
#pragma unroll
  for (int step = 0; step < (WIDTH + 15) / 16; ++step) {
    u32 inside = step % 4 * 32;
    multiply_qk(s, descriptor_128b(q + step / 4 * Q_BLOCK + inside, 16),
                descriptor_128b(k + step / 4 * KV_BLOCK + inside, 16), step > 0);
  }
}

// O += P V
__device__ __forceinline__ void mix(float (&o)[N_O], const u32 (&p)[N_S / 2], u32 v) {
#pragma unroll
  for (int step = 0; step < BN / 16; ++step)
    multiply_pv(o, p + 4 * step, descriptor_128b(v + step * 16 * ROW_BYTES, KV_BLOCK), 1);
}

__device__ __forceinline__ void pack(u32 (&p)[N_S / 2], const float (&s)[N_S]) {
#pragma unroll
  for (int i = 0; i < N_S / 2; ++i) p[i] = pair_of<BFLOAT>(s[2 * i], s[2 * i + 1]);
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// A maximum that rises by no more than this many powers of two is left as it is, and with it what
// has been summed: exponentials stay below 2 to the 8, as exact in 16 bits as those below one.
constexpr float SLACK_LOG2 = 8.0f;

// Running maximum, or nearly so, and this thread's share of the running sum, of two rows.
struct Rows {
  float most[2] = {lowest(), lowest()};
  float sum[2] = {0.0f, 0.0f};

  // Of a mask's numbers the difference comes first: a fused product would leave what rounding took
  // from the shift.
  __device__ __forceinline__ static float share(float score, float shift) {
    return exp2_fast(ADDITIVE ? (score - shift) * SCALE_LOG2 : score * SCALE_LOG2 - shift);
  }

  // S becomes its exponentials; `rescale` what earlier sums and outputs are to be multiplied by.
  // Whether that is more than ones, for some row of this warp.
  __device__ __forceinline__ bool step(float (&s)[N_S], float (&rescale)[2]) {
    bool some_rise = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float now = most[r];
#pragma unroll
      for (int j = 0; j < N_S / 4; ++j)
        now = fmaxf(now, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
      now = quad_max(now);
      bool rises = (now - most[r]) * SCALE_LOG2 > SLACK_LOG2;
      some_rise |= rises;
      if (!rises) now = most[r];
      // Nothing attended yet: any finite shift turns minus infinity into zero.
      float shift = now == lowest() ? 0.0f : ADDITIVE ? now : now * SCALE_LOG2;
      rescale[r] = rises ? share(most[r], shift) : 1.0f;
      most[r] = now;
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j < N_S / 4; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float raised = share(s[4 * j + 2 * r + e], shift);
          s[4 * j + 2 * r + e] = raised;
          total += raised;
        }
      sum[r] = sum[r] * rescale[r] + total;
    }
    return __any_sync(0xffffffffu, some_rise);
  }
};

__device__ __forceinline__ void multiply(float (&o)[N_O], const float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < N_O / 4; ++j)
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int e = 0; e < 2; ++e) o[4 * j + 2 * r + e] *= factor[r];
}

__device__ __forceinline__ void store(element* out, const float (&o)[N_O], int head, int row,
                                      int part) {
  int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (row + 8 * r >= QUERIES) continue;
    long long line_part = ((long long)head * QUERIES + row + 8 * r) * VALUE_PARTS + part;
    element* line = out + line_part * VALUE_WIDTH + column;
#pragma unroll
    for (int j = 0; j < N_O / 4; ++j)
      *reinterpret_cast<u32*>(line + 8 * j) =
          pair_of<BFLOAT>(o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
  }
}

// Warpgroups take turns at the matrix units, so that one multiplies while another raises.
__device__ __forceinline__ void await_turn(int group) {
  if (PINGPONG) named_sync(1 + group, 256);
}
__device__ __forceinline__ void pass_turn(int group) {
  if (PINGPONG) named_arrive(1 + (group + 1) % WARPGROUPS, 256);
}

__device__ __forceinline__ void release(u32 bar) {
  if (threadIdx.x % 32 == 0) mbarrier_arrive(bar);
}
// What other blocks of the cluster write, too.
__device__ __forceinline__ void release_to_all(u32 bar) {
  if (threadIdx.x % 32 == 0) mbarrier_arrive_all_as_reader<CLUSTER>(bar);
}

struct Consumer {
  Arena arena;
  int group, row, column;
  Place keys, values;
  u32 q_phase = 0;

  __device__ __forceinline__ explicit Consumer(const Arena& a) : arena(a) {
    group = same(threadIdx.x / 128) - 1;
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    row = 64 * group + 16 * warp + lane / 4;
    column = lane % 4 * 2;
  }

  __device__ __forceinline__ void start_scores(float (&s)[N_S]) {
    scores(s, arena.q + group * 64 * ROW_BYTES, arena.k + keys.slot * K_BYTES);
    wgmma_commit();
  }
  __device__ __forceinline__ void start_mix(float (&o)[N_O], const u32 (&p)[N_S / 2]) {
    mix(o, p, arena.v + values.slot * V_BYTES);
    wgmma_commit();
  }
  __device__ __forceinline__ void scores_done(bool is_last) {
    release_to_all(arena.k_empty(keys.slot));
    if (is_last) release(arena.q_empty(group));
    keys.next();
  }
  __device__ __forceinline__ void mix_done() {
    release_to_all(arena.v_empty(values.slot));
    values.next();
  }
  __device__ __forceinline__ void mask(float (&s)[N_S], const Tile& tile, int step,
                                       const Note& note) {
    soften(s);
    note.mask(s, tile, step, tile.row + 64 * group, tile.row + row, column);
  }

  // One product after the other.
  __device__ __forceinline__ void attend_in_turn(float (&o)[N_O], Rows& rows, const Work& work,
                                                 const Tile& tile) {
    float s[N_S], rescale[2];
    u32 p[N_S / 2];
    bool last = false;
    for (int step = 0; !last; ++step) {
      mbarrier_wait(arena.k_full(keys.slot), keys.phase);
      Note note(work, tile, step, keys.slot, row);
      last = note.last;
      await_turn(group);
      wgmma_fence();
      start_scores(s);
      wgmma_wait<0>();
      hold(s);
      pass_turn(group);
      scores_done(last);
      mask(s, tile, step, note);
      if (rows.step(s, rescale)) multiply(o, rescale);
      pack(p, s);
      mbarrier_wait(arena.v_full(values.slot), values.phase);
      wgmma_fence();
      start_mix(o, p);
      wgmma_wait<0>();
      hold(o);
      mix_done();
    }
  }

  // The softmax of a tile while the second product of the tile before it runs.
  __device__ __forceinline__ void attend_overlapped(float (&o)[N_O], Rows& rows, const Work& work,
                                                    const Tile& tile) {
    float s[N_S], rescale[2];
    u32 p[N_S / 2];
    mbarrier_wait(arena.k_full(keys.slot), keys.phase);
    Note first(work, tile, 0, keys.slot, row);
    await_turn(group);
    wgmma_fence();
    start_scores(s);
    pass_turn(group);
    wgmma_wait<0>();
    hold(s);
    scores_done(first.last);
    mask(s, tile, 0, first);
    rows.step(s, rescale);
    pack(p, s);
    bool last = first.last;
    for (int step = 1; !last; ++step) {
      mbarrier_wait(arena.k_full(keys.slot), keys.phase);
      Note note(work, tile, step, keys.slot, row);
      last = note.last;
      await_turn(group);
      wgmma_fence();
      start_scores(s);
      mbarrier_wait(arena.v_full(values.slot), values.phase);
      start_mix(o, p);
      pass_turn(group);
      wgmma_wait<1>();
      hold(s);
      scores_done(last);
      if (MASKS_LATER_STEPS || SOFTCAP) mask(s, tile, step, note);
      bool some_rise = rows.step(s, rescale);
      wgmma_wait<0>();
      hold(o);
      mix_done();
      if (some_rise) multiply(o, rescale);
      pack(p, s);
    }
    mbarrier_wait(arena.v_full(values.slot), values.phase);
    wgmma_fence();
    start_mix(o, p);
    wgmma_wait<0>();
    hold(o);
    mix_done();
  }

  // The next tile, with its queries.
  __device__ __forceinline__ Tile taken() {
    mbarrier_wait(arena.q_full(group), q_phase);
    q_phase ^= 1;
    Tile tile = read_by_first(arena.tiles[group]);
    if (tile.count == 0) release(arena.q_empty(group));
    return tile;
  }

  __device__ __forceinline__ void consume(element* out, const Work& work) {
    if (PINGPONG && group == WARPGROUPS - 1) pass_turn(group);
    for (Tile tile = taken(); tile.head != NO_HEAD; tile = taken()) {
      if (work.copied(tile, out)) continue;
      float o[N_O];
      Rows rows;
#pragma unroll
      for (int i = 0; i < N_O; ++i) o[i] = 0.0f;
      if (tile.count > 0) {
        if (OVERLAP)
          attend_overlapped(o, rows, work, tile);
        else
          attend_in_turn(o, rows, work, tile);
      }
      float inverse[2], total[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        total[r] = quad_sum(rows.sum[r]);
        inverse[r] = total[r] > 0.0f ? 1.0f / total[r] : 0.0f;
      }
      multiply(o, inverse);
      if (work.kept(tile, o, tile.row + row, rows.most, total)) continue;
      store(out, o, tile.head, tile.row + row, tile.part());
    }
  }
};

__device__ __forceinline__ void forward(const CUtensorMap& q, const CUtensorMap& k,
                                        const CUtensorMap& v, element* __restrict__ out,
                                        Sources sources, unsigned char* raw) {
  if (EARLY) {
    early::wait_for_previous_kernel();
    early::release_next_kernel();
  }
  Arena arena(raw);
  Plan* plan = reinterpret_cast<Plan*>(raw);
  if (threadIdx.x < 32) plan->make(sources);
  if (threadIdx.x == 0) {
    for (int group = 0; group < WARPGROUPS; ++group) {
      mbarrier_init(arena.q_full(group), 1);
      mbarrier_init(arena.q_empty(group), CONSUMER_WARPS / WARPGROUPS);
    }
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(arena.k_full(i), 1);
      mbarrier_init(arena.k_empty(i), CLUSTER * CONSUMER_WARPS);
      mbarrier_init(arena.v_full(i), 1);
      mbarrier_init(arena.v_empty(i), CLUSTER * CONSUMER_WARPS);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  meet_cluster<CLUSTER>();
  if (threadIdx.x < 128) {
    fewer_registers<PRODUCER_REGISTERS>();
    if (threadIdx.x < PRODUCER_THREADS) produce(arena, q, k, v, Work(plan, sources));
  } else {
    more_registers<CONSUMER_REGISTERS>();
    Consumer(arena).consume(out, Work(plan, sources));
  }
  meet_cluster<CLUSTER>();  // others write here until their last step
}

}  // namespace attention
