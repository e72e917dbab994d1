"""The CUDA text behind a product's sums: its elementwise ending, and adding parts of sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from schedules.contraction import Contraction, Side
from schedules.cuda_kernel import CudaLaunch, device_code, early_headers, early_start
from schedules.dtypes import CUDA_TYPES, ELEMENT_BYTES
from schedules.workload import TensorSpec

WIDE = 8
PARTIALS = "partial_sums"
SUM_THREADS = 256


def ending_sides(problem: Contraction) -> list[Side]:
    """What the ending touches: the output, then its inputs."""
    return [problem.out, *problem.reads]


def ending_text(problem: Contraction) -> str:
    """``struct Ending``, which finishes neighbours of one row and stores them."""
    return _struct_text(problem, ending_sides(problem), problem.lines, problem.result)


def partial_side(problem: Contraction) -> Side:
    """Where the parts of a sum lie; the part's number counts as the outermost batch axis."""
    step = problem.m * problem.n
    return Side(buffer=PARTIALS, dtype="float32", batch=step, m=problem.n, n=1)


def partial_text(problem: Contraction) -> str:
    """``struct Ending`` that stores parts of sums as they are."""
    whole = replace(problem, each=1)
    return _struct_text(whole, [partial_side(problem)], (), "sum")


def partial_sums(problem: Contraction, splits: int) -> list[TensorSpec]:
    """The workspace between the launches of a split product."""
    shape = (splits, problem.batch, problem.m, problem.n)
    return [TensorSpec(name=PARTIALS, shape=shape, dtype="float32")] if splits > 1 else []


def product_launches(
    problem: Contraction,
    splits: int,
    product: Callable[[str, list[Side]], CudaLaunch],
    *,
    early: bool = False,
) -> list[CudaLaunch]:
    """The product alone, or of parts of its sums and a second launch that adds them.

    Args:
        problem: Whose ending follows the sums.
        splits: Parts of every sum.
        product: From the text of ``struct Ending`` and what that touches to the launch.
        early: Whether the second launch may start before the first has ended, which must let it
            (``schedules/early_launch.py``).
    """
    if splits == 1:
        return [product(ending_text(problem), ending_sides(problem))]
    parts = product(partial_text(problem), [partial_side(problem)])
    return [parts, addition(problem, splits, early=early)]


def addition(problem: Contraction, splits: int, *, early: bool = False) -> CudaLaunch:
    """Adds the parts in order and finishes the sums; one thread per row's neighbours."""
    width = WIDE if problem.n % WIDE == 0 else 1
    n_threads = problem.batch * problem.m * problem.n // width
    sides = ending_sides(problem)
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    shape = f"{splits}, {problem.batch}, {problem.m}, {problem.n}, {width}"
    source = (
        f"{ending_text(problem)}\n"
        f"__device__ __forceinline__ void matmul_sum(const float* partials, "
        f"{parameters(sides)}) {{\n"
        f"{early_start(early)}\n"
        f"  effcompile_ending::add_partials<Ending, {shape}>(partials, {{{names}}});\n}}\n"
    )
    return CudaLaunch(
        function="matmul_sum",
        source=source,
        headers=early_headers(early, device_code("product_ending.cuh")),
        arguments=(PARTIALS, *(side.buffer for side in sides)),
        grid=(-(-n_threads // SUM_THREADS),),
        block=(SUM_THREADS,),
        early=early,
    )


def parameters(sides: Sequence[Side]) -> str:
    """The output, which may be written, then what is only read."""
    kinds = [f"{'' if i == 0 else 'const '}{CUDA_TYPES[s.dtype]}*" for i, s in enumerate(sides)]
    return ", ".join(f"{kind} p{i}" for i, kind in enumerate(kinds))


def _struct_text(
    problem: Contraction, sides: Sequence[Side], lines: Sequence[str], result: str
) -> str:
    """A struct that computes and stores neighbours of one row from their sums."""
    out, *reads = sides
    members = "".join(
        f" {'' if i == 0 else 'const '}{CUDA_TYPES[side.dtype]}* p{i};"
        for i, side in enumerate(sides)
    )
    loads = [f"    float r{i}[WIDTH];\n{_load(i, side)}" for i, side in enumerate(reads)]
    values = [f"      const float x{i} = r{i}[i];" for i in range(len(reads))]
    names = ("sum", "other")[: problem.each]
    sums = [f"      const float {name} = sums[EACH * i + {i}];" for i, name in enumerate(names)]
    return "\n".join(
        [
            "struct Ending {",
            f"  struct Arguments {{{members} }};",
            f"  static constexpr bool WIDE = {str(problem.n % WIDE == 0).lower()};",
            f"  static constexpr int EACH = {problem.each};",
            f"  static constexpr int BYTES = {ELEMENT_BYTES[out.dtype]};",
            "  template <int SUMS> static __device__ __forceinline__ void finish(",
            "      const Arguments& a, const float (&sums)[SUMS], int batch, int m, int column) {",
            "    constexpr int WIDTH = SUMS / EACH;",
            "    const int n = column / EACH;",
            *loads,
            "    float done[WIDTH];",
            "    #pragma unroll",
            "    for (int i = 0; i < WIDTH; ++i) {",
            *sums,
            *values,
            *(f"      {line}" for line in lines),
            f"      done[i] = {result};",
            "    }",
            f"    effcompile_ending::write<WIDTH, {_aligned(out)}>(a.p0 + {_position(out)}, done);",
            "  }",
            "};",
        ]
    )


def _load(number: int, side: Side) -> str:
    pointer = f"a.p{number + 1} + {_position(side)}"
    if side.n == 1:
        return f"    effcompile_ending::read<WIDTH, {_aligned(side)}>(r{number}, {pointer});"
    return (
        f"    for (int i = 0; i < WIDTH; ++i)\n"
        f"      r{number}[i] = effcompile_ending::widened(({pointer})[i * {side.n}ll]);"
    )


def _position(side: Side) -> str:
    return f"({side.batch}ll * batch + {side.m}ll * m + {side.n}ll * n + {side.offset})"


def _aligned(side: Side) -> str:
    """Whether WIDTH neighbours are whole pieces of 8 bytes, as an expression of WIDTH."""
    size = ELEMENT_BYTES[side.dtype]
    whole = all(step * size % 16 == 0 for step in (side.batch, side.m, side.offset))
    return f"(WIDTH * {size} % 8 == 0)" if whole and side.n == 1 else "false"
