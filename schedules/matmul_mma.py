"""Products of 16-bit floats by tensor cores of warps: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from schedules.contraction import Contraction
from schedules.contraction_problem import contraction_of
from schedules.covering import required, unless_empty
from schedules.divided_sums import split_faults
from schedules.dtypes import HALF
from schedules.judged_space import MOST_SLOWER, Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD
from schedules.matmul_mma_costs import Needs, cycles, needs
from schedules.matmul_mma_cuda import MmaSchedule, matmul_mma_cuda
from schedules.matmul_simt_cuda import WARP
from schedules.task import Task

LEAST_TILE_ROW = 16
LEAST_TILE_COLUMN = 32
MOST_SUMS = 4096
"""Of a warp: 128 registers of each thread."""
MOST_WARPS = 8


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

    def _needs(self, values: Mapping[str, Grid]) -> Needs:
        return needs(self._problem, self._target, values)

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem, needed = self._problem, self._needs(values)
        row, column, splits = values["tile_row"], values["tile_column"], values["splits"]
        return {
            "a warp multiplies 16 to 64 rows and 32 to 128 columns": (
                (needed.warp_row < 16)
                | (needed.warp_row > 64)
                | (needed.warp_column < 32)
                | (needed.warp_column > 128)
            ),
            "too many sums for the registers of a warp": (
                needed.warp_row * needed.warp_column > MOST_SUMS
            ),
            "a block has at most 8 warps": needed.warps > MOST_WARPS,
            "too many registers for a thread": needed.registers > MOST_REGISTERS_PER_THREAD,
            "a block does not fit a multiprocessor": needed.resident < 1,
            "half of the rows of a tile would not exist": (
                (row > LEAST_TILE_ROW) & (row >= 2 * problem.m)
            ),
            "half of the columns of a tile would not exist": (
                (column > LEAST_TILE_COLUMN) & (column >= 2 * problem.n)
            ),
            **split_faults(
                steps=ceil_div(problem.k, values["step"]),
                per_split=needed.steps,
                splits=splits,
                works=needed.blocks,
                slots=self._target.n_cores * np.maximum(1, needed.resident),
            ),
            "more stages than steps": values["stages"] > np.maximum(2, needed.steps),
        }

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        return cycles(self._problem, self._target, values, self._needs(values))

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
            float(needed.registers) / MOST_REGISTERS_PER_THREAD,
            problem.batch * problem.m * problem.n / computed,
            waves / float(np.ceil(waves)),
        ]
