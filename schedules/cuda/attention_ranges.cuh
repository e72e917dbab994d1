// Key steps that are one range of keys each and follow from their number: what producers and
// consumers of attention_hopper.cuh ask of them. Needs Work, Tile and Rule.

namespace attention {

constexpr int PRODUCER_THREADS = 1;
constexpr int PARTS = 1;

struct Walk {
  const Tile& tile;
  int step = 0;
  __device__ __forceinline__ Walk(const Work&, const Tile& t) : tile(t) {}
  __device__ __forceinline__ bool some(int at) const { return at < tile.count; }
  __device__ __forceinline__ void take(int at, int) { step = at; }
  __device__ __forceinline__ int key(int) const { return tile.key(step); }
  __device__ __forceinline__ bool shared() const { return tile.shared(step); }
};

struct Note {
  bool last;
  __device__ __forceinline__ Note(const Work&, const Tile& tile, int step, int, int)
      : last(step == tile.count - 1) {}
  __device__ __forceinline__ void mask(float (&s)[BN / 2], const Tile& tile, int step,
                                       int first_row, int own_row, int column) const {
    Rule rule(tile, step, first_row);
    if (rule.needed()) rule.apply(s, own_row, column);
  }
};

}  // namespace attention
