"""CUDA text and launches of one float32 matrix product on ordinary arithmetic units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from schedules.contraction import Contraction, Operand, Side
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.judged_space import ceil_div
from schedules.product_ending import (
    parameters,
    partial_sums,
    product_launches,
)
from schedules.workload import Workload

WARP = 32
MOST_VECTOR = 4
HEADERS = ("product_ending.cuh", "ampere.cuh", "matmul_simt_tiles.cuh", "matmul_simt.cuh")
GROUP_ROWS = 8
"""Tiles along the rows that are visited before the next column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimtSchedule:
    """Decisions of one program; all numbers are powers of two, but for the stages.

    Attributes:
        tile_row: Rows of a block's tile.
        tile_column: Columns of it.
        thread_row: Rows of a thread's sums.
        thread_column: Columns of them.
        warps_depth: Layers of warps that share the terms of every step.
        step: Terms of one stage.
        stages: Tiles in flight.
        cluster: Blocks that share the terms of a tile and add their parts themselves.
        splits: Blocks, or clusters, whose parts a second launch adds.
        min_blocks: Blocks that a multiprocessor must be able to hold.
    """

    tile_row: int
    tile_column: int
    thread_row: int
    thread_column: int
    warps_depth: int
    step: int
    stages: int
    cluster: int
    splits: int
    min_blocks: int

    @property
    def lanes_row(self) -> int:
        """Threads of a warp along the rows: as near to 4 x 8 as the tile allows."""
        across = min(8, self.tile_column // self.thread_column)
        return min(WARP // across, self.tile_row // self.thread_row)

    @property
    def lanes_column(self) -> int:
        """Threads of a warp along the columns."""
        return WARP // self.lanes_row

    @property
    def warps_column(self) -> int:
        """Warps side by side."""
        return self.tile_column // (self.lanes_column * self.thread_column)

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        sums = self.thread_row * self.thread_column
        return self.tile_row * self.tile_column // sums * self.warps_depth

    @property
    def n_layers(self) -> int:
        """Parts of every sum that meet in shared memory."""
        return self.warps_depth * self.cluster


def by_depth(operand: Operand) -> bool:
    """Whether the terms of a sum are neighbours in memory."""
    return operand.depth == 1


def chunk(operand: Operand, lengths: Sequence[int], sizes: Sequence[int] = (4, 2, 1)) -> int:
    """Elements of one copy: the first of some sizes whose neighbours are always aligned together,
    and all there or none of them.

    Args:
        operand: What is copied.
        lengths: Neighbours in memory, and those that a block copies; see :func:`line_lengths`.
        sizes: Powers of two in decreasing order, the last one 1.
    """
    line = operand.row if by_depth(operand) else operand.depth
    if 1 not in (operand.row, operand.depth):
        return 1
    steps = (line, operand.batch, *lengths)
    return next(size for size in sizes if all(step % size == 0 for step in steps))


def line_lengths(operand: Operand, extent: int, terms: int, tile: int) -> tuple[int, ...]:
    """Elements of a line of ``extent`` own rows, of which a block copies ``tile``, or of terms."""
    return (terms,) if by_depth(operand) else (extent, tile)


def n_tiles(problem: Contraction, schedule: SimtSchedule) -> int:
    """Tiles of all batches."""
    rows = int(ceil_div(problem.m, schedule.tile_row))
    return rows * int(ceil_div(problem.n, schedule.tile_column)) * problem.batch


def terms_per_block(problem: Contraction, schedule: SimtSchedule) -> int:
    """Terms of one block, whole steps."""
    steps = ceil_div(problem.k, schedule.step)
    return int(ceil_div(steps, schedule.splits * schedule.cluster)) * schedule.step


def matmul_simt_cuda(workload: Workload, problem: Contraction, schedule: SimtSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if a second one adds the parts of the sums."""
    split = partial_sums(problem, schedule.splits)
    return cuda_program(workload, launches(problem, schedule), workspaces=split)


def launches(problem: Contraction, schedule: SimtSchedule) -> list[CudaLaunch]:
    """See :func:`matmul_simt_cuda`."""
    return product_launches(problem, schedule.splits, partial(_product, problem, schedule))


def _product(
    problem: Contraction, schedule: SimtSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    source = (
        f"{ending}\n{_config_text(problem, schedule)}\n"
        f"__device__ __forceinline__ void matmul_simt({parameters(sides)}, "
        f"const float* a, const float* b, unsigned char* raw) {{\n"
        f"  effcompile_simt::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    return CudaLaunch(
        function="matmul_simt",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*(side.buffer for side in sides), problem.a.buffer, problem.b.buffer),
        grid=(n_tiles(problem, schedule) * schedule.splits * schedule.cluster,),
        block=(schedule.n_threads,),
        shared_bytes=shared_bytes(problem, schedule),
        min_blocks=schedule.min_blocks,
        cluster=schedule.cluster,
    )


def shared_bytes(problem: Contraction, schedule: SimtSchedule) -> int:
    """Dynamic shared memory: the stages, later the parts of the sums."""
    a = stage_floats(problem.a, schedule.tile_row, schedule.thread_row, schedule.step)
    b = stage_floats(problem.b, schedule.tile_column, schedule.thread_column, schedule.step)
    parts = schedule.tile_row * schedule.tile_column * schedule.warps_depth
    return 4 * max(schedule.stages * (a + b), parts if schedule.n_layers > 1 else 0)


def stage_floats(operand: Operand, tile: int, thread: int, step: int) -> int:
    """One operand's part of a stage; see ``Place`` in the device code."""
    vector = min(MOST_VECTOR, thread)
    return tile * step + (tile // vector * 4 if by_depth(operand) else 0)


def _config_text(problem: Contraction, schedule: SimtSchedule) -> str:
    terms = terms_per_block(problem, schedule)
    constants = {
        "THREADS": schedule.n_threads,
        "WARPS_COLUMN": schedule.warps_column,
        "WARPS_DEPTH": schedule.warps_depth,
        "STEP": schedule.step,
        "STAGES": schedule.stages,
        "SPLITS": schedule.splits,
        "CLUSTER": schedule.cluster,
        "BATCH": problem.batch,
        "TERMS": problem.k,
        "TERMS_PER_BLOCK": terms,
        "EVEN_BLOCKS": int(problem.k % terms == 0),
        "WHOLE_TERMS": int(problem.k % schedule.step == 0),
        "GROUP": GROUP_ROWS,
    }
    a, b = (_operand_text(name, problem, schedule) for name in "AB")
    lines = [f"  static constexpr int {name} = {value};" for name, value in constants.items()]
    return "\n".join([a, b, "struct Config {", "  using A = A_;", "  using B = B_;", *lines, "};"])


def _operand_text(name: str, problem: Contraction, schedule: SimtSchedule) -> str:
    operand, extent = {"A": (problem.a, problem.m), "B": (problem.b, problem.n)}[name]
    tile, thread, lanes = {
        "A": (schedule.tile_row, schedule.thread_row, schedule.lanes_row),
        "B": (schedule.tile_column, schedule.thread_column, schedule.lanes_column),
    }[name]
    steps = {"ROW": operand.row, "DEPTH": operand.depth, "BATCH": operand.batch}
    constants = {
        "EXTENT": extent,
        "TILE": tile,
        "THREAD": thread,
        "VECTOR": min(MOST_VECTOR, thread),
        "LANES": lanes,
        "CHUNK": chunk(operand, line_lengths(operand, extent, problem.k, tile)),
        "BY_DEPTH": int(by_depth(operand)),
        "WHOLE_ROWS": int(extent % tile == 0),
    }
    return "\n".join(
        [
            f"struct {name}_ {{",
            *(f"  static constexpr long long {key} = {value};" for key, value in steps.items()),
            *(f"  static constexpr int {key} = {value};" for key, value in constants.items()),
            "};",
        ]
    )
