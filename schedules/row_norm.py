"""The row norm family: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.knobs import Knob, Values, first_fault
from schedules.limits import launch_refusal
from schedules.row_norm_cuda import RowNormSchedule, row_norm_cuda
from schedules.row_norm_problem import RowNormProblem, row_norm_problem
from schedules.row_space import RowSpace, widest_vectors
from schedules.task import Task

MOST_ELEMENTS = 96
REGISTERS_BESIDE_DATA = 40
LARGEST_IDLE_SHARE = 0.25


def row_norm_space(task: Task) -> RowNormSpace | None:
    """The family's space for a task, ``None`` where the default schedule has to serve."""
    return RowNormSpace.covering(task)


class RowNormSpace(RowSpace[RowNormProblem]):
    """Rows in registers, shared by lanes."""

    name = "row_norm"
    covered = "a layer or root-mean-square norm of 16- or 32-bit floats over the last axis"

    problem_of = staticmethod(row_norm_problem)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Vector width, threads per row, rows per block, cache hint, early start."""
        return (
            Knob(name="vector", values=self._vectors),
            Knob(name="lanes", values=self._lanes()),
            Knob(name="height", values=(1, 2, 4, 8, 16, 32)),
            Knob(name="stream", values=("no", "yes")),
            Knob(name="early", values=self.early_choices),
        )

    @property
    def _vectors(self) -> tuple[int, ...]:
        return widest_vectors(self._problem.width, self._problem.element_bytes)

    def _lanes(self) -> tuple[int, ...]:
        """Powers of two up to a warp, and numbers of warps that leave few threads idle."""
        per_row = self._problem.width // self._vectors[-1]
        powers = {2**k for k in range(11)}
        whole = {per_row // parts for parts in range(1, 17) if per_row % (32 * parts) == 0}
        return tuple(sorted(one for one in powers | whole if one <= 1024))

    def schedule(self, values: Values) -> RowNormSchedule:
        """The decisions that knob values stand for."""
        return RowNormSchedule(
            vector=int(values["vector"]),
            lanes=int(values["lanes"]),
            height=int(values["height"]),
            streams=values["stream"] == "yes",
            early=values["early"] == "yes",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, idle threads, and rows that do not fit into registers."""
        schedule, problem = self.schedule(values), self._problem
        n_elements = self._elements(schedule)
        covered = n_elements * schedule.lanes
        faults = {
            "too many threads of a row would have nothing to do": (
                schedule.lanes > 1
                and covered > problem.width
                and (covered - problem.width) / covered > LARGEST_IDLE_SHARE
            ),
            "half of the rows of a block would not exist": (
                schedule.height > 1 and schedule.height >= 2 * problem.n_rows
            ),
            "the row does not fit into registers": n_elements > MOST_ELEMENTS,
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.lanes * schedule.height,
            registers_per_thread=REGISTERS_BESIDE_DATA + n_elements,
            shared_bytes=8 * schedule.height * max(1, schedule.lanes // 32),
        )

    def _elements(self, schedule: RowNormSchedule) -> int:
        """Elements of a row that a thread holds."""
        per_row = self._problem.width // schedule.vector
        return -(-per_row // schedule.lanes) * schedule.vector

    def program(self, values: Values) -> Any:
        """The bound program."""
        return row_norm_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves and bytes per thread; registers; idle share."""
        schedule, problem = self.schedule(values), self._problem
        threads, n_elements = schedule.lanes * schedule.height, self._elements(schedule)
        blocks = -(-problem.n_rows // schedule.height)
        return [
            float(np.log2(threads)),
            float(np.log2(blocks)),
            float(np.log2(blocks * threads / (2048 * self._target.n_cores))),
            float(np.log2(n_elements * problem.element_bytes)),
            float(REGISTERS_BESIDE_DATA + n_elements),
            1.0 - problem.width / (n_elements * schedule.lanes),
        ]
