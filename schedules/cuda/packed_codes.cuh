// Codes out of the words that schedules/packing.py lays them in. Before it: BITS.

constexpr unsigned CODE_MASK = ((1u << BITS) - 1) * 0x01010101u;

// Four codes of a fragment, one per byte.
template <int FRAGMENT>
__device__ __forceinline__ unsigned codes_of(unsigned w0, unsigned w1, unsigned w2) {
  if constexpr (BITS != 3) return (w0 >> (BITS * FRAGMENT)) & CODE_MASK;
  else if constexpr (FRAGMENT < 6)
    return ((FRAGMENT / 2 == 0 ? w0 : FRAGMENT / 2 == 1 ? w1 : w2) >> (3 * (FRAGMENT % 2))) & CODE_MASK;
  // Two upper bits, and the lowest one from the third word.
  else return (((FRAGMENT == 6 ? w0 : w1) >> 6 & 0x03030303u) << 1) | (w2 >> (13 - FRAGMENT) & 0x01010101u);
}
