"""Products of 16-bit floats by tensor cores of warps: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.contraction import Contraction
from schedules.contraction_problem import contraction_of
from schedules.covering import required, unless_empty
from schedules.dtypes import HALF
from schedules.judged_space import MOST_SLOWER, Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.matmul_mma_cuda import (
    SLOWER_PRODUCTS,
    MmaSchedule,
    matmul_mma_cuda,
    n_tiles,
    stage_bytes,
    steps_per_split,
)
from schedules.matmul_simt import MOST_REGISTERS
from schedules.matmul_simt_costs import (
    BLOCK_CYCLES,
    LAUNCH_CYCLES,
    MEMORY_BYTES_PER_CYCLE,
    MEMORY_LATENCY_CYCLES,
    START_CYCLES,
)
from schedules.matmul_simt_cuda import WARP
from schedules.resident_blocks import resident_blocks
from schedules.task import Task

LEAST_TILE_ROW = 16
LEAST_TILE_COLUMN = 32
MOST_SUMS = 4096
"""Of a warp: 128 registers of each thread."""
MOST_WARPS = 8
REGISTERS_BESIDE_DATA = 48
THREADS_PER_CORE = 1536
PRODUCT_CYCLES = 1.27
READ_CYCLES = 2.8
STEP_CYCLES = 103.0
"""Cycles of a multiprocessor for one product of a warp (m16n8k16), one read of four matrices, and
the meeting of a step. Fitted to 20 points of two problems on an H100; they miss by 8 % (root mean
square)."""
COPIED_BYTES_PER_CYCLE = 64.0
"""From the second-level cache; in none of those points did copies decide."""


def matmul_mma_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = _problem(task) if task.target.has_async_copies else None
    return None if problem is None else unless_empty(MatmulMmaSpace(task, problem))


def _problem(task: Task) -> Contraction | None:
    """Operands of 16 bits with neighbours along their rows or terms."""
    problem = contraction_of(task.workload)
    if problem is None or problem.dtype not in HALF:
        return None
    operands = (problem.a, problem.b)
    return problem if all(1 in (one.row, one.depth) for one in operands) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What points occupy; see :func:`_needs`.

    Attributes:
        warp_row: Rows of a warp.
        warp_column: Columns of a warp.
        warps: Of a block.
        registers: Of a thread, estimated from above.
        shared_bytes: Of a block.
        resident: Blocks that fit a multiprocessor; below 1 if none does.
        blocks: Of the launch.
        steps: Of a block.
    """

    warp_row: Grid
    warp_column: Grid
    warps: Grid
    registers: Grid
    shared_bytes: Grid
    resident: Grid
    blocks: Grid
    steps: Grid


class MatmulMmaSpace(JudgedSpace):
    """Tiles of blocks and warps, stages, splitting of one product.

    Args:
        task: What to compute.
        problem: The product behind it, if it is known.
        patience: See :class:`JudgedSpace`.
    """

    name = "matmul_mma"
    knobs = (
        Knob(name="tile_row", values=(16, 32, 64, 128, 256)),
        Knob(name="tile_column", values=(32, 64, 128, 256)),
        Knob(name="warps_row", values=(1, 2, 4)),
        Knob(name="warps_column", values=(1, 2, 4)),
        Knob(name="step", values=(32, 64)),
        Knob(name="stages", values=(2, 3, 4, 5, 6)),
        Knob(name="splits", values=(1, 2, 4, 8, 16)),
    )
    faults = (
        "a warp multiplies 16 to 64 rows and 32 to 128 columns",
        "too many sums for the registers of a warp",
        "a block has at most 8 warps",
        "too many registers for a thread",
        "a block does not fit a multiprocessor",
        "half of the rows of a tile would not exist",
        "half of the columns of a tile would not exist",
        "a part of the sum would have no terms",
        "the device is full without splitting the sum",
        "more stages than steps",
    )

    def __init__(
        self, task: Task, problem: Contraction | None = None, *, patience: float = MOST_SLOWER
    ) -> None:
        self._problem = required(
            problem or _problem(task),
            task,
            family=self.name,
            expected="one product of float16 or bfloat16 operands with an elementwise ending",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    def _needs(self, values: Mapping[str, Grid]) -> _Needs:
        problem, target = self._problem, self._target
        row, column = values["tile_row"], values["tile_column"]
        warps = values["warps_row"] * values["warps_column"]
        warp_row = row // values["warps_row"]
        warp_column = column // values["warps_column"]
        # Sums, and both operands' next 16 terms beside those that are multiplied.
        registers = warp_row * warp_column // WARP + (warp_row + warp_column) // 2
        shared = values["stages"] * stage_bytes(row, column, values["step"])
        registers = registers + REGISTERS_BESIDE_DATA
        resident = resident_blocks(
            target,
            threads=WARP * warps,
            registers=registers,
            shared_bytes=shared,
            most_threads=THREADS_PER_CORE,
        )
        return _Needs(
            warp_row=warp_row,
            warp_column=warp_column,
            warps=warps,
            registers=registers,
            shared_bytes=shared,
            resident=resident,
            blocks=n_tiles(problem, row, column) * values["splits"],
            steps=steps_per_split(problem, values["step"], values["splits"]),
        )

    def judge(self, values: Mapping[str, Grid]) -> list[Grid]:
        """See :class:`JudgedSpace`."""
        problem, needed = self._problem, self._needs(values)
        row, column, splits = values["tile_row"], values["tile_column"], values["splits"]
        slots = self._target.n_cores * np.maximum(1, needed.resident)
        return [
            (needed.warp_row < 16)
            | (needed.warp_row > 64)
            | (needed.warp_column < 32)
            | (needed.warp_column > 128),
            needed.warp_row * needed.warp_column > MOST_SUMS,
            needed.warps > MOST_WARPS,
            needed.registers > MOST_REGISTERS,
            needed.resident < 1,
            (row > LEAST_TILE_ROW) & (row >= 2 * problem.m),
            (column > LEAST_TILE_COLUMN) & (column >= 2 * problem.n),
            needed.steps * (splits - 1) >= ceil_div(problem.k, values["step"]),
            (splits > 1) & (needed.blocks > 2 * slots),
            values["stages"] > np.maximum(2, needed.steps),
        ]

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        problem, needed = self._problem, self._needs(values)
        n_cores = self._target.n_cores
        row, column = values["tile_row"], values["tile_column"]
        per_core = ceil_div(needed.blocks, n_cores)
        at_once = np.clip(needed.resident, 1, per_core)
        terms = np.minimum(needed.steps * values["step"], problem.k)
        slower = SLOWER_PRODUCTS.get(self._target.arch, 1.0)
        rows, columns = needed.warp_row / 16, needed.warp_column / 16
        sixteen = rows * 2 * columns * PRODUCT_CYCLES * slower + (rows + columns) * READ_CYCLES
        busy = per_core * needed.warps * terms / 16 * sixteen
        flying = at_once * (values["stages"] - 1) * stage_bytes(row, column, values["step"])
        rate = flying / MEMORY_LATENCY_CYCLES
        memory = np.maximum(
            per_core * (row + column) * terms * 2 / np.minimum(COPIED_BYTES_PER_CYCLE, rate),
            self._compulsory_bytes / n_cores / np.minimum(MEMORY_BYTES_PER_CYCLE, rate),
        )
        rounds = ceil_div(per_core, at_once)
        return (
            START_CYCLES
            + np.maximum(busy, memory)
            + rounds * (BLOCK_CYCLES + needed.steps * STEP_CYCLES)
            + np.where(values["splits"] > 1, LAUNCH_CYCLES, 0)
        )

    @property
    def _compulsory_bytes(self) -> int:
        problem = self._problem
        batches = [problem.batch if one.batch else 1 for one in (problem.a, problem.b)]
        elements = problem.m * batches[0] + problem.n * batches[1]
        return 2 * (elements * problem.k + problem.m * problem.n * problem.batch)

    def schedule(self, values: Values) -> MmaSchedule:
        """The decisions that knob values stand for."""
        chosen = whole_numbers(values)
        return MmaSchedule(**chosen, min_blocks=int(self._needs(chosen).resident))

    def program(self, values: Values) -> Any:
        """The bound program."""
        return matmul_mma_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles, blocks, waves, resident warps, sums, bytes in flight;
        intensity, registers, padding, idling."""
        chosen = whole_numbers(values)
        needed, problem = self._needs(chosen), self._problem
        resident, blocks = int(needed.resident), int(needed.blocks)
        waves = blocks / (self._target.n_cores * resident)
        area = chosen["tile_row"] * chosen["tile_column"]
        computed = blocks // chosen["splits"] * area
        return [
            float(np.log2(self.estimate(chosen))),
            float(np.log2(blocks)),
            float(np.log2(waves)),
            float(np.log2(resident * needed.warps)),
            float(np.log2(needed.warp_row * needed.warp_column / WARP)),
            float(np.log2(resident * needed.shared_bytes)),
            float(np.log2(area / (chosen["tile_row"] + chosen["tile_column"]))),
            float(needed.registers) / MOST_REGISTERS,
            problem.batch * problem.m * problem.n / computed,
            waves / float(np.ceil(waves)),
        ]
