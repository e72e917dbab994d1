// What attention_hopper.cuh keeps in shared memory, and the producer that copies it there: queries of
// each consumer, rings of keys and values, barriers, and the tile that each consumer has.

namespace attention {

using namespace hopper;

constexpr int ROW_BYTES = 128;
constexpr int Q_BLOCK = BM * ROW_BYTES;       // one block of 64 columns
constexpr int KV_BLOCK = BN * ROW_BYTES;
constexpr int QK_BLOCKS = (WIDTH + 63) / 64;
constexpr int V_BLOCKS = (VALUE_WIDTH + 63) / 64;
constexpr int Q_BYTES = QK_BLOCKS * Q_BLOCK;
constexpr int K_BYTES = QK_BLOCKS * KV_BLOCK;
constexpr int V_BYTES = V_BLOCKS * KV_BLOCK;
constexpr int N_S = BN / 2;                   // accumulators of a thread
constexpr int N_O = VALUE_WIDTH / 2;
constexpr int CONSUMER_WARPS = 4 * WARPGROUPS;
constexpr int BOX_KEYS = BN / PARTS / CLUSTER;
constexpr unsigned short ALL_BLOCKS = (1 << CLUSTER) - 1;  // of the cluster
constexpr int TILE_BYTES = 64;
constexpr int NO_HEAD = -1;                   // of what is given behind the last tile

struct Arena {
  Tile* tiles;                                // of every consumer, as the producer gave it
  u32 q, k, v, bars, rings;
  __device__ __forceinline__ explicit Arena(unsigned char* raw) {
    static_assert(sizeof(Tile) <= TILE_BYTES, "a tile must fit in its place");
    tiles = reinterpret_cast<Tile*>(raw + PLAN_BYTES);
    q = (shared_address(raw) + PLAN_BYTES + WARPGROUPS * TILE_BYTES + 1023) & ~1023u;
    k = q + Q_BYTES;
    v = k + STAGES * K_BYTES;
    bars = v + STAGES * V_BYTES;
    rings = bars + 16 * WARPGROUPS;
  }
  __device__ __forceinline__ u32 q_full(int group) const { return bars + 16 * group; }
  __device__ __forceinline__ u32 q_empty(int group) const { return bars + 16 * group + 8; }
  __device__ __forceinline__ u32 k_full(int i) const { return rings + 32 * i; }
  __device__ __forceinline__ u32 k_empty(int i) const { return rings + 32 * i + 8; }
  __device__ __forceinline__ u32 v_full(int i) const { return rings + 32 * i + 16; }
  __device__ __forceinline__ u32 v_empty(int i) const { return rings + 32 * i + 24; }
};

// Place in the ring; `phase` flips each time round.
struct Place {
  int slot = 0;
  u32 phase = 0;
  __device__ __forceinline__ void next() {
    if (++slot == STAGES) {
      slot = 0;
      phase ^= 1;
    }
  }
};

__device__ __forceinline__ void load_blocks(u32 to, int block_bytes, int n_blocks,
                                            const CUtensorMap& map, u32 bar, int row, int head,
                                            int column = 0) {
  for (int i = 0; i < n_blocks; ++i)
    tma_load_3d(to + i * block_bytes, map, bar, column + 64 * i, row, head);
}

// The keys or values of a step, which may lie apart in parts of equal length. Of what all blocks of
// the cluster need, each copies its share for all.
__device__ __forceinline__ void load_step(u32 to, int n_blocks, const CUtensorMap& map, u32 bar,
                                          const Walk& walk, int head, int column = 0) {
  bool shared = CLUSTER > 1 && walk.shared();
#pragma unroll
  for (int box = 0; box < PARTS * CLUSTER; ++box) {
    int key = walk.key(box / CLUSTER) + box % CLUSTER * BOX_KEYS;
    u32 at = to + box * BOX_KEYS * ROW_BYTES;
    if (!shared)
      load_blocks(at, KV_BLOCK, n_blocks, map, bar, key, head, column);
    else if (box % CLUSTER == blockIdx.x % CLUSTER)
      for (int i = 0; i < n_blocks; ++i)
        tma_share_3d(at + i * KV_BLOCK, map, bar, column + 64 * i, key, head, ALL_BLOCKS);
  }
}

// The tile of every consumer and its 64 queries, as soon as the consumer has done with those before.
// A tile without keys comes without queries.
__device__ __forceinline__ void give(const Arena& arena, const CUtensorMap& q, const Tile& tile,
                                     u32& phase) {
#pragma unroll 1  // written out for every consumer, it spills where values are wide
  for (int group = 0; group < WARPGROUPS; ++group) {
    mbarrier_wait(arena.q_empty(group), phase ^ 1);
    if (threadIdx.x != 0) continue;
    arena.tiles[group] = tile;
    if (tile.count == 0) {
      mbarrier_arrive(arena.q_full(group));
      continue;
    }
    mbarrier_expect(arena.q_full(group), Q_BYTES / WARPGROUPS);
    load_blocks(arena.q + group * 64 * ROW_BYTES, Q_BLOCK, QK_BLOCKS, q, arena.q_full(group),
                tile.row + 64 * group, tile.head);
  }
  phase ^= 1;
}

__device__ __forceinline__ void produce(const Arena& arena, const CUtensorMap& q,
                                        const CUtensorMap& k, const CUtensorMap& v,
                                        Work work) {
  Place place;
  u32 q_phase = 0;
  for (; work.some(); work.next()) {
    Tile tile = work.tile();
    if (tile.count == 0) {
      give(arena, q, tile, q_phase);
      continue;
    }
    int kv_head = tile.head / HEADS * KV_HEADS + tile.head % HEADS / (HEADS / KV_HEADS);
    Walk walk(work, tile);
    for (int step = 0; walk.some(step); ++step) {
      int slot = place.slot;
      mbarrier_wait(arena.k_empty(slot), place.phase ^ 1);
      walk.take(step, slot);
      if (threadIdx.x == 0) {
        mbarrier_expect(arena.k_full(slot), K_BYTES);
        load_step(arena.k + slot * K_BYTES, QK_BLOCKS, k, arena.k_full(slot), walk, kv_head);
      }
      // Behind the first keys: their place is free before that of the queries.
      if (step == 0) give(arena, q, tile, q_phase);
      mbarrier_wait(arena.v_empty(slot), place.phase ^ 1);
      if (threadIdx.x == 0) {
        mbarrier_expect(arena.v_full(slot), V_BYTES);
        load_step(arena.v + slot * V_BYTES, V_BLOCKS, v, arena.v_full(slot), walk, kv_head,
                  tile.part() * VALUE_WIDTH);
      }
      place.next();
    }
  }
  Tile none{};
  none.head = NO_HEAD;
  give(arena, q, none, q_phase);
}

}  // namespace attention
