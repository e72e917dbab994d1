"""Float32 products on ordinary arithmetic units: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from schedules.contraction import Contraction
from schedules.contraction_problem import contraction_of
from schedules.covering import required
from schedules.divided_sums import cluster_faults
from schedules.judged_space import MOST_SLOWER, Grid, JudgedSpace, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD
from schedules.matmul_simt_costs import costs, needs
from schedules.matmul_simt_cuda import WARP, SimtSchedule, matmul_simt_cuda
from schedules.task import Task

LEAST_TILE_ROW = 8
LEAST_TILE_COLUMN = 16


def matmul_simt_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = _problem(task) if task.target.has_async_copies else None
    return None if problem is None else MatmulSimtSpace(task, problem)


def _problem(task: Task) -> Contraction | None:
    problem = contraction_of(task.workload)
    return problem if problem is not None and problem.dtype == "float32" else None


class MatmulSimtSpace(JudgedSpace):
    """Tiles of blocks and threads, layers along the depth, stages, splitting of one product.

    Args:
        task: What to compute.
        problem: The product behind it, if it is known.
        patience: See :class:`JudgedSpace`.
    """

    name = "matmul_simt"
    knobs = (
        Knob(name="tile_row", values=(1, 2, 4, 8, 16, 32, 64, 128)),
        Knob(name="tile_column", values=(16, 32, 64, 128, 256)),
        Knob(name="thread_row", values=(1, 2, 4, 8)),
        Knob(name="thread_column", values=(2, 4, 8)),
        Knob(name="warps_depth", values=(1, 2, 4, 8, 16)),
        Knob(name="step", values=(8, 16, 32, 64, 128)),
        Knob(name="stages", values=(2, 3, 4, 6)),
        Knob(name="cluster", values=(1, 2, 4, 8)),
        Knob(name="splits", values=(1, 2, 4, 8, 16)),
    )

    def __init__(
        self, task: Task, problem: Contraction | None = None, *, patience: float = MOST_SLOWER
    ) -> None:
        self._problem = required(
            problem or _problem(task),
            task,
            family=self.name,
            expected="one product of float32 operands with an elementwise ending",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem = self._problem
        needed = needs(problem, self._target, values)
        row, column = values["tile_row"], values["tile_column"]
        # One row of narrow tiles has too few elements for two warps.
        least_row = LEAST_TILE_ROW if problem.n <= WARP else 1
        per_thread = values["thread_row"] * values["thread_column"]
        layers = values["warps_depth"] * values["cluster"]
        return {
            "a warp's threads do not cover the tile": (
                (needed.lanes_row * values["thread_row"] > row)
                | (needed.lanes_column * values["thread_column"] > column)
            ),
            "a block needs 64 to 1024 threads": (
                (needed.threads < 64)
                | (needed.threads > self._target.max_threads_per_block)
                | (needed.threads % 32 != 0)
            ),
            "too many registers for a thread": needed.registers > MOST_REGISTERS_PER_THREAD,
            "a block does not fit a multiprocessor": needed.resident < 1,
            "a layer of warps would have fewer than four terms of a step": (
                values["step"] // values["warps_depth"] < 4
            ),
            "more layers than sums of a thread": layers > per_thread,
            "half of the rows of a tile would not exist": (
                (row > least_row) & (row >= 2 * problem.m)
            ),
            "half of the columns of a tile would not exist": (
                (column > LEAST_TILE_COLUMN) & (column >= 2 * problem.n)
            ),
            **cluster_faults(
                self._target,
                values,
                terms=needed.terms,
                depth=problem.k,
                resident=needed.resident,
            ),
            "more stages than steps": (
                values["stages"] > np.maximum(2, -(-needed.terms // values["step"]))
            ),
        }

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        needed = needs(self._problem, self._target, values)
        return costs(self._problem, self._target, values, needed).total

    def schedule(self, values: Values) -> SimtSchedule:
        """The decisions that knob values stand for."""
        chosen = whole_numbers(values)
        return SimtSchedule(
            **chosen,
            min_blocks=int(needs(self._problem, self._target, chosen).resident),
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        return matmul_simt_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles in all and by cause, blocks, waves, warps; registers, idling."""
        chosen = whole_numbers(values)
        needed = needs(self._problem, self._target, chosen)
        cost = costs(self._problem, self._target, chosen, needed)
        slots = self._target.n_cores * int(needed.resident)
        return [
            float(np.log2(cost.total)),
            float(np.log2(cost.arithmetic)),
            float(np.log2(cost.shared)),
            float(np.log2(cost.memory)),
            float(np.log2(needed.blocks)),
            float(np.log2(needed.blocks / slots)),
            float(np.log2(cost.warps)),
            float(needed.registers) / MOST_REGISTERS_PER_THREAD,
            float(cost.idle),
        ]
