"""Few rows times a matrix of half precision: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from schedules.contraction import Contraction
from schedules.contraction_problem import contraction_of
from schedules.covering import required
from schedules.divided_sums import cluster_faults
from schedules.dtypes import HALF
from schedules.judged_space import MOST_SLOWER, Grid, JudgedSpace, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD
from schedules.matmul_rows_costs import costs, needs
from schedules.matmul_rows_cuda import RowsSchedule, matmul_rows_cuda, unit_columns
from schedules.matmul_simt_cuda import by_depth
from schedules.task import Task

MOST_ROWS = 16
ALIGNED_ELEMENTS = 8
MOST_LOADS = 16


def matmul_rows_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = _problem(task) if task.target.has_async_copies else None
    return None if problem is None else MatmulRowsSpace(task, problem)


def _problem(task: Task) -> Contraction | None:
    problem = contraction_of(task.workload)
    return problem if problem is not None and _covers(problem) else None


def _covers(problem: Contraction) -> bool:
    """Whether rows and matrix can be read in aligned pieces of 16 bytes."""
    a, b = problem.a, problem.b
    line = b.row if by_depth(b) else b.depth
    steps = [problem.k, a.row, a.batch, line, b.batch]
    if not by_depth(b):
        steps.append(problem.n)
    return (
        problem.dtype in HALF
        and problem.m <= MOST_ROWS
        and by_depth(a)
        and 1 in (b.row, b.depth)
        and all(step % ALIGNED_ELEMENTS == 0 for step in steps)
    )


class MatmulRowsSpace(JudgedSpace):
    """Columns of warps and blocks, warps and blocks along the terms, loads in flight.

    Args:
        task: What to compute.
        problem: The product behind it, if it is known.
        patience: See :class:`JudgedSpace`.
    """

    name = "matmul_rows"
    knobs = (
        Knob(name="units", values=(1, 2, 4)),
        Knob(name="warps_column", values=(1, 2, 4, 8)),
        Knob(name="warps_depth", values=(1, 2, 4, 8, 16, 32)),
        Knob(name="in_flight", values=(1, 2, 4, 8)),
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
            expected=f"at most {MOST_ROWS} aligned rows times one matrix of float16 or bfloat16",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem = self._problem
        needed = needs(problem, self._target, values)
        columns = needed.columns
        step = needed.terms // values["warps_depth"]
        return {
            "a block has at most 1024 threads": needed.threads > self._target.max_threads_per_block,
            "too many registers for a thread": needed.registers > MOST_REGISTERS_PER_THREAD,
            "a block does not fit a multiprocessor": needed.resident < 1,
            "more loads in flight than a thread can hold": needed.loads > MOST_LOADS,
            "half of the columns of a block would not exist": (
                (columns > unit_columns(problem)) & (columns >= 2 * problem.n)
            ),
            **cluster_faults(
                self._target,
                values,
                terms=needed.terms,
                depth=problem.k,
                resident=needed.resident,
            ),
            "a warp would have no terms": (
                (values["warps_depth"] > 1)
                & (step * 2 <= values["in_flight"] * (32 if by_depth(problem.b) else 16))
            ),
        }

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        needed = needs(self._problem, self._target, values)
        return costs(self._problem, self._target, values, needed).total

    def schedule(self, values: Values) -> RowsSchedule:
        """The decisions that knob values stand for."""
        chosen = whole_numbers(values)
        return RowsSchedule(
            **chosen,
            min_blocks=int(needs(self._problem, self._target, chosen).resident),
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        return matmul_rows_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles, bytes in flight, steps, blocks, waves, columns; idling."""
        chosen = whole_numbers(values)
        needed = needs(self._problem, self._target, chosen)
        cost = costs(self._problem, self._target, chosen, needed)
        slots = self._target.n_cores * int(needed.resident)
        return [
            float(np.log2(cost.total)),
            float(np.log2(cost.memory)),
            float(np.log2(cost.flying_bytes)),
            float(np.log2(cost.steps)),
            float(np.log2(needed.blocks)),
            float(np.log2(needed.blocks / slots)),
            float(np.log2(needed.columns)),
            float(needed.registers) / MOST_REGISTERS_PER_THREAD,
            float(cost.idle),
        ]
