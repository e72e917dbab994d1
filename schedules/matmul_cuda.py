"""CUDA text and launches of one matrix product on Hopper: from decisions to a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.contraction import Contraction, Operand, Side
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.wgmma import wgmma_shared
from schedules.workload import TensorSpec, Workload

K_STEP = 64
ELEMENT_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
CUDA_TYPES = {"float16": "half", "bfloat16": "nv_bfloat16", "float32": "float"}
WARPGROUP = 128
WIDE = 8
COPIER_AND_MULTIPLIER_REGISTERS = {
    (1, 1): (40, 240),
    (1, 2): (40, 208),
    (2, 1): (24, 240),
    (3, 1): (32, 160),
}
"""By multiplying warpgroups and blocks per multiprocessor, which has 65536 for all."""
PARTIALS = "partial_sums"
REDUCE_THREADS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulSchedule:
    """Decisions of one program.

    Attributes:
        swapped: Whether the problem's columns are the tensor cores' rows.
        tile_row: Rows of a block's tile, a multiple of 64 times ``multipliers``.
        tile_column: Columns of a tile, a multiple of 8.
        multipliers: Warpgroups that multiply.
        stages: Tiles in flight.
        blocks_per_core: Blocks that share a multiprocessor.
        group: Tiles along the rows that are visited before the next column.
        splits: Parts of the sum that different blocks compute.
        n_blocks: Blocks of the launch; each takes every ``n_blocks``-th tile.
    """

    swapped: bool
    tile_row: int
    tile_column: int
    multipliers: int
    stages: int
    blocks_per_core: int
    group: int
    splits: int
    n_blocks: int

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage."""
        return (self.tile_row + self.tile_column) * K_STEP * 2

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory: stages, their alignment, two barriers for each."""
        return 1024 + self.stages * (self.stage_bytes + 16)


def n_rows(problem: Contraction, *, swapped: bool) -> int:
    """Rows of the tensor cores' product."""
    return problem.n if swapped else problem.m


def n_columns(problem: Contraction, *, swapped: bool) -> int:
    """Columns of the tensor cores' product."""
    return problem.m if swapped else problem.n


def n_works(problem: Contraction, schedule: MatmulSchedule) -> int:
    """Tiles of all batches and splits."""
    rows = -(-n_rows(problem, swapped=schedule.swapped) // schedule.tile_row)
    columns = -(-n_columns(problem, swapped=schedule.swapped) // schedule.tile_column)
    return rows * columns * problem.batch * schedule.splits


def matmul_cuda(workload: Workload, problem: Contraction, schedule: MatmulSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if the sum is split."""
    return cuda_program(
        workload, launches(problem, schedule), workspaces=workspaces(problem, schedule)
    )


def workspaces(problem: Contraction, schedule: MatmulSchedule) -> list[TensorSpec]:
    """Partial sums of a split product."""
    if schedule.splits == 1:
        return []
    shape = (schedule.splits, problem.batch, problem.m, problem.n)
    return [TensorSpec(name=PARTIALS, shape=shape, dtype="float32")]


def launches(problem: Contraction, schedule: MatmulSchedule) -> list[CudaLaunch]:
    """The product, then the addition of its parts if there are several."""
    if schedule.splits == 1:
        return [_product(problem, schedule, _ending_text(problem), _sides(problem))]
    raw = Side(buffer=PARTIALS, dtype="float32", batch=problem.m * problem.n, m=problem.n, n=1)
    stored = _struct_text(problem.n, [raw], [], "sum")
    return [_product(problem, schedule, stored, [raw]), _addition(problem, schedule)]


def _sides(problem: Contraction) -> list[Side]:
    return [problem.out, *problem.reads]


def _product(
    problem: Contraction, schedule: MatmulSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    a, b = (problem.b, problem.a) if schedule.swapped else (problem.a, problem.b)
    rows = n_rows(problem, swapped=schedule.swapped)
    columns = n_columns(problem, swapped=schedule.swapped)
    maps = (
        _tensor_map(problem, a, rows, schedule.tile_row),
        _tensor_map(problem, b, columns, schedule.tile_column),
    )
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    source = (
        f"{ending}\n{_config_text(problem, schedule, a, b)}\n"
        f"__device__ __forceinline__ void matmul({_parameters(sides)}, "
        f"const CUtensorMap& a, const CUtensorMap& b, unsigned char* raw) {{\n"
        f"  effcompile_matmul::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    return CudaLaunch(
        function="matmul",
        source=source,
        headers=_headers(),
        arguments=(*(side.buffer for side in sides), *maps),
        grid=(schedule.n_blocks,),
        block=(WARPGROUP * (schedule.multipliers + 1),),
        shared_bytes=schedule.shared_bytes,
        min_blocks=schedule.blocks_per_core,
    )


def _addition(problem: Contraction, schedule: MatmulSchedule) -> CudaLaunch:
    width = WIDE if problem.n % WIDE == 0 else 1
    n_threads = problem.batch * problem.m * problem.n // width
    sides = _sides(problem)
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    shape = f"{schedule.splits}, {problem.batch}, {problem.m}, {problem.n}, {width}"
    source = (
        f"{_ending_text(problem)}\n"
        f"__device__ __forceinline__ void matmul_sum(const float* partials, "
        f"{_parameters(sides)}) {{\n"
        f"  effcompile_matmul::add_partials<Ending, {shape}>(partials, {{{names}}});\n}}\n"
    )
    return CudaLaunch(
        function="matmul_sum",
        source=source,
        headers=_headers(),
        arguments=(PARTIALS, *(side.buffer for side in sides)),
        grid=(-(-n_threads // REDUCE_THREADS),),
        block=(REDUCE_THREADS,),
    )


def _headers() -> tuple[str, ...]:
    return device_code("hopper.cuh"), device_code("matmul.cuh")


def by_depth(operand: Operand) -> bool:
    """Whether the terms of a sum are neighbours in memory."""
    return operand.depth == 1


def _tensor_map(problem: Contraction, operand: Operand, extent: int, tile: int) -> TensorMap:
    """The operand as (neighbours, lines, batch)."""
    if by_depth(operand):
        shape, line, box = (problem.k, extent), operand.row or problem.k, (K_STEP, tile)
    else:
        shape, line, box = (extent, problem.k), operand.depth, (K_STEP, K_STEP)
    strides = (2 * line,)
    if operand.batch:
        shape, box = (*shape, problem.batch), (*box, 1)  # type: ignore[assignment]
        strides = (*strides, 2 * operand.batch)  # type: ignore[assignment]
    return TensorMap(buffer=operand.buffer, shape=shape, strides_bytes=strides, box=box)


def _config_text(problem: Contraction, schedule: MatmulSchedule, a: Operand, b: Operand) -> str:
    rows = n_rows(problem, swapped=schedule.swapped)
    columns = n_columns(problem, swapped=schedule.swapped)
    steps = -(-problem.k // K_STEP)
    copier, multiplier = COPIER_AND_MULTIPLIER_REGISTERS[
        schedule.multipliers, schedule.blocks_per_core
    ]
    constants = {
        "SWAPPED": int(schedule.swapped),
        "ROWS": rows,
        "COLUMNS": columns,
        "BATCH": problem.batch,
        "TILE_ROW": schedule.tile_row,
        "TILE_COLUMN": schedule.tile_column,
        "TILES_ROW": -(-rows // schedule.tile_row),
        "TILES_COLUMN": -(-columns // schedule.tile_column),
        "GROUP": schedule.group,
        "STEPS": steps,
        "STEPS_PER_SPLIT": -(-steps // schedule.splits),
        "STAGES": schedule.stages,
        "STAGE_BYTES": schedule.stage_bytes,
        "MULTIPLIERS": schedule.multipliers,
        "WORKS": n_works(problem, schedule),
        "BLOCKS": schedule.n_blocks,
        "A_BY_DEPTH": int(by_depth(a)),
        "B_BY_DEPTH": int(by_depth(b)),
        "A_DIMENSIONS": 3 if a.batch else 2,
        "B_DIMENSIONS": 3 if b.batch else 2,
        "COPIER_REGISTERS": copier,
        "MULTIPLIER_REGISTERS": multiplier,
    }
    lines = [f"  static constexpr int {name} = {value};" for name, value in constants.items()]
    terms = wgmma_shared(
        "multiply_terms",
        n=schedule.tile_column,
        dtype=problem.dtype,
        transposed=not by_depth(b),
        transposed_left=not by_depth(a),
    )
    multiply = (
        "  static __device__ __forceinline__ void multiply(\n"
        f"      float (&d)[{schedule.tile_column // 2}], hopper::u64 a, hopper::u64 b, int keep) "
        "{\n    multiply_terms(d, a, b, keep);\n  }"
    )
    return "\n".join([terms, "struct Config {", *lines, multiply, "};"])


def _parameters(sides: list[Side]) -> str:
    """The output, which may be written, then what is only read."""
    kinds = [f"{'' if i == 0 else 'const '}{CUDA_TYPES[s.dtype]}*" for i, s in enumerate(sides)]
    return ", ".join(f"{kind} p{i}" for i, kind in enumerate(kinds))


def _ending_text(problem: Contraction) -> str:
    return _struct_text(problem.n, _sides(problem), list(problem.lines), problem.result)


def _struct_text(n: int, sides: list[Side], lines: list[str], result: str) -> str:
    """A struct that computes and stores WIDTH neighbours of one row from their sums."""
    out, *reads = sides
    members = "".join(
        f" {'' if i == 0 else 'const '}{CUDA_TYPES[side.dtype]}* p{i};"
        for i, side in enumerate(sides)
    )
    loads = [f"    float r{i}[WIDTH];\n{_load(i, side)}" for i, side in enumerate(reads)]
    values = [f"      const float x{i} = r{i}[i];" for i in range(len(reads))]
    return "\n".join(
        [
            "struct Ending {",
            f"  struct Arguments {{{members} }};",
            f"  static constexpr bool WIDE = {str(n % WIDE == 0).lower()};",
            "  template <int WIDTH> static __device__ __forceinline__ void finish(",
            "      const Arguments& a, const float (&sums)[WIDTH], int batch, int m, int n) {",
            *loads,
            "    float done[WIDTH];",
            "    #pragma unroll",
            "    for (int i = 0; i < WIDTH; ++i) {",
            "      const float sum = sums[i];",
            *values,
            *(f"      {line}" for line in lines),
            f"      done[i] = {result};",
            "    }",
            f"    effcompile_matmul::write<WIDTH, {_aligned(out)}>(a.p0 + {_position(out)}, done);",
            "  }",
            "};",
        ]
    )


def _load(number: int, side: Side) -> str:
    pointer = f"a.p{number + 1} + {_position(side)}"
    if side.n == 1:
        return f"    effcompile_matmul::read<WIDTH, {_aligned(side)}>(r{number}, {pointer});"
    return (
        f"    for (int i = 0; i < WIDTH; ++i)\n"
        f"      r{number}[i] = effcompile_matmul::widened(({pointer})[i * {side.n}ll]);"
    )


def _position(side: Side) -> str:
    return f"({side.batch}ll * batch + {side.m}ll * m + {side.n}ll * n + {side.offset})"


def _aligned(side: Side) -> str:
    """Whether eight neighbours begin at a multiple of 16 bytes, as an expression of WIDTH."""
    elements = 16 // ELEMENT_BYTES[side.dtype]
    whole = all(step % elements == 0 for step in (side.batch, side.m, side.offset))
    return f"(WIDTH == {WIDE})" if whole and side.n == 1 else "false"
