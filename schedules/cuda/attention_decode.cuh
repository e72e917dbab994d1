// Attention of a few queries over many keys: keys shared out among warps and blocks, all query
// rows of a key head in one pass. A warp has a ring of slots of its own and waits for no other before
// its keys are done. In front of this text, in this order: the constants of
// schedules/attention_decode_cuda.py, attention_decode_instructions.cuh, _reach (which keys), _slots and
// either _tiles or _pieces (how they come), _scores, _softmax, _combine.

__device__ __forceinline__ void walk(Totals& totals, Ring& ring, const Queries& q, const Lane& lane,
                                     const Place& place, const Reach& reach, const Share& share,
                                     const mask_t* mask) {
  int slot = 0;
  unsigned parity = 0;
  for (int i = 0; i < share.n; ++i) {
    int key = share.first + i * STRIDE;
    unsigned char* held = ring.slot(slot);
    Scores s;
    Given given;
    Shares shares;
    load_mask(given, mask, place, key, lane);
    ring.await(slot, parity);
    score(s, q, held, lane);
    scale_scores(s);
    if (MASK || !reach.is_whole(key)) {
      restrict_scores(s, key, lane, place, reach, given);
      ring.clear_values(slot, reach.end - key, lane);
    }
    share_out(shares, totals, s);
    gather_values(totals, shares, values_in(held), lane);
    __syncwarp();  // all lanes have read the slot
    if (i + DEPTH < share.n) {
      ring.ask(slot, key + DEPTH * STRIDE, reach.end);
    } else {
      ring.ask_nothing();
      if constexpr (EARLY && !RELEASES_AT_ONCE) early::release_next_kernel();
    }
    if (++slot == DEPTH) {
      slot = 0;
      parity ^= 1;
    }
  }
}

__device__ __forceinline__ void attention_decode(const elem* query, Tokens key, Tokens value,
                                                 const int* table, const mask_t* mask, const length_t* lengths,
                                                 elem* y, float* partial, unsigned char* memory) {
  Place place = {(int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z};
  Lane lane(threadIdx.x % 32);
  int warp = __shfl_sync(ALL, threadIdx.x / 32, 0);
  unsigned char* arena = aligned(memory);
  Ring ring(arena, key, value, place.group, warp, table + place.batch() * (KEYS / PAGE_KEYS));
  if constexpr (EARLY) {
    if constexpr (RELEASES_AT_ONCE) early::release_next_kernel();
    if constexpr (!HAS_LENGTHS && !PAGED) {
      Share share = share_of(reach_of(nullptr, 0), place.split, warp);
      for (int d = 0; d < min(DEPTH, share.n); ++d) ring.prefetch(share.first + d * STRIDE);
    }
    early::wait_for_previous_kernel();
  }
  Reach reach = reach_of(lengths, place.batch());
  Share share = share_of(reach, place.split, warp);
  if (share.n > 0) ring.look_ahead(share.first, reach.end);
  for (int d = 0; d < DEPTH; ++d) {
    if (d < share.n) ring.ask(d, share.first + d * STRIDE, reach.end);
    else ring.ask_nothing();
  }
  Queries q;
  load_queries(q, query, place, lane);
  Totals totals;
  begin_totals(totals);
  walk(totals, ring, q, lane, place, reach, share, mask);
  ring.end();

  __syncthreads();  // results take the place of the rings
  Found warps((float*)arena, WARPS, PITCH);
  leave_totals(totals, lane, warp, warps);
  __syncthreads();
  combine(warps, partial, y, place);
}
