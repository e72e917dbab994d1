// A warp's ring of slots, filled tile by tile by the tensor memory accelerator (compute capability
// 9.0). Tiles are stored as attention_decode_slots.cuh says; elements and keys that do not exist are
// zero. After hopper.cuh.

typedef const CUtensorMap& Tokens;  // (width, keys, groups), or (width, keys of a page, pages and heads)
constexpr int BOXES = STEP_KEYS / BOX_KEYS;
constexpr int BOX_BYTES = BOX_KEYS * ROW_BYTES;

struct Ring {
  unsigned char* slots;  // of this warp
  hopper::u32 barriers;  // one per slot
  Tokens keys, values;
  int group;
  const int* table;  // of this sequence
  int ahead;         // page of box `lane` of the step that is asked for next
  hopper::u64 once;  // of tiles that no other pass reads

  __device__ __forceinline__ Ring(unsigned char* arena, Tokens k, Tokens v, int group_of_block, int warp,
                                  const int* pages)
      : slots(arena + warp * DEPTH * SLOT_BYTES), keys(k), values(v), group(group_of_block), table(pages),
        once(hopper::read_once()) {
    barriers = hopper::shared_address(arena + RING_BYTES) + warp * DEPTH * 8;
    if (is_elected()) {
      for (int d = 0; d < DEPTH; ++d) hopper::mbarrier_init(barriers + d * 8, 1);
      hopper::fence_mbarrier_init();
    }
    __syncwarp();
  }
  __device__ __forceinline__ unsigned char* slot(int d) const { return slots + d * SLOT_BYTES; }

  // To the second cache only: allowed before the kernel in front, which may write these, has ended.
  __device__ __forceinline__ void prefetch(int first) const {
    if (!is_elected()) return;
    for (int p = 0; p < K_PANELS; ++p) prefetch_tile(keys, 64 * p, first, group);
    for (int p = 0; p < V_PANELS; ++p) prefetch_tile(values, 64 * p, first, group);
  }
  // Pages are looked up one step before they are needed.
  __device__ __forceinline__ void look_ahead(int first, int end) {
    int box = min((int)threadIdx.x % 32, BOXES - 1);
    if constexpr (PAGED) ahead = load_behind(table + min(first + box * BOX_KEYS, end - 1) / PAGE_KEYS);
  }
  __device__ __forceinline__ void load(hopper::u32 to, Tokens from, hopper::u32 bar, int column, int key,
                                       int group_of_box) const {
    if constexpr (PASSES == 1) hopper::tma_load_3d(to, from, bar, column, key, group_of_box, once);
    else hopper::tma_load_3d(to, from, bar, column, key, group_of_box);
  }
  __device__ __forceinline__ void ask(int d, int first, int end) {
    int groups[BOXES];
#pragma unroll
    for (int b = 0; b < BOXES; ++b)
      groups[b] = PAGED ? __shfl_sync(ALL, ahead, b) * KV_HEADS + group % KV_HEADS : group;
    look_ahead(first + STRIDE, end);
    if (!is_elected()) return;
    hopper::u32 to = hopper::shared_address(slot(d)), bar = barriers + d * 8;
    hopper::mbarrier_expect(bar, SLOT_BYTES);
#pragma unroll
    for (int i = 0; i < (K_PANELS + V_PANELS) * BOXES; ++i, to += BOX_BYTES) {
      int p = i / BOXES, b = i % BOXES, key = first + b * BOX_KEYS;
      if constexpr (PAGED) key %= PAGE_KEYS;
      if (p < K_PANELS) load(to, keys, bar, 64 * p, key, groups[b]);
      else load(to, values, bar, 64 * (p - K_PANELS), key, groups[b]);
    }
  }
  __device__ __forceinline__ void ask_nothing() const {}
  __device__ __forceinline__ void await(int d, unsigned parity) const {
    hopper::mbarrier_wait(barriers + d * 8, parity);
  }
  // Before its memory becomes anything else; every lane has seen the last step.
  __device__ __forceinline__ void end() const {
    if (!is_elected()) return;
    for (int d = 0; d < DEPTH; ++d) hopper::mbarrier_invalidate(barriers + d * 8);
  }
  // Values behind the last key may be no numbers, which a probability of zero does not remove.
  __device__ __forceinline__ void clear_values(int d, int n_valid, const Lane& lane) const {
    if (n_valid >= STEP_KEYS) return;
    constexpr int PIECES = ROW_BYTES / 16;
    for (int i = n_valid * PIECES + lane.index; i < STEP_KEYS * PIECES; i += 32)
      for (int p = 0; p < V_PANELS; ++p)
        ((uint4*)(values_in(slot(d)) + p * PANEL_BYTES))[i] = make_uint4(0, 0, 0, 0);
    __syncwarp();
  }
};
