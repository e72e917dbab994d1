// In the place of schedules/cuda/hopper.cuh, behind cuda_emulation.hpp: barriers with parities, boxes
// copied by tensor maps, swizzled lines, and products of warpgroups, as PTX describes them.
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>

struct CUtensorMap {
  const unsigned char* data;
  int rank;
  long long shape[5], strides[5];
  int box[5], steps[5], swizzle;
};

namespace hopper {
typedef unsigned int u32;
typedef unsigned long long u64;
using ampere::shared_address;

struct Barrier {
  int count = 0, pending = 0, bytes = 0;
  u32 n_phases = 0;
};
struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<u32, Barrier> barriers;
  std::map<int, std::unique_ptr<std::barrier<>>> named;
};
inline std::mutex states_mutex;
// It ends with the block: turns that nobody took are not those of the next block.
inline State& state_of(Block* block) {
  std::lock_guard<std::mutex> lock(states_mutex);
  if (!block->more) block->more = std::make_shared<State>();
  return *static_cast<State*>(block->more.get());
}
inline State& state() { return state_of(own_block); }
inline void complete(State& s, Barrier& one) {
  if (one.pending || one.bytes) return;
  ++one.n_phases;
  one.pending = one.count;
  s.changed.notify_all();
}
inline void mbarrier_init(u32 bar, u32 n) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  ampere::check(bar, 8);
  s.barriers[bar] = Barrier{(int)n, (int)n, 0, 0};
}
inline void fence_mbarrier_init() {}
inline void prefetch_map(const CUtensorMap&) {}
inline void mbarrier_expect(u32 bar, u32 bytes) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  Barrier& one = s.barriers.at(bar);
  one.bytes += bytes;
  --one.pending;
  complete(s, one);
}
inline void arrive_at(Block* block, u32 bar) {
  State& s = state_of(block);
  std::lock_guard<std::mutex> lock(s.mutex);
  --s.barriers.at(bar).pending;
  complete(s, s.barriers.at(bar));
}
inline void mbarrier_arrive(u32 bar) { arrive_at(own_block, bar); }
template <int CLUSTER> void mbarrier_arrive_all_as_reader(u32 bar) {
  for (int rank = 0; rank < CLUSTER; ++rank)
    arrive_at(CLUSTER > 1 ? &(*cluster)[rank] : own_block, bar);
}
template <int CLUSTER> void meet_cluster() {
  if constexpr (CLUSTER > 1) cluster_barrier->arrive_and_wait();
}
inline void mbarrier_await(u32 bar, u32 parity) {
  State& s = state();
  std::unique_lock<std::mutex> lock(s.mutex);
  // Others may complete two phases before this thread runs again.
  const u32 before = s.barriers.at(bar).n_phases;
  if (before % 2 != parity) return;
  s.changed.wait(lock, [&] { return s.barriers.at(bar).n_phases != before; });
}
inline void mbarrier_wait(u32 bar, u32 parity) { mbarrier_await(bar, parity); }
inline float exp2_fast(float x) { return exp2f(x); }
template <bool BFLOAT> u32 pair_of(float first, float second) {
  if constexpr (BFLOAT) return ampere::packed(first, second, (const nv_bfloat16*)nullptr);
  else return ampere::packed(first, second, (const half*)nullptr);
}
inline bool mbarrier_done(u32 bar, u32 parity) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  return s.barriers.at(bar).n_phases % 2 != parity;
}
inline u32 swizzled(u32 address, int bytes) {
  u32 mask = bytes == 128 ? 7 : bytes == 64 ? 3 : bytes == 32 ? 1 : 0;
  return address ^ ((address >> 7 & mask) << 4);
}
// Boxes that were asked for ahead of their copies, and all that were copied.
struct Boxes {
  std::mutex mutex;
  std::set<std::pair<const unsigned char*, std::vector<int>>> asked, copied;
};
inline Boxes boxes;
// Fault 4 for one that is asked for twice, 5 where not all were that are copied, or others.
inline void tma_ask(const CUtensorMap& map, std::vector<int> from) {
  std::lock_guard<std::mutex> lock(boxes.mutex);
  if (!boxes.asked.insert({map.data, from}).second) fault = 4;
}
inline void tma_ask_2d(const CUtensorMap& map, int x, int y) { tma_ask(map, {x, y}); }
inline void tma_ask_3d(const CUtensorMap& map, int x, int y, int z) { tma_ask(map, {x, y, z}); }
inline void at_end() {
  if (!boxes.asked.empty() && boxes.asked != boxes.copied) fault = 5;
}
// Elements of two bytes; faults: 2 for a target that is not aligned, 3 for a wide line.
inline void tma_into(Block* block, u32 to, const CUtensorMap& map, u32 bar, std::vector<int> from) {
  ampere::check(to, map.swizzle == 128 ? 1024 : 128);
  if (map.swizzle && map.box[0] * 2 > map.swizzle) fault = 3;
  std::vector<int> extent(map.rank), at(map.rank, 0);
  int total = 1;
  for (int d = 0; d < map.rank; ++d) {
    if (map.box[d] > 256) fault = 3;
    extent[d] = (map.box[d] + map.steps[d] - 1) / map.steps[d];
    total *= extent[d];
  }
  for (int i = 0; i < total; ++i) {
    const unsigned char* p = map.data;
    bool inside = true;
    for (int d = 0, rest = i; d < map.rank; ++d) {
      long long place = from[d] + (long long)(rest % extent[d]) * map.steps[d];
      rest /= extent[d];
      inside &= place >= 0 && place < map.shape[d];
      p += place * map.strides[d];
    }
    uint16_t value = inside ? *(const uint16_t*)p : 0;
    *(uint16_t*)(block->arena + swizzled(to + 2 * i, map.swizzle)) = value;
  }
  {
    std::lock_guard<std::mutex> lock(boxes.mutex);
    boxes.copied.insert({map.data, from});
  }
  State& s = state_of(block);
  std::lock_guard<std::mutex> lock(s.mutex);
  s.barriers.at(bar).bytes -= 2 * total;
  complete(s, s.barriers.at(bar));
}
inline void tma_load(u32 to, const CUtensorMap& map, u32 bar, std::vector<int> from) {
  tma_into(own_block, to, map, bar, from);
}
inline void tma_share(u32 to, const CUtensorMap& map, u32 bar, std::vector<int> from, int blocks) {
  for (int rank = 0; rank < (int)cluster->size(); ++rank)
    if (blocks >> rank & 1) tma_into(&(*cluster)[rank], to, map, bar, from);
}
inline void tma_load_2d(u32 to, const CUtensorMap& map, u32 bar, int x, int y) {
  tma_load(to, map, bar, {x, y});
}
inline void tma_share_2d(u32 to, const CUtensorMap& map, u32 bar, int x, int y, int blocks) {
  tma_share(to, map, bar, {x, y}, blocks);
}
inline void tma_share_3d(u32 to, const CUtensorMap& map, u32 bar, int x, int y, int z, int blocks) {
  tma_share(to, map, bar, {x, y, z}, blocks);
}
inline void tma_load_3d(u32 to, const CUtensorMap& map, u32 bar, int x, int y, int z) {
  tma_load(to, map, bar, {x, y, z});
}
inline void tma_load_4d(u32 to, const CUtensorMap& map, u32 bar, int x, int y, int z, int w) {
  tma_load(to, map, bar, {x, y, z, w});
}
template <int N> void more_registers() {}
template <int N> void fewer_registers() {}
inline std::barrier<>& named(int id, int n) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto& own = s.named[id];
  if (!own) own = std::make_unique<std::barrier<>>(n);
  return *own;
}
inline void named_sync(int id, int n) { named(id, n).arrive_and_wait(); }
inline void named_arrive(int id, int n) { (void)named(id, n).arrive(); }
template <int LINE> u64 descriptor_lines(u32 address, u32 leading) {
  constexpr u64 SWIZZLE = LINE == 128 ? 1 : LINE == 64 ? 2 : LINE == 32 ? 3 : 0;
  if (address % 16 || leading % 16) fault = 2;
  return (u64)(address >> 4) | (u64)(leading >> 4) << 16 | (u64)(8 * LINE >> 4) << 32 |
         SWIZZLE << 62;
}
inline u64 descriptor_128b(u32 address, u32 leading) {
  return descriptor_lines<128>(address, leading);
}
inline void wgmma_fence() {}
inline void wgmma_commit() {}
// Lanes of a warp go on together, as they do behind instructions of whole warps.
template <int N> void wgmma_wait() { __syncwarp(); }
template <int N> void hold(float (&)[N]) {}
template <class T> T same(const T& x) {
  int words[sizeof(T) / 4];
  memcpy(words, &x, sizeof(T));
  for (int& word : words) word = __shfl_sync(0xffffffffu, word, 0);
  T made;
  memcpy(&made, words, sizeof(T));
  return made;
}
template <class T> T read_by_first(const T& x) {
  T made{};
  if (threadIdx.x % 32 == 0) made = x;
  return same(made);
}

// An operand in lines, eight of them together.
struct Operand {
  u32 start, leading, eight, line;
  int code;
  explicit Operand(u64 descriptor)
      : start((descriptor & 0x3fff) << 4), leading((descriptor >> 16 & 0x3fff) << 4),
        eight((descriptor >> 32 & 0x3fff) << 4), line(eight / 8), code(descriptor >> 62) {}
  template <class T> float read(u32 at) const {
    u32 address = swizzled(start + at, code == 1 ? 128 : code == 2 ? 64 : code == 3 ? 32 : 0);
    ampere::check(address, 2);
    uint16_t bits = *(const uint16_t*)(own_block->arena + address);
    return ampere::half_of<T>(bits, 0);
  }
};
// Element (row, k) of a K-major operand, and element (k, column) of an MN-major one.
template <class T> float element(u64 descriptor, int row, int k) {
  Operand one(descriptor);
  u32 inside = one.code ? 2 * k : k / 8 * one.leading + k % 8 * 2;
  return one.read<T>(row / 8 * one.eight + row % 8 * one.line + inside);
}
template <class T> float element_of_rows(u64 descriptor, int k, int column) {
  Operand one(descriptor);
  u32 width = one.line / 2, inside = column / width * one.leading + column % width * 2;
  return one.read<T>(k / 8 * one.eight + k % 8 * one.line + inside);
}
template <class T, int N> void multiply(float (&d)[N], u64 a, u64 b, int keep) {
  int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  for (int i = 0; i < N; ++i) {
    int row = 16 * warp + lane / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    float sum = keep ? d[i] : 0.0f;
    for (int k = 0; k < 16; ++k) sum += element<T>(a, row, k) * element<T>(b, column, k);
    d[i] = sum;
  }
}
// The left operand in registers: a lane has pairs of rows 16 warp + lane / 4 and eight below. The
// right one is read by `at(column, k)`.
template <class T, int N, class Right>
void multiply_registers(float (&d)[N], const u32* a, int keep, Right at) {
  Warp& warp = own_warp();
  int lane = threadIdx.x % 32;
  std::copy(a, a + 4, warp.a[lane]);
  __syncwarp();
  for (int i = 0; i < N; ++i) {
    int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    float sum = keep ? d[i] : 0.0f;
    for (int k = 0; k < 16; ++k) {
      u32 pair = warp.a[lane / 4 * 4 + k % 8 / 2][i / 2 % 2 + k / 8 * 2];
      sum += ampere::half_of<T>(pair, k % 2) * at(column, k);
    }
    d[i] = sum;
  }
  __syncwarp();
}
template <class T, int N> void multiply(float (&d)[N], const u32* a, u64 b, int keep) {
  multiply_registers<T>(d, a, keep, [=](int column, int k) { return element<T>(b, column, k); });
}
template <class T, int N> void multiply_rows(float (&d)[N], const u32* a, u64 b, int keep) {
  multiply_registers<T>(d, a, keep, [=](int column, int k) { return element_of_rows<T>(b, k, column); });
}
template <bool IS_HALF, class Operation> u32 pair_of(u32 a, u32 b, Operation operation) {
  using T = std::conditional_t<IS_HALF, half, nv_bfloat16>;
  float v[2];
  for (int i = 0; i < 2; ++i) v[i] = operation(ampere::half_of<T>(a, i), ampere::half_of<T>(b, i));
  return ampere::packed(v[0], v[1], (const T*)nullptr);
}
template <bool IS_HALF> u32 pair_difference(u32 a, u32 b) {
  return pair_of<IS_HALF>(a, b, std::minus<float>());
}
template <bool IS_HALF> u32 pair_product(u32 a, u32 b) {
  return pair_of<IS_HALF>(a, b, std::multiplies<float>());
}
}  // namespace hopper
