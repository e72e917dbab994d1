// Tiles of the operands of matmul_simt.cuh: where they lie in shared memory, how they get there, and
// how a thread reads its rows.

namespace effcompile_simt {

using namespace ampere;

// Shared memory of one operand's tile. If terms are neighbours in memory, a line holds the STEP
// terms of a row, and 16 bytes follow VECTOR rows, so that the rows which a warp reads at once
// begin in different banks; else a line holds the rows of one term.
template <class C, class O>
struct Place {
  static constexpr int FLOATS =
      O::TILE * C::STEP + (O::BY_DEPTH ? O::TILE / O::VECTOR * 4 : 0);

  static __device__ __forceinline__ constexpr int of(int row, int term) {
    return O::BY_DEPTH ? row * C::STEP + row / O::VECTOR * 4 + term : term * O::TILE + row;
  }

  // The own row `i` of a thread whose first one is 0.
  static __device__ __forceinline__ constexpr int row(int i) {
    return i / O::VECTOR * O::VECTOR * O::LANES + i % O::VECTOR;
  }
};

// What one thread copies of every tile.
template <class C, class O>
struct Copier {
  static constexpr int INNER = (O::BY_DEPTH ? C::STEP : O::TILE) / O::CHUNK;
  static constexpr int LINES = O::BY_DEPTH ? O::TILE : C::STEP;
  static constexpr int ACROSS = INNER < C::THREADS ? INNER : C::THREADS;
  static constexpr int DOWN = C::THREADS / ACROSS;

  const float* base;
  const float* from;
  int line, inner, rows, terms;

  __device__ __forceinline__ Copier(const float* operand, int row, int first, int n_terms) {
    line = threadIdx.x / ACROSS;
    inner = threadIdx.x % ACROSS * O::CHUNK;
    base = operand;
    from = operand + (row + (O::BY_DEPTH ? line : inner)) * O::ROW +
           (first + (O::BY_DEPTH ? inner : line)) * O::DEPTH;
    rows = O::EXTENT - row - (O::BY_DEPTH ? line : inner);
    terms = n_terms - (O::BY_DEPTH ? inner : line);
  }

  __device__ __forceinline__ void copy(u32 to) {
    if (DOWN <= LINES || line < LINES) {
      to += 4 * Place<C, O>::of(O::BY_DEPTH ? line : inner, O::BY_DEPTH ? inner : line);
#pragma unroll
      for (int l = 0; l < LINES; l += DOWN)
#pragma unroll
        for (int i = 0; i < INNER; i += ACROSS) {
          int row = O::BY_DEPTH ? l : i * O::CHUNK, term = O::BY_DEPTH ? i * O::CHUNK : l;
          copy_chunk(to + 4 * offset(l, i * O::CHUNK), row, term);
        }
    }
    from += C::STEP * O::DEPTH;
    terms -= C::STEP;
  }

 private:
  // Of a line `l` further down; DOWN and VECTOR are powers of two, and `line` is less than DOWN.
  static __device__ __forceinline__ constexpr int offset(int l, int i) {
    return O::BY_DEPTH ? l * C::STEP + l / O::VECTOR * 4 + i : l * O::TILE + i;
  }

  __device__ __forceinline__ void copy_chunk(u32 to, int row, int term) {
    constexpr bool WHOLE_CHUNKS = O::BY_DEPTH ? C::WHOLE_TERMS : O::WHOLE_ROWS;
    constexpr bool WHOLE_LINES = O::BY_DEPTH ? O::WHOLE_ROWS : C::WHOLE_TERMS;
    const float* first = from + row * O::ROW + term * O::DEPTH;
    int rows_left = rows - row, terms_left = terms - term;
    bool is_there = (WHOLE_CHUNKS || (O::BY_DEPTH ? terms_left : rows_left) > 0) &&
                    (WHOLE_LINES || (O::BY_DEPTH ? rows_left : terms_left) > 0);
    copy_async<O::CHUNK>(to, is_there ? first : base, is_there ? O::CHUNK : 0);
  }
};

// The own rows of a thread at four terms.
template <class C, class O>
struct Fragment {
  float values[4][O::THREAD];

  // The rows of one term, or of all four if those are neighbours.
  __device__ __forceinline__ void load(const float* from, int term, int q) {
    if constexpr (O::BY_DEPTH) {
      if (q) return;
#pragma unroll
      for (int i = 0; i < O::THREAD; ++i) {
        float4 four = *(const float4*)(from + Place<C, O>::of(Place<C, O>::row(i), term));
        values[0][i] = four.x;
        values[1][i] = four.y;
        values[2][i] = four.z;
        values[3][i] = four.w;
      }
    } else {
      struct alignas(4 * O::VECTOR) Neighbours {
        float values[O::VECTOR];
      };
#pragma unroll
      for (int i = 0; i < O::THREAD; i += O::VECTOR) {
        int row = Place<C, O>::row(i);
        Neighbours some = *(const Neighbours*)(from + Place<C, O>::of(row, term + q));
#pragma unroll
        for (int v = 0; v < O::VECTOR; ++v) values[q][i + v] = some.values[v];
      }
    }
  }
};

}  // namespace effcompile_simt
