// A warp's ring of slots, filled in pieces of 16 bytes by its lanes (compute capability 8.0).

typedef const elem* Tokens;  // (groups, keys, width), or (pages, heads, keys of a page, width)

struct Ring {
  unsigned char* slots;  // of this warp
  Tokens keys, values;
  int group, lane;
  const int* table;  // of this sequence

  __device__ __forceinline__ Ring(unsigned char* arena, Tokens k, Tokens v, int group_of_block, int warp,
                                  const int* pages)
      : slots(arena + warp * DEPTH * SLOT_BYTES), keys(k), values(v), group(group_of_block),
        lane(threadIdx.x % 32), table(pages) {}
  __device__ __forceinline__ unsigned char* slot(int d) const { return slots + d * SLOT_BYTES; }

  // Rows of the group's tokens in front of a key.
  __device__ __forceinline__ long long place(int key) const {
    if constexpr (!PAGED) return (long long)group * KEYS + key;
    int page = max(0, min(load_behind(table + key / PAGE_KEYS), N_PAGES - 1));
    return ((long long)page * KV_HEADS + group % KV_HEADS) * PAGE_KEYS + key % PAGE_KEYS;
  }
  // Zeros where there is no element or key.
  template <int N>
  __device__ __forceinline__ void copy(unsigned char* to, const elem* tokens, int first, int end) const {
    int piece = lane % 8;
#pragma unroll
    for (int row = lane / 8, j = 0; j < STEP_KEYS / 4; ++j, row += 4) {
      const elem* from = tokens + place(min(first + row, end - 1)) * N;
#pragma unroll
      for (int p = 0; p < (N + 63) / 64; ++p) {
        bool inside = first + row < end && (N % 64 == 0 || p * 64 + piece * 8 < N);
        copy_piece(to + p * PANEL_BYTES + row * ROW_BYTES + ((piece ^ row % 8) << 4),
                   inside ? from + p * 64 + piece * 8 : tokens, inside);
      }
    }
  }
  __device__ __forceinline__ void prefetch(int) const {}
  __device__ __forceinline__ void look_ahead(int, int) const {}
  __device__ __forceinline__ void ask(int d, int first, int end) const {
    copy<WIDTH>(slot(d), keys, first, end);
    copy<VALUE_WIDTH>(values_in(slot(d)), values, first, end);
    end_copies();
  }
  __device__ __forceinline__ void ask_nothing() const { end_copies(); }
  __device__ __forceinline__ void await(int, unsigned) const { await_copies<DEPTH - 1>(); }
  __device__ __forceinline__ void clear_values(int, int, const Lane&) const {}
  __device__ __forceinline__ void end() const {}
};
