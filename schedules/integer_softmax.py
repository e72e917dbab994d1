"""The integer softmax family: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.integer_softmax_cuda import (
    IntegerSoftmaxSchedule,
    integer_softmax_cuda,
    is_narrow,
    n_chunks,
)
from schedules.integer_softmax_problem import (
    DEFERRED,
    IntegerSoftmaxProblem,
    integer_softmax_problem,
)
from schedules.knobs import Knob, Values, first_fault
from schedules.limits import GRANTED_SHARED_BYTES, launch_refusal
from schedules.row_space import RowSpace, widest_vectors
from schedules.task import Task

MOST_KEPT_REGISTERS = 64
MOST_KEPT_ELEMENTS = 128
REGISTERS_BESIDE_DATA = 40
LANES = tuple(2**k for k in range(11))


def integer_softmax_space(task: Task) -> IntegerSoftmaxSpace | None:
    """The family's space for a task, ``None`` where the default schedule has to serve."""
    return IntegerSoftmaxSpace.covering(task)


class IntegerSoftmaxSpace(RowSpace[IntegerSoftmaxProblem]):
    """Rows shared by lanes; exponentials and shares computed or looked up."""

    name = "integer_softmax"
    covered = "its operator on float32, float16, bfloat16, int8 or int32 scores"

    problem_of = staticmethod(integer_softmax_problem)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Vector width, threads per row, rows per block, row in registers, what is looked up."""
        problem = self._problem
        widest = max(problem.element_bytes, problem.result_bytes)
        vectors = widest_vectors(problem.n, widest, (1, 2, 4, 8, 16))
        divided = problem.widths.output != DEFERRED
        return (
            Knob(name="vector", values=vectors),
            Knob(name="lanes", values=LANES),
            Knob(name="height", values=(1, 2, 4, 8, 16, 32)),
            Knob(name="row", values=("kept", "read again")),
            Knob(name="exponential", values=("computed", "looked up")),
            Knob(name="share", values=("computed", "looked up") if divided else ("computed",)),
        )

    def schedule(self, values: Values) -> IntegerSoftmaxSchedule:
        """The decisions that knob values stand for."""
        return IntegerSoftmaxSchedule(
            vector=int(values["vector"]),
            lanes=int(values["lanes"]),
            height=int(values["height"]),
            kept=values["row"] == "kept",
            looks_up=values["exponential"] == "looked up",
            row_table=values["share"] == "looked up",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, idle threads, and rows too long or too short for a choice."""
        schedule, problem = self.schedule(values), self._problem
        fits = self._kept_registers(schedule) <= MOST_KEPT_REGISTERS
        n_kept = n_chunks(problem, schedule) * schedule.vector
        codes = problem.exponential.largest_code + 1
        faults = {
            "half of the threads of a row would have nothing to do": (
                schedule.lanes > 1 and schedule.lanes // 2 * schedule.vector >= problem.n
            ),
            "half of the rows of a block would not exist": (
                schedule.height > 1 and schedule.height >= 2 * problem.n_rows
            ),
            "the row does not fit into registers": (
                schedule.kept and (not fits or n_kept > MOST_KEPT_ELEMENTS)
            ),
            "the row fits into registers": (
                not schedule.kept and fits and n_kept <= MOST_KEPT_ELEMENTS
            ),
            "a table of shares is longer than a row": schedule.row_table and codes > problem.n,
            "tables do not fit into shared memory": (
                self._shared_bytes(schedule) > GRANTED_SHARED_BYTES
            ),
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.lanes * schedule.height,
            registers_per_thread=REGISTERS_BESIDE_DATA + self._kept_registers(schedule),
            shared_bytes=self._shared_bytes(schedule),
        )

    def _kept_registers(self, schedule: IntegerSoftmaxSchedule) -> int:
        n_vectors = n_chunks(self._problem, schedule) if schedule.kept else 1
        return n_vectors * max(1, schedule.vector * self._problem.element_bytes // 4)

    def _shared_bytes(self, schedule: IntegerSoftmaxSchedule) -> int:
        problem = self._problem
        codes = problem.exponential.largest_code + 1
        table = 4 * (codes if schedule.looks_up else problem.exponential.octave)
        rows = schedule.height * codes * problem.result_bytes if schedule.row_table else 0
        return table + rows + 12 * schedule.height * max(1, schedule.lanes // 32) + 64

    def program(self, values: Values) -> Any:
        """The bound program."""
        return integer_softmax_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves and vectors per thread; registers; table bytes; width."""
        schedule = self.schedule(values)
        threads = schedule.lanes * schedule.height
        blocks = -(-self._problem.n_rows // schedule.height)
        return [
            float(np.log2(threads)),
            float(np.log2(blocks)),
            float(np.log2(blocks * threads / (2048 * self._target.n_cores))),
            float(np.log2(n_chunks(self._problem, schedule))),
            float(REGISTERS_BESIDE_DATA + self._kept_registers(schedule)),
            float(self._shared_bytes(schedule)),
            float(is_narrow(self._problem)),
        ]
