// How a step's keys and values lie in shared memory: a slot holds panels of 64 elements (128 bytes)
// of every key, then of every value. Piece p (16 bytes) of row r stands at place p ^ r % 8 of its row,
// so that one piece of eight neighbouring rows lies in different banks.

constexpr int ROW_BYTES = 128;
constexpr int K_PANELS = (WIDTH + 63) / 64;
constexpr int V_PANELS = (VALUE_WIDTH + 63) / 64;
constexpr int PANEL_BYTES = STEP_KEYS * ROW_BYTES;
constexpr int SLOT_BYTES = (K_PANELS + V_PANELS) * PANEL_BYTES;
constexpr int RING_BYTES = WARPS * DEPTH * SLOT_BYTES;

// Addresses that a lane gives for a block of 16 keys x 16 elements, four matrices of 8 x 8: of row
// lane % 8 of matrix lane / 8. Keys come by columns of the block, values by rows, so that four
// registers are an operand as they are.
struct Lane {
  int index, g, c;         // index = 4 * g + c
  int in_keys, in_values;  // bytes
  __device__ __forceinline__ explicit Lane(int lane) : index(lane), g(lane / 4), c(lane % 4) {
    int second = lane / 8 % 2, fourth = lane / 16;
    in_keys = (second * 8 + lane % 8) * ROW_BYTES + ((fourth ^ lane % 8) << 4);
    in_values = (fourth * 8 + lane % 8) * ROW_BYTES + ((second ^ lane % 8) << 4);
    asm volatile("" : "+r"(in_keys), "+r"(in_values));  // kept, not computed again
  }
};

// Place of a block in panels: keys from `sub` * 16, elements from `block` * 16.
__device__ __forceinline__ const unsigned char* block_at(const unsigned char* panels, int in_block, int sub,
                                                         int block) {
  return panels + block / 4 * PANEL_BYTES + sub * (16 * ROW_BYTES) + (in_block ^ (block % 4 << 5));
}

__device__ __forceinline__ unsigned char* values_in(unsigned char* slot) {
  return slot + K_PANELS * PANEL_BYTES;
}
