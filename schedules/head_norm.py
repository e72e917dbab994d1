"""The family of norms with an elementwise ending: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.elementwise_lanes import Lanes, lanes_of
from schedules.head_norm_cuda import HeadNormSchedule, head_norm_cuda
from schedules.head_norm_problem import HeadNormProblem, head_norm_problem
from schedules.knobs import Knob, Values, first_fault
from schedules.limits import GRANTED_SHARED_BYTES, launch_refusal
from schedules.row_space import ELEMENT_BYTES, RowSpace, widest_vectors
from schedules.task import Task

MOST_DATA_REGISTERS = 128
REGISTERS_BESIDE_DATA = 40
LARGEST_IDLE_SHARE = 0.25


def head_norm_space(task: Task) -> HeadNormSpace | None:
    """The family's space for a task, ``None`` where the default schedule has to serve."""
    return HeadNormSpace.covering(task)


class HeadNormSpace(RowSpace[HeadNormProblem]):
    """Rows in registers, shared by lanes, which exchange them once normalised."""

    name = "head_norm"
    covered = "norms of rows and an ending that reads one of their rows for each of its own"

    problem_of = staticmethod(head_norm_problem)

    @cached_property
    def lanes(self) -> dict[int, Lanes]:
        """Texts of the ending by vector width: the two widest that rows allow.

        As in the elementwise family, widths that gather element by element are left out.
        """
        widest = widest_vectors(self._problem.width, self._problem.element_bytes)
        aligned = [v for v in widest if all(one.aligned % v == 0 for one in self._problem.sources)]
        single = lanes_of(self._problem.ending, 1)
        if single is None:
            return {}
        found = {v: lanes_of(self._problem.ending, v) for v in aligned}
        return {
            v: made
            for v, made in found.items()
            if made is not None and len(made.words) <= max(1, v // 2) * len(single.words)
        }

    @property
    def is_widest(self) -> bool:
        """Whether rows are moved in words as wide as their length allows."""
        widest = widest_vectors(self._problem.width, self._problem.element_bytes)
        return max(self.lanes, default=0) == widest[-1]

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Vector width, threads per row, rows per block, order, cache hint, early start."""
        return (
            Knob(name="vector", values=tuple(self.lanes)),
            Knob(name="lanes", values=self._threads()),
            Knob(name="height", values=(1, 2, 4, 8, 16, 32, 64)),
            Knob(name="inner", values=self._orders()),
            Knob(name="stream", values=("no", "yes")),
            Knob(name="early", values=self.early_choices),
        )

    def _threads(self) -> tuple[int, ...]:
        """Powers of two up to a warp, and whole warps that leave few threads idle."""
        per_row = self._problem.width // max(self.lanes, default=1)
        powers = {2**k for k in range(11)}
        whole = {per_row // parts for parts in range(1, 9) if per_row % (32 * parts) == 0}
        return tuple(sorted(one for one in powers | whole if one <= 1024))

    def _orders(self) -> tuple[int, ...]:
        """Axes of the rows that are longer than 1."""
        shape = self._problem.ending.shape[:-1]
        return tuple(i for i, extent in enumerate(shape) if extent > 1) or (0,)

    def schedule(self, values: Values) -> HeadNormSchedule:
        """The decisions that knob values stand for."""
        return HeadNormSchedule(
            vector=int(values["vector"]),
            lanes=int(values["lanes"]),
            height=int(values["height"]),
            inner=int(values["inner"]),
            streams=values["stream"] == "yes",
            early=values["early"] == "yes",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, idle threads, and rows that do not fit into registers."""
        schedule, problem = self.schedule(values), self._problem
        covered = self._chunks(schedule) * schedule.vector * schedule.lanes
        shared_bytes = schedule.height * problem.width * ELEMENT_BYTES[problem.dtype]
        registers = self._data_registers(schedule)
        faults = {
            "too many threads of a row would have nothing to do": (
                schedule.lanes > 1 and (covered - problem.width) / covered > LARGEST_IDLE_SHARE
            ),
            "half of the rows of a block would not exist": (
                schedule.height > 1 and schedule.height >= 2 * problem.n_rows
            ),
            "the row does not fit into registers": registers > MOST_DATA_REGISTERS,
            "the rows of a block do not fit into shared memory": (
                shared_bytes + self._sum_bytes(schedule) > GRANTED_SHARED_BYTES
            ),
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.lanes * schedule.height,
            registers_per_thread=REGISTERS_BESIDE_DATA + registers,
            shared_bytes=shared_bytes + self._sum_bytes(schedule),
        )

    def _sum_bytes(self, schedule: HeadNormSchedule) -> int:
        return 8 * schedule.height * max(1, schedule.lanes // 32)

    def _chunks(self, schedule: HeadNormSchedule) -> int:
        """Vectors of a row that a thread holds."""
        return -(-self._problem.width // (schedule.vector * schedule.lanes))

    def _data_registers(self, schedule: HeadNormSchedule) -> int:
        """Of a row's values, and of the words of the ending."""
        inputs = self._problem.ending.inputs
        words = sum(
            -(-word.width * ELEMENT_BYTES[inputs[word.buffer].dtype] // 4)
            for word in self.lanes[schedule.vector].words
        )
        return self._chunks(schedule) * (schedule.vector + words)

    def program(self, values: Values) -> Any:
        """The bound program."""
        schedule = self.schedule(values)
        return head_norm_cuda(self._workload, self._problem, self.lanes[schedule.vector], schedule)

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves, bytes per thread; registers; idle share; row's order."""
        schedule, problem = self.schedule(values), self._problem
        threads, chunks = schedule.lanes * schedule.height, self._chunks(schedule)
        blocks = -(-problem.n_rows // schedule.height)
        return [
            float(np.log2(threads)),
            float(np.log2(blocks)),
            float(np.log2(blocks * threads / (2048 * self._target.n_cores))),
            float(np.log2(chunks * schedule.vector * problem.element_bytes)),
            float(REGISTERS_BESIDE_DATA + self._data_registers(schedule)),
            1.0 - problem.width / (chunks * schedule.vector * schedule.lanes),
            float(schedule.inner == max(self._orders())),
        ]
