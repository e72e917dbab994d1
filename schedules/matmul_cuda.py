"""CUDA text and launches of one matrix product on Hopper: from decisions to a program."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from schedules.contraction import Contraction, Operand, Side
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.product_ending import (
    parameters,
    partial_sums,
    product_launches,
)
from schedules.wgmma import wgmma_shared
from schedules.workload import Workload

HEADERS = (
    "ampere.cuh",
    "hopper.cuh",
    "early_launch.cuh",
    "product_ending.cuh",
    "quad.cuh",
    "product_store.cuh",
    "matmul.cuh",
)
K_STEP = 64
WARPGROUP = 128
ELEMENT_BYTES = 2
MOST_AHEAD_BYTES = 4 << 20
"""Of operands: about what memory brings while a launch begins. Products of 1 and 4 MiB gain by
asking for all of it, one of 16 MiB loses 6 % (H200)."""
SUM_COLUMNS = 8
"""That four sums of each thread of a warpgroup belong to."""
COPIER_AND_MULTIPLIER_REGISTERS = {
    (1, 1): (40, 240),
    (1, 2): (40, 208),
    (2, 1): (24, 240),
    (3, 1): (32, 160),
}
"""By multiplying warpgroups and blocks per multiprocessor, which has 65536 for all."""


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
        splits: Parts of the sum that different blocks compute and a second launch adds.
        cluster: Neighbouring blocks, with tiles of the same columns, that copy these once for all.
        parts: Parts of the sum that the blocks of a cluster compute and add.
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
    cluster: int
    parts: int
    n_blocks: int

    @property
    def shares(self) -> int:
        """Blocks that compute the sums of a tile."""
        return self.splits * self.parts

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage."""
        return (self.tile_row + self.tile_column) * K_STEP * 2

    @property
    def sum_bytes(self) -> int:
        """Of a tile."""
        return self.tile_row * self.tile_column * 4

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
    return rows * columns * problem.batch * schedule.shares


def starts_early(schedule: MatmulSchedule) -> bool:
    """Whether blocks are there before the kernel in front has ended, and wait for it.

    Not where a second launch adds parts: 16 x 4096 x 4096 took 16 % longer on an H200.
    """
    return schedule.splits == 1


def asks_ahead(problem: Contraction, schedule: MatmulSchedule) -> bool:
    """Whether operands are on their way to the second-level cache while blocks wait."""
    n_bytes = (problem.elements - problem.batch * problem.m * problem.n) * ELEMENT_BYTES
    return starts_early(schedule) and n_bytes <= MOST_AHEAD_BYTES


def matmul_cuda(workload: Workload, problem: Contraction, schedule: MatmulSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if a second one adds the parts of the sums."""
    split = partial_sums(problem, schedule.splits)
    return cuda_program(workload, launches(problem, schedule), workspaces=split)


def launches(problem: Contraction, schedule: MatmulSchedule) -> list[CudaLaunch]:
    """See :func:`matmul_cuda`."""
    return product_launches(problem, schedule.splits, partial(_product, problem, schedule))


def _product(
    problem: Contraction, schedule: MatmulSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    a, b = (problem.b, problem.a) if schedule.swapped else (problem.a, problem.b)
    rows = n_rows(problem, swapped=schedule.swapped)
    columns = n_columns(problem, swapped=schedule.swapped)
    maps = (
        _tensor_map(problem, a, rows, schedule.tile_row),
        _tensor_map(problem, b, columns, schedule.tile_column // schedule.cluster),
    )
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    source = (
        f"{ending}\n{_config_text(problem, schedule, a, b)}\n"
        f"__device__ __forceinline__ void matmul({parameters(sides)}, "
        f"const CUtensorMap& a, const CUtensorMap& b, unsigned char* raw) {{\n"
        f"  effcompile_matmul::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    return CudaLaunch(
        function="matmul",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*(side.buffer for side in sides), *maps),
        grid=(schedule.n_blocks,),
        block=(WARPGROUP * (schedule.multipliers + 1),),
        shared_bytes=schedule.shared_bytes,
        min_blocks=schedule.blocks_per_core,
        early=starts_early(schedule),
        cluster=schedule.cluster * schedule.parts,
    )


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
        "STEPS_PER_SPLIT": -(-steps // schedule.shares),
        "STAGES": schedule.stages,
        "STAGE_BYTES": schedule.stage_bytes,
        "MULTIPLIERS": schedule.multipliers,
        "WORKS": n_works(problem, schedule),
        "BLOCKS": schedule.n_blocks,
        "CLUSTER": schedule.cluster,
        "PARTS": schedule.parts,
        "EARLY": int(starts_early(schedule)),
        "AHEAD": int(asks_ahead(problem, schedule)),
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
